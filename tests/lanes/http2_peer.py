"""Both ends of the HTTP/2 lane played by the ``h2`` library: a strict second opinion on every byte that the lane emits."""

from __future__ import annotations

from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import h2.settings

from eastgate.model.decisions import Decision, Edits, KeysNeeded, Reason
from eastgate.model.requests import Request
from sidecar.lanes.http2 import Http2Lane
from sidecar.options import Limits
from sidecar.upstream import UpstreamError
from tests.lanes.transcript import Transcript

type Answer = Decision | KeysNeeded
type Fields = list[tuple[str, str]]

DENIED = Decision(False, 401, "jwt_missing", b"Jwt is missing", ((b"www-authenticate", b'Bearer realm="http://a/"'),))
REMOVED = frozenset({b"x-org", b"authorization"})


def allow(request: Request) -> Decision:
    """A pass that drops the token and asserts a header."""
    edits = Edits(request.target, REMOVED, ((b"x-org", b"internal"),))
    return Decision(True, 200, Reason.ALLOWED, edits=edits, route="a route")


class FakeGate:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request, bool], Answer] | None = None) -> None:
        self.answer = answer or by_token
        self.requests: list[Request] = []
        self.refusals: list[Decision] = []
        self.upstream_errors: list[UpstreamError] = []

    def refuse(self, request: Request, decision: Decision) -> None:
        """As ``sidecar.gate.Gate.refuse``."""
        self.refusals.append(decision)

    def report_upstream_error(self, error: UpstreamError) -> None:
        """As ``sidecar.gate.Gate.report_upstream_error``."""
        self.upstream_errors.append(error)

    def decide(self, request: Request, *, asked: bool = False) -> Answer:
        self.requests.append(request)
        return self.answer(request, asked)


def by_token(request: Request, asked: bool) -> Answer:
    """``authorization: good`` passes, ``keys`` needs keys first, ``badkeys`` too and is then refused."""
    token = dict(request.headers).get(b"authorization")
    if token == b"good" or (token == b"keys" and asked):
        return allow(request)
    if token in (b"keys", b"badkeys") and not asked:
        return KeysNeeded(())
    return DENIED


class Clock:
    """Time that only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_lane(gate: FakeGate, limits: Limits, clock: Clock, refuse_upstream: str | None = None) -> Transcript:
    """A lane in a transcript."""
    return Transcript(lambda context: Http2Lane(context, gate, limits, clock), refuse_upstream)  # type: ignore[arg-type]


class Conversation:
    """An ``h2`` client and an ``h2`` server with the lane between them. ``run`` carries bytes until nobody has more.

    ``portion`` cuts what is carried into pieces of that many bytes. ``client_events`` and ``server_events`` grow.
    """

    def __init__(
        self,
        answer: Callable[[Request, bool], Answer] | None = None,
        limits: Limits | None = None,
        refuse_upstream: str | None = None,
        client_settings: dict[int, int] | None = None,
        server_settings: dict[int, int] | None = None,
        portion: int = 0,
        reply: bool = True,
    ) -> None:
        self.gate = FakeGate(answer)
        self.limits = limits or Limits()
        self.clock = Clock()
        self.portion = portion
        self.reply = reply
        self.lane = make_lane(self.gate, self.limits, self.clock, refuse_upstream)
        self.client = _engine(True, client_settings)
        self.server = _engine(False, server_settings)
        self.client_events: list[h2.events.Event] = []
        self.server_events: list[h2.events.Event] = []
        self.acknowledge = True
        self.server_fed = False
        self.run()

    def run(self) -> Conversation:
        """Carry bytes both ways until it is quiet."""
        while True:
            moved = False
            for data in self._cut(self.client.data_to_send()):
                moved = True
                self.lane.from_client(data)
            for data in self._cut(self.lane.take_upstream()):
                moved = True
                if not self.server_fed:
                    self.server_fed = True
                    self.server.initiate_connection()
                self._server(self.server.receive_data(data))
            if self.server_fed:
                for data in self._cut(self.server.data_to_send()):
                    moved = True
                    self.lane.from_upstream(data)
            for data in self._cut(self.lane.take_client()):
                moved = True
                self._client(self.client.receive_data(data))
            if not moved:
                return self

    def _cut(self, data: bytes) -> list[bytes]:
        size = self.portion or len(data) or 1
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _client(self, events: list[h2.events.Event]) -> None:
        self.client_events += events
        for event in events:
            if isinstance(event, h2.events.DataReceived) and self.acknowledge:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _server(self, events: list[h2.events.Event]) -> None:
        self.server_events += events
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.server.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.StreamEnded) and self.reply:
                self.server.send_headers(event.stream_id, [(":status", "200"), ("x-path", self.path(event.stream_id))])
                self.server.send_data(event.stream_id, b"hello", end_stream=True)

    def path(self, stream: int) -> str:
        """The ``:path`` that the application saw."""
        return dict(self.upstream_head(stream))[":path"]

    # --- what the client does ----------------------------------------------------------------------------------------

    def request(self, stream: int, token: str | None = "good", *, end: bool = True, more: Fields | None = None) -> None:
        """Queue a request head; ``run`` sends it."""
        self.client.send_headers(stream, head(token, more=more), end_stream=end)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def status(self, stream: int) -> str | None:
        """The status that the client got."""
        for event in self.client_events:
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                return dict(event.headers)[":status"]
        return None

    def response(self, stream: int) -> Fields:
        """The whole response head."""
        [event] = [e for e in self.client_events if isinstance(e, h2.events.ResponseReceived) and e.stream_id == stream]
        return list(event.headers)

    def body(self, stream: int, *, server: bool = False) -> bytes:
        """What the client (or the application) received on a stream."""
        events = self.server_events if server else self.client_events
        return b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream)

    def reset(self, stream: int) -> int | None:
        """The code with which the client saw the stream reset."""
        for event in self.client_events:
            if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                return int(event.error_code)
        return None

    def goaway(self) -> int | None:
        """The code with which the client saw the connection end."""
        for event in self.client_events:
            if isinstance(event, h2.events.ConnectionTerminated):
                return int(event.error_code)
        return None

    def ended(self, stream: int) -> bool:
        """Whether the client saw the end of the stream."""
        return any(isinstance(e, h2.events.StreamEnded) and e.stream_id == stream for e in self.client_events)

    def upstream_head(self, stream: int) -> Fields:
        """The request head that the application saw."""
        [event] = [e for e in self.server_events if isinstance(e, h2.events.RequestReceived) and e.stream_id == stream]
        return list(event.headers)

    def upstream_streams(self) -> list[int]:
        """The streams that the application saw, in order."""
        return [e.stream_id for e in self.server_events if isinstance(e, h2.events.RequestReceived)]


def head(
    token: str | None = "good", *, method: str = "POST", path: str = "/a?b=c", more: Fields | None = None
) -> Fields:
    """A request head."""
    fields = [(":method", method), (":scheme", "http"), (":authority", "app.example:80"), (":path", path)]
    if token is not None:
        fields.append(("authorization", token))
    return fields + (more or [])


def _engine(client: bool, settings: dict[int, int] | None) -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(
        client_side=client,
        header_encoding="latin-1",
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        normalize_inbound_headers=False,
    )
    engine = h2.connection.H2Connection(config)
    if settings:
        engine.local_settings = h2.settings.Settings(
            client=client, initial_values=dict(engine.local_settings) | settings
        )
    if client:
        engine.initiate_connection()
    return engine
