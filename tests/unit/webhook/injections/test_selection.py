"""The truth table: which pods are injected, skipped, refused."""

from __future__ import annotations

from typing import Any

import pytest

from eastgate.pods import names
from tests.unit.webhook.injections.scenes import CONTEXT, ENFORCED, make_pod, patch_of, refuse, skip
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection, Refusal, Skip

LABEL = names.INJECT_LABEL
MIRROR = {"kubernetes.io/config.mirror": "abc"}


def without_policies(**more: Any) -> dict[str, Any]:
    pod = make_pod(**more)
    del pod["metadata"]["annotations"][names.POLICIES]
    return pod


INJECTED = "injected"

TABLE = [
    # what the pod is like, then enabled, then enforced
    ("asks", make_pod(), INJECTED, INJECTED),
    ("asks, with the label", make_pod(labels={LABEL: "true"}), INJECTED, INJECTED),
    ("does not ask", without_policies(), "skip no-policies", "refuse no-policies"),
    ("label without policies", without_policies(labels={LABEL: "true"}), "skip no-policies", "refuse no-policies"),
    ("opts out", make_pod(labels={LABEL: "false"}), "skip opted-out", "refuse opted-out"),
    ("opts out, does not ask", without_policies(labels={LABEL: "false"}), "skip opted-out", "refuse opted-out"),
    ("label: disabled", make_pod(labels={LABEL: "disabled"}), "refuse bad-label", "refuse bad-label"),
    ("label: False", without_policies(labels={LABEL: "False"}), "refuse bad-label", "refuse bad-label"),
    ("label: empty", without_policies(labels={LABEL: ""}), "refuse bad-label", "refuse bad-label"),
    ("policies as a label", without_policies(labels={names.POLICIES: "a"}), "refuse bad-label", "refuse bad-label"),
    ("namespace's label", without_policies(labels={names.INJECTION_LABEL: "enabled"}), "refuse bad-label", "refuse bad-label"),
    ("host network", make_pod(hostNetwork=True), "skip host-network", "refuse host-network"),
    ("host network, does not ask", without_policies(hostNetwork=True), "skip host-network", "refuse host-network"),
    ("host network false", make_pod(hostNetwork=False), INJECTED, INJECTED),
    ("mirror", make_pod(MIRROR), "skip mirror", "skip mirror"),
    ("mirror, opts out", make_pod(MIRROR, {LABEL: "false"}), "skip mirror", "skip mirror"),
    ("bad annotation", make_pod({names.MODE: "x"}), "refuse bad-annotation", "refuse bad-annotation"),
    ("bad annotation only", without_policies(annotations={names.MODE: "x"}), "refuse bad-annotation", "refuse bad-annotation"),
    ("misspelt", without_policies(annotations={"eastgate.dev/policy": "x"}), "refuse bad-annotation", "refuse bad-annotation"),
    ("empty policies", make_pod({names.POLICIES: ""}), "refuse bad-annotation", "refuse bad-annotation"),
    ("opts out with a bad annotation", make_pod({names.MODE: "x"}, {LABEL: "false"}), "skip opted-out", "refuse opted-out"),
    ("windows", make_pod(os={"name": "windows"}), "refuse windows", "refuse windows"),
    ("windows, does not ask", without_policies(os={"name": "windows"}), "skip no-policies", "refuse no-policies"),
    ("linux", make_pod(os={"name": "linux"}, nodeSelector={"kubernetes.io/os": "linux"}), INJECTED, INJECTED),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "enabled", "enforced"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_truth_table(pod: dict[str, Any], enabled: str, enforced: str) -> None:
    assert outcome(pod, CONTEXT) == enabled
    assert outcome(pod, ENFORCED) == enforced


def outcome(pod: dict[str, Any], context: Context) -> str:
    verdict = inject_pod(pod, context, str)
    if isinstance(verdict, Injection):
        assert verdict.patch
        return INJECTED
    return f"{'skip' if isinstance(verdict, Skip) else 'refuse'} {verdict.reason}"


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease", "eastgate-system"])
@pytest.mark.parametrize("enforced", [True, False])
def test_the_system_cannot_be_locked_out(namespace: str, enforced: bool) -> None:
    context = Context(namespace, enforced, "i", None, (), True, "1")
    for pod in (make_pod(), make_pod({names.MODE: "x"}), without_policies(hostNetwork=True)):
        assert skip(pod, context).reason == "exempt-namespace"


def require(*terms: Any) -> dict[str, Any]:
    """The affinity that requires nodes of one of these terms."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [*terms]}}}


def match(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [*values]}


WINDOWS = match("kubernetes.io/os", "In", "windows")
ZONE = match("topology.kubernetes.io/zone", "In", "a")


@pytest.mark.parametrize(
    "spec",
    [
        {"nodeSelector": {"kubernetes.io/os": "windows"}},
        {"nodeSelector": {"beta.kubernetes.io/os": "windows"}},
        {"securityContext": {"windowsOptions": {"runAsUserName": "ContainerUser"}}},
        {"containers": [{"name": "app", "securityContext": {"windowsOptions": {"hostProcess": True}}}]},
        {"affinity": require({"matchExpressions": [WINDOWS]})},
        {"affinity": require({"matchExpressions": [ZONE, WINDOWS]}, {"matchExpressions": [WINDOWS]}, {})},
        {"affinity": require({"matchExpressions": [match("beta.kubernetes.io/os", "In", "windows")]})},
    ],
)
def test_windows(spec: dict[str, Any]) -> None:
    refusal = refuse(make_pod(**spec))
    assert refusal.reason == "windows"
    assert "Linux only" in refusal.messages[0]


@pytest.mark.parametrize(
    "affinity",
    [
        {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [WINDOWS]}}]}},
        require({"matchExpressions": [WINDOWS]}, {"matchExpressions": [ZONE]}),
        require({"matchExpressions": [WINDOWS]}, {"matchFields": [match("metadata.name", "In", "a")]}),
        require({"matchExpressions": [match("kubernetes.io/os", "In", "linux", "windows")]}),
        require({"matchExpressions": [match("kubernetes.io/os", "NotIn", "windows")]}),
        require({"matchExpressions": [match("kubernetes.io/os", "Exists")]}),
        require({}),
        require(),
        {"nodeAffinity": None},
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": "x"}}},
        "x",
    ],
)  # fmt: skip
def test_affinity_that_leaves_linux(affinity: Any) -> None:
    assert outcome(make_pod(affinity=affinity), CONTEXT) == INJECTED


def test_what_is_asked_for_in_vain_is_said() -> None:
    assert skip(without_policies()).warnings == ()
    assert LABEL in skip(without_policies(labels={LABEL: "true"})).warnings[0]
    assert names.MODE in skip(without_policies(annotations={names.MODE: "audit"})).warnings[0]
    assert "not enforced" in skip(make_pod(hostNetwork=True)).warnings[0]
    assert skip(without_policies(hostNetwork=True)).warnings == ()


def test_all_faults_of_a_pod_at_once() -> None:
    pod = make_pod(
        {names.MODE: "x", names.OPAQUE_PORTS: "0"},
        {LABEL: "no"},
        hostNetwork=True,
        containers=[{"name": "app", "securityContext": {"runAsUser": 19006}}],
    )
    refusal = refuse(pod, ENFORCED)
    assert refusal.reason == "bad-label"
    assert [path[-1] for path in refusal.paths] == [LABEL, "hostNetwork", names.MODE, names.OPAQUE_PORTS, "runAsUser"]
    for message in refusal.messages:
        assert "accepted: " in message


def test_enforced_says_what_to_add() -> None:
    message = refuse(without_policies(), ENFORCED).messages[0]
    assert names.POLICIES in message
    assert '"*"' in message


def test_a_status_is_no_proof() -> None:
    pod = make_pod({names.STATUS: '{"version":"1.0.0","containers":["eastgate-sidecar"]}', names.BUNDLE: "sha256:0"})
    assert patch_of(pod).patch


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        ({}, "spec.containers"),
        ({"spec": {}}, "spec.containers"),
        ({"spec": {"containers": []}}, "spec.containers"),
        ({"spec": {"containers": {}}}, "spec.containers"),
        ({"spec": {"containers": ["x"]}}, "spec.containers"),
        ({"spec": [], "metadata": {}}, "spec"),
        ({"metadata": "x", "spec": {}}, "metadata"),
        ({"metadata": {"annotations": []}, "spec": {"containers": [{}]}}, "metadata.annotations"),
        (make_pod(initContainers="x"), "spec.initContainers"),
        (make_pod(volumes=[1]), "spec.volumes"),
        (make_pod(containers=[{"name": "A b"}]), "spec.containers[0].name"),
        (make_pod(containers=[{}]), "spec.containers[0].name"),
    ],
)
def test_what_is_no_pod(pod: dict[str, Any], path: str) -> None:
    refusal = refuse(pod)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "malformed"
    assert refusal.messages[0].startswith(f"{path}: expected ")
