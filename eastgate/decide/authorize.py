"""Who of those with a good token may do this: ordered rules, the first that matches decides.

Gloo's ``claims`` (AND over claims, ``values`` OR, any ``notValues`` hit denies) and Envoy Gateway's ``authorization``
(typed claims, scopes, methods, paths, headers, addresses) are the same rules here. Must not know: how a token was
verified, or what a refusal looks like.
In doubt a rule that allows does not match and a rule that denies does: of several tokens all must satisfy the former
and one is enough for the latter; the same holds for the readings of a path with and without its ``;parameters``, for
the values of a repeated header, and for a peer whose address is not known. A rule over tokens never matches where there
is none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from eastgate.compile.matchers import BytesTest
from eastgate.compile.rules import AuthorizationPlan, ClaimPlan, Network, RulePlan, TokenPlan
from eastgate.decide.claim_values import find_claim, split_scopes
from eastgate.model.decisions import Check
from eastgate.model.policies import ClaimType
from eastgate.model.requests import Request

Claims = Mapping[str, object]


class Bearer(NamedTuple):
    """The claims of one verified token and the name of the provider that accepted it."""

    provider: str
    claims: Claims


class Circumstances(NamedTuple):
    """The request as rules see it: with the headers the application will see, and every reading of its path."""

    request: Request
    query: bytes | None
    paths: tuple[bytes, ...]


class Ruling(NamedTuple):
    """``rule`` is the name of the rule that decided, None where the default did. ``lacking`` says what kept the first
    rule that would allow from matching: names and configured values only, for it goes to the log.
    """

    allowed: bool
    rule: str | None
    lacking: str = ""


def authorize(
    plan: AuthorizationPlan, bearers: Sequence[Bearer], circumstances: Circumstances, trace: list[Check] | None = None
) -> Ruling:
    """The ruling on a request."""
    for rule in plan.rules:
        applies = rule_applies(rule, bearers, circumstances)
        if trace is not None:
            trace.extend(explain_rule(rule, bearers, applies))
        if applies:
            return Ruling(rule.allow, rule.name)
    if trace is not None:
        verb = "allow" if plan.allow_by_default else "deny"
        trace.append(Check("default", verb, plan.allow_by_default, "no rule matched"))
    if plan.allow_by_default:
        return Ruling(True, None)
    return Ruling(False, None, next((_name_lack(rule, bearers) for rule in plan.rules if rule.allow), ""))


def _name_lack(rule: RulePlan, bearers: Sequence[Bearer]) -> str:
    if rule.token is None or token_holds(rule.token, bearers, every=True):
        return f"rule {rule.name} does not match the request"
    concerned = [one for one in bearers if rule.token.provider in (None, one.provider)]
    if not concerned:
        return f"rule {rule.name} wants a verified token"
    for bearer in concerned:
        for claim in rule.token.claims:
            if not claim_holds(claim, bearer.claims):
                return f"claim {claim.claim} " + _name_expected(claim)
        if not scopes_hold(rule.token.scopes, bearer.claims):
            return f"not all scopes of {' '.join(sorted(rule.token.scopes))}"
    return ""


def _name_expected(plan: ClaimPlan) -> str:
    parts = [f"is not one of {', '.join(plan.condition.values)}"] if plan.condition.values else []
    if plan.condition.not_values:
        parts.append(f"may be none of {', '.join(plan.condition.not_values)}")
    return " or ".join(parts)


def rule_applies(rule: RulePlan, bearers: Sequence[Bearer], circumstances: Circumstances) -> bool:
    """Whether everything set in a rule holds."""
    if rule.token is not None and not token_holds(rule.token, bearers, rule.allow):
        return False
    return not rule.on_request or _request_holds(rule, circumstances)


def token_holds(plan: TokenPlan, bearers: Sequence[Bearer], every: bool) -> bool:
    """Whether the conditions hold for every token concerned (or for any), and there is one."""
    verdicts = [
        _claims_hold(plan, bearer.claims)
        for bearer in bearers
        if plan.provider is None or plan.provider == bearer.provider
    ]
    return bool(verdicts) and (all(verdicts) if every else any(verdicts))


def _claims_hold(plan: TokenPlan, claims: Claims) -> bool:
    return all(claim_holds(claim, claims) for claim in plan.claims) and scopes_hold(plan.scopes, claims)


def scopes_hold(scopes: frozenset[str], claims: Claims) -> bool:
    """Each of them in ``scope`` or in ``scp`` (Envoy Gateway asks so of every scope by itself)."""
    return scopes.issubset(_held_scopes(claims))


def _held_scopes(claims: Claims) -> tuple[str, ...]:
    return split_scopes(claims.get("scope")) + split_scopes(claims.get("scp"))


def claim_holds(plan: ClaimPlan, claims: Claims) -> bool:
    """One of the accepted values (if any are named) and none of the rejected ones."""
    value = find_claim(claims, plan.claim, plan.path)
    # What must not be there must not be there in any shape, whatever type is asked for.
    if plan.rejects is not None and any(plan.rejects(text) for text in (*_any_texts(plan, value), *_texts((value,)))):
        return False
    return plan.accepts is None or any(plan.accepts(text) for text in _typed_texts(plan, value))


def _typed_texts(plan: ClaimPlan, value: object) -> Iterable[str]:
    """The texts that a claim's value offers for comparison, by the type that is asked for."""
    if plan.type is ClaimType.ANY:
        return _any_texts(plan, value)
    if plan.type is ClaimType.LIST:
        # Envoy turns `scope` and `scp` into lists before its rules see them.
        return split_scopes(value) if plan.words or isinstance(value, list) else ()
    return (value,) if isinstance(value, str) and not plan.words else ()


