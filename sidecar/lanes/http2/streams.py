"""Streams: what the lane remembers of a request between its head and its end.

Knows: the life of one stream as both sides see it. Must not know: frames, decisions, or other streams. A stream
*waits* until its head went to the application: for keys, for the connection, or for an earlier stream, since heads
must leave in the order of their ids (RFC 9113 section 5.1.1). Refused streams are not here: nothing of them is
remembered but, for a while, that the client may still be sending.
"""

from __future__ import annotations

from eastgate.model.decisions import Edits
from sidecar.lanes.http2.fields import Field
from sidecar.lanes.http2.heads import Head


class Waiting:
    """What a stream holds before its departure. ``block`` is None until it is allowed.

    ``credit``: flow-control bytes of the DATA in ``frames``, owed to the client if they are never forwarded.
    """

    __slots__ = ("block", "credit", "end_with_head", "frames", "size", "trailers")

    def __init__(self, size: int, end_with_head: bool) -> None:
        self.block: bytes | None = None
        self.end_with_head = end_with_head
        self.frames: list[bytes] = []
        self.trailers: list[Field] | None = None
        self.size = size
        self.credit = 0


class Stream:
    """``remaining``: bytes that content-length still promises, or -1. ``edits`` and ``route`` are its decision's,
    for the trailers and for whoever asks what went wrong.
    """

    __slots__ = (
        "client_ended", "edits", "head", "id", "opened", "remaining", "responded", "route", "upstream_ended", "waiting",
    )  # fmt: skip

    def __init__(self, stream: int, head: Head, opened: float, client_ended: bool) -> None:
        self.id = stream
        self.head = head
        self.opened = opened
        self.remaining = head.content_length
        self.edits: Edits | None = None
        self.route = ""
        self.client_ended = client_ended
        self.upstream_ended = False
        self.responded = False
        self.waiting: Waiting | None = None

    @property
    def held(self) -> Waiting:
        """What it waits with; only for a stream that waits."""
        if self.waiting is None:
            raise LookupError("stream does not wait")
        return self.waiting
