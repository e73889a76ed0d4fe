"""Rules over claims and requests."""

from __future__ import annotations

import pytest

from eastgate.compile.rules import compile_authorization
from eastgate.decide.authorize import Bearer, Circumstances, Ruling, authorize
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Rule, RuleAction, TokenCondition
from eastgate.model.requests import Request
from eastgate.model.routes import Comparison, FieldMatch, StringMatch
from tests.unit.decide.scenes import claim, request

ALLOW, DENY = RuleAction.ALLOW, RuleAction.DENY


def rule(
    *rules: Rule,
    default: RuleAction = DENY,
    claims: dict[str, object] | None = None,
    bearers: tuple[Bearer, ...] | None = None,
    asked: Request | None = None,
    paths: tuple[bytes, ...] = (b"/a",),
) -> Ruling:
    if bearers is None:
        bearers = () if claims is None else (Bearer("dev", claims),)
    plan = compile_authorization(Authorization(rules, default))
    return authorize(plan, bearers, Circumstances(asked or request("/a"), None, paths))


def holds(condition: ClaimCondition, claims: dict[str, object]) -> bool:
    return rule(Rule("r", ALLOW, TokenCondition(claims=(condition,))), claims=claims).allowed


@pytest.mark.parametrize(
    ("condition", "claims", "expected"),
    [
        # Gloo: values are alternatives, any hit of notValues denies.
        (claim("org", "internal", "partner"), {"org": "partner"}, True),
        (claim("org", "internal", "partner"), {"org": "external"}, False),
        (claim("org", "internal"), {}, False),
        (claim("org", "internal"), {"org": None}, False),
        (claim("org", "internal"), {"org": {"a": "internal"}}, False),
        (claim("org", not_values=("x",)), {"org": "y"}, True),
        (claim("org", not_values=("x",)), {"org": "x"}, False),
        (claim("org", not_values=("x",)), {"org": ["y", "x"]}, False),
        (claim("org", not_values=("x",)), {}, True),
        (claim("org", "*", not_values=("x*",)), {"org": "xy"}, False),
        (claim("org", "a", not_values=("b",)), {"org": ["a", "b"]}, False),
        # Seed 002: the address of the email is stripped, the star still matches it.
        (claim("email", "*"), {"email": ""}, True),
        (claim("email", "*"), {}, False),
        (claim("email", "*@solo.io"), {"email": "dev@solo.io"}, True),
        (claim("email", "*@solo.io"), {"email": "dev@solo.io.evil"}, False),
        (claim("email", "*@solo.io", wildcards=False), {"email": "dev@solo.io"}, False),
        (claim("e", "a*c*e"), {"e": "abcde"}, True),
        (claim("e", "a*c*e"), {"e": "ace"}, True),
        (claim("e", "aa*aa"), {"e": "aaa"}, False),
        (claim("e", "a*b*b"), {"e": "ab"}, False),
        # Lists by membership, scalars by their text.
        (claim("groups", "qa"), {"groups": ["dev", "qa"]}, True),
        (claim("groups", "qa"), {"groups": [["qa"]]}, False),
        (claim("groups", "qa"), {"groups": []}, False),
        (claim("n", "7"), {"n": 7}, True),
        (claim("n", "7"), {"n": 7.0}, True),
        (claim("n", "7.5"), {"n": 7.5}, True),
        (claim("b", "true"), {"b": True}, True),
        (claim("b", "1"), {"b": True}, False),
        (claim("groups", "2"), {"groups": [1, 2]}, True),
        # Scopes word by word.
        (claim("scope", "is:developer", "read:secrets"), {"scope": "x read:secrets"}, True),
        (claim("scope", "read"), {"scope": "read:secrets"}, False),
        (claim("scope", not_values=("admin",)), {"scope": "read admin"}, False),
        (claim("scp", "read"), {"scp": ["read", "add"]}, True),
        # The literal name first, then the path.
        (claim("a.b", "x", path=("a", "b")), {"a.b": "x", "a": {"b": "y"}}, True),
        (claim("a.b", "y", path=("a", "b")), {"a.b": "x", "a": {"b": "y"}}, False),
        (claim("a.b", "y", path=("a", "b")), {"a": {"b": ["y"]}}, True),
        (claim("a.b", "y", path=("a", "b")), {"a": [{"b": "y"}]}, False),
        # Envoy Gateway's types.
        (claim("u", "x", kind=ClaimType.STRING, wildcards=False), {"u": "x"}, True),
        (claim("u", "x", kind=ClaimType.STRING, wildcards=False), {"u": ["x"]}, False),
        (claim("u", "true", kind=ClaimType.STRING, wildcards=False), {"u": True}, False),
        (claim("u", "x", kind=ClaimType.LIST, wildcards=False), {"u": ["y", "x"]}, True),
        (claim("u", "x", kind=ClaimType.LIST, wildcards=False), {"u": "x"}, False),
        (claim("u", "1", kind=ClaimType.LIST, wildcards=False), {"u": [1]}, False),
        (claim("scope", "read", kind=ClaimType.LIST, wildcards=False), {"scope": "read add"}, True),
        (claim("scope", "read", kind=ClaimType.STRING, wildcards=False), {"scope": "read"}, False),
        # What must not be there must not be there in any shape.
        (claim("u", not_values=("x",), kind=ClaimType.STRING), {"u": ["x"]}, False),
        (claim("u", not_values=("a b",)), {"u": "a b"}, False),
        (claim("scope", not_values=("a b",)), {"scope": "a b"}, False),
    ],
)
def test_claims(condition: ClaimCondition, claims: dict[str, object], expected: bool) -> None:
    assert holds(condition, claims) is expected


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"scope": "read add delete modify"}, True),
        ({"scope": "read add"}, False),
        ({"scope": ["read", "add", "modify"]}, True),
        ({"scp": ["read", "add", "modify"]}, True),
        # Envoy Gateway looks for each scope in both.
        ({"scope": "read add", "scp": "modify"}, True),
        ({"scope": "read", "scp": "modify"}, False),
        ({"scope": "readaddmodify"}, False),
        ({}, False),
    ],
)
def test_scopes_must_all_be_there(claims: dict[str, object], expected: bool) -> None:
    wanted = TokenCondition(scopes=("read", "add", "modify"))
    assert rule(Rule("r", ALLOW, wanted), claims=claims).allowed is expected


