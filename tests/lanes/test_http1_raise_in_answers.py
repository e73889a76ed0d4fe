"""Every function of the HTTP/1 lane raises, at its first, second or fourth call, while responses are in flight.

What the client has got by then is a beginning of what it should get, or that and our own 503 where a response was due and had not
begun. Nothing goes to the application afterwards, both sides are closed, and a response that only the end of the connection ends is
reset, not finished.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

from sidecar._mitmproxy import ConnectionState
from sidecar.lanes.http1.answers import FAILED
from sidecar.lanes.top import TopLane
from sidecar.options import Limits
from tests.lanes.stub_gate import StubGate
from tests.lanes.transcript import Transcript

NAMES = (
    "grammar", "framing", "http1.lane", "http1.answers", "http1.exchange", "http1.heads", "http1.requests",
    "http1.responses", "http1.session", "opaque",
)  # fmt: skip
MODULES = [importlib.import_module(f"sidecar.lanes.{name}") for name in NAMES]
GENERATED = {"__init__", "__repr__", "__eq__", "__replace__", "__enter__", "__exit__", "__len__"}
LAST_RESORT = {"_fail", "_speaks_grpc"}
"""Where these raise, nothing is left but the connection's handler, which cuts both sides (``tests/unit/sidecar/connections/test_proxy.py``)."""

ASK = b"GET /%d HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
UPGRADE = ASK.replace(b"Host", b"Connection: upgrade\r\nUpgrade: websocket\r\nHost") % 9

type Step = tuple[str, bytes]

PLAYS: dict[str, list[Step]] = {
    "kept": [
        ("client", ASK % 1 + ASK % 2),
        ("upstream", b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Enc"),
        ("upstream", b"oding: chunked\r\n\r\n5\r\nhello\r\n3\r\na"),
        ("upstream", b"bc\r\n0\r\nx-trailer: 1\r\n\r\n"),
        ("upstream", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"),
        ("client", POST),
        ("upstream", b"lo"),
        ("upstream", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"),
        ("client", b"0\r\nx-t: 1\r\n\r\n"),
        ("upstream", b"k"),
    ],
    "endless": [("client", ASK % 1), ("upstream", b"HTTP/1.1 200 OK\r\n\r\nhel"), ("upstream", b"lo"), ("upstream ends", b"")],
    "websocket": [
        ("client", UPGRADE),
        ("upstream", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst"),
        ("client", b"second"),
        ("upstream", b"third"),
        ("upstream ends", b""),
        ("client", b"fourth"),
    ],
}  # fmt: skip


def _functions() -> list[tuple[object, str]]:
    found: set[tuple[object, str]] = set()
    for module in MODULES:
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__.startswith(("sidecar.", "eastgate.")):
                found.add((module, name))
            elif (
                inspect.isclass(value) and value.__module__ == module.__name__ and not issubclass(value, BaseException)
            ):
                found |= {(value, n) for n, v in vars(value).items() if inspect.isfunction(v) and n not in GENERATED}
    return sorted(found, key=lambda pair: (pair[0].__name__, pair[1]))  # type: ignore[attr-defined]


def _begin() -> Transcript:
    return Transcript(lambda context: TopLane(context, StubGate(), Limits(), frozenset()))  # type: ignore[arg-type]


def _play(lane: Transcript, steps: list[Step]) -> None:
    for who, data in steps:
        if "client" in lane.closed or "client-cut" in lane.closed:
            return
        match who:
            case "client":
                lane.from_client(data)
            case "upstream" if lane.context.server.state is not ConnectionState.CLOSED:
                lane.from_upstream(data)
            case "upstream ends" if lane.context.server.state is not ConnectionState.CLOSED:
                lane.upstream_closes()


def _control(play: str) -> bytes:
    lane = _begin()
    _play(lane, PLAYS[play])
    return lane.client


def test_control_everything_arrives_when_nothing_raises() -> None:
    assert _control("kept").count(b"HTTP/1.1 200") == 3
    assert b"x-trailer" in _control("kept")
    assert _control("endless").endswith(b"\r\n\r\nhello")
    assert _control("websocket").endswith(b"firstthird")


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("call", [1, 2, 4])
@pytest.mark.parametrize(("owner", "name"), _functions(), ids=lambda value: getattr(value, "__name__", value))
def test_raising_says_nothing_wrong(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, play: str
) -> None:
    whole = _control(play)
    original = getattr(owner, name)
    lane = _begin()
    calls: list[int] = []
    upstream_before: list[int] = []

    def raising(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) >= call:
            upstream_before.append(len(lane.upstream))
            raise ZeroDivisionError
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, raising)
    escaped = False
    try:
        _play(lane, PLAYS[play])
    except ZeroDivisionError:
        escaped = True  # the connection's handler cuts both sides when a lane raises
    if not upstream_before:
        return
    assert len(lane.upstream) == upstream_before[0], "something was forwarded after the fault"
    got = lane.client
    if got.endswith(FAILED):
        got = got.removesuffix(FAILED)
        assert not got.partition(b"\r\n\r\n")[2].startswith(b"hel") or play == "kept", "our answer inside a response"
    assert whole.startswith(got)
    assert escaped or lane.context.client.state is ConnectionState.CLOSED
    assert escaped or lane.context.server.state is ConnectionState.CLOSED
    if play == "endless" and b"200 OK" in got and got != whole:
        assert escaped or "client-cut" in lane.closed, "taken for complete"
