"""The HTTP/2 lane between two ``h2`` state machines: what passes, what is refused, and what the application never sees."""

from __future__ import annotations

import h2.events
import h2.settings
import pytest

from eastgate.model.decisions import Decision, Edits, Reason
from sidecar._mitmproxy import Drain, events
from sidecar.options import Limits
from tests.lanes.http2_peer import Clock, Conversation, FakeGate, allow, head, make_lane

PORTIONS = [0, 1, 7, 100]


@pytest.mark.parametrize("portion", PORTIONS)
def test_an_allowed_request_passes_with_its_edits(portion):
    talk = Conversation(portion=portion)
    talk.request(1, more=[("x-org", "spoofed"), ("x_org", "spoofed"), ("x-keep", "1")])
    talk.run()
    assert talk.status(1) == "200"
    assert talk.body(1) == b"hello"
    assert talk.upstream_head(1) == [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a?b=c"),
        (":authority", "app.example:80"),
        ("x-keep", "1"),
        ("x-org", "internal"),
    ]


def test_the_decision_sees_the_request_as_it_is():
    talk = Conversation()
    talk.client.send_headers(1, [*head(), ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], end_stream=True)
    talk.run()
    [request] = talk.gate.requests
    assert request.method == b"POST"
    assert request.target == b"/a?b=c"
    assert request.authority == b"app.example:80"
    assert request.headers == ((b"authorization", b"good"), (b"cookie", b"a=1; b=2"), (b"x", b"y"))
    assert request.port == 8080
    assert request.peer == "10.0.0.9"
    assert request.protocol == "HTTP/2"
    assert [field for field in talk.upstream_head(1) if field[0] == "cookie"] == [("cookie", "a=1"), ("cookie", "b=2")]


@pytest.mark.parametrize("portion", PORTIONS)
def test_bodies_and_trailers_pass_both_ways(portion):
    talk = Conversation(portion=portion, reply=False)
    talk.request(1, end=False)
    talk.client.send_data(1, b"x" * 1000)
    talk.client.send_data(1, b"y" * 1000, pad_length=20)
    talk.client.send_headers(1, [("grpc-checksum", "1"), ("x-org", "evil"), ("authorization", "evil")], end_stream=True)
    talk.run()
    assert talk.body(1, server=True) == b"x" * 1000 + b"y" * 1000
    [trailers] = [event for event in talk.server_events if isinstance(event, h2.events.TrailersReceived)]
    assert trailers.headers == [("grpc-checksum", "1")]
    talk.server.send_headers(1, [(":status", "200"), ("a", "b")])
    talk.server.send_data(1, b"z" * 16_000, pad_length=10)
    talk.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    talk.run()
    assert talk.body(1) == b"z" * 16_000
    [trailers] = [event for event in talk.client_events if isinstance(event, h2.events.TrailersReceived)]
    assert trailers.headers == [("grpc-status", "0")]


def test_a_refusal_never_touches_the_application():
    talk = Conversation()
    talk.request(1, None)
    talk.run()
    assert talk.status(1) == "401"
    assert talk.body(1) == b"Jwt is missing"
    assert ("www-authenticate", 'Bearer realm="http://a/"') in talk.response(1)
    assert talk.ended(1)
    assert talk.reset(1) is None
    assert talk.lane.opened == 0


def test_a_refused_stream_is_answered_before_its_body_and_reset():
    talk = Conversation()
    talk.request(1, None, end=False)
    talk.run()
    assert talk.status(1) == "401"
    assert talk.ended(1)
    assert talk.reset(1) == 0
    assert talk.lane.opened == 0


@pytest.mark.parametrize("first", [None, "good"])
def test_refused_uploads_give_their_credit_back(first):
    """A client that uploads in spite of refusals never runs out of connection credit (65,535 bytes before settings)."""
    talk = Conversation()
    if first:
        talk.request(1, first)
        talk.run()
    for stream in range(3, 43, 2):
        talk.request(stream, None, end=False)
        talk.client.send_data(stream, b"x" * 16_000)  # on the wire before the refusal can arrive
        talk.run()
        assert talk.status(stream) == "401"
    assert talk.upstream_streams() == ([1] if first else [])
    talk.request(43)
    talk.run()
    assert talk.status(43) == "200"


