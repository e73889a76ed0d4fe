"""The HTTP/1 lane's own answers: decisions that it makes itself, and every refusal as bytes.

Knows: the texts of refusals that no policy made, and how an answer is written. Must not know: bodies, connections, why
a request was refused. Texts as Envoy's where it has one (``source/common/router/router.cc``).
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from eastgate.model.decisions import Decision, Reason
from eastgate.render.http import DESCRIBING, Answer, render_answer

_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def write_refusal(decision: Decision, *, grpc: bool, head: bool, http10: bool, persistent: bool) -> bytes:
    """A refusal as the client gets it.

    Refusals differ in little but the values of their fields (the realm names host and path): the rest is written once
    and remembered.
    """
    headers = decision.headers
    names = tuple([name for name, _ in headers])
    pieces = _write_around(decision.status, names, decision.body, grpc, head, http10, persistent)
    if not pieces:
        return write_answer(render_answer(decision, grpc=grpc, head=head), http10=http10, persistent=persistent)
    written = [pieces[0]]
    for (_, value), piece in zip(headers, pieces[1:], strict=True):
        written += value, piece
    return b"".join(written)


_GAP = b"\0"
"""Stands for a value; no header field holds it (RFC 9110 section 5.5)."""


@lru_cache(maxsize=256)
def _write_around(
    status: int, names: tuple[bytes, ...], body: bytes, grpc: bool, head: bool, http10: bool, persistent: bool
) -> list[bytes]:
    """What stands before, between and after the values of these fields; nothing where that cannot be told."""
    if _GAP in body or not DESCRIBING.isdisjoint(names):
        return []
    headers = tuple([(name, _GAP) for name in names])
    answer = render_answer(Decision(False, status, "", body, headers), grpc=grpc, head=head)
    return write_answer(answer, http10=http10, persistent=persistent).split(_GAP)


def write_answer(answer: Answer, *, http10: bool = False, persistent: bool = False) -> bytes:
    """An answer of our own, head and body."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, _REASONS.get(answer.status, b""))]
    framed = False
    for field in answer.headers:
        framed = framed or field[0] == b"content-length"
        lines.append(b"%b: %b\r\n" % field)
    if not framed:
        lines.append(b"content-length: %d\r\n" % len(answer.body))
    if not persistent:
        lines.append(b"connection: close\r\n")
    elif http10:
        lines.append(b"connection: keep-alive\r\n")
    lines.append(b"\r\n")
    lines.append(answer.body)
    return b"".join(lines)


_FAILURE = b"policy could not be evaluated"
# Written when the module is loaded, so that nothing is left that could raise when they are needed.
FAILED = write_answer(Answer(503, ((b"content-type", b"text/plain"),), _FAILURE))
FAILED_GRPC = write_answer(
    Answer(200, ((b"content-type", b"application/grpc"), (b"grpc-status", b"14"), (b"grpc-message", _FAILURE)), b"")
)


def _unavailable(why: bytes, status: int = 503) -> Decision:
    """The application cannot be asked; Envoy's words for it (``source/common/router/router.cc``)."""
    return Decision(allowed=False, status=status, reason="upstream_unavailable", body=why)


NO_CONNECTION = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
)
TERMINATED = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: connection termination"
)
PROTOCOL_ERROR = _unavailable(
    b"upstream connect error or disconnect/reset before headers. reset reason: protocol error", 502
)

BAD_BODY = Decision(allowed=False, status=400, reason=Reason.BAD_REQUEST, body=b"malformed chunked body")
