"""HTTP/1 requests: what is refused, what the application sees, and in which order things happen."""

from __future__ import annotations

import pytest

from sidecar._mitmproxy import ConnectionState, events
from sidecar.lanes.http1.lane import Http1Lane
from sidecar.options import Limits
from tests.lanes.stub_gate import StubGate
from tests.lanes.transcript import Transcript

GOOD = b"Authorization: Bearer good\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def lane(gate: StubGate | None = None, limits: Limits | None = None, **options: str) -> Transcript:
    gate = gate or StubGate()
    transcript = Transcript(lambda context: Http1Lane(context, gate, limits or Limits()), **options)  # type: ignore[arg-type]
    transcript.gate = gate  # type: ignore[attr-defined]
    return transcript


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rX-Org: admin\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 70_000, 431),
        (b"220 smtp.example ESMTP\r\n", 400),
        (b"\x80\x90\x00\x01", 400),
    ],
)
@pytest.mark.parametrize("step", [100_000, 1])
def test_refused_with_nothing_forwarded(head: bytes, expected: int, step: int) -> None:
    if step == 1 and len(head) > 5000:
        step = 1000
    gate = StubGate(allow_all=True)
    transcript = lane(gate)
    for at in range(0, len(head), step):
        transcript.from_client(head[at : at + step])
        if transcript.client:
            break
    assert status(transcript.client) == expected
    assert b"connection: close\r\n" in transcript.client
    assert transcript.upstream == b""
    assert transcript.opened == 0
    assert transcript.closed[:1] == ["client-half"]
    assert [decision.status for decision in gate.refused] == [expected]
    transcript.from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transcript.opened == 0


