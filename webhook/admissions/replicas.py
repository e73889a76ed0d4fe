"""Verdicts that are given again: pods come in replicas, and a rollout is the moment in which many come at once.

Two pods are alike when they are the same JSON but for what has no say in injection and differs between replicas: their
names, the node that a DaemonSet's controller wants (by name, in ``matchFields``), and the volume with the random name
that the ServiceAccount plugin gives each pod. Everything else counts, fields of a later Kubernetes as well; so what
injection looks at tomorrow needs no change here. Pods that carry our containers already are always looked at anew.

Knows: which fields may differ. Must not know: what injection makes of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from eastgate.pods.names import CONTAINERS
from webhook.admissions.review import Verdict
from webhook.injections.verdicts import Context

MAX_KEPT: Final = 256
"""Verdicts. A rollout is of one template, and few happen at once."""
MAX_BYTES: Final = 8 * 1024
"""Of a pod as it is compared, without the variables of its containers. What is larger is looked at each time."""

_TOKEN_VOLUME: Final = "kube-api-access-"  # noqa: S105 (a name)
"""What the ServiceAccount plugin's volumes begin with (``serviceaccount.ServiceAccountVolumeName`` of Kubernetes)."""

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"

_encode = msgspec.json.Encoder().encode


class Replicas:
    """The last verdicts, by what they were given on. For any thread."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Context, bytes], Verdict] = {}
        self._lock = threading.Lock()

    def judge(self, pod: Mapping[str, object], context: Context, judge: Callable[[], Verdict]) -> Verdict:
        """The verdict on a pod like this one in the same circumstances, or what ``judge`` says."""
        likeness = describe(pod)
        if likeness is None:
            return judge()
        key = (context, likeness)
        verdict = self._kept.get(key)
        if verdict is None:
            verdict = judge()
            with self._lock:
                self._kept[key] = verdict
                if len(self._kept) > MAX_KEPT:
                    del self._kept[next(iter(self._kept))]
        return verdict


def describe(pod: Mapping[str, object]) -> bytes | None:
    """What alike pods have in common; None where a pod is not to be compared."""
    metadata, spec = pod.get("metadata"), pod.get("spec")
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        return None
    same = dict(metadata)
    same.pop("name", None)
    same.pop("generateName", None)
    fields: dict[str, Any] = dict(spec)
    if "affinity" in fields:
        fields["affinity"] = _hide_node(fields["affinity"])
    for group in ("containers", "initContainers", "ephemeralContainers"):
        containers = fields.get(group)
        if containers is None:
            continue
        if not isinstance(containers, list):
            return None
        found = []
        for container in containers:
            if not isinstance(container, dict) or container.get("name") in CONTAINERS:
                return None
            mounts = container.get("volumeMounts")
            found.append({**container, "volumeMounts": _even_out(mounts)} if isinstance(mounts, list) else container)
        fields[group] = found
    volumes = fields.get("volumes")
    if isinstance(volumes, list):
        fields["volumes"] = _even_out(volumes)
    try:
        likeness = _encode({**pod, "metadata": same, "spec": fields})
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return likeness if len(likeness) <= MAX_BYTES else None


def _hide_node(affinity: Any) -> object:
    """The affinity with the names of nodes left out. That there are some still shows: it is a term that matches one."""
    try:
        nodes = affinity["nodeAffinity"]
        terms = [
            {**term, "matchFields": bool(term["matchFields"])} if "matchFields" in term else term
            for term in nodes[_REQUIRED]["nodeSelectorTerms"]
        ]
    except (KeyError, TypeError):
        return affinity
    return {**affinity, "nodeAffinity": {**nodes, _REQUIRED: {**nodes[_REQUIRED], "nodeSelectorTerms": terms}}}


def _even_out(items: list[Any]) -> list[Any]:
    """The volumes or mounts with the token's under one name. It stays in its place, for messages count places."""
    return [{**item, "name": _TOKEN_VOLUME} if _is_token(item) else item for item in items]


def _is_token(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    name = item.get("name")
    return isinstance(name, str) and name.startswith(_TOKEN_VOLUME)
