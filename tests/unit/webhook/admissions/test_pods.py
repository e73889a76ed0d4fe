from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.unit.webhook.admissions.reviews import as_bytes, make_pod, make_review
from webhook.admissions.pods import judge_pod_update
from webhook.admissions.review import Verdict, parse_review

POLICIES, MODE, OPAQUE = "eastgate.dev/policies", "eastgate.dev/mode", "eastgate.dev/opaque-ports"


def _running(annotations: dict[str, str], *, injected: bool = True) -> dict[str, Any]:
    pod = make_pod(annotations)
    if injected:
        pod["spec"]["initContainers"] = [{"name": "eastgate-sidecar", "image": "i", "restartPolicy": "Always"}]
    return pod


def _judge(before: dict[str, Any], after: dict[str, Any], *, enforced: bool = False, **changes: Any) -> Verdict:
    body = as_bytes(make_review(after, before=before, **{"operation": "UPDATE", **changes}))
    return judge_pod_update(parse_review(body), after, before, enforced=enforced)


def _change(before: dict[str, str], after: dict[str, str], *, enforced: bool = False, injected: bool = True) -> Verdict:
    return _judge(_running(before, injected=injected), _running(after, injected=injected), enforced=enforced)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({POLICIES: "a"}, {POLICIES: "a,b"}),
        ({POLICIES: "a"}, {POLICIES: "a", MODE: "audit"}),
        ({POLICIES: "a", MODE: "audit"}, {POLICIES: "a"}),
        ({POLICIES: "a"}, {POLICIES: "a", "eastgate.dev/unmatched": "allow"}),
        ({POLICIES: "a"}, {POLICIES: "a", "example.com/mode": "anything"}),
        ({POLICIES: "a"}, {POLICIES: "a", "eastgate.dev/bundle": "sha256:0"}),
    ],
)
def test_what_the_sidecar_follows_is_changed_in_silence(before: dict[str, str], after: dict[str, str]) -> None:
    for enforced in (False, True):
        verdict = _change(before, after, enforced=enforced)
        assert (verdict.allowed, verdict.warnings) == (True, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (MODE, "enfroce"),
        (POLICIES, "a,,b"),
        (OPAQUE, "70000"),
        ("eastgate.dev/polices", "a"),
        ("eastgate.dev/proxy-cpu-limit", "much"),
    ],
)
def test_a_bad_value_is_refused(key: str, value: str) -> None:
    verdict = _change({POLICIES: "a"}, {POLICIES: "a", key: value})
    assert (verdict.allowed, verdict.reason) == (False, "bad-annotation")
    assert key in verdict.message
    assert value in verdict.message


@pytest.mark.parametrize("key", [OPAQUE, "eastgate.dev/include-inbound-ports"])
def test_what_works_at_creation_only_is_warned_of(key: str) -> None:
    verdict = _change({POLICIES: "a"}, {POLICIES: "a", key: "9090"})
    assert verdict.allowed
    assert verdict.warnings == (f"{key}: used when the pod is created, and has no effect until it is created anew",)


def test_asking_for_injection_later_is_warned_of() -> None:
    verdict = _change({}, {POLICIES: "a"}, injected=False)
    assert verdict.allowed
    assert "has no sidecar" in verdict.warnings[0]


def test_a_fault_that_was_there_is_nobodys_now() -> None:
    before = {POLICIES: "a", MODE: "nonsense"}
    assert _change(before, {**before, POLICIES: "a,b"}).allowed
    assert _change(before, {**before, "other": "key"}).allowed
    assert _change(before, {POLICIES: "a"}).allowed


def test_policies_are_not_removed_in_an_enforced_namespace() -> None:
    verdict = _change({POLICIES: "login"}, {}, enforced=True)
    assert (verdict.allowed, verdict.reason) == (False, "enforced")
    assert POLICIES in verdict.message
    assert "`login`" in verdict.message


def test_elsewhere_removing_them_is_warned_of() -> None:
    verdict = _change({POLICIES: "login"}, {})
    assert verdict.allowed
    assert "the sidecar stays" in verdict.warnings[0]


def test_a_pod_that_is_being_deleted_is_let_go() -> None:
    before, after = _running({POLICIES: "a"}), _running({})
    after["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert _judge(before, after, enforced=True).allowed


@pytest.mark.parametrize(
    "changes",
    [{"operation": "DELETE"}, {"operation": "CREATE"}, {"subresource": "status"}, {"subresource": "resize"}],
)
def test_other_reviews_are_let_pass(changes: dict[str, str]) -> None:
    assert _judge(_running({POLICIES: "a"}), _running({}), enforced=True, **changes).allowed


def test_pods_of_odd_shapes() -> None:
    for pod in ({}, {"metadata": None, "spec": None}, {"metadata": {"annotations": []}, "spec": {"containers": {}}}):
        assert _judge(pod, pod).allowed


@pytest.mark.parametrize("field", ["runAsUser", "runAsGroup"])
def test_an_ephemeral_container_as_the_sidecars_user_is_refused(field: str) -> None:
    before = _running({POLICIES: "a"})
    after = deepcopy(before)
    after["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "i", "securityContext": {field: 19006}}]
    verdict = _judge(before, after, subresource="ephemeralcontainers")
    assert (verdict.allowed, verdict.reason) == (False, "proxy-user")
    assert f"ephemeralContainers[debug].securityContext.{field}" in verdict.message
    # One that is there already cannot be taken away; it must not stop the next one.
    assert _judge(after, after, subresource="ephemeralcontainers").allowed


def test_an_ephemeral_container_with_a_volume_of_the_sidecar_is_refused() -> None:
    before, after = _running({"eastgate.dev/policies": "*"}), _running({"eastgate.dev/policies": "*"})
    mounts = [{"name": "data", "mountPath": "/d"}, {"name": "eastgate-state", "mountPath": "/s"}]
    after["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "i", "volumeMounts": mounts}]
    verdict = _judge(before, after, subresource="ephemeralcontainers")
    assert (verdict.allowed, verdict.reason) == (False, "proxy-volume")
    assert "ephemeralContainers[debug].volumeMounts: `eastgate-state` is a volume of the sidecar" in verdict.message
    assert _judge(after, after, subresource="ephemeralcontainers").allowed


def test_any_other_ephemeral_container_is_fine() -> None:
    before = _running({POLICIES: "a"})
    after = deepcopy(before)
    after["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "i", "securityContext": {"runAsUser": 0}}]
    assert _judge(before, after, subresource="ephemeralcontainers", enforced=True).allowed