def test_the_first_rule_that_matches_decides() -> None:
    rules = (Rule("a", DENY, methods=("POST",)), Rule("b", ALLOW), Rule("c", DENY))
    assert rule(*rules) == Ruling(True, "b")
    assert rule(*rules, asked=request("/a", method=b"POST")) == Ruling(False, "a")


def test_no_rules() -> None:
    assert rule() == Ruling(False, None)
    assert rule(default=ALLOW) == Ruling(True, None)


def test_a_rule_over_tokens_never_matches_without_one() -> None:
    everything = TokenCondition(claims=(claim("x", not_values=("y",)),))
    assert not rule(Rule("r", ALLOW, everything)).allowed
    assert not rule(Rule("r", ALLOW, TokenCondition())).allowed
    assert rule(Rule("r", DENY, everything), default=ALLOW).allowed


def test_a_provider_may_be_named() -> None:
    bearers = (Bearer("a", {"x": "1"}), Bearer("b", {"x": "2"}))
    for name, value, expected in [("a", "1", True), ("a", "2", False), ("b", "2", True), ("c", "1", False)]:
        condition = TokenCondition(provider=name, claims=(claim("x", value),))
        assert rule(Rule("r", ALLOW, condition), bearers=bearers).allowed is expected


def test_all_tokens_allow_and_any_denies() -> None:
    bearers = (Bearer("a", {"x": "1"}), Bearer("a", {"x": "2"}))
    condition = TokenCondition(claims=(claim("x", "1"),))
    assert not rule(Rule("r", ALLOW, condition), bearers=bearers).allowed
    assert not rule(Rule("r", DENY, condition), bearers=bearers, default=ALLOW).allowed


