"""A decision with all its reasons, as one JSON object for a program.

Knows: the keys of ``eastgate explain --json``, which are an interface: ``id``, ``decision``, ``status``, ``body``,
``response_headers``, ``upstream``, ``route``, ``policies``, ``reason``, ``trace``. Must not know: how it was decided.
``upstream`` is what the application would receive, exactly: a forwarded token is part of it, as it was part of the
question. Everything else, ``trace`` above all, names a token by its place only.
"""

from __future__ import annotations

from typing import NamedTuple

from eastgate.model.decisions import Decision
from eastgate.model.requests import Request
from eastgate.render.grpc import is_grpc
from eastgate.render.http import Answer, render_answer


class Explanation(NamedTuple):
    """One question and its answer. ``notes`` are about the question itself (a Host header overruled the URL)."""

    id: object
    request: Request
    decision: Decision
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """What the caller gets; for a pass, the 200 that stands for whatever the application answers."""
        if self.decision.allowed:
            return Answer(200, (), b"")
        grpc = is_grpc(self.request.headers)
        return render_answer(self.decision, grpc=grpc, head=self.request.method == b"HEAD")

    @property
    def upstream_target(self) -> bytes:
        """The target as the application sees it."""
        return self.request.target if self.decision.edits is None else self.decision.edits.target

    @property
    def upstream_headers(self) -> list[tuple[bytes, bytes]]:
        """The header list as the application sees it, Host first."""
        headers = self.request.headers
        edited = list(headers) if self.decision.edits is None else self.decision.edits.apply(headers)
        return [(b"host", self.request.authority), *edited]


def decode(data: bytes) -> str:
    """Bytes off the wire as text: UTF-8 where they are, else one character a byte."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def render_trace(explanation: Explanation) -> dict[str, object]:
    """The JSON object of one request, keys in the order of the interface."""
    decision, answer = explanation.decision, explanation.answer
    upstream: dict[str, object] | None = None
    if decision.allowed:
        upstream = {
            "method": decode(explanation.request.method),
            "path": decode(explanation.upstream_target),
            "headers": _pairs(explanation.upstream_headers),
        }
    return {
        "id": explanation.id,
        "decision": "allow" if decision.allowed else "deny",
        "status": answer.status,
        "body": decode(answer.body),
        "response_headers": _pairs(answer.headers),
        "upstream": upstream,
        "route": decision.route,
        "policies": list(decision.policies),
        "reason": str(decision.reason),
        "trace": [
            *({"kind": "request", "subject": "", "passed": True, "detail": note} for note in explanation.notes),
            *(
                {"kind": check.kind, "subject": check.subject, "passed": check.passed, "detail": check.detail}
                for check in decision.checks
            ),
        ],
    }


def _pairs(headers: tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[decode(name), decode(value)] for name, value in headers]
