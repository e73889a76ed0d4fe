"""One GET of a JWKS: what is accepted, and everything that is not."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eastgate.model.keys import RemoteKeys
from eastgate.pods.authorities import Authorities, read_authorities, unite_authorities
from sidecar.jwks.client import (
    MAX_BODY,
    Contexts,
    Failure,
    FetchError,
    Reach,
    _find_vouchers,
    fetch_document,
    make_tls,
    read_locator,
)
from sidecar.loops import make_loop
from tests.unit.sidecar.key_server import Behaviour, KeyServer, make_authority, reply, serve_keys, write_file

DOCUMENT = '{"keys": []}'


async def fetch(source: RemoteKeys, reach: Reach | None = None, trusted: Authorities = ()) -> bytes:
    reach = reach or Reach()
    return (await fetch_document(source, read_locator(source), make_tls(source, trusted), reach, trusted)).body


def fetch_from(behaviour: Behaviour | None, document: str = DOCUMENT) -> bytes:
    """Fetch over cleartext from a server that behaves so."""

    async def run() -> bytes:
        async with serve_keys(document) as server:
            server.behaviour = behaviour
            async with asyncio.timeout(20):
                return await fetch(RemoteKeys(f"http://127.0.0.1:{server.port}/keys", tls=False))

    return asyncio.run(run())


def test_a_plain_answer() -> None:
    assert fetch_from(None) == DOCUMENT.encode()


def test_a_chunked_answer() -> None:
    assert fetch_from(reply("HTTP/1.1 200 OK\ntransfer-encoding: chunked", b"3\r\n{}\n\r\n0\r\n\r\n")) == b"{}\n"


def test_an_answer_that_ends_with_the_connection() -> None:
    assert fetch_from(reply("HTTP/1.1 200 OK", b"{}")) == b"{}"


def test_interim_answers_are_skipped() -> None:
    assert fetch_from(reply("HTTP/1.1 103 Early Hints\n\nHTTP/1.1 200 OK\ncontent-length: 2", b"{}")) == b"{}"


def test_what_is_asked() -> None:
    async def run() -> bytes:
        async with serve_keys(DOCUMENT) as server:
            await fetch(RemoteKeys(f"http://127.0.0.1:{server.port}/a/keys?x=1", tls=False))
            return server.requests[0].replace(str(server.port).encode(), b"PORT")

    head = asyncio.run(run())
    assert head.startswith(b"GET /a/keys?x=1 HTTP/1.1\r\n")
    lower = head.lower()
    assert b"\r\nhost: 127.0.0.1:port\r\n" in lower
    assert b"\r\naccept-encoding: identity\r\n" in lower
    assert b"\r\nuser-agent: eastgate/" in lower
    assert b"forwarded" not in lower
    assert b"cookie" not in lower


async def drip(_server: KeyServer, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def hang_up(_server: KeyServer, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (reply("HTTP/1.1 302 Found\nlocation: http://127.0.0.1:1/\ncontent-length: 2", b"{}"), Failure.STATUS),
        (reply("HTTP/1.1 204 No Content"), Failure.STATUS),
        (reply("HTTP/1.1 404 Not Found\ncontent-length: 2", b"{}"), Failure.STATUS),
        (reply("HTTP/1.1 503 Unavailable\ncontent-length: 0"), Failure.STATUS),
        (reply("HTTP/1.1 200 OK\ncontent-length: 0"), Failure.RESPONSE),
        (reply("HTTP/1.1 200 OK\ncontent-encoding: gzip\nconnection: close", gzip.compress(b"{}")), Failure.RESPONSE),
        (reply(f"HTTP/1.1 200 OK\ncontent-length: {MAX_BODY + 1}", b"{"), Failure.RESPONSE),
        (reply("HTTP/1.1 200 OK", b" " * (MAX_BODY + 1)), Failure.RESPONSE),
        (reply("HTTP/1.1 200 OK\ncontent-length: 10", b"{}"), Failure.RESET),
        (reply("HTTP/1.1 200 OK\n" + "x: y\n" * 20_000 + "z: z", b"{}"), Failure.RESPONSE),
        (reply("SSH-2.0-server", b""), Failure.RESPONSE),
        (hang_up, Failure.RESET),
    ],
)
def test_refused_answers(behaviour: Behaviour, failure: Failure) -> None:
    with pytest.raises(FetchError) as caught:
        fetch_from(behaviour)
    assert caught.value.failure is failure


def test_a_redirect_is_not_followed() -> None:
    async def run() -> int:
        async with serve_keys(DOCUMENT) as target, serve_keys(DOCUMENT) as server:
            server.behaviour = reply(f"HTTP/1.1 307 T\nlocation: http://127.0.0.1:{target.port}/\ncontent-length: 0")
            with pytest.raises(FetchError, match="status 307"):
                await fetch(RemoteKeys(f"http://127.0.0.1:{server.port}/", tls=False))
            return target.count

    assert asyncio.run(run()) == 0


def test_the_deadline_is_for_the_whole_answer() -> None:
    async def run() -> float:
        async with serve_keys(DOCUMENT) as server:
            server.behaviour = drip
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await fetch(RemoteKeys(f"http://127.0.0.1:{server.port}/", tls=False))
            return time.monotonic() - began

    assert asyncio.run(run()) < 10


def test_nobody_listens() -> None:
    with pytest.raises(FetchError) as caught:
        asyncio.run(fetch(RemoteKeys("http://127.0.0.1:1/", tls=False)))
    assert caught.value.failure is Failure.CONNECT


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch_from(None) == DOCUMENT.encode()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/keys", "file:///etc/passwd", "https://", "//host/keys", "https://user:secret@host/keys",
        "https://host/a b", "https://host/\r\nx: y", "https://höst/", "https://host:99999/", "https://[::1/", "",
    ],
)  # fmt: skip
def test_urls_that_are_not_fetched(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        read_locator(RemoteKeys(url))
    assert caught.value.failure is Failure.CONFIGURATION
    assert "secret" not in str(caught.value)


def test_the_label_of_a_source_holds_no_query() -> None:
    assert read_locator(RemoteKeys("https://idp.example/keys?secret=1")).label == "idp.example/keys"


# --- TLS ----------------------------------------------------------------------------------------------------------


def fetch_over_tls(
    make: Callable[[int], RemoteKeys],
    *names: str,
    reach: Callable[[int], Reach] | None = None,
    trusted: Authorities = (),
) -> bytes:
    """Fetch from a server with a certificate of the test CA for ``names``."""

    async def run() -> bytes:
        async with serve_keys(DOCUMENT, make_authority().make_context(*names)) as server:
            async with asyncio.timeout(20):
                return await fetch(make(server.port), reach(server.port) if reach else None, trusted)

    return asyncio.run(run())


def test_the_sources_own_ca() -> None:
    ca = make_authority().pem
    assert fetch_over_tls(lambda port: RemoteKeys(f"https://127.0.0.1:{port}/", ca=ca), "127.0.0.1")


def test_the_server_name_is_verified_and_the_address_is_not() -> None:
    ca = make_authority().pem

    def make(port: int) -> RemoteKeys:
        return RemoteKeys("https://foo.bar.com/keys", (("127.0.0.1", port),), ca=ca, server_name="foo.bar.com")

    assert fetch_over_tls(make, "foo.bar.com")


def test_a_connection_is_redirected_as_asked() -> None:
    ca = make_authority().pem
    assert fetch_over_tls(
        lambda _: RemoteKeys("https://idp.example/keys", ca=ca),
        "idp.example",
        reach=lambda port: Reach(resolve=(("idp.example", 443, "127.0.0.1", port),)),
    )


def test_a_ca_added_to_the_systems_trust() -> None:
    trusted = read_authorities(make_authority().pem)
    assert fetch_over_tls(lambda port: RemoteKeys(f"https://127.0.0.1:{port}/"), "127.0.0.1", trusted=trusted)


@pytest.mark.skipif(not hasattr(ssl.SSLObject, "get_verified_chain"), reason="Python 3.12 does not say who vouched")
def test_it_is_known_who_vouched_for_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, others = read_authorities(make_authority().pem), read_authorities(make_authority("another CA").pem)
    both = unite_authorities(ours, others)

    async def run(trusted: Authorities) -> frozenset[str]:
        async with serve_keys(DOCUMENT, make_authority().make_context("127.0.0.1")) as server:
            source = RemoteKeys(f"https://127.0.0.1:{server.port}/")
            tls = make_tls(source, trusted)
            return (await fetch_document(source, read_locator(source), tls, Reach(), trusted)).vouched

    with asyncio.Runner(loop_factory=make_loop) as runner:  # that of the sidecar, whose TLS is its own
        assert runner.run(run(both)) == {ours[0].fingerprint}
    monkeypatch.setenv("SSL_CERT_FILE", str(write_file(tmp_path, "system.pem", make_authority().pem)))
    assert asyncio.run(run(others)) == frozenset(), "the system's own authority did"


def test_an_added_ca_does_not_widen_a_sources_own() -> None:
    trusted = read_authorities(make_authority().pem)
    other = make_authority("another CA").pem
    with pytest.raises(FetchError) as caught:
        fetch_over_tls(lambda port: RemoteKeys(f"https://127.0.0.1:{port}/", ca=other), "127.0.0.1", trusted=trusted)
    assert caught.value.failure is Failure.TLS


@pytest.mark.parametrize("ca", [None, make_authority("another CA").pem])
def test_an_unknown_ca(ca: str | None) -> None:
    with pytest.raises(FetchError, match="certificate refused") as caught:
        fetch_over_tls(lambda port: RemoteKeys(f"https://127.0.0.1:{port}/", ca=ca), "127.0.0.1")
    assert caught.value.failure is Failure.TLS


def test_a_certificate_for_another_name() -> None:
    ca = make_authority().pem
    with pytest.raises(FetchError, match="certificate refused"):
        fetch_over_tls(
            lambda port: RemoteKeys(f"https://127.0.0.1:{port}/", ca=ca, server_name="a.example"), "b.example"
        )


def test_what_every_tls_connection_demands() -> None:
    context = make_tls(RemoteKeys("https://host/", ca=make_authority().pem))
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    "source",
    [
        RemoteKeys("http://host/", tls=False, ca=make_authority().pem),
        RemoteKeys("https://host/", ca=""),
        RemoteKeys("https://host/", ca="no certificate"),
        RemoteKeys("https://host/", ca="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ],
)
def test_a_ca_that_cannot_be_used_is_never_left_out(source: RemoteKeys) -> None:
    with pytest.raises(FetchError) as caught:
        make_tls(source)
    assert caught.value.failure is Failure.CONFIGURATION


def test_sources_that_trust_the_same_share_their_settings() -> None:
    ours, ca = read_authorities(make_authority().pem), make_authority("another CA").pem
    contexts = Contexts()
    first = contexts.make(RemoteKeys("https://a/"), ours)
    assert first is not None
    assert contexts.make(RemoteKeys("https://b/", server_name="c"), ours) is first
    own = contexts.make(RemoteKeys("https://a/", ca=ca), ours)
    assert own is not first
    assert contexts.make(RemoteKeys("https://b/", ca=ca), ()) is own, "what is trusted besides has no bearing on it"
    assert contexts.make(RemoteKeys("https://a/"), ()) not in (first, own)
    assert contexts.make(RemoteKeys("http://a/", tls=False), ours) is None
    with pytest.raises(FetchError, match="without TLS"):
        contexts.make(RemoteKeys("http://a/", tls=False, ca=ca), ours)


def test_where_python_cannot_say_who_vouched_all_did() -> None:
    """Before 3.13."""

    class Writer:
        def get_extra_info(self, name: str) -> object:
            return object()

    trusted = read_authorities(make_authority().pem + make_authority("another CA").pem)
    assert _find_vouchers(Writer(), trusted) == {one.fingerprint for one in trusted}  # type: ignore[arg-type]


def test_the_next_endpoint_is_tried() -> None:
    async def run() -> bytes:
        async with serve_keys(DOCUMENT) as server:
            addresses = (("127.0.0.1", 1), ("169.254.169.254", 80), ("127.0.0.1", server.port))
            return await fetch(RemoteKeys("http://idp/keys", addresses, tls=False))

    assert asyncio.run(run())


def test_loopback_is_refused_where_it_is_blocked() -> None:
    async def run() -> int:
        async with serve_keys(DOCUMENT) as server:
            with pytest.raises(FetchError) as caught:
                await fetch(RemoteKeys(f"http://localhost:{server.port}/", tls=False), Reach(block_loopback=True))
            assert caught.value.failure is Failure.REFUSED_ADDRESS
            return server.count

    assert asyncio.run(run()) == 0
