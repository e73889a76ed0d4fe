"""Frames that no honest client sends: each is refused, and the application sees none of it."""

from __future__ import annotations

import hpack
import pytest

from sidecar._mitmproxy import events
from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Frame,
    FrameReader,
    encode_frame,
    encode_head,
    encode_reset,
    encode_window_update,
    read_word,
)
from sidecar.options import Limits
from tests.lanes.http2_peer import Clock, FakeGate, make_lane
from tests.lanes.transcript import Transcript

HELLO = PREFACE + encode_frame(SETTINGS, 0, 0, b"")
OPEN = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
GOOD = [*OPEN, (b"authorization", b"good")]


class Wire:
    """A lane past its greeting, and what came back from it as frames."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.gate = FakeGate()
        self.clock = Clock()
        self.lane: Transcript = make_lane(self.gate, limits or Limits(), self.clock)
        self.reader = FrameReader()
        self.lane.from_client(HELLO)
        self.frames()

    def send(self, *frames: bytes) -> Wire:
        for frame in frames:
            self.lane.from_client(frame)
        return self

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        return [
            (kind, flags, stream, data[9:]) for kind, flags, stream, data in self.reader.feed(self.lane.take_client())
        ]

    def window_updates(self) -> list[Frame]:
        return [frame for frame in self.reader.feed(self.lane.take_client()) if frame.kind == WINDOW_UPDATE]

    def goaway(self) -> int | None:
        """The code of the GOAWAY, the last thing said; the connection is over then."""
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                assert "client-half" in self.lane.closed
                self.lane.from_client(b"anything")
                assert self.lane.client == b""
                return int.from_bytes(payload[4:8])
        return None

    def status(self, stream: int) -> bytes | None:
        for kind, _, number, payload in self.frames():
            if kind == HEADERS and number == stream:
                return dict(hpack.Decoder().decode(payload, raw=True))[b":status"]
        return None


def request(stream: int, fields=GOOD, end=True) -> bytes:
    return encode_head(stream, encode_fields(fields), end)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", PROTOCOL_ERROR),
        (b"GET / HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
        (PREFACE + request(1), PROTOCOL_ERROR),
        (PREFACE + encode_frame(PING, 0, 0, b"12345678"), PROTOCOL_ERROR),
        (PREFACE + encode_frame(DATA, 0, 1, b""), PROTOCOL_ERROR),
        (PREFACE + encode_frame(0xFA, 0, 0, b""), PROTOCOL_ERROR),
        (PREFACE + encode_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), PROTOCOL_ERROR),
    ],
)
def test_connections_that_begin_wrong(first, code):
    lane = make_lane(FakeGate(), Limits(), Clock())
    lane.from_client(first)
    assert lane.client[-4:] == code.to_bytes(4) or code.to_bytes(4) in lane.client
    assert lane.closed == ["client-half"]
    assert lane.opened == 0


SETTING = b"\0\2\0\0\0\2", b"\0\4\x80\0\0\0", b"\0\5\0\0\x3f\xff", b"\0\5\1\0\0\0"

BROKEN = {
    "even stream": (request(2), PROTOCOL_ERROR),
    "stream zero": (request(0), PROTOCOL_ERROR),
    "old stream": (request(3) + encode_reset(3, 8) + request(1), STREAM_CLOSED),
    "head on a reset stream": (request(1, end=False) + encode_reset(1, 8) + request(1), STREAM_CLOSED),
    "head after the end": (request(1) + request(1), STREAM_CLOSED),
    "data after the end": (request(1) + encode_frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "data after a reset": (request(1, end=False) + encode_reset(1, 8) + encode_frame(DATA, 0, 1, b"x"), STREAM_CLOSED),
    "data on stream zero": (encode_frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "data on an idle stream": (encode_frame(DATA, 0, 5, b"x"), PROTOCOL_ERROR),
    "data between head frames": (
        encode_frame(HEADERS, 0, 1, encode_fields(GOOD)) + encode_frame(DATA, 0, 1, b"x"),
        PROTOCOL_ERROR,
    ),
    "a ping between head frames": (
        encode_frame(HEADERS, 0, 1, encode_fields(GOOD)) + encode_frame(PING, 0, 0, b"x" * 8),
        PROTOCOL_ERROR,
    ),
    "another stream's continuation": (
        encode_frame(HEADERS, 0, 1, encode_fields(GOOD)) + encode_frame(CONTINUATION, END_HEADERS, 3, b""),
        PROTOCOL_ERROR,
    ),
    "continuation of nothing": (encode_frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "continuation of a finished head": (request(1) + encode_frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "padding longer than the frame": (encode_frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff\0"), PROTOCOL_ERROR),
    "padding without a length": (encode_frame(HEADERS, END_HEADERS | PADDED, 1, b""), FRAME_SIZE_ERROR),
    "priority beyond the frame": (encode_frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"\0"), PROTOCOL_ERROR),
    "data padding longer than the frame": (
        request(1, end=False) + encode_frame(DATA, PADDED, 1, b"\x05abc"),
        PROTOCOL_ERROR,
    ),
    "not a field block": (
        encode_frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        COMPRESSION_ERROR,
    ),
    "an index beyond the table": (encode_frame(HEADERS, END_HEADERS, 1, b"\xc0"), COMPRESSION_ERROR),
    "a table larger than allowed": (encode_frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f"), COMPRESSION_ERROR),
    "a push from a client": (encode_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL_ERROR),
    "a frame too long": (b"\0\x40\x01" + bytes((HEADERS, 4)) + b"\0\0\0\1", FRAME_SIZE_ERROR),
    "an unknown frame too long": (b"\xff\xff\xff\xfa\0\0\0\0\1", FRAME_SIZE_ERROR),
    "window update of zero": (encode_window_update(0, 0), PROTOCOL_ERROR),
    "window update on an idle stream": (encode_window_update(7, 1), PROTOCOL_ERROR),
    "window beyond its maximum": (encode_window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
    "window update of a wrong length": (encode_frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR),
    "ping of a wrong length": (encode_frame(PING, 0, 0, b"short"), FRAME_SIZE_ERROR),
    "ping on a stream": (encode_frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "reset of an idle stream": (encode_reset(9, 8), PROTOCOL_ERROR),
    "reset of stream zero": (encode_reset(0, 8), PROTOCOL_ERROR),
    "reset of a wrong length": (encode_frame(RST_STREAM, 0, 1, b""), FRAME_SIZE_ERROR),
    "priority of a wrong length": (encode_frame(PRIORITY, 0, 1, b"1234"), FRAME_SIZE_ERROR),
    "goaway on a stream": (encode_frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
    "goaway too short": (encode_frame(GOAWAY, 0, 0, b"\0" * 7), PROTOCOL_ERROR),
    "settings on a stream": (encode_frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
    "settings of a wrong length": (encode_frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
    "acknowledgement with a payload": (encode_frame(SETTINGS, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
    "acknowledgement of nothing": (encode_frame(SETTINGS, ACK, 0, b"") * 2, PROTOCOL_ERROR),
    "push enabled twice over": (encode_frame(SETTINGS, 0, 0, SETTING[0]), PROTOCOL_ERROR),
    "an initial window too large": (encode_frame(SETTINGS, 0, 0, SETTING[1]), FLOW_CONTROL_ERROR),
    "a frame size too small": (encode_frame(SETTINGS, 0, 0, SETTING[2]), PROTOCOL_ERROR),
    "a frame size too large": (encode_frame(SETTINGS, 0, 0, SETTING[3]), PROTOCOL_ERROR),
    "trailers that do not end": (request(1, end=False) + request(1, [(b"a", b"b")], end=False), PROTOCOL_ERROR),
    "pseudo-fields in trailers": (request(1, end=False) + request(1, GOOD), PROTOCOL_ERROR),
    "a line break in trailers": (request(1, end=False) + request(1, [(b"a", b"b\r\nc: d")]), PROTOCOL_ERROR),
    "a body longer than promised": (
        request(1, [*GOOD, (b"content-length", b"3")], end=False) + encode_frame(DATA, 0, 1, b"four"),
        PROTOCOL_ERROR,
    ),
    "a body shorter than promised": (
        request(1, [*GOOD, (b"content-length", b"3")], end=False) + encode_frame(DATA, END_STREAM, 1, b"2!"),
        PROTOCOL_ERROR,
    ),
    "trailers before the promised body": (
        request(1, [*GOOD, (b"content-length", b"3")], end=False) + request(1, [(b"a", b"b")]),
        PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("split", [False, True])
def test_broken_frames_end_the_connection(name, split):
    data, code = BROKEN[name]
    wire = Wire()
    if split:
        for start in range(len(data)):
            wire.send(data[start : start + 1])
    else:
        wire.send(data)
    assert wire.goaway() == code


MALFORMED = {
    "no method": GOOD[1:],
    "no scheme": [GOOD[0], *GOOD[2:]],
    "no path": [*GOOD[:2], *GOOD[3:]],
    "no authority and no host": [*GOOD[:3], GOOD[4]],
    "two methods": [GOOD[0], *GOOD],
    "two paths": [GOOD[2], *GOOD],
    "two authorities": [GOOD[3], *GOOD],
    "an unknown pseudo-field": [(b":x", b""), *GOOD],
    "a status": [(b":status", b"200"), *GOOD],
    "a pseudo-field after a field": [*GOOD, (b":method", b"GET")],
    "an extended connect": [(b":protocol", b"websocket"), *GOOD],
    "a method with a space": [(b":method", b"GET /x"), *GOOD[1:]],
    "a method in lower case": [(b":method", b"get"), *GOOD[1:]],
    "an empty method": [(b":method", b""), *GOOD[1:]],
    "another scheme": [GOOD[0], (b":scheme", b"file"), *GOOD[2:]],
    "an empty path": [*GOOD[:2], (b":path", b""), *GOOD[3:]],
    "an absolute path": [*GOOD[:2], (b":path", b"http://a/"), *GOOD[3:]],
    "an asterisk": [(b":method", b"OPTIONS"), GOOD[1], (b":path", b"*"), *GOOD[3:]],
    "a path with a space": [*GOOD[:2], (b":path", b"/a HTTP/1.1"), *GOOD[3:]],
    "a path with a line break": [*GOOD[:2], (b":path", b"/\r\nx: y"), *GOOD[3:]],
    "a path with a fragment": [*GOOD[:2], (b":path", b"/a#b"), *GOOD[3:]],
    "a path beyond ascii": [*GOOD[:2], (b":path", b"/\xff"), *GOOD[3:]],
    "user information": [*GOOD[:3], (b":authority", b"a@b"), GOOD[4]],
    "an empty authority": [*GOOD[:3], (b":authority", b""), GOOD[4]],
    "an authority with a path": [*GOOD[:3], (b":authority", b"a/b"), GOOD[4]],
    "a different host": [*GOOD, (b"host", b"other")],
    "two hosts": [*GOOD, (b"host", b"app"), (b"host", b"app")],
    "upper case": [*GOOD, (b"X-A", b"b")],
    "an empty name": [*GOOD, (b"", b"b")],
    "a name with a space": [*GOOD, (b"a b", b"c")],
    "a name with a colon": [*GOOD, (b"a:b", b"c")],
    "a name with a line break": [*GOOD, (b"a\n", b"c")],
    "a carriage return": [*GOOD, (b"a", b"b\rc")],
    "a line feed": [*GOOD, (b"a", b"b\nc")],
    "a nul": [*GOOD, (b"a", b"b\0c")],
    "a control character": [*GOOD, (b"a", b"b\x7fc")],
    "white space before": [*GOOD, (b"a", b" b")],
    "white space after": [*GOOD, (b"a", b"b\t")],
    "connection": [*GOOD, (b"connection", b"x-org")],
    "keep-alive": [*GOOD, (b"keep-alive", b"1")],
    "proxy-connection": [*GOOD, (b"proxy-connection", b"close")],
    "transfer-encoding": [*GOOD, (b"transfer-encoding", b"chunked")],
    "upgrade": [*GOOD, (b"upgrade", b"h2c")],
    "te": [*GOOD, (b"te", b"gzip")],
    "two lengths": [*GOOD, (b"content-length", b"1"), (b"content-length", b"1")],
    "a length with a sign": [*GOOD, (b"content-length", b"+1")],
    "an empty length": [*GOOD, (b"content-length", b"")],
    "a length without a body": [*GOOD, (b"content-length", b"1")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_heads_get_400_and_nothing_is_forwarded(name):
    wire = Wire().send(request(1, MALFORMED[name]))
    frames = wire.frames()
    assert dict(hpack.Decoder().decode(frames[0][3], raw=True))[b":status"] == b"400"
    assert frames[-1] == (RST_STREAM, 0, 1, PROTOCOL_ERROR.to_bytes(4))
    assert wire.lane.opened == 0
    assert wire.gate.requests == []
    assert [decision.status for decision in wire.gate.refusals] == [400]
    assert wire.send(request(3)).lane.opened == 1  # the connection goes on


def test_connect_is_405():
    wire = Wire().send(request(1, [(b":method", b"CONNECT"), (b":authority", b"db:5432")]))
    assert wire.status(1) == b"405"
    assert wire.lane.opened == 0


@pytest.mark.parametrize(
    "more",
    [
        [(b"host", b"APP")],
        [(b"te", b"trailers")],
        [(b"a", b"\x80\xff\t x")],
        [(b"a", b"")],
        [(b"content-length", b"0")],
    ],
)
def test_unusual_but_right_heads_pass(more):
    assert Wire().send(request(1, GOOD + more)).lane.opened == 1


def test_host_stands_in_for_authority():
    wire = Wire().send(request(1, [*GOOD[:3], (b"host", b"app:8080"), GOOD[4]]))
    assert wire.gate.requests[0].authority == b"app:8080"


# --- floods ---------------------------------------------------------------------------------------------------------


def test_a_head_without_end():
    wire = Wire().send(encode_frame(HEADERS, 0, 1, b""))
    for _ in range(20):
        wire.send(encode_frame(CONTINUATION, 0, 1, b""))
    assert wire.goaway() == ENHANCE_YOUR_CALM


def test_a_head_too_large_to_decode():
    wire = Wire().send(encode_frame(HEADERS, 0, 1, b"\0" * 16_384))
    for _ in range(4):
        wire.send(encode_frame(CONTINUATION, 0, 1, b"\0" * 16_384))
    assert wire.goaway() == ENHANCE_YOUR_CALM


def test_a_list_that_swells_when_decoded_is_431():
    """One large field in the table, a thousand times by index: 4 KB on the wire, 4 MB as a list."""
    encoder = hpack.Encoder()
    encoder.encode([(b"x", b"y" * 4000)])
    wire = Wire().send(request(1, [*OPEN, (b"authorization", b"no")]))
    wire.frames()
    block = b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 4000
    wire.send(encode_head(3, block, True))
    assert wire.status(3) == b"431"
    wire.send(request(5, [*OPEN, (b"authorization", b"no")]))
    assert wire.status(5) == b"401"


def test_too_many_fields_are_431():
    wire = Wire().send(request(1, GOOD + [(b"a", b"b")] * 200))
    assert wire.status(1) == b"431"
    assert wire.lane.opened == 0


def test_rapid_reset():
    """CVE-2023-44487, within a second."""
    wire = Wire()
    for stream in range(1, 401, 2):
        wire.send(request(stream) + encode_reset(stream, 8))
    assert wire.goaway() == ENHANCE_YOUR_CALM
    assert len(wire.gate.requests) <= Limits().resets_per_second + 1


def test_resets_over_time_are_no_attack():
    wire = Wire()
    for stream in range(1, 1001, 2):
        wire.send(request(stream) + encode_reset(stream, 8))
        wire.clock.now += 0.02
    assert wire.goaway() is None


def test_a_deadline_that_cancels_many_old_calls_is_no_attack():
    wire = Wire()
    for stream in range(1, 401, 2):
        wire.send(request(stream))
    wire.clock.now += 5
    for stream in range(1, 401, 2):
        wire.send(encode_reset(stream, 8))
    assert wire.goaway() is None


def test_provoked_resets_count_too():
    wire = Wire()
    for stream in range(1, 401, 2):
        wire.send(request(stream, MALFORMED["connection"]))
    assert wire.goaway() == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(PING, 0, 0, b"12345678"),
        encode_frame(SETTINGS, 0, 0, b""),
        encode_frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
        encode_frame(0xFA, 0, 0, b""),
        encode_frame(DATA, 0, 1, b""),
        encode_frame(DATA, PADDED, 1, b"\x03\0\0\0"),
        encode_window_update(0, 1),
        encode_window_update(1, 1),
    ],
    ids=["ping", "settings", "priority", "unknown", "empty data", "padding only", "connection window", "stream window"],
)
def test_control_frame_floods(frame):
    wire = Wire().send(request(1, end=False))
    for _ in range(1500):
        wire.send(frame)
    assert wire.goaway() == ENHANCE_YOUR_CALM


def test_control_frames_that_come_with_work_are_no_flood():
    wire = Wire().send(request(1, end=False))
    for _ in range(3000):
        wire.send(encode_frame(DATA, 0, 1, b"x") + encode_window_update(0, 1) + encode_frame(PING, 0, 0, b"12345678"))
    assert wire.goaway() is None


def test_too_many_streams_are_refused_and_never_forwarded():
    wire = Wire(Limits(streams=10))
    for stream in range(1, 25, 2):
        wire.send(request(stream))
    refused = [(stream, payload) for kind, _, stream, payload in wire.frames() if kind == RST_STREAM]
    assert refused == [(21, b"\0\0\0\7"), (23, b"\0\0\0\7")]
    assert len(wire.gate.requests) == 10


def test_streams_beyond_the_limit_are_counted_once_it_is_known():
    many = b"".join(request(stream) for stream in range(1, 401, 2))
    assert Wire(Limits(streams=10)).send(many).goaway() is None
    known = Wire(Limits(streams=10)).send(encode_frame(SETTINGS, ACK, 0, b""))
    assert known.send(many).goaway() == ENHANCE_YOUR_CALM


def test_resets_after_the_answer_are_no_attack():
    """What a client does that was answered before it had sent everything (RFC 9113 section 8.1)."""
    wire = Wire()
    for stream in range(1, 401, 2):
        wire.send(request(stream, end=False))
        greeting = encode_frame(SETTINGS, 0, 0, b"") if stream == 1 else b""
        wire.lane.from_upstream(greeting + encode_head(stream, b"\x88", True))
        wire.send(encode_reset(stream, 0))
    assert wire.goaway() is None


def test_slow_heads_are_cut_off():
    wire = Wire().send(encode_frame(HEADERS, 0, 1, b"")[:5])
    for _ in range(2):  # the first is the one that watched the greeting
        timer = wire.lane.wakeups[-1]
        assert timer.delay == Limits().head_seconds
        wire.lane.feed(events.Wakeup(timer))
    assert wire.goaway() == ENHANCE_YOUR_CALM


def test_a_connection_that_never_speaks_is_cut_off():
    lane = make_lane(FakeGate(), Limits(), Clock())
    [timer] = lane.wakeups
    lane.feed(events.Wakeup(timer))
    assert lane.closed == ["client-half"]


def test_heads_that_are_finished_in_time_are_not_cut_off():
    wire = Wire().send(request(1)[:5])
    timer = wire.lane.wakeups[-1]
    wire.send(request(1)[5:])
    wire.lane.feed(events.Wakeup(timer))
    assert wire.goaway() is None


def test_a_lingering_client_is_cut_in_the_end():
    wire = Wire().send(encode_frame(DATA, 0, 0, b"x"))
    assert wire.lane.closed == ["client-half"]
    wire.lane.feed(events.Wakeup(wire.lane.wakeups[-1]))
    assert wire.lane.closed == ["client-half", "client"]
    wire = Wire().send(encode_frame(DATA, 0, 0, b"x"))
    for _ in range(10):
        wire.send(b"x" * 65_536)
    assert wire.lane.closed[:2] == ["client-half", "client"]


def test_dropped_frames_are_not_forwarded():
    wire = Wire().send(request(1, end=False))
    before = wire.lane.take_upstream()
    assert before
    wire.send(
        encode_frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
        encode_frame(0x10, 0, 0, b"\0\0\0\1u=1"),
        encode_frame(0xFA, 0xFF, 1, b"whatever"),
        encode_frame(DATA, 0, 1, b""),
    )
    assert wire.lane.take_upstream() == b""


def test_a_flood_of_refusals_is_read_in_turns():
    """Nothing bounds how many requests may be refused, so it must not be at once: others wait meanwhile."""
    denied = b"".join(request(stream, OPEN) for stream in range(1, 401, 2))
    wire = Wire()
    wire.lane.waits = True
    wire.send(denied)
    assert 0 < len(wire.gate.requests) < 100
    assert wire.lane.held["client"]
    assert [command.delay for command in wire.lane.wakeups if not command.delay] == [0]
    assert not wire.lane.layer.idle
    wire.send(request(401, OPEN))  # what was read before the hold: it waits behind the others
    while not wire.lane.wakeups[-1].delay:
        wire.lane.feed(events.Wakeup(wire.lane.wakeups.pop()))
    assert [kind for kind, *_ in wire.frames()].count(HEADERS) == len(wire.gate.requests) == 201
    assert not wire.lane.held["client"]
    assert wire.lane.layer.idle
    assert wire.send(request(403)).lane.take_upstream()


def test_small_frames_to_a_refused_stream_are_dropped_in_turns():
    wire = Wire().send(request(1, OPEN, end=False))
    wire.send(encode_frame(DATA, 0, 1, b"x") * 10_000)
    assert 9 <= wire.lane.turns <= 10
    assert sum(read_word(frame) for frame in wire.window_updates()) == 10_000


def test_the_next_turn_waits_for_what_holds_too_much():
    """A client whose backlog is full is not read, and goes on when it is not."""
    wire = Wire(Limits(pending_bytes=300))
    keys = [*OPEN, (b"authorization", b"keys")]
    wire.send(b"".join(request(stream, keys if stream < 20 else OPEN) for stream in range(1, 401, 2)))
    assert wire.lane.held["client"]
    assert wire.lane.turns == 0
    asked = len(wire.gate.requests)
    assert asked < 200
    while wire.lane.fetches:
        wire.lane.keys_fetched()
    assert wire.lane.turns > 0
    assert len(wire.gate.requests) == 210, "ten were asked about twice"
    assert not wire.lane.held["client"]


def test_reserved_bits_are_not_passed_on():
    """A reader that takes them for part of the number (hyperframe does) would end the application's connection."""
    reserved = 1 << 31
    wire = Wire().send(request(1, end=False))
    wire.lane.take_upstream()
    wire.send(
        encode_frame(DATA, 0, 1 | reserved, b"x"),
        encode_frame(WINDOW_UPDATE, 0, 1 | reserved, (5 | reserved).to_bytes(4)),
        encode_frame(WINDOW_UPDATE, 0, 0, (5 | reserved).to_bytes(4)),
        encode_frame(PING, 0, reserved, b"\xff2345678"),
        encode_frame(GOAWAY, 0, 0, (7 | reserved).to_bytes(4) + b"\0\0\0\0\xffwhy"),
    )
    assert wire.lane.take_upstream() == (
        encode_frame(DATA, 0, 1, b"x")
        + encode_window_update(1, 5)
        + encode_window_update(0, 5)
        + encode_frame(PING, 0, 0, b"\xff2345678")
        + encode_frame(GOAWAY, 0, 0, b"\0\0\0\7\0\0\0\0\xffwhy")
    )
    assert wire.goaway() is None


