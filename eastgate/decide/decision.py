"""The decision on one request: the only way in.

Canonical target, route, tokens, authorization, edits, in this order; deny first, permit last. Everything that policies
say is in the plan already. Must not know: sockets, HTTP versions, how keys are fetched, how an answer is rendered.
Where keys are missing it says so (``KeysNeeded``) and is asked again; asked with ``last_try`` it always decides.
"""

from __future__ import annotations

from eastgate.compile.guards import Guard
from eastgate.compile.paths import drop_parameters
from eastgate.compile.plan import Plan
from eastgate.compile.rules import AuthorizationPlan
from eastgate.decide.authorize import Bearer, Circumstances, Ruling, authorize
from eastgate.decide.headers import HeaderPairs, settle_statements
from eastgate.decide.memory import MAX_ANSWER_TARGET, TokenMemory
from eastgate.decide.refusals import refuse_access, refuse_by_guard, refuse_target, refuse_token
from eastgate.decide.requirement import Accepted, Failure, Inquiry, KeysWanted, Pending, PolicyCheck, satisfy
from eastgate.decide.targets import BadTarget, Target, canonicalise_target
from eastgate.decide.tokens import strip_cookies, strip_parameters
from eastgate.keys.ring import KeyRing
from eastgate.model.decisions import Check, Decision, Edits, KeysNeeded
from eastgate.model.keys import RemoteKeys
from eastgate.model.requests import Request
from eastgate.model.workloads import Mode


def decide(
    plan: Plan,
    request: Request,
    ring: KeyRing,
    now: float,
    memory: TokenMemory,
    *,
    last_try: bool = False,
    explain: bool = False,
) -> Decision | KeysNeeded:
    """Decide. ``now`` is seconds since the epoch. ``explain`` fills ``checks`` step by step, for passes too."""
    trace: list[Check] | None = [] if explain else None
    target = canonicalise_target(request.target)
    if isinstance(target, BadTarget):
        return refuse_target(target.detail, (Check("target", "target", False, target.detail),))
    answer = _decide_target(plan, request, target, ring, now, memory, last_try, trace)
    if plan.workload.mode is Mode.AUDIT and isinstance(answer, Decision) and not answer.allowed:
        return _let_pass(plan, answer, target, trace)
    return answer


def _let_pass(plan: Plan, refused: Decision, target: Target, trace: list[Check] | None) -> Decision:
    """Audit mode: what would have been refused passes, and is said to have been refused. What policies assert stays
    theirs: the client's copies of those headers go.
    """
    mode = (Check("mode", "audit", True, "would have been refused"),) if trace is not None else ()
    return Decision(
        allowed=True,
        status=refused.status,
        reason=refused.reason,
        edits=Edits(target.whole, plan.asserted),
        route=refused.route,
        policies=refused.policies,
        denied_by_policy=True,
        checks=refused.checks + mode,
    )


def _decide_target(
    plan: Plan,
    request: Request,
    target: Target,
    ring: KeyRing,
    now: float,
    memory: TokenMemory,
    last_try: bool,
    trace: list[Check] | None,
) -> Decision | KeysNeeded:
    if plan.refusal is not None:
        return refuse_by_guard(plan.refusal, None, (Check("selection", "workload", False, plan.refusal.detail),))
    guard = plan.find(request, target.path, target.query)
    if trace is not None:
        trace.append(Check("target", "target", True, target.path.decode("ascii")))
        trace.append(Check("route", guard.route or "none", bool(guard.route)))
        trace.append(Check("selection", guard.route or "none", True, ", ".join(guard.names) or "no policy"))
    if guard.refusal is not None:
        last = Check("route", guard.route or "none", False, guard.refusal.detail)
        return refuse_by_guard(guard.refusal, guard, (*trace, last) if trace is not None else (last,))
    if not guard.policies:
        return _permit(plan, guard, request, target, [], trace)
    memory.bind(plan)
    begun = len(trace) if trace is not None else 0
    inquiry = Inquiry(request.headers, target.query, ring, now, memory, last_try, trace)
    outcome = _ask_policies(plan, guard, request, target, inquiry)
    if isinstance(outcome, list):
        needed = _sources_to_fetch(outcome, ring)
        if needed:
            return KeysNeeded(needed)
        # Unknown kids whose sources were asked only just now: no fetch will help.
        inquiry.final = True
        if trace is not None:
            del trace[begun:]
        outcome = _ask_policies(plan, guard, request, target, inquiry)
        if isinstance(outcome, list):
            raise RuntimeError("keys wanted on the last try")
    return outcome


