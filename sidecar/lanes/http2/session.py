"""One client connection with its application connection: the state that both directions share.

Knows: streams, windows, what is to be written to each side, and how a connection ends. Must not know: sockets, events
or the clock's source. Every list in ``to_client`` and ``to_upstream`` is whole frames and whole heads, so anything may
be written between any two of its entries. ``client`` reads what the client sends, ``upstream`` what the application
sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from eastgate.model.decisions import Decision
from eastgate.model.keys import RemoteKeys
from sidecar.lanes.http2 import answers
from sidecar.lanes.http2.fields import encode_fields, encode_table_size
from sidecar.lanes.http2.floods import FloodGuard
from sidecar.lanes.http2.frames import (
    HEADERS,
    INTERNAL_ERROR,
    MAX_WINDOW,
    NO_ERROR,
    PREFACE,
    REFUSED_STREAM,
    Frame,
    encode_goaway,
    encode_head,
    encode_reset,
    encode_window_update,
)
from sidecar.lanes.http2.settings import (
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    Settings,
    encode_settings,
    own_settings,
    settings_for_upstream,
)
from sidecar.lanes.http2.streams import Stream
from sidecar.lanes.http2.window import ClientWindow
from sidecar.options import Limits
from sidecar.upstream import UpstreamFailure

_ABANDONED = 1024
"""Streams that ended while the client was still sending, remembered to tell late frames from wrong ones."""


class Upstream(Enum):
    """The application's connection. It is opened for the first allowed stream, and again after a failure to open."""

    IDLE = auto()
    OPENING = auto()
    OPEN = auto()
    GONE = auto()


