"""The lane's own answers: decisions that it makes itself, and every refusal as frames.

Knows: the texts of refusals that no policy made, and how an answer is laid out in frames. Must not know: windows,
streams, policies. Texts as Envoy's where it has one (``source/common/http/utility.cc``, ``source/common/router/``).
"""

from __future__ import annotations

from eastgate.model.decisions import Decision, Reason
from eastgate.render.http import Answer
from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import DATA, END_STREAM, encode_frame, encode_head

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


def encode_answer(stream: int, answer: Answer, *, body: bool, prefix: bytes) -> bytes:
    """The frames of a complete answer. Without ``body`` its length goes unsaid; ``prefix`` opens the field block."""
    headers = answer.headers
    if answer.body and not body:
        headers = tuple(field for field in headers if field[0] != b"content-length")
    block = prefix + encode_fields(((b":status", b"%d" % answer.status), *headers))
    if not (answer.body and body):
        return encode_head(stream, block, True)
    return encode_head(stream, block, False) + encode_frame(DATA, END_STREAM, stream, answer.body)