def test_late_trailers_of_a_refused_stream_keep_the_field_table_in_step():
    talk = Conversation()
    talk.request(1, None, end=False)
    talk.client.send_headers(1, [("x-new", "indexed by the client")], end_stream=True)
    talk.run()
    talk.request(3, more=[("x-new", "indexed by the client")])
    talk.run()
    assert ("x-new", "indexed by the client") in talk.upstream_head(3)


def test_a_grpc_refusal_is_trailers_only():
    talk = Conversation()
    talk.request(1, None, end=False, more=[("content-type", "application/grpc"), ("te", "trailers")])
    talk.run()
    assert dict(talk.response(1)) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "16",
        "grpc-message": "Jwt is missing",
        "www-authenticate": 'Bearer realm="http://a/"',
    }
    assert talk.ended(1)
    assert talk.body(1) == b""


def test_a_refused_head_request_has_no_body():
    talk = Conversation()
    talk.client.send_headers(1, head(None, method="HEAD"), end_stream=True)
    talk.run()
    assert ("content-length", "14") in talk.response(1)
    assert talk.body(1) == b""
    assert talk.ended(1)


# --- keys and order -------------------------------------------------------------------------------------------------


def test_a_stream_that_needs_keys_waits_and_holds_back_later_ones():
    talk = Conversation()
    talk.request(1, "keys", end=False)
    talk.client.send_data(1, b"early", end_stream=True)
    talk.request(3, "good")
    talk.request(5, None)
    talk.run()
    assert [fetch.ticket for fetch in talk.lane.fetches] == [1]
    assert talk.status(5) == "401"
    assert talk.upstream_streams() == []
    talk.lane.keys_fetched()
    talk.run()
    assert talk.upstream_streams() == [1, 3]
    assert talk.body(1, server=True) == b"early"
    assert talk.status(1) == talk.status(3) == "200"


def test_a_stream_refused_after_its_keys_gives_its_credit_back_and_lets_others_go():
    talk = Conversation()
    for stream in range(1, 5, 2):
        talk.request(stream, "badkeys", end=False)
        talk.client.send_data(stream, b"x" * 16_000)
    talk.request(5, "good")
    talk.run()
    talk.lane.keys_fetched()
    talk.lane.keys_fetched()
    talk.run()
    assert talk.status(1) == talk.status(3) == "401"
    assert talk.upstream_streams() == [5]
    assert talk.client.outbound_flow_control_window == 65_535


def test_trailers_of_a_waiting_stream_follow_its_decision():
    talk = Conversation(reply=False)
    talk.request(1, "keys", end=False)
    talk.client.send_headers(1, [("x-org", "evil"), ("x-sum", "1")], end_stream=True)
    talk.run()
    talk.lane.keys_fetched()
    talk.run()
    [trailers] = [event for event in talk.server_events if isinstance(event, h2.events.TrailersReceived)]
    assert trailers.headers == [("x-sum", "1")]


def test_a_client_that_sends_more_than_may_wait_is_not_read():
    talk = Conversation(limits=Limits(pending_bytes=20_000))
    talk.request(1, "keys", end=False)
    talk.client.send_data(1, b"x" * 16_000)
    talk.run()
    assert not talk.lane.held["client"]
    talk.client.send_data(1, b"x" * 16_000)
    talk.run()
    assert talk.lane.held["client"]
    talk.lane.feed(events.Wakeup(talk.lane.wakeups[0]))
    assert talk.lane.closed == []
    talk.lane.keys_fetched()
    assert not talk.lane.held["client"]
    talk.client.send_data(1, b"x" * 16_000, end_stream=True)
    talk.run()
    assert talk.status(1) == "200"
    assert len(talk.body(1, server=True)) == 48_000


def test_what_waits_is_bounded():
    talk = Conversation(limits=Limits(pending_bytes=15_000))
    talk.request(1, "keys", end=False)
    talk.client.send_data(1, b"x" * 16_000)
    talk.client.send_data(1, b"x" * 16_000)
    talk.request(3, "good")
    talk.run()
    assert talk.status(1) == "503"
    assert talk.reset(1) == 0
    assert talk.upstream_streams() == [3]
    talk.lane.keys_fetched()
    talk.run()
    assert talk.upstream_streams() == [3]


