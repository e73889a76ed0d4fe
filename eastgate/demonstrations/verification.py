"""Whether a token verifies with some keys, as the engine says.

A policy with one provider and those keys is compiled and asked, so that the verdict is the one ``serve`` would give and
there is no second verifier.
"""

from __future__ import annotations

from eastgate.compile.plan import compile_plan
from eastgate.decide.decision import decide
from eastgate.decide.memory import TokenMemory
from eastgate.keys.ring import NoRemoteKeys
from eastgate.model.decisions import Decision
from eastgate.model.diagnostics import Position
from eastgate.model.keys import LocalKeys
from eastgate.model.policies import Policy, Provider, Requirement
from eastgate.model.requests import Request
from eastgate.model.routes import ObjectName
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Workload


def verify_token(token: str, keys: str, now: float) -> str | None:
    """None if it verifies with the key set (JWKS, JWK or PEM), else why not, in the words of the answer's body."""
    policy = Policy(
        name=ObjectName("JWTPolicy", "default", "given"),
        dialect="eastgate",
        position=Position("keys", 1),
        requirement=Requirement((Provider("given", LocalKeys(keys, "keys")),)),
        everything=True,
    )
    request = Request(b"GET", b"/", b"localhost", ((b"authorization", b"Bearer " + token.encode()),))
    plan = compile_plan(PolicySet(policies=(policy,)), Workload())
    answer = decide(plan, request, NoRemoteKeys(), now, TokenMemory(), last_try=True)
    if not isinstance(answer, Decision):
        return "keys are needed"
    if answer.allowed:
        return None
    return answer.body.decode() or str(answer.reason)
