"""The pod as a workload: Services, ports, and policies that are no good."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from eastgate.compile.plan import Plan
from eastgate.dialects import corpus
from eastgate.model.requests import Request
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched
from eastgate.pods.annotations import read_settings
from eastgate.pods.bundles import BundleError, pack
from sidecar.policies import workload
from sidecar.policies.snapshot import demand_plan
from sidecar.policies.workload import PodFacts, PodMaterial, gather_facts
from tests.live.pod_running import make_policy, make_service

FACTS = PodFacts("httpbin", (("app", "httpbin"), ("tier", "web")), (("web", 8080), ("admin", 9090)))


def material(
    *documents: dict[str, Any], facts: PodFacts = FACTS, secrets: tuple[dict[str, Any], ...] = ()
) -> PodMaterial:
    return PodMaterial(pack("httpbin", documents, secrets).files(), facts)


def plan_of(*documents: dict[str, Any], facts: PodFacts = FACTS) -> Plan:
    return demand_plan(material(*documents, facts=facts).compile())


def table(port: int = 80, prefix: str = "/a") -> dict[str, Any]:
    return {
        "apiVersion": "policy.eastgate.dev/v1alpha1",
        "kind": "RouteTable",
        "metadata": {"name": "t", "namespace": "httpbin"},
        "spec": {
            "hosts": ["www.example.com"],
            "http": [
                {
                    "name": "r",
                    "labels": {"route": "a"},
                    "matchers": [{"uri": {"prefix": prefix}}],
                    "forwardTo": {
                        "destinations": [{"ref": {"name": "httpbin", "namespace": "httpbin"}, "port": {"number": port}}]
                    },
                }
            ],
        },
    }


def refusing(plan: Plan, port: int, path: bytes = b"/a") -> bool:
    request = Request(method=b"GET", scheme=b"http", authority=b"www.example.com", target=path, headers=(), port=port)
    guard = plan.find(request, path, None)
    return guard.refusal is not None


def test_the_facts_of_a_pod() -> None:
    annotations = {
        "eastgate.dev/policies": "jwt, other/jwt",
        "eastgate.dev/mode": "audit",
        "eastgate.dev/unmatched": "allow",
        "eastgate.dev/opaque-ports": "9000-9002",
        "somebody/else": "x",
    }
    settings, faults = read_settings(annotations)
    assert not faults
    facts = gather_facts("httpbin", {"b": "2", "a": "1"}, settings, (), KeysUnavailable.UNAUTHORIZED)
    assert facts == PodFacts(
        namespace="httpbin",
        labels=(("a", "1"), ("b", "2")),
        policies=("jwt", "other/jwt"),
        mode=Mode.AUDIT,
        unmatched=Unmatched.ALLOW,
        keys_unavailable=KeysUnavailable.UNAUTHORIZED,
        opaque_ports=frozenset({9000, 9001, 9002}),
    )


def test_services_are_those_that_select_the_pod() -> None:
    documents = [
        make_service("mine"),
        make_service("others", app="other"),
        make_service("by-hand"),
        make_service("elsewhere"),
    ]
    documents[2]["spec"].pop("selector")
    documents[3]["metadata"]["namespace"] = "elsewhere"
    workload = plan_of(*documents).workload
    assert workload.services == (("httpbin", "mine", None),)
    assert workload.one_port is False
    assert plan_of(make_policy()).workload.services == (), "none, and not: every one"


def test_named_ports_are_those_of_the_pod() -> None:
    assert plan_of(make_service(target="web")).summary()["ports"] == [8080]
    assert plan_of(make_service(target="unknown")).summary()["ports"] == []


def test_the_names_of_another_workload_are_its_own() -> None:
    """``web`` of the other Service is a port of other pods."""
    plan = plan_of(make_service(target="web"), make_service("other", target="web", app="other"))
    assert plan.summary()["ports"] == [8080]


def test_the_same_material_elsewhere_gives_the_same_plan() -> None:
    first = material(make_policy(), make_service(), table())
    copied = pickle.loads(pickle.dumps(first))
    assert copied == first
    assert demand_plan(copied.compile()).digest == demand_plan(first.compile()).digest
    assert first != material(make_policy("other"), make_service(), table())
    assert first != replace(first, facts=replace(FACTS, mode=Mode.AUDIT))
    assert repr(first.files) not in repr(first)


def test_a_document_that_is_as_it_was_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(file: str, data: object) -> corpus.Document:
        parsed.append(data["metadata"]["name"])  # type: ignore[index]
        return corpus.parse_object(file, data)

    monkeypatch.setattr(workload, "parse_object", parse)
    secret = make_service("hidden", target="admin")
    first = material(make_policy(), make_service(), table(), secrets=(secret,)).compile()
    assert sorted(parsed) == ["hidden", "httpbin", "jwt", "t"]
    parsed.clear()
    changed = material(make_policy(), make_policy("second"), make_service(), table(prefix="/b"), secrets=(secret,))
    second = changed.compile(first)
    assert sorted(parsed) == ["second", "t"]
    assert demand_plan(second).digest == demand_plan(changed.compile()).digest != demand_plan(first).digest
    assert second.diagnostics == changed.compile().diagnostics
    # Nothing is kept that the bundle does not hold any more.
    assert len(second.read) == 5
    assert len(material(make_policy()).compile(second).read) == 1


def test_the_digest_is_the_bundles() -> None:
    first = material(make_policy())
    assert first.compile().digest == pack("httpbin", [make_policy()]).digest
    assert first.compile().digest != demand_plan(first.compile()).digest


def test_a_policy_that_is_no_good_refuses_what_it_could_apply_to() -> None:
    policy = make_policy()
    policy["spec"]["config"]["providers"]["dev"] = {"isuer": "x"}
    snapshot = material(policy, make_policy("fine", "other")).compile()
    plan = demand_plan(snapshot)
    assert refusing(plan, 8080)
    assert any(str(found.severity) == "error" and "isuer" in found.message for found in snapshot.diagnostics)
    elsewhere = replace(FACTS, labels=(("app", "third"),))
    assert not refusing(demand_plan(material(policy, facts=elsewhere).compile()), 8080)


def test_a_named_policy_that_is_not_there_refuses_everything() -> None:
    plan = plan_of(make_policy(), facts=replace(FACTS, policies=("jwt", "gone")))
    assert plan.refusal is not None
    assert "`gone`" in plan.refusal.detail


def test_secrets_are_read_with_the_rest() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "httpbin", "namespace": "httpbin"},
        "spec": make_service()["spec"],
    }
    assert demand_plan(material(secrets=(secret,)).compile()).workload.services == (("httpbin", "httpbin", None),)


def test_what_cannot_be_read_at_all_gives_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="namespace"):
        PodMaterial(pack("other", []).files(), FACTS).compile()
    with pytest.raises(BundleError, match="a part of it cannot be read"):
        material({"no": "object"}).compile()

    def fail(*_: object) -> Any:
        raise RuntimeError("SECRET")

    monkeypatch.setattr(corpus, "READERS", (fail,))
    with pytest.raises(BundleError, match="internal error") as caught:
        material(make_policy()).compile()
    assert "SECRET" not in str(caught.value)
