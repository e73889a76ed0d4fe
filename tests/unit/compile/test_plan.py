"""The plan as a whole."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from eastgate.compile.plan import compile_plan, narrow_policies
from eastgate.model.keys import LocalKeys
from eastgate.model.policies import (
    Authorization,
    ClaimHeader,
    DestinationSelector,
    Phase,
    Policy,
    Rule,
    RuleAction,
    TokenSources,
)
from eastgate.model.requests import Request
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Service, ServicePort, Unmatched, Workload
from tests.unit.decide.scenes import (
    HERE,
    REMOTE,
    compiled,
    policy,
    policy_set,
    prefix,
    provider,
    request,
    selecting,
    service,
    table,
)

REQUIRE_AUTH = (("gateway.gloo.solo.io/require_auth", "true"),)


def names(plan: object, asked: Request) -> tuple[str, ...]:
    return plan.find(asked, asked.target, None).names  # type: ignore[attr-defined,no-any-return]


class TestImplicitRoute:
    def test_the_pods_labels_select(self) -> None:
        by_label = policy(routes=selecting(app="web"))
        assert names(compiled(by_label, labels=(("app", "web"),)), request()) == ("default/jwt",)
        assert names(compiled(by_label, labels=(("app", "api"),)), request()) == ()

    def test_its_namespace_counts_in_a_pod(self) -> None:
        pod = Workload(namespace="default", services=())
        assert names(compiled(policy(), workload=pod), request()) == ("default/jwt",)
        assert names(compiled(policy(namespace="other"), workload=pod), request()) == ()

    def test_without_services_it_is_in_every_namespace(self) -> None:
        # Nobody said which one: a policy must not be passed over for that.
        assert names(compiled(policy(namespace="other")), request()) == ("other/jwt",)

    def test_destination_policies_hold(self) -> None:
        web = Service("default", "web", ports=(ServicePort(80, "http", 8080), ServicePort(81, "admin", 9090)))
        at_web = policy(destinations=(DestinationSelector(name="web", port=80),))
        plan = compiled(at_web, web, workload=Workload(services=(("default", "web", None),)))
        assert names(plan, request(port=8080)) == ("default/jwt",)
        assert names(plan, request(port=9090)) == ()
        assert names(plan, request(port=0)) == ("default/jwt",)
        assert names(compiled(at_web), request()) == ("default/jwt",)

    def test_destination_policies_hold_on_unmatched_requests(self) -> None:
        at_web = policy(destinations=(DestinationSelector(name="web"),))
        route = table(prefix("/a"), destinations=(service("web"),))
        workload = Workload(services=(("default", "web", None),), unmatched=Unmatched.ALLOW)
        assert names(compiled(at_web, policy(name="all"), route, workload=workload), request("/b")) == ("default/jwt",)


class TestNarrowing:
    POLICIES = (policy(name="a"), policy(name="b"), policy(name="a", namespace="other"))

    @pytest.mark.parametrize(
        ("wanted", "chosen", "missing"),
        [
            (None, ["default/a", "default/b", "other/a"], []),
            (("a",), ["default/a"], []),
            (("other/a",), ["other/a"], []),
            (("*",), ["default/a", "default/b"], []),
            (("other/*",), ["other/a"], []),
            (("b", "c", "other/b"), ["default/b"], ["c", "other/b"]),
            ((), [], []),
        ],
    )
    def test_in_a_pod(self, wanted: tuple[str, ...] | None, chosen: list[str], missing: list[str]) -> None:
        workload = Workload(services=(), policies=wanted)
        found, gone = narrow_policies(self.POLICIES, workload)
        assert [f"{one.name.namespace}/{one.name.name}" for one in found] == chosen
        assert gone == missing

    def test_without_services(self) -> None:
        assert len(narrow_policies(self.POLICIES, Workload(policies=("*",)))[0]) == 3
        assert len(narrow_policies(self.POLICIES, Workload(policies=("a",)))[0]) == 2

    def test_a_star_that_finds_nothing_is_missing(self) -> None:
        assert compiled(policies=("*",)).refusal is not None

    def test_what_is_not_asked_for_does_not_conflict(self) -> None:
        old, new = (
            policy(name="old", created="2024-01-01T00:00:00Z"),
            policy(name="new", created="2025-01-01T00:00:00Z"),
        )
        assert names(compiled(old, new), request()) == ("default/old",)
        assert names(compiled(old, new, policies=("new",)), request()) == ("default/new",)


class TestOrder:
    def test_phase_then_priority_then_name(self) -> None:
        plan = compiled(
            policy(name="post", dialect="a", phase=Phase.POST, priority=-5),
            policy(name="z", dialect="b", priority=-1),
            policy(name="b", dialect="c"),
            policy(name="a", dialect="d"),
        )
        assert names(plan, request()) == ("default/z", "default/a", "default/b", "default/post")


class TestRefusing:
    def test_unusable_keys(self) -> None:
        plan = compiled(policy(provider(keys=LocalKeys("nonsense", "Secret default/key"))))
        refusal = plan.find(request(), b"/", None).refusal
        assert refusal is not None
        assert refusal.reason == "policy_unavailable"
        assert "Secret default/key" in refusal.detail
        assert [one.code for one in plan.diagnostics] == ["bad-key"]
        assert "nonsense" not in str(plan.diagnostics[0])

    @pytest.mark.parametrize(
        ("broken", "code"),
        [
            (policy(provider(claim_headers=(ClaimHeader("Content-Length", "x", ("x",)),))), "bad-header-name"),
            (policy(provider(payload_header="transfer_encoding")), "bad-header-name"),
            (policy(provider(payload_header="a b")), "bad-header-name"),
            (policy(provider(sources=TokenSources())), "no-token-source"),
            (
                policy(provider(), authorization=Authorization((Rule("r", RuleAction.ALLOW, addresses=("x",)),))),
                "bad-rule",
            ),
        ],
    )
    def test_what_cannot_be_enforced(self, broken: Policy, code: str) -> None:
        plan = compiled(broken)
        assert [one.code for one in plan.diagnostics] == [code]
        assert plan.find(request(), b"/", None).refusal is not None

    def test_a_label_that_asks_for_a_policy(self) -> None:
        guarded = table(labels=REQUIRE_AUTH)
        refusal = compiled(guarded).find(request(), b"/", None).refusal
        assert refusal is not None
        assert refusal.reason == "policy_unavailable"
        assert compiled(guarded, policy()).find(request(), b"/", None).refusal is None
        empty = dataclasses.replace(policy(), requirement=None)
        assert compiled(guarded, empty).find(request(), b"/", None).refusal is not None


class TestContent:
    def test_equal_providers_are_one(self) -> None:
        one, two = policy(name="one"), policy(name="two", dialect="eastgate")
        assert len(compiled(one, two).providers) == 1
        assert len(compiled(one, policy(provider("x"), dialect="eastgate")).providers) == 2

    def test_only_policies_that_hold_somewhere_count(self) -> None:
        remote = policy(
            provider(keys=REMOTE, claim_headers=(ClaimHeader("x-a", "a", ("a",)),)), routes=selecting(app="x")
        )
        assert compiled(remote, table()).sources == ()
        assert compiled(remote, table()).asserted == frozenset()
        plan = compiled(remote, table(labels=(("app", "x"),)))
        assert plan.sources == (REMOTE,)
        assert plan.asserted == {b"x-a"}

    def test_asserted_names_are_folded(self) -> None:
        plan = compiled(
            policy(provider(claim_headers=(ClaimHeader("X_Org", "o", ("o",)),), payload_header="X-Payload"))
        )
        assert plan.asserted == {b"x-org", b"x-payload"}

    def test_the_digest_is_the_content(self) -> None:
        first = compiled(policy(), table())
        assert len(first.digest) == 64
        moved = dataclasses.replace(policy(), position=dataclasses.replace(HERE, line=9), places=(("spec", HERE),))
        assert compiled(moved, table()).digest == first.digest
        assert compiled(policy(), table(prefix("/"))).digest != first.digest
        assert compiled(policy(), table(), namespace="x").digest != first.digest
        other_key = policy(provider(keys=LocalKeys("another key")))
        assert compiled(other_key, table()).digest != first.digest

    def test_the_summary_can_be_written_and_has_no_keys(self) -> None:
        plan = compiled(policy(provider(keys=LocalKeys("s3cret"))), policy(dialect="eastgate"), table())
        text = json.dumps(plan.summary())
        assert "default/jwt" in text
        assert "s3cret" not in text
        assert "BEGIN" not in text

    def test_an_empty_set(self) -> None:
        plan = compile_plan(PolicySet(), Workload())
        assert plan.find(request(), b"/", None).passing == "no_policy"


def test_five_hundred_of_each_compile_quickly() -> None:
    policies = [policy(name=f"p{n}", routes=selecting(app=f"a{n}")) for n in range(500)]
    routes = [
        table(prefix("/a"), prefix("/b"), name=f"t{n}", labels=(("app", f"a{n}"),), hosts=(f"h{n}.example.com",))
        for n in range(500)
    ]
    started = time.process_time()
    plan = compile_plan(policy_set(*policies, *routes), Workload())
    assert time.process_time() - started < 2
    assert names(plan, request("/a", host=b"h123.example.com")) == ("default/p123",)
