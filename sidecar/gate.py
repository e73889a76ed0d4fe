"""The gate: where every lane asks, and where every exception becomes a refusal.

Holds the plan in force and swaps it in one assignment; a request is decided by one plan from beginning to end.
Knows: the plan, the key ring, the clock. Must not know: bytes on the wire. Deny first, permit last: there is no path
through ``decide`` that returns a pass other than the engine's own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from eastgate.compile.plan import Plan
from eastgate.decide.decision import decide
from eastgate.decide.memory import TokenMemory
from eastgate.keys.ring import KeyRing
from eastgate.model.decisions import Decision, KeysNeeded, Reason
from eastgate.model.requests import Request
from sidecar.sockets import join_address
from sidecar.upstream import UpstreamError

logger = logging.getLogger("eastgate.gate")
upstream_logger = logging.getLogger("eastgate.upstream")

INTERNAL_ERROR = Decision(
    allowed=False,
    status=503,
    reason=Reason.INTERNAL_ERROR,
    body=b"policy could not be evaluated",
    denied_by_policy=True,
)


class Outcome(NamedTuple):
    """What was decided of one request, for the log and the metrics. ``seconds`` is the time spent deciding, ``status``
    what the client is answered; 0 of a request that is let through, for that is the application's to say, later, and
    nobody here reads it: an HTTP/2 answer is relayed without being decoded.
    """

    request: Request
    decision: Decision
    seconds: float
    status: int = 0


class Gate:
    """One per worker. ``observe`` is called once a decided request, before anything is done about it: where it raises,
    the request is refused, for what cannot be recorded is not let through. ``count_upstream_error`` hears one word of
    ``UpstreamFailure`` for each that came to nothing afterwards.
    """

    def __init__(
        self,
        plan: Plan,
        ring: KeyRing,
        observe: Callable[[Outcome], None],
        clock: Callable[[], float] = time.time,
        count_upstream_error: Callable[[str], None] | None = None,
    ) -> None:
        self._ring = ring
        self._observe = observe
        self._count_upstream_error = count_upstream_error
        self._clock = clock
        self._held = (plan, TokenMemory())

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._held[0]

    def swap(self, plan: Plan) -> None:
        """Put another plan in force; requests being decided finish under the old one."""
        self._held = (plan, TokenMemory())

    def decide(self, request: Request, *, asked: bool = False) -> Decision | KeysNeeded:
        """Decide. ``asked``: keys were already fetched for this request; needing them again is a refusal."""
        started = time.perf_counter()
        try:
            plan, memory = self._held
            answer = decide(plan, request, self._ring, self._clock(), memory, last_try=asked)
            if isinstance(answer, KeysNeeded):
                if not asked:
                    return answer
                raise RuntimeError("keys asked for twice")
        except Exception as error:
            # The exception's text may quote the request: only its type is safe to say.
            logger.error("decision failed: %s", type(error).__name__, extra={"fault": type(error).__name__})
            answer = INTERNAL_ERROR
        outcome = Outcome(request, answer, time.perf_counter() - started, 0 if answer.allowed else answer.status)
        return answer if self._report(outcome) else INTERNAL_ERROR

    def refuse(self, request: Request, decision: Decision) -> None:
        """Report a refusal that a lane made by itself, of bytes that were never a request the engine could see."""
        self._report(Outcome(request, decision, 0.0, decision.status))

    def report_upstream_error(self, error: UpstreamError) -> None:
        """Count and log that a request which was let through came to nothing. Nothing depends on it: never raises."""
        failure, upstream, route, detail = error
        fields: dict[str, object] = {"reason": str(failure), "upstream": join_address(*upstream) if upstream else ""}
        if detail:
            fields["detail"] = detail
        fields["route"] = route
        try:
            if self._count_upstream_error is not None:
                self._count_upstream_error(str(failure))
            upstream_logger.warning(failure.text, extra={"fields": fields})
        except Exception as fault:
            logger.error("observer failed: %s", type(fault).__name__, extra={"fault": type(fault).__name__})

    def _report(self, outcome: Outcome) -> bool:
        """Hand on what was decided; False when that failed."""
        try:
            self._observe(outcome)
        except Exception as error:
            logger.error("observer failed: %s", type(error).__name__, extra={"fault": type(error).__name__})
            return False
        return True
