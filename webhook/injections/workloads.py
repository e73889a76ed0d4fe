"""Pods inside of other objects: what the webhook would do to the pods of a Deployment, a CronJob, a List.

Knows: which kinds hold a pod template, and where. Custom kinds are passed over: their pods meet the webhook one by one.
Must not know: files, YAML, or how a result is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webhook.injections.patches import Operation, apply, prefix
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection, Path, Refusal, Skip
from webhook.injections.views import map_of, name_pod

_TEMPLATE: Path = ("spec", "template")

TEMPLATES: Mapping[tuple[str, str], Path] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("extensions", "Deployment"): _TEMPLATE,
    ("extensions", "ReplicaSet"): _TEMPLATE,
    ("extensions", "DaemonSet"): _TEMPLATE,
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""(group, kind) -> where its pod is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one pod or template. ``path`` leads to it from the document; ``subject`` names its object."""

    document: int
    path: Path
    subject: str
    verdict: Injection | Skip | Refusal


@dataclass(frozen=True, slots=True)
class Injected:
    """A document after injection, and the patch that makes it so. Without an injected pod it is what it was."""

    document: Mapping[str, Any]
    patch: tuple[Operation, ...]


def inject_documents(
    documents: list[Mapping[str, Any]], choose_context: Callable[[str | None], Context]
) -> tuple[list[Injected], list[Outcome]]:
    """Every document with its pods injected, and what became of each pod.

    ``choose_context`` is asked with the namespace that an object says it is in, or None.
    """
    results, outcomes = [], []
    for index, document in enumerate(documents):
        patch: list[Operation] = []
        for path, holder, pod in _find_pods(document, ()):
            namespace = map_of(holder.get("metadata")).get("namespace")
            context = choose_context(namespace if isinstance(namespace, str) and namespace else None)
            verdict = inject_pod(pod, context)
            outcomes.append(Outcome(index, path, f"{holder['kind']} {name_pod(holder, context)}", verdict))
            if isinstance(verdict, Injection):
                patch += prefix(verdict.patch, path)
        results.append(Injected(apply(document, patch), tuple(patch)))
    return results, outcomes


def _find_pods(document: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Mapping[str, Any], Mapping[str, Any]]]:
    """Path of each pod or template in an object, the object that holds it, and itself. Lists are opened."""
    kind, version = document.get("kind"), document.get("apiVersion")
    items = document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, Mapping):
                yield from _find_pods(_inherit_kind(item, kind, version), (*path, "items", index))
        return
    if not isinstance(kind, str) or not isinstance(version, str):
        return
    inner = TEMPLATES.get((version.rpartition("/")[0], kind))
    if inner is None:
        return
    pod: Any = document
    for part in inner:
        pod = map_of(pod).get(str(part))
    # A Deployment without a template is a pod without containers: the message says what is missing.
    yield (*path, *inner), document, map_of(pod)


def _inherit_kind(item: Mapping[str, Any], kind: str, version: object) -> Mapping[str, Any]:
    """The item of a ``DeploymentList`` need not say that it is a Deployment (client-go's rule)."""
    if kind == "List" or "kind" in item:
        return item
    return {"apiVersion": version, "kind": kind.removesuffix("List"), **item}
