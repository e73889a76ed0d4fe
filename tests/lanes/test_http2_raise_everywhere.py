"""Every function on the way of a request raises in turn: nothing is forwarded, both sides are closed.

The control shows that the same bytes are forwarded when nothing raises; without it a conversation that fails by itself
would pass for one that fails closed. Functions that the conversation never calls prove nothing; ``ON_THE_WAY`` names
those that it must.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

from sidecar._mitmproxy import ConnectionState
from sidecar.lanes.http2.frames import DATA, END_STREAM, SETTINGS, FrameReader, encode_frame, encode_window_update
from sidecar.options import Limits
from tests.lanes.http2_peer import Clock, FakeGate, make_lane
from tests.lanes.test_http2_hostile import GOOD, HELLO, OPEN, request
from tests.lanes.transcript import Transcript

NAMES = (
    "frames", "memo", "huffman", "fields", "heads", "settings", "window", "floods", "streams", "answers", "session",
    "blocks", "control", "requests", "responses", "lane",
)  # fmt: skip
MODULES = [importlib.import_module(f"sidecar.lanes.http2.{name}") for name in NAMES]
BUILT_IN = {"__new__", "__repr__", "__eq__", "__hash__", "_asdict", "_replace", "_make"}
KEYS = [*OPEN, (b"authorization", b"keys")]


ON_THE_WAY = {
    "handle_event", "_take", "_carry_out", "_read_block", "_open", "_settle", "_read_headers", "_read_request", "_check_field",
    "depart", "send_head", "_decode", "keys_fetched", "read_window_update", "count_control", "replenish",
}  # fmt: skip


def _functions() -> list[tuple[object, str]]:
    """Every function and method of the lane, in each module that has a name for it."""
    found: set[tuple[object, str]] = set()
    for module in MODULES:
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__.startswith(("sidecar.", "eastgate.")):
                found.add((module, name))
            elif (
                inspect.isclass(value) and value.__module__ == module.__name__ and not issubclass(value, BaseException)
            ):
                found |= {(value, n) for n, v in vars(value).items() if inspect.isfunction(v) and n not in BUILT_IN}
    return sorted(found, key=lambda pair: (pair[0].__name__, pair[1]))


def _begin(warm: bool) -> Transcript:
    """``warm``: the application's connection is open and streams are under way, one of them for want of keys."""
    lane = make_lane(FakeGate(), Limits(), Clock())
    lane.from_client(HELLO)
    if warm:
        lane.from_client(request(1, end=False) + request(3, KEYS, end=False))
        lane.from_upstream(encode_frame(SETTINGS, 0, 0, b""))
    lane.take_upstream()
    return lane


def _go_on(lane: Transcript, late: bytes) -> None:
    lane.from_client(late)
    if lane.fetches and not lane.closed:
        lane.keys_fetched()


def _late(warm: bool) -> bytes:
    late = request(5, [*GOOD, (b"x", b"y")], end=False) + encode_frame(DATA, END_STREAM, 5, b"secret")
    late += request(7, OPEN) + request(9, KEYS) + encode_window_update(0, 5)
    return late + (encode_frame(DATA, 0, 1, b"secret") if warm else b"")


@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
def test_control_all_of_it_is_forwarded_when_nothing_raises(warm):
    lane = _begin(warm)
    _go_on(lane, _late(warm))
    if warm:
        lane.keys_fetched()
    assert lane.closed == []
    preface = 0 if warm else 24
    heads = [frame.stream for frame in FrameReader().feed(lane.upstream[preface:]) if frame.kind == 1]
    assert heads == ([3, 5, 9] if warm else [5, 9])
    assert lane.upstream.count(b"secret") == (2 if warm else 1)


@pytest.mark.parametrize(("owner", "name"), _functions(), ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
def test_raising_forwards_nothing(monkeypatch, owner, name, warm):
    lane = _begin(warm)
    sent_before: list[int] = []

    def raising(*arguments, **named):
        sent_before.append(len(lane.upstream))
        raise ZeroDivisionError

    monkeypatch.setattr(owner, name, raising)
    escaped = False
    try:
        _go_on(lane, _late(warm))
    except ZeroDivisionError:
        escaped = True  # the connection's handler cuts both sides when a lane raises
    if not sent_before:
        assert name not in ON_THE_WAY, "the conversation no longer reaches what it is there for"
        return
    assert len(lane.upstream) == sent_before[0], "something was forwarded after the fault"
    assert escaped or "client-half" in lane.closed
    assert escaped or lane.context.server.state is ConnectionState.CLOSED