def _any_texts(plan: ClaimPlan, value: object) -> Iterable[str]:
    if plan.words and isinstance(value, str):
        return split_scopes(value)
    return _texts(value if isinstance(value, list) else (value,))


def _texts(values: Iterable[object]) -> list[str]:
    """Scalars as JSON writes them; an object, a list in a list, ``null`` and what is missing have no text."""
    found = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, bool):
            found.append("true" if value else "false")
        elif isinstance(value, int):
            found.append(str(value))
        elif isinstance(value, float):
            found.append(str(int(value)) if value.is_integer() else repr(value))
    return found


def _request_holds(rule: RulePlan, circumstances: Circumstances) -> bool:
    request, query, paths = circumstances
    if rule.methods and request.method.upper() not in rule.methods:
        return False
    if not all(test(request, query) for test in rule.headers):
        return False
    if rule.networks and not _peer_within(request.peer, rule.networks, in_doubt=not rule.allow):
        return False
    if not (rule.paths or rule.inverted_paths):
        return True
    readings = [_path_holds(rule, path) for path in paths]
    return all(readings) if rule.allow else any(readings)


def _path_holds(rule: RulePlan, path: bytes) -> bool:
    if rule.paths and not _any_matches(rule.paths, path):
        return False
    return not _any_matches(rule.inverted_paths, path)


def _any_matches(tests: tuple[BytesTest | None, ...], path: bytes) -> bool:
    return any(test is None or test(path) for test in tests)


@lru_cache(maxsize=4096)
def _parse_peer(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _peer_within(peer: str, networks: tuple[Network, ...], in_doubt: bool) -> bool:
    address = _parse_peer(peer)
    if address is None:
        return in_doubt
    return any(address in network for network in networks)


def explain_rule(rule: RulePlan, bearers: Sequence[Bearer], applies: bool) -> Iterable[Check]:
    """What became of a rule, claim by claim, for people. Quotes claims, never a token."""
    if rule.token is not None:
        concerned = [b for b in bearers if rule.token.provider is None or rule.token.provider == b.provider]
        if not concerned:
            yield Check("claim", rule.name, False, "no verified token that this rule looks at")
        for bearer in concerned:
            for claim in rule.token.claims:
                yield Check(
                    "claim", claim.claim, claim_holds(claim, bearer.claims), _describe_claim(claim, bearer.claims)
                )
            if rule.token.scopes:
                wanted = " ".join(sorted(rule.token.scopes))
                yield Check(
                    "scope", wanted, scopes_hold(rule.token.scopes, bearer.claims), _describe_scopes(bearer.claims)
                )
    verb = "allows" if rule.allow else "denies"
    detail = f"matches and {verb}" if applies else "does not match"
    yield Check("rule", rule.name, rule.allow if applies else False, detail)


def _describe_claim(plan: ClaimPlan, claims: Claims) -> str:
    value = find_claim(claims, plan.claim, plan.path)
    shown = repr(value)
    found = f"found {shown if len(shown) <= 120 else shown[:119] + '…'}"
    if plan.condition.values:
        found += f", expected one of {', '.join(plan.condition.values)}"
    if plan.condition.not_values:
        found += f", none of {', '.join(plan.condition.not_values)}"
    return found


def _describe_scopes(claims: Claims) -> str:
    held = _held_scopes(claims)
    return f"found {' '.join(held)}" if held else "no scopes in the token"