class Session:
    """Shared by ``RequestSide`` and ``ResponseSide``; the lane carries out what it collects. ``blame`` hears of every
    stream that the application leaves without an answer, or without its end: route, failure, detail.
    """

    def __init__(
        self, limits: Limits, clock: Callable[[], float], blame: Callable[[str, UpstreamFailure, str], None]
    ) -> None:
        self.limits = limits
        self.clock = clock
        self._blame = blame
        self.guard = FloodGuard(limits.resets_per_second, clock)
        self.window = ClientWindow()
        self.upstream = Upstream.IDLE
        self.to_client: list[bytes] = []
        self.to_upstream: list[bytes] = []
        self.fetches: list[tuple[tuple[RemoteKeys, ...], int]] = []
        self.streams: dict[int, Stream] = {}
        self.departures: deque[Stream] = deque()
        self.abandoned: dict[int, None] = {}
        self.highest = 0
        self.last_departed = 0
        self.last_accepted = MAX_WINDOW
        """The application's GOAWAY: it takes no stream above."""
        self.client_settings: Settings = {}
        self.held_credit = 0
        """WINDOW_UPDATEs of the connection that the application has not heard of."""
        self.held_bytes = 0
        self.owed = 0
        """DATA bytes dropped here: credit to give back to the client."""
        self.unacknowledged_by_client: deque[bool] = deque()
        """For each SETTINGS sent to the client, oldest first: was it the application's?"""
        self.unacknowledged_by_upstream: deque[Settings | None] = deque()
        """For each SETTINGS sent to the application: the client's parameters, None where the client has its answer."""
        self.greeted = False
        """The client was sent SETTINGS, before which nothing else may be."""
        self.leaving = False
        self.draining = False
        self.closed = False
        self._table_update = b""
        self._table_size = 4096
        self._opened_with_blank_table = False

    @property
    def full(self) -> bool:
        """True while so much waits that the client should not be read."""
        return self.held_bytes > self.limits.pending_bytes

    # --- the client's side ----------------------------------------------------------------------------------------

    def greet(self) -> None:
        """Answer the preface: SETTINGS come before anything else (RFC 9113 section 3.4)."""
        self.greeted = True
        self.to_client.append(encode_settings(own_settings(self.limits)))
        self.unacknowledged_by_client.append(False)
        if self.leaving:
            self.to_client.append(encode_goaway(self.last_accepted, NO_ERROR))

    def deliver(self, kind: int, stream: int, data: bytes) -> None:
        """Frames for the client that must keep their place behind what waits for credit, and take none themselves."""
        if self.window.stalled:
            self.window.hold(Frame(kind, 0, stream, data))
        else:
            self.to_client.append(data)

    def answer(self, stream: int, decision: Decision, *, grpc: bool, is_head: bool, ended: bool, code: int = 0) -> None:
        """Answer on a stream that the application never saw; ``code`` resets it if the client is still sending."""
        layout = answers.lay_out(decision, grpc=grpc, is_head=is_head, prefix=self._table_update)
        if layout.size and not self.window.lend(layout.size):
            layout = answers.lay_out(decision, grpc=grpc, is_head=is_head, prefix=self._table_update, body=False)
        data = layout.fill_in(stream)
        if not ended or code:
            data += encode_reset(stream, code)
        if not ended:
            self.abandon(stream)
        self.deliver(HEADERS, stream, data)

    def refuse(self, stream: int, ended: bool) -> None:
        """Reset a stream that was not looked at: the client may try again elsewhere (RFC 9113 section 8.7)."""
        self.to_client.append(encode_reset(stream, REFUSED_STREAM))
        if not ended:
            self.abandon(stream)

    def abandon(self, stream: int) -> None:
        """Remember that late frames of this stream are no fault."""
        self.abandoned[stream] = None
        if len(self.abandoned) > _ABANDONED:
            del self.abandoned[next(iter(self.abandoned))]

    def client_accepted(self, values: Settings) -> None:
        """The client was told that its parameters are in force; from now on the lane's own answers follow them."""
        self.window.initial = values.get(INITIAL_WINDOW_SIZE, self.window.initial)
        size = values.get(HEADER_TABLE_SIZE, self._table_size)
        if size < self._table_size:
            # The client's decoder insists on hearing of the smaller table from the next block on, whoever writes it
            # (RFC 7541 section 4.2). The application says it too; hearing it twice changes nothing.
            self._table_update = encode_table_size(size)
        elif size > self._table_size:
            self._table_update = b""
        self._table_size = size

    def repay(self) -> None:
        """Give back credit for dropped DATA, once for all of it."""
        if self.owed:
            self.to_client.append(encode_window_update(0, self.owed))
            self.owed = 0

    # --- the application's side -----------------------------------------------------------------------------------

    def queue(self, stream: Stream) -> None:
        """Let a stream wait for its departure."""
        self.departures.append(stream)
        self.held_bytes += stream.held.size

    def grow(self, stream: Stream, size: int) -> None:
        """A waiting stream keeps so many bytes more."""
        stream.held.size += size
        self.held_bytes += size
        self.check_backlog(stream)

    def check_backlog(self, stream: Stream) -> None:
        """Beyond ``pending_bytes`` the client is not read any more; what one turn can add to that is bounded here."""
        if self.held_bytes > 2 * self.limits.pending_bytes:
            self.answer_waiting(stream, answers.BACKLOG_FULL)
            self.depart()

    def unqueue(self, stream: Stream) -> None:
        """Take back a waiting stream: nothing of it was or will be forwarded."""
        waiting = stream.held
        self.departures.remove(stream)
        self.held_bytes -= waiting.size
        self.owed += waiting.credit
        del self.streams[stream.id]

    def answer_waiting(self, stream: Stream, decision: Decision) -> None:
        """Refuse a waiting stream."""
        self.unqueue(stream)
        head = stream.head
        self.answer(stream.id, decision, grpc=head.grpc, is_head=head.is_head, ended=stream.client_ended)

    def depart(self) -> None:
        """Send what waits, in order, up to the first stream that is not decided yet."""
        departures = self.departures
        if departures and self.upstream is Upstream.IDLE and any(one.held.block for one in departures):
            self.upstream = Upstream.OPENING
        if self.upstream is not Upstream.OPEN:
            return
        while departures:
            stream = departures[0]
            waiting = stream.held
            if stream.id > self.last_accepted:
                self.unqueue(stream)
                self.refuse(stream.id, stream.client_ended)
                continue
            if waiting.block is None:
                return
            departures.popleft()
            self.held_bytes -= waiting.size
            stream.waiting = None
            self.send_head(stream.id, waiting.block, waiting.end_with_head)
            self.to_upstream.extend(waiting.frames)
            if waiting.trailers is not None:
                self.to_upstream.append(encode_head(stream.id, encode_fields(waiting.trailers), True))

    def send_head(self, stream: int, block: bytes, end: bool) -> None:
        """A request head to the application."""
        if not self._opened_with_blank_table:
            # A table of size zero, said once, satisfies any HEADER_TABLE_SIZE that the application may choose.
            self._opened_with_blank_table = True
            block = encode_table_size(0) + block
        self.last_departed = stream
        self.guard.work += 1
        self.to_upstream.append(encode_head(stream, block, end))

    def upstream_opened(self) -> None:
        """The connection to the application is there: say what was held back, then send what waits."""
        self.upstream = Upstream.OPEN
        self.to_upstream.append(PREFACE + encode_settings(settings_for_upstream(self.client_settings, first=True)))
        self.unacknowledged_by_upstream.append(None)
        if self.held_credit:
            self.to_upstream.append(encode_window_update(0, self.held_credit))
            self.held_credit = 0
        self.depart()

    def upstream_failed(self, failure: UpstreamFailure, detail: str) -> None:
        """It could not be opened: what was allowed is answered, and a later stream tries again."""
        self.upstream = Upstream.IDLE
        for stream in [one for one in self.departures if one.held.block is not None]:
            self._blame(stream.route, failure, detail)
            self.answer_waiting(stream, answers.CONNECT_FAILED)

    def upstream_lost(self, decision: Decision, failure: UpstreamFailure, detail: str = "") -> None:
        """It ended, with or without a fault: so does every stream, and then the client's connection."""
        self.upstream = Upstream.GONE
        for stream in list(self.streams.values()):
            if stream.waiting is not None:
                self.unqueue(stream)
                self.refuse(stream.id, stream.client_ended)
                continue
            del self.streams[stream.id]
            if not stream.responded:
                self._blame(stream.route, failure, detail)
                head = stream.head
                self.answer(stream.id, decision, grpc=head.grpc, is_head=head.is_head, ended=stream.client_ended)
            else:
                if not stream.upstream_ended:
                    self._blame(stream.route, UpstreamFailure.RESPONSE_CUT, detail)
                code = NO_ERROR if stream.upstream_ended else INTERNAL_ERROR
                self.deliver(HEADERS, stream.id, encode_reset(stream.id, code))
        self.drain()

    # --- the end --------------------------------------------------------------------------------------------------

    def finish(self, stream: Stream) -> None:
        """Forget a stream that ended on both sides."""
        del self.streams[stream.id]

    def announce_drain(self) -> None:
        """Ask the client to begin no more streams (RFC 9113 section 6.8); ``drain`` follows after a moment."""
        if not self.leaving and not self.draining and not self.closed:
            self.leaving = True
            if self.greeted:
                self.to_client.append(encode_goaway(self.last_accepted, NO_ERROR))

    def drain(self) -> None:
        """Take no new streams; those there are run to their end."""
        if not self.draining and not self.closed:
            self.draining = True
            self.to_client.append(encode_goaway(min(self.highest, self.last_accepted), NO_ERROR))
        self.close_if_done()

    def close_if_done(self) -> None:
        """After the last stream of a connection that takes no more."""
        if self.draining and not self.streams and not self.window.stalled:
            self.closed = True

    def fail(self, code: int, why: str) -> None:
        """End everything now: nothing more goes to the application, and the client hears the code."""
        self.to_upstream.clear()
        if not self.closed:
            self.closed = True
            self.to_client.append(encode_goaway(min(self.highest, self.last_accepted), code, why))
