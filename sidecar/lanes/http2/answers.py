"""The lane's own answers: decisions that it makes itself, and every refusal as frames.

Knows: the texts of refusals that no policy made, and how an answer is laid out in frames. Must not know: windows,
streams, policies. Texts as Envoy's where it has one (``source/common/http/utility.cc``, ``source/common/router/``).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from eastgate.model.decisions import Decision, Reason
from eastgate.render.http import Answer, render_answer
from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import DATA, END_STREAM, HEADER_BYTES, encode_frame, encode_head

_STREAM = struct.Struct(">L")
_STREAM_AT = HEADER_BYTES - _STREAM.size
"""Where a frame names its stream: in the last word of its header (RFC 9113 section 4.1)."""

_RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "

CONNECT_FAILED = Decision(False, 503, "upstream_unavailable", _RESET + b"remote connection failure")
UPSTREAM_CLOSED = Decision(False, 503, "upstream_reset", _RESET + b"connection termination")
UPSTREAM_PROTOCOL = Decision(False, 502, "upstream_reset", _RESET + b"protocol error")
HEAD_TOO_LARGE = Decision(False, 431, Reason.BAD_REQUEST, b"request header fields too large")
BACKLOG_FULL = Decision(False, 503, "overload", b"overload: too much was sent before the request could be decided")
NO_EDITS = Decision(False, 503, Reason.INTERNAL_ERROR, b"policy could not be evaluated")


def refuse_malformed(status: int, why: str) -> Decision:
    """The refusal of a head that is not a request."""
    return Decision(False, status, Reason.BAD_REQUEST, why.encode("ascii"))


class Layout(NamedTuple):
    """The frames of an answer, with gaps for the id of its stream: what stands between them. ``size``: bytes of its
    body.
    """

    size: int
    pieces: tuple[bytes, ...]

    def fill_in(self, stream: int) -> bytes:
        """The frames, for one stream."""
        return _STREAM.pack(stream).join(self.pieces)


def lay_out(decision: Decision, *, grpc: bool, is_head: bool, prefix: bytes, body: bool = True) -> Layout:
    """A refusal as frames, with its ``body`` or, for want of credit, without, and then its length goes unsaid.

    ``prefix`` opens the field block. The same refusal is said again and again: it is laid out once and remembered.
    """
    return _lay_out(decision.status, decision.headers, decision.body, grpc, is_head, prefix, body)


@lru_cache(maxsize=1024)
def _lay_out(
    status: int,
    headers: tuple[tuple[bytes, bytes], ...],
    body: bytes,
    grpc: bool,
    is_head: bool,
    prefix: bytes,
    with_body: bool,
) -> Layout:
    answer = render_answer(Decision(False, status, "", body, headers), grpc=grpc, head=is_head)
    return Layout(len(answer.body), _find_gaps(_encode_answer(answer, body=with_body, prefix=prefix)))


def _find_gaps(frames: bytes) -> tuple[bytes, ...]:
    pieces: list[bytes] = []
    start = position = 0
    while position < len(frames):
        pieces.append(frames[start : position + _STREAM_AT])
        start = position + HEADER_BYTES
        position = start + int.from_bytes(frames[position : position + 3])
    return (*pieces, frames[start:])


def _encode_answer(answer: Answer, *, body: bool, prefix: bytes) -> bytes:
    """The frames of a complete answer, on no stream."""
    headers = answer.headers
    if answer.body and not body:
        headers = tuple(field for field in headers if field[0] != b"content-length")
    block = prefix + encode_fields(((b":status", b"%d" % answer.status), *headers))
    if not (answer.body and body):
        return encode_head(0, block, True)
    return encode_head(0, block, False) + encode_frame(DATA, END_STREAM, 0, answer.body)
