"""Authorization rules, compiled: everything of a rule that does not need a request is worked out here.

``eastgate.decide.authorize`` asks the results. Rules: Gloo JWTPolicy ``claims`` and ``requiredScopes``; Envoy Gateway
``authorization`` (first match wins, typed claims); Envoy's RBAC filter. Must not know: tokens or requests' content.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eastgate.compile.matchers import PSEUDO_HEADERS, BytesTest, RequestTest, compile_path, compile_value, header_values
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Rule, RuleAction
from eastgate.model.requests import Request
from eastgate.model.routes import FieldMatch, StringMatch

TextTest = Callable[[str], bool]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SCOPE_CLAIMS = (("scope",), ("scp",))
"""Claims that are read word by word (RFC 8693 section 4.2; Envoy's ``space_delimited_claims``)."""


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """One claim's condition. ``accepts`` None: any value will do; ``rejects`` None: no value is refused."""

    condition: ClaimCondition
    claim: str
    path: tuple[str, ...]
    type: ClaimType
    words: bool
    accepts: TextTest | None
    rejects: TextTest | None


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """Conditions on one verified token, all of which must hold."""

    provider: str | None
    claims: tuple[ClaimPlan, ...]
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class RulePlan:
    """One rule; None or empty where it demands nothing. ``headers`` are tests of request headers, ``on_request`` says
    whether anything but the token is looked at.
    """

    name: str
    allow: bool
    token: TokenPlan | None
    methods: frozenset[bytes]
    paths: tuple[BytesTest | None, ...]
    inverted_paths: tuple[BytesTest | None, ...]
    headers: tuple[RequestTest, ...]
    networks: tuple[Network, ...]
    on_request: bool


@dataclass(frozen=True, slots=True)
class AuthorizationPlan:
    """Rules in order. ``claims_only``: the ruling depends on nothing but the tokens, so it may be remembered with one.
    ``header_names`` are the request headers that any rule looks at.
    """

    rules: tuple[RulePlan, ...]
    allow_by_default: bool
    claims_only: bool
    header_names: frozenset[bytes]


def compile_authorization(authorization: Authorization) -> AuthorizationPlan:
    """Raises ``ValueError`` (``MatcherError`` for a regex) with a text for the author."""
    rules = tuple(_compile_rule(rule) for rule in authorization.rules)
    names = {match.name.lower() for rule in authorization.rules for match in rule.headers}
    names |= {name.lower() for rule in authorization.rules for name, _ in rule.header_values}
    return AuthorizationPlan(
        rules=rules,
        allow_by_default=authorization.default is RuleAction.ALLOW,
        claims_only=not any(rule.on_request for rule in rules),
        header_names=frozenset(name.encode() for name in names - PSEUDO_HEADERS),
    )


def _compile_rule(rule: Rule) -> RulePlan:
    token = None
    if rule.token is not None:
        token = TokenPlan(
            provider=rule.token.provider,
            claims=tuple(_compile_claim(claim) for claim in rule.token.claims),
            scopes=frozenset(rule.token.scopes),
        )
    allow = rule.action is RuleAction.ALLOW
    headers = (
        *(_compile_header(match, allow) for match in rule.headers),
        *(_compile_header_values(name, values, allow) for name, values in rule.header_values),
    )
    return RulePlan(
        name=rule.name,
        allow=allow,
        token=token,
        methods=frozenset(method.upper().encode() for method in rule.methods),
        paths=tuple(_compile_rule_path(path) for path in rule.paths),
        inverted_paths=tuple(_compile_rule_path(path) for path in rule.inverted_paths),
        headers=headers,
        networks=tuple(compile_network(address) for address in rule.addresses),
        on_request=bool(rule.methods or rule.paths or rule.inverted_paths or headers or rule.addresses),
    )


def _compile_rule_path(path: StringMatch) -> BytesTest | None:
    return compile_path(path)


def _compile_header(match: FieldMatch, allow: bool) -> RequestTest:
    test = compile_value(match.value)
    return _test_header(match.name, test or (lambda _value: True), match.invert, allow)


def _compile_header_values(name: str, values: tuple[str, ...], allow: bool) -> RequestTest:
    """Envoy Gateway's ``principal.headers``: the value is one of a list, exactly."""
    accepted = frozenset(value.encode("utf-8", "surrogatepass") for value in values)
    return _test_header(name, accepted.__contains__, False, allow)


def _test_header(name: str, test: BytesTest, invert: bool, allow: bool) -> RequestTest:
    """Nobody knows which value of a repeated header the application will read, or whether it joins them: what opens
    must be true of every value, what closes of any or of all of them joined (CVE-2026-26308; Envoy: of any).
    """
    header = name.lower().encode("utf-8", "surrogatepass")

    def matches(request: Request, _query: bytes | None) -> bool:
        values = header_values(request, header)
        if len(values) < 2:
            found = bool(values) and test(values[0])
        elif allow is not invert:
            found = all(map(test, values))
        else:
            found = any(map(test, (*values, b",".join(values))))
        return found is not invert

    return matches


def compile_network(address: str) -> Network:
    """A CIDR; a bare address is one host."""
    try:
        return ipaddress.ip_network(address, strict=False)
    except ValueError:
        raise ValueError(f"`{address}` is not a CIDR; expected for example `10.0.0.0/8`") from None


def _compile_claim(condition: ClaimCondition) -> ClaimPlan:
    return ClaimPlan(
        condition=condition,
        claim=condition.claim,
        path=condition.path,
        type=condition.type,
        words=condition.path in SCOPE_CLAIMS or condition.claim in ("scope", "scp"),
        accepts=compile_texts(condition.values, condition.wildcards) if condition.values else None,
        rejects=compile_texts(condition.not_values, condition.wildcards) if condition.not_values else None,
    )


def compile_texts(values: Iterable[str], wildcards: bool) -> TextTest:
    """A test whether a text is one of ``values``; with ``wildcards`` a ``*`` stands for any text, also none."""
    values = tuple(values)
    exact = frozenset(value for value in values if not (wildcards and "*" in value))
    patterns = tuple(_compile_wildcard(value) for value in values if wildcards and "*" in value)
    if not patterns:
        return exact.__contains__
    return lambda text: text in exact or any(pattern(text) for pattern in patterns)


def _compile_wildcard(pattern: str) -> TextTest:
    """Pieces between the stars, found from left to right: linear, and no regex engine to trip over odd characters."""
    first, *middle, last = pattern.split("*")
    middle = [piece for piece in middle if piece]

    def matches(text: str) -> bool:
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        here, end = len(first), len(text) - len(last)
        for piece in middle:
            found = text.find(piece, here, end)
            if found < 0:
                return False
            here = found + len(piece)
        return True

    return matches