def _sources_to_fetch(wanted: list[KeysWanted], ring: KeyRing) -> tuple[RemoteKeys, ...]:
    """A source without keys is always fetched; one with keys only if the ring thinks the unknown kid worth it."""
    needed = dict[RemoteKeys, None]()
    for one in dict.fromkeys(wanted):
        if one.source.unresolved is not None:
            continue  # nothing will ever come from there
        if one.kid is None or (one.source not in needed and ring.may_refetch(one.source, one.kid or None)):
            needed[one.source] = None
    return tuple(needed)


class _GuardCheck:
    """A guard prepared for asking its policies."""

    __slots__ = ("policies", "route")

    def __init__(self, guard: Guard, memory: TokenMemory) -> None:
        self.policies = tuple(PolicyCheck(policy, memory) for policy in guard.policies)
        self.route = Check("route", guard.route, True)

    def explain(self, inquiry: Inquiry, last: Check) -> tuple[Check, ...]:
        """The reasoning up to a refusal. Nobody asked to ``explain``: where, and what, no more."""
        return (self.route, last) if inquiry.trace is None else (*inquiry.trace, last)


def _ask_policies(
    plan: Plan, guard: Guard, request: Request, target: Target, inquiry: Inquiry
) -> Decision | list[KeysWanted]:
    """Every policy of the guard must pass. A definite refusal comes before waiting for keys."""
    prepared = inquiry.memory.prepared(guard, lambda guard: _GuardCheck(guard, inquiry.memory))
    policies = prepared.policies
    accepted: list[Accepted] = []
    wanted: list[KeysWanted] = []
    lasting: object = None
    for policy in policies:
        satisfied = satisfy(policy, inquiry) if policy.providers else []
        if isinstance(satisfied, Failure):
            return _refuse_token(plan, guard, prepared, satisfied, request, target, inquiry)
        if isinstance(satisfied, Pending):
            wanted.extend(satisfied.wanted)
            continue
        if (
            policy.lasting
            and len(policies) == 1 == len(satisfied)
            and inquiry.trace is None
            and _is_whole(satisfied[0])
        ):
            # The same token for the same thing: the answer is the same, too.
            lasting = (satisfied[0].token, satisfied[0].place, guard, target.whole)
            known: Decision | None = inquiry.memory.find_answer(lasting)
            if known is not None:
                return known
        accepted += satisfied
        if policy.authorization is not None and not wanted:
            ruling = _rule(plan, policy, policy.authorization, satisfied, accepted, request, target, inquiry)
            if not ruling.allowed:
                last = Check("rule", policy.name, False, _describe_ruling(ruling))
                return refuse_access(guard, prepared.explain(inquiry, last))
    if wanted:
        return wanted
    permission = _permit(plan, guard, request, target, accepted, inquiry.trace)
    if lasting is not None and len(target.whole) <= MAX_ANSWER_TARGET:
        inquiry.memory.keep_answer(lasting, permission)
    return permission


def _is_whole(one: Accepted) -> bool:
    """Whether the token is all of its field: taking a cookie out leaves the request's other cookies in the answer."""
    return one.place.kind != "cookie" or not one.provider.strips


