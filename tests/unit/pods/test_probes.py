"""The table of the app's probes, both ways."""

from __future__ import annotations

import json

import pytest

from eastgate.pods.probes import AppProbe, ProbeTableError, from_json, to_json

TABLE = {
    "app/readyz": AppProbe(
        "http", 8080, "/ready?x=$(HOME)&y=$$", "HTTPS", (("Host", "a"), ("X", "ü$")), timeout_seconds=3
    ),
    "app/livez": AppProbe("tcp", 8080),
    "db/startupz": AppProbe("grpc", 9090, service="a.B"),
    "db/prestop": AppProbe("http", 1, "/", token="0123456789-_abcD"),
    "db/poststart": AppProbe("http", 65535),
}


def test_round_trip() -> None:
    text = to_json(TABLE)
    assert from_json(text) == TABLE
    assert to_json(dict(reversed(TABLE.items()))) == text
    assert from_json(to_json({})) == {}


def test_nothing_that_kubernetes_would_expand() -> None:
    assert "$" not in to_json(TABLE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "expected an object"),
        ("[" * 100_000, "not JSON"),
        ('{"a/livez":1}', "expected an object"),
        ('{"a":{"kind":"tcp","port":1}}', "CONTAINER/NAME"),
        ('{"/livez":{"kind":"tcp","port":1}}', "CONTAINER/NAME"),
        ('{"a/healthz":{"kind":"tcp","port":1}}', "CONTAINER/NAME"),
        ('{"a/livez":{"kind":"exec","port":1}}', "kind is"),
        ('{"a/livez":{"kind":"tcp"}}', "port"),
        ('{"a/livez":{"kind":"tcp","port":0}}', "port"),
        ('{"a/livez":{"kind":"tcp","port":true}}', "port"),
        ('{"a/livez":{"kind":"tcp","port":"80"}}', "port"),
        ('{"a/livez":{"kind":"tcp","port":80,"path":"/"}}', "unknown `path`"),
        ('{"a/livez":{"kind":"grpc","port":80,"headers":[]}}', "unknown `headers`"),
        ('{"a/livez":{"kind":"tcp","port":80,"timeoutSeconds":0}}', "timeoutSeconds"),
        ('{"a/livez":{"kind":"http","port":80,"scheme":"http"}}', "scheme"),
        ('{"a/livez":{"kind":"http","port":80,"path":1}}', "path"),
        ('{"a/livez":{"kind":"http","port":80,"headers":{"a":"b"}}}', "headers"),
        ('{"a/livez":{"kind":"http","port":80,"headers":[["a"]]}}', "headers"),
        ('{"a/livez":{"kind":"tcp","port":80,"token":"0123456789abcdef"}}', "unknown `token`"),
        ('{"a/prestop":{"kind":"tcp","port":80,"token":"short"}}', "token is not accepted; accepted: 16 to 128"),
        ('{"a/prestop":{"kind":"tcp","port":80,"token":["0123456789abcdef"]}}', "token is not accepted"),
        ('{"a/prestop":{"kind":"tcp","port":80,"token":"0123456789abcdef\\n"}}', "token is not accepted"),
        ('{"a/prestop":{"kind":"tcp","port":80,"token":"0123456789abcde\\u0661"}}', "token is not accepted"),
        ('{"a/livez":{"kind":"tcp","port":80},"a/livez":{"kind":"tcp","port":81}}', "twice"),
    ],
)
def test_refuse(text: str, why: str) -> None:
    with pytest.raises(ProbeTableError, match=why):
        from_json(text)


@pytest.mark.parametrize("token", ["short", "0123456789abcdef 0", "x" * 129])
def test_a_token_is_never_shown(token: str) -> None:
    with pytest.raises(ProbeTableError) as refused:
        from_json(json.dumps({"a/prestop": {"kind": "tcp", "port": 80, "token": token}}))
    assert token not in str(refused.value)
    assert token not in repr(AppProbe("tcp", 80, token=token))


def test_a_hook_of_before_there_were_tokens_reads() -> None:
    assert from_json('{"a/prestop":{"kind":"tcp","port":80}}')["a/prestop"].token == ""


def test_bounds() -> None:
    with pytest.raises(ProbeTableError, match="longer"):
        from_json(" " * (1024 * 1024 + 1))
    many = {f"{n}/livez": {"kind": "tcp"} for n in range(4097)}
    with pytest.raises(ProbeTableError, match="4096"):
        from_json(json.dumps(many))
