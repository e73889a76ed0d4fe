"""Whatever raises, wherever: one 503, both sides closed, nothing forwarded."""

from __future__ import annotations

import inspect
import logging
from types import ModuleType

import pytest

from eastgate.render import grpc as grpc_form
from eastgate.render import http as http_form
from sidecar.lanes import framing, grammar
from sidecar.lanes.http1 import answers, exchange, heads, requests, responses, session
from sidecar.lanes.http1 import lane as http1_lane
from tests.lanes.stub_gate import StubGate
from tests.lanes.test_http1_requests import GOOD, lane, status

ROOMS = (
    http1_lane, answers, exchange, heads, requests, responses, session, framing, grammar, grpc_form, http_form,
)  # fmt: skip
SECRET = b"eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2ln"
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n",
    "denied": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + SECRET + b"\r\n\r\n",
    "counted": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" + GOOD + b"\r\nhi",
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    + GOOD
    + b"\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n",
    "absolute": b"GET http://a/ HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n",
    "fetch": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fetch\r\n\r\n",
}


class FaultError(Exception):
    """What is raised. Its text must never be logged."""


def _raise(*_: object, **__: object) -> object:
    raise FaultError(SECRET.decode())


# What the answer to a failure itself is made with; if these raise, the handler cuts both sides (test_proxy).
LAST_RESORT = ("__init__", "handle_event", "_fail", "_speaks_grpc", "_close_upstream", "chunked", "response_begun")


def _functions() -> list[tuple[str, object, str]]:
    """Every function and method of the rooms that a request comes through."""
    found: list[tuple[str, object, str]] = []
    for room in ROOMS:
        for name, value in vars(room).items():
            if inspect.isclass(value) and value.__module__ == room.__name__ and not issubclass(value, Exception):
                found += [
                    (f"{name}.{attribute}", value, attribute)
                    for attribute, method in vars(value).items()
                    if (inspect.isfunction(method) or isinstance(method, property)) and attribute not in LAST_RESORT
                ]
            elif getattr(value, "__module__", "") == room.__name__ and (
                inspect.isfunction(value) or hasattr(value, "cache_info")
            ):
                found.append((f"{room.__name__}.{name}", room, name))
    return found


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(
    ("owner", "name"), [pytest.param(owner, name, id=label) for label, owner, name in _functions()]
)
def test_a_function_that_raises_forwards_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: object, name: str, kind: str
) -> None:
    called = []

    def raise_it(*arguments: object, **named: object) -> object:
        called.append(name)
        return _raise(*arguments, **named)

    if isinstance(owner, ModuleType):
        original = getattr(owner, name)
        for room in ROOMS:  # wherever it was imported by name
            if vars(room).get(name) is original:
                monkeypatch.setattr(room, name, raise_it)
    elif isinstance(vars(owner)[name], property):
        monkeypatch.setattr(owner, name, property(raise_it))
    else:
        monkeypatch.setattr(owner, name, raise_it)
    transcript = lane()
    with caplog.at_level(logging.DEBUG):
        transcript.from_client(REQUESTS[kind])
        if transcript.fetches:
            transcript.keys_fetched()
    if not called:
        return  # this request does not come by
    assert status(transcript.client) == 503
    assert transcript.client.count(b"HTTP/1.1") == 1
    assert "client" in transcript.closed
    assert transcript.upstream == b""
    assert SECRET.decode() not in caplog.text
    transcript.from_client(REQUESTS["get"])
    assert transcript.upstream == b"", "a lane that failed stays closed"


@pytest.mark.parametrize("kind", ["get", "counted", "chunked"])
def test_a_gate_that_raises(kind: str) -> None:
    gate = StubGate()
    gate.decide = _raise  # type: ignore[method-assign,assignment]
    transcript = lane(gate).from_client(REQUESTS[kind])
    assert status(transcript.client) == 503
    assert transcript.opened == 0


@pytest.mark.parametrize("answer", [None, True, "allowed"])
def test_a_gate_that_talks_nonsense(answer: object) -> None:
    gate = StubGate()
    gate.decide = lambda *_, **__: answer  # type: ignore[method-assign,assignment,return-value]
    transcript = lane(gate).from_client(REQUESTS["get"])
    assert status(transcript.client) == 503
    assert transcript.upstream == b""


def test_claims_cannot_break_out_of_their_line() -> None:
    from eastgate.model.decisions import Decision, Edits

    for edits in (
        Edits(b"/", add=((b"x-org", b"a\r\nX-Admin: 1"),)),
        Edits(b"/", add=((b"x-org\r\nx", b"a"),)),
        Edits(b"/", add=((b"transfer-encoding", b"chunked"),)),
        Edits(b"/ HTTP/1.1\r\nX-Admin: 1\r\n\r\n"),
        Edits(b"http://evil/"),
    ):
        gate = StubGate()
        gate.decide = lambda *_, e=edits, **__: Decision(allowed=True, status=200, reason="", edits=e)  # type: ignore[method-assign,assignment,misc]
        transcript = lane(gate).from_client(REQUESTS["get"])
        assert status(transcript.client) == 503
        assert transcript.upstream == b""


def test_a_failure_after_the_response_began_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    transcript = lane().from_client(REQUESTS["get"]).from_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
    before = transcript.client
    monkeypatch.setattr(framing.LengthBody, "feed", _raise)
    transcript.from_upstream(b"cd")
    assert transcript.client == before
    assert "client" in transcript.closed
    assert "upstream" in transcript.closed


def test_a_grpc_caller_hears_of_the_failure_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_lane, "write_request_head", _raise)
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n" + GOOD + b"\r\n"
    )
    assert b"grpc-status: 14\r\n" in transcript.client
