"""Mutated pipelines of requests through the whole lane: what reaches the application is what was allowed, to two other parsers too.

Three to five requests, some allowed and some not, with and without bodies, are written one after the other, damaged in a few places,
cut into segments anywhere, and answered as an application would. Then, on every connection to the application, ``h11`` and ``llhttp``
must read the same requests, and those must be the allowed ones, in order, nothing between them and nothing after them.
"""

from __future__ import annotations

import os
import random
from collections import deque

import h11
import httptools
import pytest

from eastgate.model.decisions import Decision, KeysNeeded
from eastgate.model.requests import Request
from sidecar._mitmproxy import Connection, ConnectionState, KeysFetched, commands, events
from sidecar.lanes.top import TopLane
from sidecar.options import Limits
from tests.lanes.stub_gate import StubGate
from tests.lanes.transcript import Transcript

ROUNDS = int(os.environ.get("EASTGATE_FUZZ_ROUNDS", "1200"))

type Reading = list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]


class RecordingGate(StubGate):
    """Also keeps what it let pass."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[Request] = []

    def decide(self, request: Request, *, asked: bool = False) -> Decision | KeysNeeded:
        answer = super().decide(request, asked=asked)
        if isinstance(answer, Decision) and answer.allowed:
            self.allowed.append(request)
        return answer


class Application:
    """One connection to the application: ``h11`` answers whatever it takes for a request."""

    def __init__(self) -> None:
        self.wire = b""
        self.reading: Reading = []
        self.broken = False
        self._engine = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
        self._head: h11.Request | None = None
        self._body = b""

    def feed(self, data: bytes, random_: random.Random) -> bytes:
        self.wire += data
        said = b""
        try:
            self._engine.receive_data(data)
            while True:
                event = self._engine.next_event()
                if isinstance(event, h11.Request):
                    self._head, self._body = event, b""
                elif isinstance(event, h11.Data):
                    self._body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    head = self._head
                    assert head is not None
                    self.reading.append((head.method, head.target, list(head.headers), self._body))
                    said += self._answer(head.method == b"HEAD", random_)
                else:
                    return said
                if self._engine.our_state is h11.DONE and self._engine.their_state is h11.DONE:
                    self._engine.start_next_cycle()
        except h11.RemoteProtocolError:
            self.broken = True
            return said

    def _answer(self, is_head: bool, random_: random.Random) -> bytes:
        body = random_.choice([b"", b"hello"])
        fields = [(b"content-length", b"%d" % len(body))]
        data = self._engine.send(h11.Response(status_code=200, headers=fields)) or b""
        if body and not is_head:
            data += self._engine.send(h11.Data(data=body)) or b""
        return data + (self._engine.send(h11.EndOfMessage()) or b"")


class Play(Transcript):
    """A lane in front of an application of its own for each connection."""

    def __init__(self, gate: RecordingGate, random_: random.Random) -> None:
        self.applications: dict[Connection, Application] = {}
        self.random = random_
        self.pending: deque[events.Event] = deque()
        super().__init__(lambda context: TopLane(context, gate, Limits(), frozenset()))  # type: ignore[arg-type]

    def _carry_out(self, command: commands.Command, queue: deque[events.Event]) -> None:
        super()._carry_out(command, queue)
        if isinstance(command, commands.SendData) and command.connection is not self.context.client:
            application = self.applications.setdefault(command.connection, Application())
            if said := application.feed(command.data, self.random):
                cut = self.random.randrange(len(said))
                for part in (said[:cut], said[cut:]):
                    if part:
                        self.pending.append(events.DataReceived(command.connection, part))

    def settle(self, *, keys: bool) -> None:
        """Let the application's answers arrive, and the keys if it is time for them."""
        while self.pending or (keys and self.fetches):
            if self.pending:
                event = self.pending.popleft()
                assert isinstance(event, events.DataReceived)
                if event.connection.state is not ConnectionState.CLOSED:
                    self.feed(event)
            else:
                self.feed(KeysFetched(self.fetches.pop(0).ticket))


class _Llhttp:
    """What ``llhttp`` reads on one connection."""

    def __init__(self) -> None:
        self.reading: Reading = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.target = self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.reading.append((self.parser.get_method(), self.target, self.fields, self.body))


