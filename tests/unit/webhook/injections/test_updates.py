"""An injected pod that is applied again, by either kind of apply."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.webhook.injections.scenes import make_token
from webhook.injections.patches import apply
from webhook.injections.pod import inject_pod
from webhook.injections.updates import restore_handlers
from webhook.injections.verdicts import Context, Injection

CONTEXT = Context(
    namespace="a",
    enforced=False,
    image="eastgate-sidecar:1",
    pull_policy=None,
    pull_secrets=(),
    native=True,
    version="1",
)

ORIGINAL: dict[str, Any] = {
    "metadata": {"name": "app", "annotations": {"eastgate.dev/policies": "jwt"}},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 3},
                "livenessProbe": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 2},
                "startupProbe": {"grpc": {"port": 8080, "service": "s"}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 8080}}},
            }
        ]
    },
}


def inject() -> dict[str, Any]:
    result = inject_pod(ORIGINAL, CONTEXT, make_token)
    assert isinstance(result, Injection)
    return apply(ORIGINAL, result.patch)


def applied(injected: dict[str, Any], *, merging: bool) -> dict[str, Any]:
    """The injected pod after the author's manifest was applied once more: replaced, or merged field by field."""
    pod = copy.deepcopy(injected)
    container, author = pod["spec"]["containers"][0], copy.deepcopy(ORIGINAL["spec"]["containers"][0])
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        container[name] = {**(container[name] if merging else {}), **author[name]}
    hook = container["lifecycle"]["preStop"]["httpGet"]
    container["lifecycle"] = author["lifecycle"]
    if merging:
        container["lifecycle"]["preStop"]["httpGet"] = {**hook, **author["lifecycle"]["preStop"]["httpGet"]}
    return pod


@pytest.mark.parametrize("merging", [False, True])
def test_the_authors_handlers_become_what_injection_made_of_them(merging: bool) -> None:
    injected = inject()
    again = applied(injected, merging=merging)
    assert again != injected
    patch = restore_handlers(again, injected)
    assert {operation["op"] for operation in patch} == {"add"}
    assert apply(again, patch) == injected


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [{"name": "A", "value": "b"}],
        [{"name": "eastgate-hook-token", "value": "1"}, {"name": "A", "value": "b"}],
    ],
)
def test_hooks_with_headers_of_the_author(headers: list[dict[str, str]]) -> None:
    original = copy.deepcopy(ORIGINAL)
    hook = original["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]
    hook["httpHeaders"] = headers
    result = inject_pod(original, CONTEXT, make_token)
    assert isinstance(result, Injection)
    injected = apply(original, result.patch)
    again = copy.deepcopy(injected)
    again["spec"]["containers"][0]["lifecycle"] = copy.deepcopy(original["spec"]["containers"][0]["lifecycle"])
    assert apply(again, restore_handlers(again, injected)) == injected
    # Our token with headers that are not the author's is another hook.
    ours = injected["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["httpHeaders"]
    changed = [*ours, {"name": "C", "value": "d"}]
    again["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["httpHeaders"] = changed
    assert restore_handlers(again, injected) == ()


def test_nothing_to_do_for_a_pod_that_is_as_it_was() -> None:
    injected = inject()
    assert restore_handlers(injected, injected) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"httpGet": {"path": "/other", "port": "http"}, "periodSeconds": 3},
        {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 4},
        {"httpGet": {"path": "/ready", "port": 9090}, "periodSeconds": 3},
        {"tcpSocket": {"port": 8080}, "periodSeconds": 3},
        {"exec": {"command": ["true"]}, "periodSeconds": 3},
    ],
)
def test_a_probe_that_changed_is_left_to_the_api_server(change: dict[str, Any]) -> None:
    injected = inject()
    again = applied(injected, merging=False)
    again["spec"]["containers"][0]["readinessProbe"] = change
    paths = [operation["path"] for operation in restore_handlers(again, injected)]
    assert "/spec/containers/0/readinessProbe" not in paths
    assert "/spec/containers/0/livenessProbe" in paths


def test_a_pod_that_is_not_ours_is_not_touched() -> None:
    assert restore_handlers(ORIGINAL, ORIGINAL) == ()
    assert restore_handlers(applied(inject(), merging=False), ORIGINAL) == ()
    assert restore_handlers({}, inject()) == ()
