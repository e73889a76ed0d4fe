"""Pods inside of other objects."""

from __future__ import annotations

from typing import Any

import pytest

from eastgate.pods import names
from tests.unit.webhook.injections.scenes import CONTEXT, apply_independently, list_names, make_pod, make_token
from webhook.injections.verdicts import Context, Injection, Refusal, Skip
from webhook.injections.workloads import TEMPLATES, inject_documents

INIT, SIDECAR = names.CONTAINERS


def choose(namespace: str | None) -> Context:
    return Context(namespace or "default", namespace == "strict", CONTEXT.image, None, (), True, "1")


def wrap(kind: str, group: str, path: tuple[str | int, ...], template: Any) -> dict[str, Any]:
    version = f"{group}/v1" if group else "v1"
    inner = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}}
    place: dict[str, Any] = inner
    for part in path[:-1]:
        place = place.setdefault(str(part), {})
    place[str(path[-1])] = template
    return inner


def template() -> dict[str, Any]:
    return {"metadata": {"annotations": {names.POLICIES: "*"}}, "spec": make_pod()["spec"]}


KINDS = [(group, kind, path) for (group, kind), path in TEMPLATES.items() if path]


@pytest.mark.parametrize(("group", "kind", "path"), KINDS)
def test_every_kind(group: str, kind: str, path: tuple[str | int, ...]) -> None:
    document = wrap(kind, group, path, template())
    (result,), (outcome,) = inject_documents([document], choose, make_token)
    assert isinstance(outcome.verdict, Injection)
    assert outcome.subject == f"{kind} shop/x"
    assert outcome.path == path
    assert result.document == apply_independently(document, result.patch)
    pod: Any = result.document
    for part in path:
        pod = pod[part]
    assert list_names(pod, "initContainers") == [INIT, SIDECAR]
    (again,), _ = inject_documents([result.document], choose, make_token)
    assert again.patch == ()


def test_lists() -> None:
    deployment = wrap("Deployment", "apps", ("spec", "template"), template())
    del deployment["kind"], deployment["apiVersion"]
    typed = {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [deployment, deployment]}
    whole = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [make_pod(), {"kind": "Secret", "apiVersion": "v1"}, typed, 7, None],
    }
    (result,), outcomes = inject_documents([whole], choose, make_token)
    assert [outcome.path for outcome in outcomes] == [
        ("items", 0),
        ("items", 2, "items", 0, "spec", "template"),
        ("items", 2, "items", 1, "spec", "template"),
    ]
    assert result.document == apply_independently(whole, result.patch)
    assert result.document["items"][1] == whole["items"][1]  # type: ignore[index]
    assert str(result.document).count(f"'name': '{SIDECAR}'") == 3


@pytest.mark.parametrize(
    "document",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"annotations": {names.POLICIES: "*"}}, "spec": {}},
        {"apiVersion": "example.com/v1", "kind": "ShoppingList", "items": "milk"},
        {"apiVersion": "example.com/v1", "kind": "Rollout", "spec": {"template": {"spec": {"containers": [{}]}}}},
        {"kind": "Pod", "spec": make_pod()["spec"]},
    ],
)
def test_other_kinds_pass(document: dict[str, Any]) -> None:
    (result,), outcomes = inject_documents([document], choose, make_token)
    assert result.document == document
    assert result.patch == ()
    assert outcomes == []


STRANGERS: list[tuple[dict[str, Any], str]] = [
    ({"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "spec": {"template": template()}}, "spec.template"),
    ({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"template": template()}}, "spec.template"),
    ({"apiVersion": "v1", "kind": "Deployment", "spec": {"template": template()}}, "spec.template"),
    (
        {"apiVersion": "jobset.x-k8s.io/v1", "kind": "JobSet", "spec": {"jobs": [{}, {"template": template()}]}},
        "spec.jobs[1].template",
    ),
]


@pytest.mark.parametrize(("document", "place"), STRANGERS)
def test_a_pod_in_an_object_of_an_unknown_kind(document: dict[str, Any], place: str) -> None:
    """It stays, and whoever asked for policies there is told that nothing came of it here."""
    (result,), (outcome,) = inject_documents([document], choose, make_token)
    assert (result.document, result.patch) == (document, ())
    assert isinstance(outcome.verdict, Skip)
    (warning,) = outcome.verdict.warnings
    assert warning.startswith(f"{place} is not injected: what a {document['kind']} makes of it is not known here")
    inside: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": [document, make_pod()]}
    _, outcomes = inject_documents([inside], choose, make_token)
    assert {one.path for one in outcomes} == {("items", 1), ("items", 0, *outcome.path)}


def test_annotations_of_a_workload_itself() -> None:
    """Where people put them who mean its pods."""
    document: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"annotations": {"eastgate.dev/mode": "audit"}},
        "spec": {"template": template()},
    }
    _, (outcome,) = inject_documents([document], choose, make_token)
    assert isinstance(outcome.verdict, Injection)
    assert outcome.verdict.warnings == (
        "`eastgate.dev/mode` on the Deployment itself has no effect; accepted: in `spec.template.metadata.annotations`",
    )


def test_namespaces_and_refusals() -> None:
    strict = make_pod({names.MODE: "x"})
    strict["metadata"]["namespace"] = "strict"
    quiet: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "a-"},
        "spec": {"containers": [{"name": "a"}]},
    }
    empty = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "e"}}
    results, outcomes = inject_documents([strict, quiet, empty], choose, make_token)
    assert [type(outcome.verdict) for outcome in outcomes] == [Refusal, Skip, Refusal]
    assert [outcome.subject for outcome in outcomes] == ["Pod strict/cart", "Pod default/a-*", "Deployment default/e"]
    assert [result.patch for result in results] == [(), (), ()]