def test_a_waiting_stream_that_the_client_resets_is_gone():
    talk = Conversation()
    talk.request(1, "keys", end=False)
    talk.request(3)
    talk.run()
    talk.client.reset_stream(1)
    talk.run()
    assert talk.upstream_streams() == [3]
    talk.lane.keys_fetched()
    talk.run()
    assert talk.upstream_streams() == [3]


# --- settings, pings, windows ---------------------------------------------------------------------------------------


def test_settings_meet_in_the_middle():
    names = h2.settings.SettingCodes
    talk = Conversation(
        limits=Limits(streams=50),
        server_settings={
            names.INITIAL_WINDOW_SIZE: 1_000_000,
            names.MAX_CONCURRENT_STREAMS: 100,
            names.ENABLE_CONNECT_PROTOCOL: 1,
            names.HEADER_TABLE_SIZE: 65_536,
            names.MAX_FRAME_SIZE: 1_000_000,
        },
        client_settings={names.INITIAL_WINDOW_SIZE: 123_456},
    )
    assert talk.client.remote_settings.max_concurrent_streams == 50
    talk.request(1)
    talk.run()
    assert talk.client.remote_settings.initial_window_size == 1_000_000
    assert talk.client.remote_settings.max_concurrent_streams == 50
    assert talk.client.remote_settings.enable_connect_protocol == 0
    assert talk.client.remote_settings.header_table_size == 4096
    assert talk.client.remote_settings.max_frame_size == 16_384
    assert talk.server.remote_settings.initial_window_size == 123_456
    assert talk.server.remote_settings.enable_push == 0
    # Acknowledgements went end to end, each to the side that waited for it.
    assert any(isinstance(event, h2.events.SettingsAcknowledged) for event in talk.client_events)
    assert any(isinstance(event, h2.events.SettingsAcknowledged) for event in talk.server_events)
    talk.client.update_settings({names.INITIAL_WINDOW_SIZE: 5})
    talk.run()
    assert talk.server.remote_settings.initial_window_size == 5


def test_pings_are_answered_by_whoever_is_there():
    talk = Conversation()
    talk.client.ping(b"12345678")
    talk.run()
    talk.request(1)
    talk.run()
    talk.client.ping(b"abcdefgh")
    talk.server.ping(b"ABCDEFGH")
    talk.run()
    acks = [event.ping_data for event in talk.client_events if isinstance(event, h2.events.PingAckReceived)]
    assert acks == [b"12345678", b"abcdefgh"]
    assert [e.ping_data for e in talk.server_events if isinstance(e, h2.events.PingAckReceived)] == [b"ABCDEFGH"]


def test_window_updates_before_the_application_is_there_reach_it():
    talk = Conversation(reply=False)
    talk.client.increment_flow_control_window(1_000_000)
    talk.run()
    talk.request(1)
    talk.run()
    assert talk.server.outbound_flow_control_window == 65_535 + 1_000_000


def test_answers_use_credit_and_the_application_is_not_told_of_it():
    """Bodies of refusals eat the client's window; the application's answer then waits for the client, and arrives whole."""
    talk = Conversation(reply=False, client_settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000})
    talk.acknowledge = False
    talk.request(1)
    talk.run()
    for stream in range(3, 43, 2):
        talk.request(stream, None)
    talk.run()
    spent = sum(len(talk.body(stream)) for stream in range(3, 43, 2))
    assert spent == 20 * 14
    talk.server.send_headers(1, [(":status", "200")])
    left = 65_535
    while left:
        size = min(left, 16_384)
        talk.server.send_data(1, b"d" * size)
        left -= size
    talk.run()
    assert len(talk.body(1)) == 65_535 - spent  # all that the client has credit for, to the byte
    talk.server.ping(b"12345678")  # what has no place in the order goes on
    talk.run()
    assert any(isinstance(event, h2.events.PingReceived) for event in talk.client_events)
    talk.client.increment_flow_control_window(spent)
    talk.run()
    assert len(talk.body(1)) == 65_535
    assert talk.server.outbound_flow_control_window == 0
    talk.client.increment_flow_control_window(65_535)
    talk.run()
    assert talk.server.outbound_flow_control_window == 65_535
    talk.server.send_data(1, b"", end_stream=True)
    talk.run()
    assert talk.ended(1)


def test_no_credit_for_a_body_means_an_answer_without_one():
    talk = Conversation(client_settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5})
    talk.request(1, None)
    talk.run()
    assert talk.status(1) == "401"
    assert talk.ended(1)
    assert talk.body(1) == b""
    assert "content-length" not in dict(talk.response(1))


