"""Whatever a client sends, the decision is a decision, and nothing passes without a token that its issuer signed."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from eastgate.decide.memory import TokenMemory
from eastgate.model.policies import Authorization, HeaderSource, Requirement, Rule, RuleAction, TokenSources
from eastgate.model.requests import Request
from tests.unit.decide.scenes import (
    answer,
    claim,
    claims_policy,
    compiled,
    exact,
    local_keys,
    policy,
    prefix,
    provider,
    request,
    selecting,
    table,
    token,
)

EVERYWHERE = TokenSources(
    headers=(HeaderSource("authorization", "Bearer "), HeaderSource("x-auth"), HeaderSource("x-auth", "JWT ")),
    query=("t",),
    cookies=("c",),
)
FIRST = provider("first", sources=EVERYWHERE)
SECOND = provider("second", keys=local_keys("second"), sources=TokenSources(headers=(HeaderSource("x-auth"),)))
GOOD = [token(org="a"), token("second", org="b")]
DEAD = [token(exp=1), token("third"), token(iss="nobody"), token(aud=[1]), token(nbf=2**40)]
PLANS = [
    compiled(policy(FIRST)),
    compiled(policy(requirement=Requirement((FIRST, SECOND), every_token=True))),
    compiled(policy(requirement=Requirement((SECOND, FIRST), every_token=False))),
    compiled(claims_policy(claim("org", "*"))),
    compiled(
        policy(FIRST, authorization=Authorization((Rule("r", RuleAction.DENY, methods=("PUT",)),), RuleAction.ALLOW))
    ),
    compiled(
        policy(FIRST, routes=selecting(a="1")),
        table(prefix("/a"), exact("/b"), labels=(("a", "1"),)),
        table(prefix("/"), name="rest", labels=(("a", "1"),)),
    ),
]
MEMORIES = [TokenMemory() for _ in PLANS]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good or a dead token, with a little changed in it or around it, or with parts of two."""
    value = draw(st.sampled_from(GOOD + DEAD))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(value)))
        more = draw(
            st.one_of(st.sampled_from([b".", b"=", b" ", b",", b"A", b"\n", b"%2E", b"\x00"]), st.binary(max_size=3))
        )
        value = draw(
            st.sampled_from(
                [
                    value[:at] + more + value[at:],
                    value[:at] + more + value[at + 1 :],
                    value[:at],
                    b".".join(value.split(b".")[:2] + GOOD[0].split(b".")[2:]),
                    value.replace(b".", b"..", 1),
                ]
            )
        )
    return value


tokens = st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD + DEAD), mutated(), st.binary(max_size=30))
before = st.sampled_from([b"", b"Bearer ", b"bearer ", b"Bearer", b"JWT ", b"Bearer Bearer ", b"\t", b"x Bearer "])
fields = st.one_of(
    st.tuples(
        st.sampled_from([b"authorization", b"x-auth", b"x_auth"]),
        st.tuples(before, tokens).map(lambda pair: b"".join(pair)),
    ),
    st.tuples(st.just(b"cookie"), st.tuples(st.sampled_from([b"c=", b'c="', b"x=1; c=", b"c"]), tokens).map(b"".join)),
    st.tuples(st.sampled_from([b"host", b"x", b":path", b""]), st.binary(max_size=8)),
)
paths = st.sampled_from([b"/", b"/a", b"/b", b"/b;x", b"/a/%2e%2e", b"//a", b"/a|", b"/\xff", b"*", b""])
queries = st.lists(st.tuples(st.sampled_from([b"t=", b"%74=", b"t", b"T=", b"x="]), tokens).map(b"".join), max_size=2)
requests = st.builds(
    lambda method, path, query, headers, host: Request(
        method, path + (b"?" + b"&".join(query) if query else b""), host, tuple(headers), 0, "10.0.0.9"
    ),
    st.sampled_from([b"GET", b"PUT", b"get", b"", b"\xff"]),
    paths,
    queries,
    st.lists(fields, max_size=3),
    st.one_of(st.just(b"www.example.com"), st.binary(max_size=8)),
)


@given(requests)
def test_nothing_passes_without_a_good_token(asked: Request) -> None:
    sent = b"\n".join([asked.target, asked.target.replace(b"%2E", b"."), *(value for _, value in asked.headers)])
    signed = [good for good in GOOD if good in sent]
    for plan, memory in zip(PLANS, MEMORIES, strict=True):
        decision = answer(plan, asked)
        event(f"{decision.status} {decision.reason}")
        assert not decision.allowed or signed
        # What was asked before, and whether anybody wants to know why, changes no answer.
        for again in (answer(plan, asked, memory=memory), answer(plan, asked, explain=True)):
            assert (again.allowed, again.status, again.body, again.headers, again.edits) == (
                decision.allowed,
                decision.status,
                decision.body,
                decision.headers,
                decision.edits,
            )


def test_each_plan_lets_somebody_pass() -> None:
    """Without which the property above would say nothing."""
    headers = ((b"authorization", b"Bearer " + GOOD[0]),)
    assert [answer(plan, request("/a", *headers)).allowed for plan in PLANS] == [True] * len(PLANS)
