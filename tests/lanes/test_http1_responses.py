"""HTTP/1 responses: framing, interim responses, upgrades, and upstreams that misbehave."""

from __future__ import annotations

import pytest

from sidecar.lanes.framing import EndlessBody
from tests.lanes.test_http1_requests import GOOD, OK, lane, status
from tests.lanes.transcript import Transcript

GET = b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n"
    + GOOD
    + b"\r\n"
)


def asked(request: bytes = GET) -> Transcript:
    transcript = lane().from_client(request)
    assert transcript.take_upstream()
    transcript.take_client()
    return transcript


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_response_of_known_length_keeps_both_connections(step: int) -> None:
    transcript = asked()
    wire = (
        b"HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 5\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\nhello"
    )
    for at in range(0, len(wire), step):
        transcript.from_upstream(wire[at : at + step])
    assert transcript.client == b"HTTP/1.1 200 Fine\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello"
    assert transcript.closed == []
    transcript.from_client(GET)
    assert transcript.opened == 1


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_a_chunked_response_with_trailers(step: int) -> None:
    transcript = asked()
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n"
    for at in range(0, len(wire), step):
        transcript.from_upstream(wire[at : at + step])
    assert transcript.client.startswith(b"HTTP/1.1 200 OK\r\ntrailer: X-Sum\r\ntransfer-encoding: chunked\r\n\r\n")
    assert transcript.client.endswith(b"0\r\nx-sum: 1\r\n\r\n")
    assert transcript.closed == []


def test_events_are_passed_on_as_they_come() -> None:
    transcript = asked().from_upstream(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert transcript.take_client().endswith(b"\r\n\r\n")
    transcript.from_upstream(b"9\r\ndata: 1\n\n\r\n")
    assert transcript.take_client() == b"9\r\ndata: 1\n\n\r\n"


def test_a_body_that_ends_with_the_connection() -> None:
    transcript = asked().from_upstream(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert transcript.take_client() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhel"
    transcript.from_upstream(b"lo").upstream_closes()
    assert transcript.client == b"lo"
    assert "client" in transcript.closed


def test_a_reset_is_not_an_end() -> None:
    transcript = asked().from_upstream(b"HTTP/1.1 200 OK\r\n\r\nhel")
    transcript.context.server.state = transcript.context.server.state.CLOSED
    from sidecar._mitmproxy import events

    transcript.feed(events.ConnectionClosed(transcript.context.server))
    assert "client-cut" in transcript.closed


@pytest.mark.parametrize(
    ("request_head", "response"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    ],
)
def test_responses_without_a_body(request_head: bytes, response: bytes) -> None:
    transcript = asked(request_head).from_upstream(response)
    assert transcript.take_client().lower() == response.lower()
    transcript.from_client(GET).from_upstream(OK)
    assert transcript.client.endswith(b"ok")
    assert transcript.opened == 1


def test_interim_responses_are_not_final() -> None:
    transcript = asked().from_upstream(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK
    )
    assert transcript.client == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    )


def test_interim_responses_are_not_for_http10() -> None:
    transcript = asked(b"GET / HTTP/1.0\r\nHost: a\r\n" + GOOD + b"\r\n").from_upstream(
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK
    )
    assert transcript.client == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    assert "client" in transcript.closed


def test_http10_keep_alive() -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + GOOD + b"\r\n"
    transcript = asked(request).from_upstream(OK)
    assert b"connection: keep-alive\r\n" in transcript.take_client()
    transcript.from_client(request).from_upstream(OK)
    assert transcript.opened == 1


def test_a_chunked_response_to_http10_is_unchunked_and_ends_with_the_connection() -> None:
    transcript = asked(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + GOOD + b"\r\n")
    transcript.from_upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert transcript.client == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert "client" in transcript.closed


def test_connection_close_from_the_application_ends_only_its_own_connection() -> None:
    transcript = asked().from_upstream(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    assert b"connection" not in transcript.client
    assert transcript.closed == ["upstream"]
    transcript.from_client(GET).from_upstream(OK)
    assert transcript.opened == 2


# --- upstreams that misbehave -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        b"220 smtp.example ESMTP\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\nA: b\n\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000, b"\x15\x03\x01\x00\x02\x02\x46",
    ],
)  # fmt: skip
def test_a_response_with_two_readings_is_a_bad_gateway(response: bytes) -> None:
    transcript = asked().from_upstream(response).upstream_closes()
    assert status(transcript.client) == 502
    assert transcript.client.count(b"HTTP/1.1") == 1
    assert transcript.closed[0] == "upstream"


