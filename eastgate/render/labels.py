"""A decision as metric labels.

Knows: the label names of ``eastgate_requests_total`` and what they are made of. Must not know: any metrics library.
Every value comes from configuration or from a fixed list, never from a request: that is what bounds the number of
series.
"""

from __future__ import annotations

from typing import NamedTuple

from eastgate.model.decisions import Decision

ALLOW = "allow"
DENY = "deny"
WOULD_DENY = "would-deny"
"""Audit mode: refused by policy, let pass."""


class Labels(NamedTuple):
    """In the order of the metric's label names. Several policies on one route are joined with a comma."""

    decision: str
    policy: str
    route: str
    reason: str


def name_decision(decision: Decision) -> str:
    """``allow``, ``deny`` or ``would-deny``."""
    if not decision.allowed:
        return DENY
    return WOULD_DENY if decision.denied_by_policy else ALLOW


def render_labels(decision: Decision) -> Labels:
    """The labels under which a decision is counted."""
    return Labels(name_decision(decision), ",".join(decision.policies), decision.route, str(decision.reason))
