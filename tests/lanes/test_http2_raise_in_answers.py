"""Every function on the way of an *answer* raises, at its first, second or fifth call, while heads, CONTINUATIONs, bodies, trailers
and a stalled window are in flight: what the client has got by then is a beginning of what it should get, in whole frames, nothing of
it ends a stream too early, and both connections are closed.

The control runs the same bytes without a fault; its transcript is what the others are held against.
"""

from __future__ import annotations

import pytest

from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    FrameReader,
    encode_frame,
    encode_reset,
    encode_window_update,
)
from sidecar.options import Limits
from tests.lanes.http2_peer import Clock, FakeGate, make_lane
from tests.lanes.test_http2_hostile import HELLO, OPEN, request
from tests.lanes.test_http2_raise_everywhere import KEYS, _functions
from tests.lanes.transcript import Transcript

HEAD = encode_fields([(b":status", b"200"), (b"x-long", b"v" * 300)])
TRAILERS = encode_fields([(b"grpc-status", b"0")])
CHUNK = b"".join(number.to_bytes(4) for number in range(3900))
BODY = CHUNK * 4  # together with the second answer's more than the window that refusals have eaten into
REFUSALS = range(11, 51, 2)

ON_THE_WAY = {
    "Http2Lane._carry_out", "Http2Lane.handle_event", "ResponseSide.feed", "ResponseSide._read_head", "ResponseSide._check_stream",
    "ResponseSide._end", "Session.deliver", "Session.finish", "ClientWindow.hold", "ClientWindow.release", "ClientWindow._cut",
    "ClientWindow.replenish", "ControlFrames.read_window_update", "RequestSide.keys_fetched", "FrameReader._portion",
}  # fmt: skip

type Story = dict[int, list[tuple[str, bytes]]]


def _begin() -> Transcript:
    """Four streams at the application, one that waits for keys, and refusals that used up credit of the client's window."""
    lane = make_lane(FakeGate(), Limits(), Clock())
    lane.from_client(HELLO + request(1) + request(3, end=False) + request(5) + request(7))
    lane.from_upstream(encode_frame(SETTINGS, 0, 0, b""))
    lane.from_client(request(9, KEYS))
    for number in REFUSALS:
        lane.from_client(request(number, OPEN))
    lane.take_upstream()
    return lane


def _answers() -> list[bytes]:
    """What the application says, turn by turn; the client gives credit in the last but one."""
    data = [encode_frame(DATA, 0, 1, CHUNK[i : i + 8000]) for i in (0, 8000)] * 4
    return [
        encode_frame(HEADERS, 0, 1, HEAD[:10]) + encode_frame(CONTINUATION, 0, 1, HEAD[10:50]),
        encode_frame(CONTINUATION, END_HEADERS, 1, HEAD[50:]) + encode_frame(HEADERS, END_HEADERS, 3, HEAD),
        b"".join(data)[: -len(data[-1]) + 100],  # the rest of the last frame comes later
        (b"".join(data)[-len(data[-1]) + 100 :])
        + encode_frame(DATA, 0, 3, b"x" * (65535 - len(BODY)))
        + encode_frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
        encode_frame(HEADERS, END_HEADERS, 5, HEAD) + encode_frame(HEADERS, END_STREAM, 5, b"")
        + encode_frame(CONTINUATION, END_HEADERS, 5, TRAILERS) + encode_frame(PING, 0, 0, b"12345678"),
        encode_reset(7, 8),
    ]  # fmt: skip


def _go_on(lane: Transcript) -> None:
    for said in _answers():
        if lane.closed:
            return
        lane.from_upstream(said)
    for increment in (100, 70_000):
        if not lane.closed:
            lane.from_client(encode_window_update(0, increment))
    if lane.fetches and not lane.closed:
        lane.keys_fetched()
    if not lane.closed:
        lane.from_client(encode_frame(DATA, END_STREAM, 3, b"the end"))
    if not lane.closed:
        lane.from_upstream(encode_frame(DATA, END_STREAM, 3, b"y"))


def _read(wire: bytes) -> tuple[Story, bool]:
    """What happened on each stream of the application, CONTINUATIONs joined and DATA too, and whether it ended in GOAWAY."""
    story: Story = {}
    reader = FrameReader()
    block: list[bytes] = []
    over = False
    for kind, flags, stream, data in reader.feed(wire):
        assert not over, "said after GOAWAY"
        payload = data[9:]
        assert not block or kind == CONTINUATION, "something between HEADERS and CONTINUATION"
        if kind in (HEADERS, CONTINUATION):
            if kind == HEADERS:
                ends = flags & END_STREAM
            block.append(payload)
            if not flags & END_HEADERS:
                continue
            payload, block = b"".join(block), []
            story.setdefault(stream, []).append(("head", payload))
            if ends:
                story[stream].append(("end", b""))
        elif kind == DATA:
            events = story.setdefault(stream, [])
            if events and events[-1][0] == "data":
                payload = events.pop()[1] + payload
            events.append(("data", payload))
            if flags & END_STREAM:
                events.append(("end", b""))
        elif kind == RST_STREAM:
            story.setdefault(stream, []).append(("reset", payload))
        elif kind == GOAWAY:
            over = True
    assert not block
    assert not reader.partial
    return {stream: events for stream, events in story.items() if stream not in REFUSALS}, over


def _is_beginning(got: list[tuple[str, bytes]], whole: list[tuple[str, bytes]]) -> bool:
    if not got:
        return True
    last = len(got) - 1
    if got[:last] != whole[:last] or last >= len(whole):
        return False
    (kind, data), (expected, all_of_it) = got[last], whole[last]
    return kind == expected and (data == all_of_it or (kind == "data" and all_of_it.startswith(data)))


def _control() -> Story:
    lane = _begin()
    _go_on(lane)
    assert lane.closed == []
    return _read(lane.client)[0]


def test_control_everything_arrives_when_nothing_raises():
    story = _control()
    assert [kind for kind, _ in story[1]] == ["head", "data", "head", "end"]
    assert story[1][1][1] == BODY
    assert [kind for kind, _ in story[3]] == ["head", "data", "end"]
    assert [kind for kind, _ in story[5]] == ["head", "head", "end"]
    assert [kind for kind, _ in story[7]] == ["reset"]


@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize(("owner", "name"), _functions(), ids=lambda value: getattr(value, "__name__", value))
def test_raising_says_nothing_wrong(monkeypatch, owner, name, call):
    lane = _begin()
    whole = _control()
    original = getattr(owner, name)
    calls: list[int] = []
    upstream_before: list[int] = []

    def raising(*arguments, **named):
        calls.append(1)
        if len(calls) >= call:
            upstream_before.append(len(lane.upstream))
            raise ZeroDivisionError
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, raising)
    escaped = False
    try:
        _go_on(lane)
    except ZeroDivisionError:
        escaped = True  # the connection's handler cuts both sides when a lane raises
    monkeypatch.undo()
    if not upstream_before:
        assert call > 1 or f"{getattr(owner, '__name__', '')}.{name}" not in ON_THE_WAY, (
            "the conversation no longer reaches what it is there for"
        )
        return
    assert len(lane.upstream) == upstream_before[0], "something was forwarded after the fault"
    assert escaped or {"upstream", "client-half"} <= set(lane.closed)
    story, _ = _read(lane.client)
    for stream, events in story.items():
        assert _is_beginning(events, whole.get(stream, [])), f"stream {stream} got what it should not"