def test_an_upstream_out_of_reach() -> None:
    transcript = lane(refuse_upstream="refused").from_client(GET)
    assert status(transcript.client) == 503
    assert transcript.take_client().endswith(
        b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
    )
    assert transcript.closed == []
    transcript.refuse_upstream = None
    transcript.from_client(GET).from_upstream(OK)
    assert status(transcript.client) == 200


def test_an_upstream_out_of_reach_in_grpc_words() -> None:
    transcript = lane(refuse_upstream="refused").from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n" + GOOD + b"\r\n"
    )
    assert b"grpc-status: 14\r\n" in transcript.client


def test_an_upstream_that_closes_before_its_response() -> None:
    transcript = asked().upstream_closes()
    assert status(transcript.client) == 503
    assert transcript.client.endswith(b"connection termination")


@pytest.mark.parametrize(
    "body", [b"Content-Length: 10\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
)
def test_a_truncated_response_is_cut(body: bytes) -> None:
    transcript = asked().from_upstream(b"HTTP/1.1 200 OK\r\n" + body)
    before = transcript.client
    transcript.upstream_closes()
    assert transcript.client == before, "no last chunk, no second answer"
    assert "client" in transcript.closed


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_chunked_response_that_breaks_is_cut() -> None:
    transcript = asked().from_upstream(CHUNKED).from_upstream(b"5\r\nhello\r\nzz\r\n")
    assert status(transcript.client) == 200
    assert not transcript.client.endswith(b"0\r\n\r\n")
    assert "client" in transcript.closed


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_response_that_breaks_before_any_of_it_was_passed_on_is_a_bad_gateway(interim: bytes) -> None:
    """A close without a word would be taken for that of a connection left idle, and the request be sent again."""
    transcript = asked().from_upstream(interim + CHUNKED + b"5\r\nhello\r\nzz\r\n")
    assert status(transcript.take_client()) == 502
    assert transcript.closed == ["upstream"]
    transcript.from_client(GET).from_upstream(OK)
    assert status(transcript.client) == 200


@pytest.mark.parametrize("more", [b"", b"zz\r\n", b"-1\r\n"], ids=["cut", "broken", "negative"])
def test_a_truncated_response_is_never_complete_for_http10(more: bytes) -> None:
    """What was chunked for us ends with the connection for an HTTP/1.0 client: a FIN would say that this was all of it."""
    transcript = asked(b"GET / HTTP/1.0\r\nHost: a\r\n" + GOOD + b"\r\n")
    transcript.from_upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    transcript.from_upstream(more) if more else transcript.upstream_closes()
    assert transcript.client.endswith(b"\r\n\r\nhello")
    assert transcript.closed == ["upstream", "client-cut"]


def test_a_failure_inside_an_endless_response_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    transcript = asked().from_upstream(b"HTTP/1.1 200 OK\r\n\r\nhel")

    def raising(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(EndlessBody, "feed", raising)
    transcript.from_upstream(b"lo")
    assert transcript.client.endswith(b"hel")
    assert transcript.closed == ["upstream", "client-cut"]


def test_bytes_after_a_response_become_nobodys() -> None:
    transcript = asked().from_upstream(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert transcript.take_client().endswith(b"ok")
    assert transcript.closed == ["upstream"]
    transcript.from_client(GET).from_upstream(OK)
    assert transcript.client.endswith(b"ok")


def test_bytes_that_nobody_asked_for_go_nowhere() -> None:
    transcript = asked().from_upstream(OK)
    transcript.take_client()
    transcript.from_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert transcript.client == b""
    assert transcript.closed == ["upstream"]


def test_a_stale_connection_is_dialled_again_for_a_request_that_may_be_repeated() -> None:
    transcript = asked().from_upstream(OK).from_client(GET)
    first = transcript.take_upstream()
    transcript.take_client()
    transcript.upstream_closes()
    assert transcript.opened == 2
    assert transcript.take_upstream() == first
    transcript.from_upstream(OK)
    assert status(transcript.take_client()) == 200
    transcript.from_client(GET).upstream_closes()
    assert transcript.opened == 3
    transcript.upstream_closes()
    assert status(transcript.client) == 503, "once, not for ever"


@pytest.mark.parametrize(
    "request_head", [b"POST / HTTP/1.1\r\nHost: a\r\n", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"]
)
def test_a_stale_connection_is_not_dialled_again_for_others(request_head: bytes) -> None:
    transcript = asked().from_upstream(OK)
    transcript.take_client()
    transcript.from_client(request_head + GOOD + b"\r\nhi").upstream_closes()
    assert transcript.opened == 1
    assert status(transcript.client) == 503


def test_an_idle_connection_that_the_application_closed_is_replaced() -> None:
    transcript = asked().from_upstream(OK).upstream_closes()
    assert "client" not in transcript.closed
    transcript.from_client(b"POST / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
    assert transcript.opened == 2


def test_both_directions_at_once() -> None:
    transcript = asked(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + GOOD + b"\r\n1\r\na\r\n")
    transcript.from_upstream(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
    assert transcript.take_client().endswith(b"1\r\nA\r\n")
    transcript.from_client(b"1\r\nb\r\n")
    assert transcript.take_upstream() == b"1\r\nb\r\n"
    transcript.from_client(b"0\r\n\r\n").from_upstream(b"0\r\n\r\n")
    assert transcript.closed == []


def test_a_final_answer_in_the_middle_of_an_upload_ends_it() -> None:
    transcript = asked(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n" + GOOD + b"\r\nabc")
    transcript.from_upstream(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert b"connection: close\r\n" in transcript.client
    assert transcript.closed == ["upstream", "client-half"]
    transcript.from_client(b"x" * 997 + b"GET /smuggled HTTP/1.1\r\n")
    assert transcript.upstream == b""


# --- upgrades -----------------------------------------------------------------------------------------------------


def test_a_websocket_becomes_a_tunnel() -> None:
    transcript = lane().from_client(UPGRADE)
    assert transcript.take_upstream().endswith(
        b"sec-websocket-key: x\r\nauthorization: Bearer good\r\nx-org: internal\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    transcript.from_client(b"early")
    assert transcript.upstream == b"", "nothing passes before the application agreed"
    transcript.from_upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n\x81\x01a"
    )
    assert transcript.take_client() == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: y\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x01a"
    )
    assert transcript.take_upstream() == b"early"
    transcript.from_client(b"GET / HTTP/1.1\r\n\r\n").from_upstream(b"\x81\x01b")
    assert transcript.take_upstream() == b"GET / HTTP/1.1\r\n\r\n"
    assert transcript.take_client() == b"\x81\x01b"
    transcript.client_closes()
    assert transcript.closed == ["upstream-half"]
    transcript.upstream_closes()
    assert transcript.closed[1:] == ["upstream", "client"]


def test_a_client_that_ends_before_its_upgrade_is_answered_has_its_end_passed_on() -> None:
    transcript = lane().from_client(UPGRADE + b"\x88\x80").client_closes()
    transcript.take_upstream()
    transcript.from_upstream(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert transcript.take_upstream() == b"\x88\x80"
    assert transcript.closed == ["upstream-half"]
    assert transcript.from_upstream(b"\x88\x00").take_client().endswith(b"\r\n\r\n\x88\x00")
    transcript.upstream_closes()
    assert transcript.closed == ["upstream-half", "upstream", "client"]


def test_a_denied_websocket() -> None:
    transcript = lane().from_client(UPGRADE.replace(b"good", b"bad"))
    assert status(transcript.client) == 401
    assert transcript.opened == 0


def test_a_refused_websocket_stays_http() -> None:
    transcript = lane().from_client(UPGRADE).from_upstream(OK)
    assert status(transcript.take_client()) == 200
    transcript.from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status(transcript.client) == 401


@pytest.mark.parametrize(
    "fields",
    [
        b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n", b"Connection: upgrade\r\nUpgrade: H2C\r\n",
        b"Connection: upgrade\r\nUpgrade: foo\r\n", b"Upgrade: websocket\r\n", b"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n",
    ],
)  # fmt: skip
def test_no_other_upgrade_reaches_the_application(fields: bytes) -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + GOOD + b"\r\nhi")
    head = transcript.take_upstream().lower()
    assert b"upgrade" not in head
    assert b"http2-settings" not in head
    transcript.from_upstream(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
    assert status(transcript.client) == 502
    transcript.from_client(b"PRI * HTTP/2.0\r\n\r\n")
    assert transcript.upstream == b""
