"""A refusal as bytes-level parts of an HTTP answer, for the lanes.

Knows: status, header fields and body of an answer. Must not know: HTTP versions or framing beyond ``content-length``;
a lane adds the status line, ``connection`` and ``date``. Statuses, bodies and ``www-authenticate`` are the decision's
own; ``text/plain`` as in Envoy's local replies (``source/common/http/utility.cc``); HEAD as RFC 9110 section 9.3.2:
the fields of the GET, without its body.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from eastgate.model.decisions import Decision
from eastgate.render import grpc as grpc_form

_REMEMBERED = 1024
"""Distinct answers kept. The realm holds host and path (256 characters at most), so callers can make many: bounded."""

DESCRIBING = frozenset((b"content-type", b"content-length"))
"""Fields about the body: a decision may name them, this module knows them."""


class Answer(NamedTuple):
    """``headers`` are (lower-case name, value), in order, complete but for what framing adds."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def render_answer(decision: Decision, *, grpc: bool, head: bool = False) -> Answer:
    """What the caller gets for a refusal. ``grpc``: the request was gRPC; ``head``: its method was HEAD."""
    return _render(decision.status, decision.headers, decision.body, grpc, head)


@lru_cache(maxsize=_REMEMBERED)
def _render(status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes, grpc: bool, head: bool) -> Answer:
    own = tuple(pair for pair in headers if pair[0] not in DESCRIBING)
    if grpc:
        return Answer(200, grpc_form.render_headers(status, own, body), b"")
    length = (b"content-length", b"%d" % len(body))
    if not body:
        return Answer(status, (length, *own), b"")
    return Answer(status, ((b"content-type", b"text/plain"), length, *own), b"" if head else body)
