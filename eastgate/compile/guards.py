"""What stands between a request and the application: the policies that hold on its route, or a refusal.

Made once a route; a request that two families of routes match meets both guards as one. Must not know: how a route is
matched, or how a policy is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eastgate.compile.policies import PolicyPlan
from eastgate.model.decisions import Reason
from eastgate.model.routes import Action, Route

REQUIRE_AUTH_LABEL = ("gateway.gloo.solo.io/require_auth", "true")
"""Gloo's label for "refuse rather than pass where no auth policy is"."""


class Refusal(NamedTuple):
    """A guard that lets nothing pass. ``detail`` is for logs and ``explain``, never for the client."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """``route`` is its text form, empty where no route matched; ``names`` are the policies, in the order they decide.
    ``passing`` is the reason of a request that passes.
    """

    route: str
    policies: tuple[PolicyPlan, ...]
    names: tuple[str, ...]
    refusal: Refusal | None
    passing: Reason


def build_guard(
    route: str, policies: Iterable[PolicyPlan], refusal: Refusal | None = None, passing: Reason | None = None
) -> Guard:
    """A guard of these policies; a broken one among them refuses everything."""
    ordered = tuple(sorted(policies, key=lambda plan: plan.order))
    broken = next((plan for plan in ordered if plan.invalid), None)
    if refusal is None and broken is not None:
        refusal = Refusal(Reason.POLICY_UNAVAILABLE, f"{broken.name}: {broken.invalid[0]}")
    demanding = tuple(plan for plan in ordered if not plan.demands_nothing)
    return Guard(
        route=route,
        policies=demanding,
        names=tuple(plan.name for plan in ordered),
        refusal=refusal,
        passing=passing or (Reason.ALLOWED if demanding else Reason.NO_POLICY),
    )


def guard_route(route: Route, policies: Sequence[PolicyPlan]) -> Guard:
    """The guard of one route."""
    refusal = None
    if route.invalid:
        refusal = Refusal(Reason.POLICY_UNAVAILABLE, f"{route} is invalid: {route.invalid[0]}")
    elif route.action is Action.ANSWER:
        refusal = Refusal(Reason.ROUTE_NOT_FOUND, f"{route} redirects or answers: the sender should have answered")
    elif REQUIRE_AUTH_LABEL in route.labels and all(plan.demands_nothing and not plan.invalid for plan in policies):
        refusal = Refusal(Reason.POLICY_UNAVAILABLE, f"{route} requires a policy by its label, and none holds on it")
    return build_guard(str(route), policies, refusal)


def guard_broken_match(route: Route) -> Guard:
    """The guard of a match that could not be compiled."""
    refusal = Refusal(Reason.POLICY_UNAVAILABLE, f"{route} has a match that cannot be compiled")
    return build_guard(str(route), (), refusal)


def join_guards(guards: Sequence[Guard]) -> Guard:
    """All of them at once: every policy of each must pass, and any refusal refuses."""
    policies = {id(plan): plan for guard in guards for plan in guard.policies}
    ordered = tuple(sorted(policies.values(), key=lambda plan: plan.order))
    return Guard(
        route=" + ".join(dict.fromkeys(guard.route for guard in guards if guard.route)),
        policies=ordered,
        names=tuple(dict.fromkeys([*(plan.name for plan in ordered), *(name for one in guards for name in one.names)])),
        refusal=next((guard.refusal for guard in guards if guard.refusal is not None), None),
        passing=Reason.ALLOWED if ordered else guards[0].passing,
    )
