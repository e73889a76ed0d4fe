"""One HTTP/1 request and its response, as bytes pass through: what the application gets, what the client gets.

Rules: RFC 9112 section 6 (bodies), RFC 9110 sections 15.2 (interim responses) and 7.8 (upgrade). Knows: where this
exchange is in both messages. Must not know: connections, timers, other exchanges.
"""

from __future__ import annotations

from eastgate.model.decisions import Decision
from sidecar.lanes.framing import Body, ChunkedBody, EndlessBody, LengthBody, write_chunk, write_last_chunk
from sidecar.lanes.grammar import NOT_IN_HEAD, STATUS_LINE
from sidecar.lanes.http1.requests import IDEMPOTENT, RequestHead
from sidecar.lanes.http1.responses import ResponseError, ResponseHead, read_response_head, write_response_head
from sidecar.options import Limits


class Exchange:
    """``request_done``: the whole request has been read; ``rest``: what came after it. ``response``: the final head,
    once it is there; ``upgraded``: it was 101. ``persistent``: the client was told that its connection stays.
    """

    __slots__ = (
        "_limits",
        "_unread",
        "awaits_continue",
        "body",
        "decision",
        "head",
        "persistent",
        "request_done",
        "response",
        "response_done",
        "rest",
        "retriable",
        "reusable",
        "upgraded",
        "written",
    )

    def __init__(self, head: RequestHead, limits: Limits) -> None:
        self._limits = limits
        self.head = head
        self.body: Body | None = None
        if head.chunked:
            self.body = ChunkedBody()
        elif head.length:
            self.body = LengthBody(head.length)
        self.request_done = self.body is None
        self.rest = b""
        self.decision: Decision | None = None
        self.written = b""  # the head for the application
        self.retriable = False
        self.awaits_continue = False
        self._unread = b""  # an unfinished response head
        self.response: ResponseHead | None = None
        self.response_done = False
        self.reusable = False
        self.upgraded = False
        self.persistent = False

    # --- the request ---------------------------------------------------------------------------------------------

    def begin(self, *, reused: bool, body_is_here: bool) -> bytes:
        """The head for the application; over a ``reused`` connection it may have to go twice.

        An expectation is passed on if its client waits for the answer; one that has sent its body already has none.
        """
        self.retriable = reused and self.request_done and self.head.request.method in IDEMPOTENT
        if self.head.expects_continue and not self.request_done and not body_is_here:
            self.awaits_continue = True
            return self.written[:-2] + b"expect: 100-continue\r\n\r\n"
        return self.written

    def feed_request(self, data: bytes) -> list[bytes]:
        """What of these bytes the application gets. Raises ``FramingError``."""
        body = self.body
        if body is None:
            raise ValueError("no body")
        found = body.feed(data)
        chunked = isinstance(body, ChunkedBody)
        out = []
        if found:
            out.append(write_chunk(found) if chunked else found)
        if body.done:
            if isinstance(body, ChunkedBody):
                out.append(write_last_chunk(body.trailers, self._asserted_names()))
            self.request_done = True
            self.rest = body.rest
        return out

    def _asserted_names(self) -> frozenset[bytes]:
        """What policies say in headers, trailers may not say."""
        edits = self.decision.edits if self.decision else None
        return edits.remove.union(name for name, _ in edits.add) if edits else frozenset()

    # --- the response --------------------------------------------------------------------------------------------

    @property
    def response_begun(self) -> bool:
        """True once any byte of a response has come."""
        return self.response is not None or bool(self._unread)

    @property
    def framed(self) -> bool:
        """True while the client would notice that the response stops short of its end."""
        body = self.response.body if self.response is not None else None
        return isinstance(body, LengthBody) or (isinstance(body, ChunkedBody) and not self.head.http10)

    @property
    def ends_with_connection(self) -> bool:
        """True while a response body comes that only the end of the connection ends."""
        return self.response is not None and isinstance(self.response.body, EndlessBody)

    def feed_response(self, data: bytes, *, closing: bool) -> list[bytes]:
        """What of these bytes the client gets. Raises ``ResponseError`` and ``FramingError``.

        ``closing``: the client's connection is to end after this response.
        """
        out: list[bytes] = []
        response = self.response
        if response is None:
            data = self._read_heads(data, out, closing)
            response = self.response
        if response is not None and not self.upgraded and (data or response.body.done):
            self._read_body(response, data, out)
        return out

    def _read_heads(self, data: bytes, out: list[bytes], closing: bool) -> bytes:
        """Interim heads as they come, then the final one; returns the bytes after it."""
        request = self.head
        data = self._unread + data if self._unread else data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > self._limits.head_bytes:
                self._check_unfinished(data)
                break
            head = read_response_head(data[: end + 4], self._limits.head_fields, request.request.method)
            data = data[end + 4 :]
            self.retriable = False
            if head.status >= 200:
                self._unread = b""
                self.response = head
                self.persistent = (
                    request.keep_alive
                    and not closing
                    and (
                        isinstance(head.body, LengthBody) or (isinstance(head.body, ChunkedBody) and not request.http10)
                    )
                    and (self.request_done or (head.reusable and not self.awaits_continue))
                )
                out.append(write_response_head(head, http10=request.http10, persistent=self.persistent))
                return data
            if head.status == 101:
                if not request.websocket or head.upgrade != b"websocket":
                    raise ResponseError("unasked upgrade")
                self._unread = b""
                self.response, self.upgraded = head, True
                out.append(write_response_head(head, http10=False, persistent=True))
                out.append(data)
                return b""
            if head.status == 100:
                self.awaits_continue = False
            if not request.http10:
                out.append(write_response_head(head, http10=False, persistent=True))
        self._unread = data
        return b""

    def _check_unfinished(self, data: bytes) -> None:
        if len(data) > self._limits.head_bytes:
            raise ResponseError("response head too large")
        if NOT_IN_HEAD.search(data) or (b"\r\n" in data and STATUS_LINE.match(data) is None):
            raise ResponseError("malformed response head")

    def _read_body(self, response: ResponseHead, data: bytes, out: list[bytes]) -> None:
        body = response.body
        found = body.feed(data)
        chunked = isinstance(body, ChunkedBody) and not self.head.http10
        if found:
            out.append(write_chunk(found) if chunked else found)
        if body.done:
            if isinstance(body, ChunkedBody) and chunked:
                out.append(write_last_chunk(body.trailers))
            self.response_done = True
            # Bytes after the response are no response to anything: the connection they came on is not used again.
            self.reusable = response.reusable and not body.rest
