"""A request that was allowed and came to nothing is reported, once, with what the application did; no other is."""

from __future__ import annotations

import pytest

from sidecar.lanes.opaque import OpaqueLane
from sidecar.lanes.top import TopLane
from sidecar.options import Limits
from sidecar.upstream import UpstreamError, UpstreamFailure
from tests.lanes.http2_peer import Conversation
from tests.lanes.stub_gate import StubGate
from tests.lanes.test_http1_requests import GOOD, OK, lane, status
from tests.lanes.transcript import Transcript

GET = b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n"
APPLICATION = ("127.0.0.1", 8080)
REFUSED = "connect_refused: Connection refused"


def reported(transcript: Transcript) -> list[UpstreamError]:
    errors: list[UpstreamError] = transcript.gate.upstream_errors  # type: ignore[attr-defined]
    return errors


def error(failure: str, detail: str = "") -> UpstreamError:
    return UpstreamError(UpstreamFailure(failure), APPLICATION, "a route", detail)


def test_http1_an_application_that_is_not_there() -> None:
    transcript = lane(refuse_upstream=REFUSED).from_client(GET + GET)
    assert status(transcript.client) == 503
    assert reported(transcript) == [error("connect_refused", "Connection refused")] * 2


@pytest.mark.parametrize(
    ("sent", "answered", "expected"),
    [
        (b"", 503, error("closed_before_response")),
        (b"HTTP/1.1 200 O", 502, error("response_cut")),
        (b"ICY 200 OK\r\n\r\n", 502, error("protocol_error", "malformed status line")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 200, error("response_cut")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|not a size\r\n",
            200,
            error("protocol_error", "malformed chunk line"),
        ),
    ],
)
def test_http1_an_application_that_does_not_answer_to_the_end(
    sent: bytes, answered: int, expected: UpstreamError
) -> None:
    transcript = lane().from_client(GET)
    for segment in filter(None, sent.split(b"|")):
        transcript.from_upstream(segment)
    transcript.upstream_closes()
    assert status(transcript.client) == answered
    assert reported(transcript) == [expected]


def test_http1_an_endless_response_that_is_reset() -> None:
    transcript = lane().from_client(GET).from_upstream(b"HTTP/1.1 200 OK\r\n\r\nhel")
    transcript.context.server.state = transcript.context.server.state.CLOSED
    transcript.upstream_closes()
    assert transcript.closed[-1] == "client-cut"
    assert reported(transcript) == [error("response_cut")]


def test_http1_what_is_no_fault_of_the_application() -> None:
    answered = lane().from_client(GET).from_upstream(OK).upstream_closes()
    ended = lane().from_client(GET).from_upstream(b"HTTP/1.1 200 OK\r\n\r\nhello").upstream_closes()
    left = lane().from_client(GET)
    left.context.client.state = left.context.client.state.CLOSED
    left.client_closes().upstream_closes()
    denied = lane(refuse_upstream=REFUSED).from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    torn = lane().from_client(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + GOOD + b"\r\nbad\r\n")
    retried = lane().from_client(GET).from_upstream(OK).from_client(GET).upstream_closes().from_upstream(OK)
    assert retried.client.count(b"200 OK") == 2
    for transcript in (answered, ended, left, denied, torn, retried):
        assert reported(transcript) == []


def test_http2_an_application_that_is_not_there() -> None:
    talk = Conversation(refuse_upstream=REFUSED)
    talk.request(1)
    talk.request(3)
    talk.request(5, "bad")
    talk.run()
    assert [talk.status(stream) for stream in (1, 3, 5)] == ["503", "503", "401"]
    assert talk.gate.upstream_errors == [error("connect_refused", "Connection refused")] * 2


def test_http2_an_application_that_dies() -> None:
    talk = Conversation(reply=False)
    for stream in (1, 3, 5):
        talk.request(stream)
    talk.request(7, "keys")
    talk.run()
    talk.server.send_headers(3, [(":status", "200")])
    talk.server.send_headers(5, [(":status", "200")], end_stream=True)
    talk.run()
    talk.lane.upstream_closes()
    talk.run()
    assert talk.gate.upstream_errors == [error("closed_before_response"), error("response_cut")]


def test_http2_an_application_that_speaks_something_else() -> None:
    talk = Conversation(reply=False)
    talk.request(1)
    talk.run()
    talk.lane.from_upstream(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    talk.run()
    [found] = talk.gate.upstream_errors
    assert found._replace(detail="") == error("protocol_error")
    assert "HTTP/1.1" not in found.detail


def test_http2_what_is_no_fault_of_the_application() -> None:
    talk = Conversation()
    talk.request(1)
    talk.run()
    assert talk.status(1) == "200"
    talk.lane.upstream_closes()
    talk.run()
    assert talk.gate.upstream_errors == []


def test_an_opaque_port_without_an_application() -> None:
    gate = StubGate()
    transcript = Transcript(
        lambda context: TopLane(context, gate, Limits(), frozenset([APPLICATION[1]])),  # type: ignore[arg-type]
        refuse_upstream="connect_timeout: ",
    )
    assert transcript.closed == ["client"]
    assert gate.upstream_errors == [UpstreamError(UpstreamFailure.CONNECT_TIMEOUT, APPLICATION)]


def test_an_opaque_lane_that_nobody_listens_to() -> None:
    assert Transcript(OpaqueLane, refuse_upstream="anything").closed == ["client"]