def test_one_empty_line_before_a_request_is_skipped_and_the_policy_holds() -> None:
    transcript = lane().from_client(b"\r\nGET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status(transcript.client) == 401
    assert transcript.opened == 0


@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_a_cut_first_segment_changes_nothing(cut: int) -> None:
    data = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
    transcript = lane().from_client(data[:cut])
    assert transcript.client == b""
    transcript.from_client(data[cut:])
    assert status(transcript.client) == 401
    assert transcript.opened == 0


def test_a_head_that_takes_too_long() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert transcript.wakeups[0].delay == 10.0
    transcript.time_passes()
    assert status(transcript.client) == 408


def test_the_head_timer_is_for_one_head_only() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\n").from_client(b"Host: a\r\n\r\n" + b"GET /2 HT")
    assert status(transcript.take_client()) == 401
    transcript.time_passes()
    assert transcript.client == b""
    transcript.time_passes()
    assert status(transcript.client) == 408


def test_a_denial_keeps_the_connection() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transcript.take_client() == (
        b"HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\ncontent-length: 14\r\n"
        b'www-authenticate: Bearer realm="http://a/"\r\n\r\nJwt is missing'
    )
    assert transcript.closed == []
    transcript.from_client(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = transcript.take_client()
    assert answer.endswith(b"connection: close\r\n\r\n")
    assert b"content-length: 14\r\n" in answer
    assert "client" in transcript.closed


def test_a_denied_grpc_call_over_http1() -> None:
    transcript = lane().from_client(
        b"POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert transcript.client.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"grpc-status: 16\r\n" in transcript.client
    assert b"content-length: 0\r\n" in transcript.client


def test_an_upload_is_denied_on_its_head_alone() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert status(transcript.client) == 401
    assert b"100 Continue" not in transcript.client
    assert b"connection: close\r\n" in transcript.client
    assert transcript.closed == ["client-half"]
    for _ in range(10):
        transcript.from_client(b"x" * 65536)
    assert transcript.held["client"], "no more than half a megabyte is read in vain"
    assert transcript.opened == 0
    transcript.time_passes()
    assert transcript.closed[-1] == "client"


def test_a_small_denied_body_that_is_here_already_costs_no_connection() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    transcript = lane().from_client(
        head + b"Content-Length: 2\r\n\r\nhi" + head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    assert transcript.client.count(b"HTTP/1.1 401") == 2
    assert transcript.closed == []


# --- forwarded ----------------------------------------------------------------------------------------------------


def test_the_head_is_written_anew() -> None:
    transcript = lane().from_client(
        b"GET /a/b?c=d HTTP/1.1\r\nX-ORG: admin\r\nx_org: admin\r\nHost: App.example:8080\r\nAccept:   */*  \r\n"
        + GOOD
        + b"\r\n"
    )
    assert transcript.upstream == (
        b"GET /a/b?c=d HTTP/1.1\r\nhost: App.example:8080\r\naccept: */*\r\nauthorization: Bearer good\r\nx-org: internal\r\n\r\n"
    )


def test_what_the_gate_is_asked() -> None:
    gate = StubGate()
    lane(gate).from_client(
        b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nA: 1\r\na: 2\r\nTE: trailers\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    )
    (request,) = gate.requests
    assert request.method == b"GET"
    assert request.target == b"/a?b"
    assert request.authority == b"a"
    assert request.headers == ((b"a", b"1"), (b"a", b"2"), (b"x-forwarded-for", b"1.2.3.4"))
    assert request.port == 8080
    assert request.peer == "10.0.0.9"
    assert request.protocol == "HTTP/1.1"


def test_hop_by_hop_fields_end_here() -> None:
    transcript = lane().from_client(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Org, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
        b"Proxy-Authorization: Basic x\r\nProxy: http://evil\r\nTE: gzip\r\nHTTP2-Settings: AAA\r\nUpgrade: h2c\r\n"
        + GOOD
        + b"\r\n"
    )
    assert transcript.upstream == b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer good\r\nx-org: internal\r\n\r\n"


def test_te_trailers_is_passed_on() -> None:
    transcript = lane().from_client(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: trailers, deflate\r\n" + GOOD + b"\r\n"
    )
    assert transcript.upstream.endswith(b"connection: te\r\nte: trailers\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"http://A:80/x?y", b"a", b"/x?y"), (b"http://a", b"a", b"/"), (b"http://a?q", b"a.", b"/?q"),
        (b"HTTP://a:8080/x", b"a:8080", b"/x"),
    ],
)  # fmt: skip
def test_absolute_form_of_the_same_host_becomes_origin_form(target: bytes, host: bytes, expected: bytes) -> None:
    transcript = lane().from_client(b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, host, GOOD))
    assert transcript.upstream.startswith(b"GET %b HTTP/1.1\r\nhost: %b\r\n" % (expected, host))


def test_http10_without_host_names_the_address_it_came_to() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.0\r\n" + GOOD + b"\r\n")
    assert transcript.upstream.startswith(b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n")


def test_pipelined_requests_are_served_in_order_one_at_a_time() -> None:
    request = b"GET /%d HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n"
    gate = StubGate()
    transcript = lane(gate).from_client(
        request % 1 + request % 2 + b"GET /denied HTTP/1.1\r\nHost: a\r\n\r\n" + request % 3
    )
    assert transcript.take_upstream().startswith(b"GET /1 ")
    assert len(gate.requests) == 1
    transcript.from_upstream(OK)
    assert transcript.take_upstream().startswith(b"GET /2 ")
    transcript.take_client()
    transcript.from_upstream(OK)
    assert transcript.take_upstream().startswith(b"GET /3 ")
    answers = transcript.take_client()
    assert answers.index(b"200 OK") < answers.index(b"401 Unauthorized")
    transcript.from_upstream(OK)
    assert transcript.take_client().startswith(b"HTTP/1.1 200 OK")
    assert transcript.opened == 1
    assert len(gate.requests) == 4


def test_a_flood_of_pipelined_refusals_is_answered_in_turns() -> None:
    """Ten thousand fit into what is read at a time, and others wait meanwhile."""
    denied = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    transcript = lane()
    transcript.waits = True
    transcript.from_client(b"".join(denied % number for number in range(150)))
    assert transcript.client.count(b"HTTP/1.1 401 ") == 64
    assert transcript.held["client"]
    assert not transcript.layer.idle
    transcript.from_client(denied % 150)  # what was read before the hold: it waits behind the others
    assert transcript.client.count(b"HTTP/1.1 401 ") == 64
    transcript.client_closes()  # and so does an end
    assert transcript.closed == []
    while transcript.wakeups:
        transcript.time_passes()
    assert transcript.take_client().count(b"HTTP/1.1 401 ") == 151
    assert [request.target for request in transcript.gate.requests] == [b"/%d" % number for number in range(151)]  # type: ignore[attr-defined]
    assert not transcript.held["client"]
    assert transcript.closed == ["client"]


def test_a_request_that_is_allowed_ends_the_turns() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 64)
    assert (transcript.turns, transcript.held["client"]) == (0, False)
    transcript.from_client(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 64 + b"GET /x HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n"
    )
    assert transcript.turns == 1
    assert transcript.upstream.startswith(b"GET /x ")
    transcript.take_client()
    assert status(transcript.from_upstream(OK).client) == 200
    assert not transcript.held["client"]


def test_a_client_that_is_gone_gets_no_further_turn() -> None:
    transcript = lane()
    transcript.waits = True
    transcript.from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 150)
    transcript.context.client.state = ConnectionState.CLOSED
    transcript.feed(events.ConnectionClosed(transcript.context.client))
    asked = len(transcript.gate.requests)  # type: ignore[attr-defined]
    transcript.time_passes()
    assert len(transcript.gate.requests) == asked  # type: ignore[attr-defined]


def test_a_pipelining_client_is_held_back() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
    transcript.from_client(b"GET /2 HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000)
    assert transcript.held["client"]
    transcript.from_upstream(OK)
    assert status(transcript.client) == 200
    assert not transcript.held["client"]


# --- bodies -------------------------------------------------------------------------------------------------------


def test_a_counted_body_streams() -> None:
    transcript = lane().from_client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0010\r\n" + GOOD + b"\r\nhello")
    assert transcript.take_upstream().endswith(b"content-length: 10\r\n\r\nhello")
    transcript.from_client(b"worldGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transcript.take_upstream() == b"world"
    transcript.from_upstream(OK)
    assert transcript.take_client().count(b"HTTP/1.1 401") == 1


def test_a_chunked_body_is_chunked_again_without_extensions() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n" + GOOD + b"\r\n3;x=y\r\nabc\r\n002\r\nde\r\n"
    )
    assert transcript.take_upstream().endswith(b"transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n")
    transcript.from_client(b"0\r\nX-Sum: 1\r\nX-Org: admin\r\nX_Org: admin\r\nContent-Length: 9\r\n\r\n")
    assert transcript.take_upstream() == b"0\r\nx-sum: 1\r\n\r\n"


def test_a_broken_chunked_body_is_never_completed() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + GOOD + b"\r\n3\r\nabc\r\n"
    )
    transcript.take_upstream()
    transcript.from_client(b"zz\r\n")
    assert transcript.upstream == b""
    assert "upstream" in transcript.closed
    assert status(transcript.client) == 400


EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n" + GOOD + b"\r\n"


def test_expect_is_the_applications_to_answer() -> None:
    transcript = lane().from_client(EXPECT)
    assert transcript.client == b""
    assert transcript.take_upstream().endswith(b"content-length: 2\r\nexpect: 100-continue\r\n\r\n")
    transcript.from_upstream(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert transcript.take_client() == b"HTTP/1.1 100 Continue\r\n\r\n"
    transcript.from_client(b"hi")
    assert transcript.take_upstream() == b"hi"
    transcript.from_upstream(OK)
    assert status(transcript.client) == 200
    assert transcript.closed == []


def test_a_client_that_does_not_wait_has_no_expectation() -> None:
    transcript = lane().from_client(EXPECT + b"hi")
    assert b"expect" not in transcript.upstream
    assert transcript.upstream.endswith(b"\r\n\r\nhi")


def test_no_body_is_sent_after_a_final_answer_to_an_expectation() -> None:
    """An application that says no may take what follows for the next request, which nobody has decided."""
    transcript = lane().from_client(EXPECT)
    transcript.take_upstream()
    transcript.from_upstream(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\n")
    assert b"connection: close\r\n" in transcript.client
    transcript.from_client(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transcript.upstream == b""
    transcript.from_upstream(b"large")
    assert transcript.upstream == b""
    assert transcript.closed[:2] == ["upstream", "client-half"]


def test_a_body_does_not_wait_for_ever_for_an_application_that_ignores_expectations() -> None:
    transcript = lane().from_client(EXPECT)
    transcript.take_upstream()
    transcript.from_client(b"hi")
    assert transcript.upstream == b""
    transcript.time_passes()
    assert transcript.upstream == b"hi"


def test_expect_in_http10_is_ignored() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + GOOD + b"\r\n"
    )
    assert transcript.client == b""


def test_no_continue_when_the_upstream_cannot_be_reached() -> None:
    transcript = lane(refuse_upstream="refused").from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + GOOD + b"\r\n"
    )
    assert status(transcript.client) == 503


# --- keys ---------------------------------------------------------------------------------------------------------


def test_a_request_waits_for_keys_with_its_body_held_back() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nAuthorization: Bearer fetch\r\n\r\n"
    )
    assert len(transcript.fetches) == 1
    transcript.from_client(b"x" * 70_000)
    assert transcript.held["client"]
    assert transcript.opened == 0
    transcript.keys_fetched()
    assert transcript.upstream.endswith(b"\r\n\r\n" + b"x" * 70_000)
    assert not transcript.held["client"]


def test_a_client_that_leaves_while_keys_are_fetched() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer fetch\r\n\r\n")
    transcript.context.client.state = transcript.context.client.state.CLOSED
    from sidecar._mitmproxy import events

    transcript.feed(events.ConnectionClosed(transcript.context.client))
    transcript.keys_fetched()
    assert transcript.opened == 0


# --- half-close ---------------------------------------------------------------------------------------------------


def test_a_client_that_half_closes_still_gets_its_response() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n").client_closes()
    assert transcript.closed == []
    transcript.from_upstream(OK)
    assert status(transcript.client) == 200
    assert "client" in transcript.closed


def test_a_half_closed_client_of_an_application_that_hangs_is_given_up() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n").client_closes()
    assert transcript.closed == []
    transcript.time_passes()
    assert transcript.closed == ["upstream", "client"]


def test_a_half_closed_client_gets_a_response_that_has_begun_to_its_end() -> None:
    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n").client_closes()
    transcript.from_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").time_passes()
    assert transcript.closed == []
    transcript.from_upstream(b"lo")
    assert transcript.client.endswith(b"hello")
    assert transcript.closed == ["upstream", "client"]


@pytest.mark.parametrize("target", [b"/foo", b"a:80", b"http://a/"])
def test_connect_is_refused_whatever_its_target(target: bytes) -> None:
    """A 2xx answer to CONNECT opens a tunnel (RFC 9110 section 9.3.6), for an application that accepts a path too."""
    transcript = lane().from_client(b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n")
    assert status(transcript.client) == 405
    assert transcript.upstream == b""


def test_a_client_that_half_closes_inside_its_body_is_cut() -> None:
    transcript = (
        lane().from_client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + GOOD + b"\r\nhi").client_closes()
    )
    assert transcript.closed == ["upstream", "client"]


def test_a_client_that_half_closes_while_we_connect_inside_its_body() -> None:
    transcript = lane().from_client(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nAuthorization: Bearer fetch\r\n\r\nhi"
    )
    transcript.client_closes().keys_fetched()
    assert "client" in transcript.closed
    assert transcript.upstream == b"" or "upstream" in transcript.closed


# --- draining -----------------------------------------------------------------------------------------------------


def test_draining_closes_after_the_response() -> None:
    from sidecar._mitmproxy import Drain

    transcript = lane().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n" + GOOD + b"\r\n").feed(Drain())
    transcript.from_upstream(OK)
    assert b"connection: close\r\n" in transcript.client
    assert "client" in transcript.closed


def test_draining_leaves_an_idle_client_a_moment_for_a_last_request() -> None:
    from sidecar._mitmproxy import Drain

    transcript = lane().feed(Drain())
    assert transcript.closed == []
    transcript.from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"connection: close\r\n" in transcript.client
    idle = lane().feed(Drain()).time_passes()
    assert idle.closed == ["client"]