def test_a_smaller_field_table_of_the_client_is_respected():
    """The client's decoder demands to hear of the smaller table in the first block, even when the lane writes it."""
    names = h2.settings.SettingCodes
    talk = Conversation(client_settings={names.HEADER_TABLE_SIZE: 0})
    talk.request(1, None)
    talk.run()
    talk.request(3)
    talk.run()
    talk.request(5, None)
    talk.run()
    assert (talk.status(1), talk.status(3), talk.status(5)) == ("401", "200", "401")


def test_a_field_table_shrunk_on_the_way():
    names = h2.settings.SettingCodes
    talk = Conversation()
    for stream in (1, 3):
        talk.request(stream)
        talk.run()
    talk.client.update_settings({names.HEADER_TABLE_SIZE: 64})
    talk.run()
    for stream, token in ((5, None), (7, "good"), (9, None), (11, "good")):
        talk.request(stream, token)
        talk.run()
    assert [talk.status(stream) for stream in (5, 7, 9, 11)] == ["401", "200", "401", "200"]


# --- the upstream's faults and farewells ----------------------------------------------------------------------------


def test_an_application_that_is_not_there_is_a_503_and_the_next_stream_tries_again():
    talk = Conversation(refuse_upstream="ConnectionRefusedError")
    talk.request(1)
    talk.request(3, more=[("content-type", "application/grpc")])
    talk.run()
    assert talk.status(1) == "503"
    assert b"connection failure" in talk.body(1)
    assert dict(talk.response(3))["grpc-status"] == "14"
    assert talk.goaway() is None
    talk.lane.refuse_upstream = None
    talk.request(5)
    talk.run()
    assert talk.status(5) == "200"


def test_goaway_of_the_application_ends_no_stream_in_flight():
    talk = Conversation(reply=False)
    talk.request(1)
    talk.request(3, "keys")
    talk.run()
    talk.server.close_connection(last_stream_id=1)
    data = talk.server.data_to_send()
    talk.lane.from_upstream(data)
    out = talk.lane.take_client()
    # GOAWAY passes as it is (h2's client would end itself here, so it is not fed); stream 3 is above the last one taken.
    assert out == data + bytes.fromhex("000004 03 00 00000003 00000007".replace(" ", ""))
    assert talk.lane.closed == []
    talk.lane.from_upstream(bytes.fromhex("000001 01 04 00000001 88".replace(" ", "")))
    talk.lane.from_upstream(bytes.fromhex("000002 00 01 00000001".replace(" ", "")) + b"ok")
    assert talk.lane.take_client().endswith(b"ok")
    talk.lane.keys_fetched()
    assert talk.lane.take_upstream() == b""
    talk.lane.upstream_closes()
    assert "client-half" in talk.lane.closed


def test_streams_in_flight_hear_of_an_application_that_dies():
    talk = Conversation(reply=False)
    talk.request(1)
    talk.request(3)
    talk.request(5, "keys")
    talk.run()
    talk.server.send_headers(3, [(":status", "200")])
    talk.run()
    talk.lane.upstream_closes()
    talk.run()
    assert talk.status(1) == "503"
    assert talk.reset(3) == 2
    assert talk.reset(5) == 7
    assert talk.goaway() == 0
    assert "client-half" in talk.lane.closed


