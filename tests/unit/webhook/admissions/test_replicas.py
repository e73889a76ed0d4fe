"""Pods that are alike get one verdict; whatever could make another one makes them different."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eastgate.pods import names
from tests.property.test_injection import pods
from tests.unit.webhook.admissions.reviews import make_pod
from webhook.admissions.replicas import MAX_BYTES, MAX_KEPT, Replicas, describe
from webhook.admissions.review import allow
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

CONTEXT = Context("shop", False, "eastgate-sidecar", None, (), True, "1")


def make_replica(suffix: str = "abcde") -> dict[str, Any]:
    pod = make_pod()
    token = f"kube-api-access-{suffix}"
    pod["metadata"] |= {"name": f"web-{suffix}", "generateName": "web-"}
    pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}, {"name": token, "projected": {"sources": []}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": token, "mountPath": "/var/run/secrets/x"}]
    pod["spec"]["affinity"] = on_node(suffix)
    return pod


def on_node(name: str) -> dict[str, Any]:
    """As the controller of a DaemonSet writes it (``ReplaceDaemonSetPodNodeNameNodeAffinity``)."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [name]}]
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": fields}]}}}


def count_judgements(*asked: tuple[dict[str, Any], Context]) -> int:
    replicas, judged = Replicas(), []
    for pod, context in asked:
        replicas.judge(pod, context, lambda: judged.append(1) or allow("x"))  # type: ignore[func-returns-value]
    return len(judged)


def test_replicas_are_judged_once() -> None:
    assert count_judgements((make_replica("aaaaa"), CONTEXT), (make_replica("bbbbb"), replace(CONTEXT))) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["metadata"]["annotations"].update({names.MODE: "audit"}),
        lambda pod: pod["metadata"].update(labels={"a": "b"}),
        lambda pod: pod["metadata"].update(unheardOf=1),
        lambda pod: pod.update(unheardOf=1),
        lambda pod: pod["spec"].update(hostNetwork=True),
        lambda pod: pod["spec"].update(unheardOf=None),
        lambda pod: pod["spec"].update(initContainers=[]),
        lambda pod: pod["spec"]["containers"][0].update(readinessProbe={"httpGet": {"port": 1}}),
        lambda pod: pod["spec"]["containers"][0].update(unheardOf=True),
        lambda pod: pod["spec"]["containers"][0]["volumeMounts"].insert(0, {"name": "data"}),
        lambda pod: pod["spec"]["containers"][0]["volumeMounts"][0].update(mountPath="/x"),
        lambda pod: pod["spec"]["volumes"][0].update(name="eastgate-state"),
        lambda pod: pod["spec"]["volumes"].reverse(),
        lambda pod: pod["spec"].pop("affinity"),
        lambda pod: pod["spec"].update(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}),
        lambda pod: pod["spec"]["affinity"].update(podAffinity={}),
        lambda pod: pod["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0].update(
            matchExpressions=[]
        ),
        lambda pod: pod["spec"]["affinity"]["nodeAffinity"][REQUIRED].update(nodeSelectorTerms=[0]),
    ],
)
def test_what_makes_a_pod_another_one(change: Callable[[dict[str, Any]], object]) -> None:
    pod = make_replica()
    change(pod)
    assert count_judgements((make_replica(), CONTEXT), (pod, CONTEXT), (pod, CONTEXT)) == 2


@pytest.mark.parametrize(
    "field", ["namespace", "enforced", "image", "pull_policy", "pull_secrets", "native", "version"]
)
def test_other_circumstances_are_others(field: str) -> None:
    other = replace(CONTEXT, **{field: "other"})  # type: ignore[arg-type]
    assert count_judgements((make_replica(), CONTEXT), (make_replica(), other)) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["spec"]["containers"].append({"name": names.SIDECAR_CONTAINER}),
        lambda pod: pod["spec"].update(initContainers=[{"name": names.INIT_CONTAINER}]),
        lambda pod: pod["spec"].update(containers="none"),
        lambda pod: pod["spec"].update(containers=["none"]),
        lambda pod: pod.update(spec=None),
        lambda pod: pod.update(metadata=[]),
        lambda pod: pod["metadata"].update(labels={"a": "x" * MAX_BYTES}),
        lambda pod: pod["metadata"].update(labels={"a": "\ud800"}),
    ],
)
def test_what_is_always_looked_at_anew(change: Callable[[dict[str, Any]], object]) -> None:
    pod = make_replica()
    change(pod)
    assert describe(pod) is None
    assert count_judgements((pod, CONTEXT), (pod, CONTEXT)) == 2


def test_only_the_last_are_kept() -> None:
    replicas = Replicas()
    for number in range(MAX_KEPT + 10):
        replicas.judge({"metadata": {}, "spec": {"n": number}}, CONTEXT, lambda: allow("x"))
    assert len(replicas._kept) == MAX_KEPT


def test_the_pod_is_not_changed() -> None:
    pod = make_replica()
    before = copy.deepcopy(pod)
    describe(pod)
    assert pod == before


@settings(max_examples=60, deadline=None)
@given(st.lists(pods(), min_size=1, max_size=3), st.booleans())
def test_alike_is_only_what_is_injected_alike(found: list[dict[str, Any]], enforced: bool) -> None:
    """Injection is asked for pods that differ in everything that is ignored, and says the same of them."""
    context = replace(CONTEXT, enforced=enforced)
    for pod in found:
        other: dict[str, Any] = json.loads(json.dumps(pod))
        other["metadata"] |= {"name": "another", "generateName": "another-"}
        pod["spec"]["affinity"], other["spec"]["affinity"] = on_node("a"), on_node("b")
        pod["spec"].setdefault("volumes", []).append({"name": "kube-api-access-aaaaa"})
        other["spec"].setdefault("volumes", []).append({"name": "kube-api-access-bbbbb"})
        for one, suffix in ((pod, "aaaaa"), (other, "bbbbb")):
            one["spec"]["containers"][0]["volumeMounts"] = [{"name": f"kube-api-access-{suffix}", "mountPath": "/x"}]
        if describe(pod) is not None:
            assert describe(pod) == describe(other)
            assert inject_pod(pod, context, str) == inject_pod(other, context, str)