def _refuse_token(
    plan: Plan,
    guard: Guard,
    prepared: _GuardCheck,
    failure: Failure,
    request: Request,
    target: Target,
    inquiry: Inquiry,
) -> Decision:
    """The refusal of a bad or missing token. Whoever is refused tends to ask again."""
    path, memory = target.path, inquiry.memory
    question = (
        guard,
        failure.subject,
        failure.status.reason,
        failure.unavailable,
        request.scheme,
        request.authority,
        path,
    )
    if inquiry.trace is None:
        known: Decision | None = memory.find_answer(question)
        if known is not None:
            return known
    check = Check("keys" if failure.unavailable else "verify", failure.subject, False, failure.status.text)
    checks = prepared.explain(inquiry, check)
    refusal = refuse_token(failure, request, path, plan.workload.keys_unavailable, guard, checks)
    if inquiry.trace is None and len(path) + len(request.authority) <= MAX_ANSWER_TARGET:
        memory.keep_answer(question, refusal)
    return refusal


def _describe_ruling(ruling: Ruling) -> str:
    if ruling.rule is not None:
        return f"rule {ruling.rule} denies"
    return ruling.lacking or "no rule matched, and the default denies"


def _rule(
    plan: Plan,
    policy: PolicyCheck,
    authorization: AuthorizationPlan,
    own: list[Accepted],
    everything: list[Accepted],
    request: Request,
    target: Target,
    inquiry: Inquiry,
) -> Ruling:
    """The policy's rules on its own tokens. A ruling on claims alone is remembered with the token."""
    memorable = authorization.claims_only and len(own) == 1 and inquiry.trace is None
    if memorable:
        remembered: Ruling | None = own[0].token.rulings.get(policy.plan.index)
        if remembered is not None:
            return remembered
    path = target.path
    paths = (path,) if b";" not in path else (path, drop_parameters(path))
    if not plan.asserted.isdisjoint(authorization.header_names):
        # Rules see what the application will see: claims in headers are the policies' word, not the client's.
        seen = Edits(target.whole, plan.asserted, _claims_in_headers(everything)).apply(request.headers)
        request = request._replace(headers=tuple(seen))
    bearers = [Bearer(one.provider.name, one.token.claims) for one in own]
    ruling = authorize(authorization, bearers, Circumstances(request, target.query, paths), inquiry.trace)
    if memorable:
        own[0].token.rulings[policy.plan.index] = ruling
    return ruling


def _claims_in_headers(accepted: list[Accepted]) -> HeaderPairs:
    if len(accepted) == 1:
        return accepted[0].token.add
    return settle_statements(one.token.statements for one in reversed(accepted))


def _permit(
    plan: Plan, guard: Guard, request: Request, target: Target, accepted: list[Accepted], trace: list[Check] | None
) -> Decision:
    """The only permission there is for a request that policies looked at."""
    remove = plan.asserted
    whole = target.whole
    headers: set[bytes] | None = None
    parameters: set[bytes] | None = None
    cookies: set[bytes] | None = None
    for one in accepted:
        if one.provider.strips:
            kind, name = one.place
            if kind == "header":
                headers = headers or set()
                headers.add(name.replace(b"_", b"-"))
            elif kind == "query":
                parameters = parameters or set()
                parameters.add(name)
            else:
                cookies = cookies or set()
                cookies.add(name)
    add = _claims_in_headers(accepted) if accepted else ()
    if headers:
        remove = remove | headers
    if cookies and b"cookie" not in remove:
        remove = remove | {b"cookie"}
        add = (*strip_cookies(request.headers, frozenset(cookies)), *add)
    if parameters and target.query is not None:
        query = strip_parameters(target.query, frozenset(parameters))
        whole = target.path if query is None else target.path + b"?" + query
    return Decision(
        True,
        200,
        guard.passing,
        edits=Edits(whole, remove, add),
        route=guard.route,
        policies=guard.names,
        checks=tuple(trace or ()),
    )