def read_llhttp(wire: bytes) -> tuple[Reading, bool]:
    """What it reads, and whether it stopped at a method that it does not know. Raises any other ``HttpParserError``."""
    reader = _Llhttp()
    try:
        reader.parser.feed_data(wire)
    except httptools.HttpParserInvalidMethodError:
        return reader.reading, True
    return reader.reading, False


METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"]
SPICE = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\x0b", b"0\r\n\r\n", b"chunked", b"Content-Length: 3\r\n", b"GET /evil HTTP/1.1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tChunked\r\n", b"Connection: x-org, te\r\n", b"Expect: 100-continue\r\n",
    b"Host: b\r\n", b"Authorization: Bearer good\r\n", b"X_Org: evil\r\n", b"HTTP/1.0", b"http://a/", b"\xff", b"00", b";a=b", b",", b"+",
    b"Upgrade: h2c\r\n", b"Content-Length: 0\r\n", b"\r\n ", b"-", b"Trailer: a\r\n", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


def write_request(random_: random.Random, number: int) -> bytes:
    """One well-formed request."""
    token = random_.choice([b"good", b"good", b"good", b"bad", b"fetch"])
    lines = [
        b"%b /%d?q=%d HTTP/1.1" % (random_.choice(METHODS), number, number),
        b"Host: a",
        b"Authorization: Bearer " + token,
    ]
    kind = random_.choice(["none", "length", "chunked"])
    inner = random_.choice(
        [b"x" * random_.randrange(40), b"GET /evil HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n\r\n"]
    )
    if kind == "length":
        lines.append(b"Content-Length: %d" % len(inner))
        body = inner
    elif kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        cut = random_.randrange(len(inner) + 1)
        parts = [part for part in (inner[:cut], inner[cut:]) if part]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + random_.choice(
            [b"0\r\n\r\n", b"0\r\nx-t: 1\r\n\r\n"]
        )
    else:
        body = b""
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def damage(random_: random.Random, wire: bytes) -> bytes:
    """A few changes anywhere."""
    for _ in range(random_.choice([0, 1, 1, 1, 2, 3])):
        at = random_.randrange(len(wire))
        match random_.randrange(5):
            case 0:
                wire = wire[:at] + bytes([random_.randrange(256)]) + wire[at + 1 :]
            case 1:
                wire = wire[:at] + wire[at + random_.randrange(1, 5) :]
            case 2:
                wire = wire[:at] + random_.choice(SPICE) + wire[at:]
            case 3:  # at the beginning of a line, where it means most
                line = wire.find(b"\r\n", at) + 2
                wire = wire[:line] + random_.choice(SPICE) + wire[line:]
            case 4:
                until = at + random_.randrange(1, 60)
                wire = wire[:until] + wire[at:until] + wire[until:]
    return wire


@pytest.mark.parametrize("seed", range(4))
def test_what_arrives_is_what_was_allowed(seed: int) -> None:
    arrived = mutated = 0
    for round_ in range(ROUNDS // 4):
        random_ = random.Random(f"{seed} {round_}")
        wire = damage(random_, b"".join(write_request(random_, number) for number in range(random_.randrange(3, 6))))
        gate = RecordingGate()
        play = Play(gate, random_)
        at = 0
        while at < len(wire) and "client" not in play.closed:
            size = random_.choice([1, 3, 20, 200, 5000])
            play.from_client(wire[at : at + size])
            at += size
            play.settle(keys=random_.random() < 0.3)
        play.settle(keys=True)
        allowed = iter(gate.allowed)
        for application in play.applications.values():
            assert not application.broken, f"h11 refuses what was forwarded: {application.wire!r} of {wire!r}"
            other, stopped = read_llhttp(application.wire)
            known = [reading[0] in METHODS for reading in application.reading]
            assert other == application.reading[: len(other)], f"{application.wire!r} of {wire!r}"
            assert len(other) == len(known) or (stopped and not known[len(other)]), f"{application.wire!r} of {wire!r}"
            for method, target, fields, _ in application.reading:
                request = next(allowed)
                assert (method, target) == (request.method, request.target), f"{application.wire!r} of {wire!r}"
                assert [value for name, value in fields if name in (b"x-org", b"x_org")] == [b"internal"]
                assert [value for name, value in fields if name == b"host"] == [request.authority]
                arrived += 1
        mutated += len(gate.refused)
        left = len(list(allowed))
        assert left <= 1, f"allowed and never seen by the application: {left} of {wire!r}"
    assert arrived > ROUNDS / 4
    assert mutated > ROUNDS / 20