def test_methods_in_any_case() -> None:
    assert rule(Rule("r", ALLOW, methods=("get",)), asked=request("/", method=b"GET")).allowed
    assert rule(Rule("r", ALLOW, methods=("GET",)), asked=request("/", method=b"get")).allowed
    assert not rule(Rule("r", ALLOW, methods=("GET",)), asked=request("/", method=b"PUT")).allowed


def test_paths_in_every_reading() -> None:
    public = StringMatch(Comparison.SEGMENTS, "/public")
    both = (b"/public;x/a", b"/public/a")
    assert rule(Rule("r", ALLOW, paths=(public,)), paths=(b"/public/a",)).allowed
    assert not rule(Rule("r", ALLOW, paths=(public,)), paths=(b"/publicity",)).allowed
    assert not rule(Rule("r", ALLOW, paths=(public,)), paths=both).allowed
    assert not rule(Rule("r", DENY, paths=(public,)), paths=both, default=ALLOW).allowed
    assert not rule(Rule("r", ALLOW, inverted_paths=(public,)), paths=both).allowed
    assert rule(Rule("r", ALLOW, inverted_paths=(public,)), paths=(b"/private",)).allowed


def test_headers() -> None:
    wanted = FieldMatch("x-env", StringMatch(Comparison.EXACT, "prod"))
    asked = request("/", (b"x-env", b"prod"), (b"x-org", b"a"))
    assert rule(Rule("r", ALLOW, headers=(wanted,)), asked=asked).allowed
    assert not rule(Rule("r", ALLOW, headers=(wanted,)), asked=request("/")).allowed
    assert rule(Rule("r", ALLOW, header_values=(("X-Org", ("b", "a")),)), asked=asked).allowed
    assert not rule(Rule("r", ALLOW, header_values=(("X-Org", ("b", "A")),)), asked=asked).allowed


@pytest.mark.parametrize(
    ("values", "every", "some"),
    [
        ([], False, False),
        ([b"a"], True, True),
        ([b"z"], False, False),
        ([b"a", b"a"], True, True),
        ([b"a", b"z"], False, True),
        ([b"z", b"a"], False, True),
        ([b"z", b""], False, False),
        # An application that joins what is repeated reads `b,c`.
        ([b"b", b"c"], False, True),
        ([b"b,c"], True, True),
    ],
)
def test_in_doubt_about_a_repeated_header(values: list[bytes], every: bool, some: bool) -> None:
    """CVE-2026-26308: joined before they are compared, two values of `a` are no `a`, and nothing denies them."""
    asked = request("/", *((b"x", value) for value in values))
    listed = {"header_values": (("X", ("a", "b,c")),)}
    matched = {"headers": (FieldMatch("x", StringMatch(Comparison.REGEX, "a|b,c")),)}
    inverted = {"headers": (FieldMatch("x", StringMatch(Comparison.REGEX, "a|b,c"), invert=True),)}
    for fields in (listed, matched):
        assert rule(Rule("r", ALLOW, **fields), asked=asked).allowed is every
        assert rule(Rule("r", DENY, **fields), asked=asked, default=ALLOW).allowed is not some
    assert rule(Rule("r", ALLOW, **inverted), asked=asked).allowed is not some  # type: ignore[arg-type]
    assert rule(Rule("r", DENY, **inverted), asked=asked, default=ALLOW).allowed is every  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("fd00::1", True),
        ("fe80::1%eth0", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_addresses(peer: str, allowed: bool) -> None:
    networks = ("10.0.0.0/8", "fd00::/8")
    assert rule(Rule("r", ALLOW, addresses=networks), asked=request("/", peer=peer)).allowed is allowed
    # In doubt a rule that denies applies.
    denied = allowed or peer in ("", "nonsense")
    assert rule(Rule("r", DENY, addresses=networks), asked=request("/", peer=peer), default=ALLOW).allowed is not denied


def test_all_parts_of_a_rule_must_hold() -> None:
    one = Rule("r", ALLOW, TokenCondition(claims=(claim("x", "1"),)), methods=("GET",), addresses=("10.0.0.0/8",))
    assert rule(one, claims={"x": "1"}).allowed
    assert not rule(one, claims={"x": "2"}).allowed
    assert not rule(one, claims={"x": "1"}, asked=request("/", peer="1.1.1.1")).allowed