# --- a hostile or broken application ----------------------------------------------------------------------------------


UPSTREAM_FAULTS = {
    "http/1": b"HTTP/1.1 200 OK\r\n\r\n",
    "no settings": encode_head(1, b"\x88", True),
    "a push": encode_frame(SETTINGS, 0, 0, b"") + encode_frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88"),
    "a stream that never was": encode_frame(SETTINGS, 0, 0, b"") + encode_head(99, b"\x88", True),
    "a stream of its own": encode_frame(SETTINGS, 0, 0, b"") + encode_head(2, b"\x88", True),
    "data on a stream that never was": encode_frame(SETTINGS, 0, 0, b"") + encode_frame(DATA, 0, 99, b"x"),
    "an interrupted head": encode_frame(SETTINGS, 0, 0, b"")
    + encode_frame(HEADERS, 0, 1, b"\x88")
    + encode_frame(PING, 0, 0, b"12345678"),
    "data in a head": encode_frame(SETTINGS, 0, 0, b"")
    + encode_frame(HEADERS, 0, 1, b"\x88")
    + encode_frame(DATA, 0, 1, b"x"),
    "a head without end": encode_frame(SETTINGS, 0, 0, b"")
    + encode_frame(HEADERS, 0, 1, b"\x88")
    + encode_frame(CONTINUATION, 0, 1, b"") * 100,
    "a window overrun": encode_frame(SETTINGS, 0, 0, b"")
    + encode_head(1, b"\x88", False)
    + encode_frame(DATA, 0, 1, b"x" * 16_384) * 5,
    "acknowledging nothing": encode_frame(SETTINGS, 0, 0, b"") + encode_frame(SETTINGS, ACK, 0, b"") * 2,
    "pushing allowed": encode_frame(SETTINGS, 0, 0, b"\0\2\0\0\0\1"),
    "a frame too long": encode_frame(SETTINGS, 0, 0, b"") + b"\1\0\0\0\0\0\0\0\1",
}


@pytest.mark.parametrize("name", UPSTREAM_FAULTS)
def test_faults_of_the_application_end_in_order(name):
    wire = Wire().send(request(1), request(3))
    wire.lane.from_upstream(UPSTREAM_FAULTS[name])
    frames = wire.frames()
    assert frames[-1][0] == GOAWAY
    answered = [hpack.Decoder().decode(p, raw=True)[0][1] for kind, _, s, p in frames if kind == HEADERS and s == 3]
    assert answered == [b"502"]
    assert {"client-half", "upstream"} <= set(wire.lane.closed)
    assert all(read_word(frame) <= 3 for frame in FrameReader().feed(encode_frame(GOAWAY, 0, 0, frames[-1][3])))
