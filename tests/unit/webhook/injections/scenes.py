"""Pods for the tests of injection, and an applier of patches that shares nothing with the one in the product."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

from eastgate.pods import names
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection, Refusal, Skip

_NUMBERS = itertools.count()

CONTEXT = Context(
    namespace="shop",
    enforced=False,
    image="registry.example.com/eastgate-sidecar:1.0.0",
    pull_policy=None,
    pull_secrets=(),
    native=True,
    version="1.0.0",
)
ENFORCED = Context("shop", True, "registry.example.com/eastgate-sidecar:1.0.0", None, (), True, "1.0.0")
CLASSIC = Context("shop", False, "registry.example.com/eastgate-sidecar:1.0.0", None, (), False, "1.0.0")


def make_token() -> str:
    """Another one each time."""
    return f"token-for-tests-{next(_NUMBERS):08}"


def make_pod(
    annotations: dict[str, Any] | None = None, labels: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """A pod with one container that asks for injection; ``annotations`` come on top."""
    metadata: dict[str, Any] = {"name": "cart", "annotations": {names.POLICIES: "*", **(annotations or {})}}
    if labels:
        metadata["labels"] = labels
    container = {"name": "app", "image": "cart:1", "ports": [{"name": "http", "containerPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def patch_of(pod: dict[str, Any], context: Context = CONTEXT) -> Injection:
    """The injection; the pod given must not have been touched."""
    before = json.dumps(pod)
    verdict = inject_pod(pod, context, make_token)
    assert json.dumps(pod) == before
    assert isinstance(verdict, Injection), verdict
    return verdict


def inject(pod: dict[str, Any], context: Context = CONTEXT) -> dict[str, Any]:
    """The pod after injection."""
    return apply_independently(pod, patch_of(pod, context).patch)


def refuse(pod: dict[str, Any], context: Context = CONTEXT) -> Refusal:
    verdict = inject_pod(pod, context, make_token)
    assert isinstance(verdict, Refusal), verdict
    return verdict


def skip(pod: dict[str, Any], context: Context = CONTEXT) -> Skip:
    verdict = inject_pod(pod, context, make_token)
    assert isinstance(verdict, Skip), verdict
    return verdict


def apply_independently(document: Any, patch: Any) -> Any:
    """RFC 6902 ``add``, by changing a copy in place, as most libraries do."""
    document = copy.deepcopy(document)
    for operation in json.loads(json.dumps(patch)):
        assert set(operation) == {"op", "path", "value"}
        assert operation["op"] == "add"
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, dict):
            place[last] = operation["value"]
        elif last == "-":
            place.append(operation["value"])
        else:
            assert 0 <= int(last) <= len(place)
            place.insert(int(last), operation["value"])
    return document


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """The container of that name, wherever it stands."""
    lists = (pod["spec"].get(group) or [] for group in ("initContainers", "containers"))
    return next(one for group in lists for one in group if one["name"] == name)


def list_names(pod: dict[str, Any], group: str) -> list[str]:
    return [one["name"] for one in pod["spec"].get(group) or []]


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    """The sidecar's variables that have a value."""
    return {one["name"]: one.get("value") for one in container(pod, names.SIDECAR_CONTAINER)["env"]}


def probes_of(pod: dict[str, Any]) -> dict[str, Any]:
    """The table in the sidecar's environment."""
    table: dict[str, Any] = json.loads(environment(pod)[names.APP_PROBES_VARIABLE])
    return table


def status_of(pod: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(pod["metadata"]["annotations"][names.STATUS])
    return status
