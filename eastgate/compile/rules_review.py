"""Authorization rules that cannot do what they say.

Must not know: routes or other policies. Rules: Envoy Gateway's first match wins; its typed claims; Envoy's word lists
``scope`` and ``scp``.
"""

from __future__ import annotations

from collections.abc import Iterator

from eastgate.compile.fields import authorization_field, rule_field
from eastgate.compile.rules import compile_texts
from eastgate.model.diagnostics import Severity
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Policy, Rule, RuleAction

Finding = tuple[Severity, str, str, str]
"""Severity, code, message, field."""


def review_rules(policy: Policy) -> Iterator[Finding]:
    """What is to be said about a policy's rules."""
    authorization = policy.authorization
    if authorization is None:
        return
    providers = {one.name for one in policy.requirement.providers} if policy.requirement else set[str]()
    for index, rule in enumerate(authorization.rules):
        yield from _review_token(rule, providers, policy, rule_field(policy, index))
    yield from _review_reach(policy, authorization)


def _review_token(rule: Rule, providers: set[str], policy: Policy, field: str) -> Iterator[Finding]:
    if rule.token is None:
        return
    if policy.requirement is None:
        yield (
            Severity.ERROR,
            "never-matches",
            f"rule `{rule.name}` looks at a token, and the policy accepts none",
            field,
        )
    elif rule.token.provider is not None and rule.token.provider not in providers:
        accepted = ", ".join(f"`{name}`" for name in sorted(providers))
        yield (
            Severity.ERROR,
            "never-matches",
            f"rule `{rule.name}` never matches: `{rule.token.provider}` is not a provider of this policy; "
            f"accepted: {accepted}",
            field,
        )
    for claim in rule.token.claims:
        reason = why_claim_never_holds(claim)
        if reason:
            yield Severity.ERROR, "never-matches", f"claim `{claim.claim}` never holds: {reason}", field


def why_claim_never_holds(claim: ClaimCondition) -> str:
    """Why no token can meet a condition; empty where one can."""
    if claim.type is ClaimType.STRING and claim.path in (("scope",), ("scp",)) and claim.values:
        return "it is a list of words by the time rules look at it; ask for `scopes`, or for a list"
    if claim.values and claim.not_values:
        rejected = compile_texts(claim.not_values, claim.wildcards)
        if all(rejected(value) for value in claim.values):
            return "every value that it asks for is also one that it refuses"
    return ""


def _review_reach(policy: Policy, authorization: Authorization) -> Iterator[Finding]:
    for index, rule in enumerate(authorization.rules):
        if _matches_everything(rule):
            for later in range(index + 1, len(authorization.rules)):
                name = authorization.rules[later].name
                yield (
                    Severity.WARNING,
                    "unreachable-rule",
                    f"rule `{name}` is never reached: rule `{rule.name}` before it matches every request",
                    rule_field(policy, later),
                )
            return
    allows = authorization.default is RuleAction.ALLOW or any(r.action is RuleAction.ALLOW for r in authorization.rules)
    if authorization.rules and not allows:
        yield (
            Severity.WARNING,
            "denies-everything",
            "no rule and no default allows anything",
            authorization_field(policy),
        )


def _matches_everything(rule: Rule) -> bool:
    return not (
        rule.token
        or rule.methods
        or rule.paths
        or rule.inverted_paths
        or rule.headers
        or rule.header_values
        or rule.addresses
    )
