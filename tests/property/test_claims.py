"""Conditions on claims: total over JSON, closed where nothing fits, and wildcards as fnmatch reads a star."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from eastgate.compile.rules import compile_authorization, compile_texts
from eastgate.decide.authorize import Bearer, Circumstances, authorize
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Rule, RuleAction, TokenCondition
from tests.unit.decide.scenes import request

words = st.text("ab*@", max_size=5)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), words)
json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)
conditions = st.builds(
    ClaimCondition,
    st.sampled_from(["a", "scope", "a.b"]),
    st.sampled_from([("a",), ("scope",), ("a", "b")]),
    st.sampled_from(list(ClaimType)),
    st.lists(words, max_size=3).map(tuple),
    st.lists(words, max_size=2).map(tuple),
    st.booleans(),
)
claims = st.dictionaries(st.sampled_from(["a", "a.b", "scope", "scp", "b"]), json, max_size=4)


def allowed(rules: tuple[Rule, ...], *tokens: dict[str, object], default: RuleAction = RuleAction.DENY) -> bool:
    plan = compile_authorization(Authorization(rules, default))
    bearers = [Bearer("p", token) for token in tokens]
    return authorize(plan, bearers, Circumstances(request("/"), None, (b"/",)), []).allowed


@given(conditions, claims)
def test_it_is_total_and_closed(condition: ClaimCondition, token: dict[str, object]) -> None:
    rule = Rule("r", RuleAction.ALLOW, TokenCondition(claims=(condition,)))
    assert not allowed((rule,))
    if allowed((rule,), token) and condition.values:
        assert any(name in token for name in (condition.claim, condition.path[0]))


@given(conditions, claims, claims)
def test_a_second_token_never_opens(
    condition: ClaimCondition, first: dict[str, object], second: dict[str, object]
) -> None:
    condition_on_token = TokenCondition(claims=(condition,))
    allow = (Rule("r", RuleAction.ALLOW, condition_on_token),)
    assert allowed(allow, first, second) == (allowed(allow, first) and allowed(allow, second))
    deny = (Rule("r", RuleAction.DENY, condition_on_token),)
    together = allowed(deny, first, second, default=RuleAction.ALLOW)
    assert together == all(allowed(deny, one, default=RuleAction.ALLOW) for one in (first, second))


@given(st.lists(words, max_size=3), st.lists(words, max_size=3), claims)
def test_what_is_refused_is_refused_whatever_is_accepted(
    values: list[str], refused: list[str], token: dict[str, object]
) -> None:
    with_values = ClaimCondition("a", ("a",), ClaimType.ANY, tuple(values), tuple(refused), True)
    only_refused = ClaimCondition("a", ("a",), ClaimType.ANY, (), tuple(refused), True)
    rule = Rule("r", RuleAction.ALLOW, TokenCondition(claims=(with_values,)))
    looser = Rule("r", RuleAction.ALLOW, TokenCondition(claims=(only_refused,)))
    assert not allowed((rule,), token) or allowed((looser,), token)


@given(st.text("ab*", max_size=8), st.text("ab\n", max_size=8))
def test_wildcards(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
    assert compile_texts([pattern], True)(text) is expected
    assert compile_texts([pattern], False)(text) is (pattern == text)


@given(st.lists(st.sampled_from(["read", "add", "modify"]), max_size=3), claims)
def test_scopes(scopes: list[str], token: dict[str, object]) -> None:
    rule = Rule("r", RuleAction.ALLOW, TokenCondition(scopes=tuple(scopes)))
    if allowed((rule,), token) and scopes:
        assert any(name in token for name in ("scope", "scp"))
    assert allowed((rule,), {"scope": " ".join([*scopes, "more"])})
    assert allowed((rule,), {"scp": [*scopes, 1, None]})