def test_an_application_that_speaks_http1_is_a_502():
    talk = Conversation()
    talk.server_fed = False
    talk.client.send_headers(1, head(), end_stream=True)
    talk.lane.from_client(talk.client.data_to_send())
    talk.lane.from_upstream(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
    talk.lane.take_upstream()
    talk.run()
    assert talk.status(1) == "502"
    assert set(talk.lane.closed) == {"client-half", "upstream"}


def test_a_reset_by_the_application_passes():
    talk = Conversation(reply=False)
    talk.request(1, end=False)
    talk.run()
    talk.server.reset_stream(1, 8)
    talk.run()
    assert talk.reset(1) == 8


def test_a_reset_by_the_client_passes():
    talk = Conversation(reply=False)
    talk.request(1, end=False)
    talk.run()
    talk.client.reset_stream(1, 8)
    talk.run()
    assert any(isinstance(event, h2.events.StreamReset) for event in talk.server_events)


def test_a_client_that_leaves_takes_the_application_connection_with_it():
    talk = Conversation(reply=False)
    talk.request(1)
    talk.run()
    talk.lane.client_closes()
    assert set(talk.lane.closed) == {"client", "upstream"}


def test_draining_finishes_what_is_there_and_begins_nothing():
    talk = Conversation(reply=False)
    talk.request(1)
    talk.run()
    talk.lane.feed(Drain())
    assert talk.lane.take_client() == bytes.fromhex("000008 07 00 00000000 7fffffff 00000000".replace(" ", ""))
    talk.client.send_headers(3, head(), end_stream=True)  # begun before it heard of that
    talk.lane.from_client(talk.client.data_to_send())
    assert talk.lane.upstream
    talk.run()
    talk.lane.feed(events.Wakeup(talk.lane.wakeups[-1]))
    assert talk.lane.take_client() == bytes.fromhex("000008 07 00 00000000 00000003 00000000".replace(" ", ""))
    talk.client.send_headers(5, head(), end_stream=True)
    talk.lane.from_client(talk.client.data_to_send())
    assert talk.lane.take_client() == bytes.fromhex("000004 03 00 00000005 00000007".replace(" ", ""))
    assert talk.lane.take_upstream() == b""
    assert talk.lane.closed == []
    for stream in (1, 3):
        talk.server.send_headers(stream, [(":status", "200")], end_stream=True)
    talk.lane.from_upstream(talk.server.data_to_send())
    assert set(talk.lane.closed) == {"client-half", "upstream"}


@pytest.mark.parametrize("greeted", [True, False])
def test_draining_an_idle_connection_closes_it(greeted):
    talk = Conversation() if greeted else None
    lane = talk.lane if talk else make_lane(FakeGate(), Limits(), Clock())
    lane.feed(Drain())
    lane.feed(events.Wakeup(lane.wakeups[-1]))
    assert lane.closed == ["client-half"]
    lane.client_closes()
    assert lane.closed == ["client-half", "client"]


# --- failing closed ---------------------------------------------------------------------------------------------------


def test_an_allowing_decision_without_edits_forwards_nothing():
    talk = Conversation(answer=lambda request, asked: Decision(True, 200, Reason.ALLOWED))
    talk.request(1)
    talk.run()
    assert talk.status(1) == "503"
    assert talk.lane.opened == 0


@pytest.mark.parametrize(
    "edits",
    [
        Edits(b"no-slash"),
        Edits(b"/a b"),
        Edits(b"/", add=((b"x-org", b"a\r\nb"),)),
        Edits(b"/", add=((b":path", b"/"),)),
        Edits(b"/", add=((b"X-Org", b"a"),)),
        Edits(b"/", add=((b"host", b"a"),)),
    ],
)
def test_edits_that_would_break_the_head_forward_nothing(edits):
    talk = Conversation(answer=lambda request, asked: Decision(True, 200, Reason.ALLOWED, edits=edits))
    talk.request(1)
    talk.run()
    assert talk.goaway() == 2
    assert talk.lane.upstream == b""
    assert talk.lane.opened == 0


@pytest.mark.parametrize("asked", [False, True])
def test_a_gate_that_raises_forwards_nothing(asked):
    def answer(request, was_asked):
        if was_asked == asked and dict(request.headers)[b"authorization"] == b"keys":
            raise ZeroDivisionError
        from tests.lanes.http2_peer import by_token

        return by_token(request, was_asked)

    talk = Conversation(answer=answer, reply=False)
    talk.request(1)
    talk.run()
    talk.lane.take_upstream()
    talk.request(3, "keys")
    talk.run()
    if asked:
        talk.lane.keys_fetched()
        talk.run()
    assert talk.goaway() == 2
    assert set(talk.lane.closed) == {"client-half", "upstream"}
    assert 3 not in talk.upstream_streams()


def test_the_memory_of_heads_never_answers_for_the_gate():
    """The same bytes again: decoded from memory, decided anew."""
    passes = [True, False, True]
    talk = Conversation(
        answer=lambda request, asked: allow(request) if passes.pop(0) else Decision(False, 403, "x", b"no")
    )
    for stream in (1, 3, 5):
        talk.request(stream)
        talk.run()
    assert [talk.status(stream) for stream in (1, 3, 5)] == ["200", "403", "200"]
    assert len(talk.gate.requests) == 3
