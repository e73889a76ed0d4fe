"""Pods inside of other objects: what the webhook would do to the pods of a Deployment, a CronJob, a List.

Knows: which kinds hold a pod template, and where. Other custom kinds stay as they are: their pods meet the webhook one
by one, and who annotated a template in one is told so.
Must not know: files, YAML, or how a result is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eastgate.pods import names
from eastgate.pods.annotations import SETTINGS_KEYS
from webhook.injections.patches import Operation, apply, prefix
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection, Path, Problem, Refusal, Skip
from webhook.injections.views import CONTAINERS, map_of, name_pod, show_path

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
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
}
"""(group, kind) -> where its pod is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one pod or template. ``path`` leads to it from the document; ``subject`` names its object."""

    document: int
    path: Path
    namespace: str
    subject: str
    verdict: Injection | Skip | Refusal


@dataclass(frozen=True, slots=True)
class Injected:
    """A document after injection, and the patch that makes it so. Without an injected pod it is what it was."""

    document: Mapping[str, Any]
    patch: tuple[Operation, ...]


def inject_documents(
    documents: list[Mapping[str, Any]],
    choose_context: Callable[[str | None], Context],
    make_token: Callable[[], str],
) -> tuple[list[Injected], list[Outcome]]:
    """Every document with its pods injected, and what became of each pod.

    ``choose_context`` is asked with the namespace that an object says it is in, or None; ``make_token`` for each pod
    that has hooks and no token yet.
    """
    results, outcomes = [], []
    for index, document in enumerate(documents):
        patch: list[Operation] = []
        known: set[Path] = set()
        for path, holder, pod in _find_pods(document, ()):
            namespace = map_of(holder.get("metadata")).get("namespace")
            context = choose_context(namespace if isinstance(namespace, str) and namespace else None)
            known.add(path)
            verdict = _add_doubts(inject_pod(pod, context, make_token), holder, pod)
            if isinstance(verdict, Injection) and (clashes := _judge_claims(holder)):
                path, verdict = path[: -len(_TEMPLATE)], Refusal.of(clashes)
            subject = f"{holder['kind']} {name_pod(holder, context)}"
            outcomes.append(Outcome(index, path, context.namespace, subject, verdict))
            if isinstance(verdict, Injection):
                patch += prefix(verdict.patch, path)
        results.append(Injected(apply(document, patch), tuple(patch)))
        outcomes += [_pass_over(index, path, document, choose_context) for path in _find_strangers(document, (), known)]
    return results, outcomes


def _judge_claims(holder: Mapping[str, Any]) -> list[Problem]:
    """Volumes that the controller of a StatefulSet puts in the place of those of the template with the same name."""
    problems = []
    claims = map_of(holder.get("spec")).get("volumeClaimTemplates") if holder["kind"] == "StatefulSet" else None
    for index, claim in enumerate(claims if isinstance(claims, list) else ()):
        name = map_of(map_of(claim).get("metadata")).get("name")
        if name in names.VOLUMES:
            path: Path = ("spec", "volumeClaimTemplates", index, "metadata", "name")
            message = f"{show_path(path)}: the name `{name}` is that of an injected volume; accepted: another name"
            problems.append(Problem("name-clash", message, path))
    return problems


def _add_doubts(
    verdict: Injection | Skip | Refusal, holder: Mapping[str, Any], pod: Mapping[str, Any]
) -> Injection | Skip | Refusal:
    """A word to those who annotated a Deployment and meant its pods."""
    if isinstance(verdict, Refusal):
        return verdict
    inner = TEMPLATES[str(holder["apiVersion"]).rpartition("/")[0], holder["kind"]]
    doubts = tuple(
        f"`{key}` on {where} has no effect; accepted: in `{show_path((*inner, 'metadata', field))}`"
        for where, field, key in _find_misplaced(holder, pod, inner)
    )
    return replace(verdict, warnings=(*verdict.warnings, *doubts)) if doubts else verdict


def _find_misplaced(holder: Mapping[str, Any], pod: Mapping[str, Any], inner: Path) -> Iterator[tuple[str, str, str]]:
    """Where a pod's keys stand that is no pod, as what, and the first key of each place."""
    levels = [(f"the {holder['kind']} itself", holder)] if inner else []
    if inner[1:2] == ("jobTemplate",):
        levels.append(("the job template", map_of(map_of(holder.get("spec")).get("jobTemplate"))))
    opted = names.INJECT_LABEL in map_of(map_of(pod.get("metadata")).get("labels"))
    for where, level in levels:
        metadata = map_of(level.get("metadata"))
        misplaced = [key for key in map_of(metadata.get("annotations")) if key in SETTINGS_KEYS]
        if misplaced:
            yield where, "annotations", misplaced[0]
        # Many put the same labels on both.
        if names.INJECT_LABEL in map_of(metadata.get("labels")) and not opted:
            yield where, "labels", names.INJECT_LABEL


def _find_strangers(value: object, path: Path, known: set[Path]) -> Iterator[Path]:
    """Places in objects of unknown kinds where somebody annotated what looks like a pod."""
    if path in known:
        return
    if isinstance(value, Mapping):
        asked = names.POLICIES in map_of(map_of(value.get("metadata")).get("annotations"))
        if asked and isinstance(map_of(value.get("spec")).get(CONTAINERS), list):
            yield path
            return
        for key, inner in value.items():
            yield from _find_strangers(inner, (*path, str(key)), known)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _find_strangers(inner, (*path, index), known)


def _pass_over(
    index: int, path: Path, document: Mapping[str, Any], choose_context: Callable[[str | None], Context]
) -> Outcome:
    kind = document.get("kind")
    why = f"what a {kind} makes of it is not known here; its pods are injected as they are created, by the webhook"
    context = choose_context(None)
    subject = f"{kind} {name_pod(document, context)}"
    return Outcome(
        index,
        path,
        context.namespace,
        subject,
        Skip("unknown-kind", why, (f"{show_path(path) or 'the object'} is not injected: {why}",)),
    )


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
