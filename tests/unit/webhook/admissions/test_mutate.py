from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import pytest

from eastgate.pods.probes import is_token
from tests.unit.webhook.admissions.reviews import as_bytes, make_pod, make_review
from webhook.admissions.mutate import mutate_pod, name_pod
from webhook.admissions.pod_reviews import parse_pod_review
from webhook.admissions.replicas import Replicas
from webhook.admissions.review import Verdict
from webhook.injections.patches import apply
from webhook.injections.verdicts import Context, Injection, Refusal, Skip

CONTEXT = Context("shop", False, "registry.example.com/eastgate-sidecar:1", None, (), True, "1.0.0")


def _mutate(result: object, **changes: object) -> Verdict:
    review, pod = parse_pod_review(as_bytes(make_review(make_pod(), **changes)))  # type: ignore[arg-type]
    return mutate_pod(review, pod, CONTEXT, inject=lambda _pod, _context: result)  # type: ignore[arg-type,return-value]


def test_an_injection_is_a_patch() -> None:
    patch = ({"op": "add", "path": "/metadata/labels/x", "value": "y"},)
    verdict = _mutate(Injection(patch, ("careful",)))
    assert (verdict.allowed, verdict.outcome, verdict.reason) == (True, "patched", "injected")
    assert json.loads(verdict.patch or b"") == list(patch)
    assert verdict.warnings == ("careful",)


def test_a_pod_that_has_everything_gets_no_patch() -> None:
    verdict = _mutate(Injection(()))
    assert (verdict.allowed, verdict.outcome, verdict.patch) == (True, "unchanged", None)


def test_a_skip_goes_to_the_audit_log_and_to_the_author_where_injection_says_so() -> None:
    verdict = _mutate(Skip("host-network", "it shares the network of its node", ("not injected: hostNetwork",)))
    assert (verdict.allowed, verdict.outcome, verdict.reason, verdict.patch) == (True, "skipped", "host-network", None)
    assert verdict.warnings == ("not injected: hostNetwork",)
    assert verdict.annotations == {"message": "it shares the network of its node"}


def test_a_refusal_lists_every_fault() -> None:
    verdict = _mutate(Refusal("bad-annotation", ("a: `1` is not accepted", "b: `2` is not accepted")))
    assert (verdict.allowed, verdict.reason, verdict.code) == (False, "bad-annotation", 403)
    assert verdict.message.splitlines()[1:] == ["- a: `1` is not accepted", "- b: `2` is not accepted"]


def test_the_token_of_hooks_is_a_secret() -> None:
    """It stands in the patch and nowhere else: neither in what is logged and audited, nor in the status annotation."""
    pod = make_pod()
    pod["spec"]["containers"][0]["lifecycle"] = {"preStop": {"httpGet": {"port": 80}}}
    found = set()
    for _ in range(3):
        review, read = parse_pod_review(as_bytes(make_review(pod)))
        verdict = mutate_pod(review, read, CONTEXT)
        (token,) = set(re.findall('"value":"([0-9a-f]{32})"', (verdict.patch or b"").decode()))
        assert is_token(token)
        found.add(token)
        assert token not in repr(replace(verdict, patch=None))
        status = next(one["value"] for one in json.loads(verdict.patch or b"") if "status" in str(one))
        assert token not in str(status)
    assert len(found) == 3
    # Replicas that come one after the other share one.
    replicas = Replicas()
    patches = {mutate_pod(review, read, CONTEXT, replicas=replicas).patch for _ in range(3)}
    assert len(patches) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": "DELETE"},
        {"subresource": "status"},
        {"subresource": "ephemeralcontainers"},
        {"kind": "ReplicaSet"},
        {"group": "example.com"},
    ],
)
def test_only_new_pods_are_looked_at(changes: dict[str, str]) -> None:
    verdict = _mutate(Refusal("never", ("asked",)), **changes)
    assert (verdict.allowed, verdict.patch, verdict.outcome) == (True, None, "skipped")


def test_the_real_injection_is_behind_it() -> None:
    review, pod = parse_pod_review(as_bytes(make_review(make_pod())))
    verdict = mutate_pod(review, pod, CONTEXT)
    operations = json.loads(verdict.patch or b"")
    assert {one["op"] for one in operations} == {"add"}
    assert "eastgate-sidecar" in str(operations)


def test_an_injected_pod_that_is_applied_again_keeps_its_probes() -> None:
    pod = make_pod()
    pod["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3}
    review, read = parse_pod_review(as_bytes(make_review(pod)))
    stored = apply(pod, json.loads(mutate_pod(review, read, CONTEXT).patch or b""))
    assert stored["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/app-probe/app/readyz"
    applied = deepcopy(stored)
    applied["spec"]["containers"][0]["readinessProbe"] = pod["spec"]["containers"][0]["readinessProbe"]
    review, read = parse_pod_review(as_bytes(make_review(applied, before=stored, operation="UPDATE")))
    verdict = mutate_pod(review, read, CONTEXT)
    assert (verdict.outcome, verdict.reason) == ("patched", "applied-again")
    assert apply(applied, json.loads(verdict.patch or b"")) == stored
    review, read = parse_pod_review(as_bytes(make_review(stored, before=stored, operation="UPDATE")))
    assert mutate_pod(review, read, CONTEXT).outcome == "unchanged"


@pytest.mark.parametrize("before", [None, {}, [], {"spec": 3}, {"metadata": {"annotations": {}}}])
def test_an_update_is_never_refused_here(before: object) -> None:
    review, read = parse_pod_review(as_bytes(make_review(make_pod(), before=before, operation="UPDATE")))
    verdict = mutate_pod(review, read, CONTEXT)
    assert (verdict.allowed, verdict.patch) == (True, None)


def test_a_bad_annotation_is_refused_with_key_value_and_what_is_accepted() -> None:
    pod = make_pod({"eastgate.dev/policies": "login", "eastgate.dev/mode": "enfroce", "eastgate.dev/opaque-ports": "x"})
    review, read = parse_pod_review(as_bytes(make_review(pod)))
    verdict = mutate_pod(review, read, CONTEXT)
    assert not verdict.allowed
    for part in ("eastgate.dev/mode", "enfroce", "enforce, audit", "eastgate.dev/opaque-ports"):
        assert part in verdict.message


@pytest.mark.parametrize(
    ("metadata", "name", "expected"),
    [
        ({"name": "web"}, "", "web"),
        ({"generateName": "web-"}, "", "web-"),
        ({"generateName": "web-"}, "web-x", "web-x"),
        ({}, "", ""),
    ],
)
def test_what_a_pod_is_called_in_the_log(metadata: Mapping[str, str], name: str, expected: str) -> None:
    review, _ = parse_pod_review(as_bytes(make_review({}, name=name)))
    assert name_pod({"metadata": metadata}, review) == expected
