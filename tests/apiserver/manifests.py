"""What the tests of the manifests share: objects to try, and the way to try many of them at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from eastgate.dialects.kinds import OWN_GROUP
from eastgate.pods import names
from eastgate.pods.annotations import read_settings
from tests.apiserver.environment import Environment
from webhook.injections.containers import make_init, make_sidecar
from webhook.injections.verdicts import Context
from webhook.injections.volumes import make_volumes

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"

ENFORCED_POLICY = "eastgate-enforced"

REGISTRATIONS = (
    "mutatingwebhookconfigurations/eastgate",
    "validatingwebhookconfigurations/eastgate",
    f"validatingadmissionpolicybindings/{ENFORCED_POLICY}",
    f"validatingadmissionpolicybindings/{ENFORCED_POLICY}-images",
    "validatingadmissionpolicybindings/eastgate-bundles",
    "validatingadmissionpolicybindings/eastgate-controller-restraint",
    "validatingadmissionpolicybindings/eastgate-webhook-restraint",
)
"""What asks somebody before an object is stored."""

Object = dict[str, Any]


def apply_kinds(environment: Environment) -> None:
    """The CRDs, ours and the stand-ins, as a user would; ready when they are served."""
    environment.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    apply_stand_ins(environment)
    await_kinds(environment)


def await_kinds(environment: Environment) -> None:
    """Wait until every CRD is served. kubectl's own ``wait`` fails on one that has no conditions at all yet."""
    for _ in range(20):
        waiting = environment.try_kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        if waiting.returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError(waiting.stderr)


def apply_stand_ins(environment: Environment) -> str:
    """``manifests/compat/apply``; what it said."""
    settings = {"PATH": f"{environment.assets}{os.pathsep}{os.environ['PATH']}", "HOME": str(environment.folder)}
    settings["KUBECONFIG"] = str(environment.kubeconfig)
    done = subprocess.run(
        [MANIFESTS / "compat" / "apply"], env=settings, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def forget_registrations(environment: Environment) -> None:
    """Nobody is asked any more."""
    environment.kubectl("delete", "--ignore-not-found", *REGISTRATIONS)


def pod(namespace: str, name: str = "p", **changes: Any) -> Object:
    """A pod; ``labels`` and ``annotations`` go to its metadata, all else to its spec."""
    metadata: Object = {"name": name, "namespace": namespace}
    metadata |= {key: changes.pop(key) for key in ("labels", "annotations") if key in changes}
    spec = {"containers": [{"name": "app", "image": "app"}], **changes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(**config: Any) -> Object:
    """A JWTPolicy of our own."""
    config = {"providers": {"a": {"local": {"inline": "key"}}}, **config}
    return {"apiVersion": f"{OWN_GROUP}/v1alpha1", "kind": "JWTPolicy", "metadata": {}, "spec": {"config": config}}


_SETTINGS = read_settings({names.POLICIES: "*"})[0]
_CONTEXT = Context("", True, "eastgate-sidecar", None, (), True, "test")


def _make(native: bool) -> Object:
    return make_sidecar(_SETTINGS, _CONTEXT, native=native, app_probes="{}", container_ports="")


INIT: Object = make_init(_SETTINGS, _CONTEXT)
NATIVE = _make(native=True)


def sidecar(**changes: Any) -> Object:
    """What the webhook adds in classic mode."""
    return _make(native=False) | changes


def injected(namespace: str, **changes: Any) -> Object:
    """A pod as the webhook leaves it, for what matters here."""
    return pod(namespace, **{"initContainers": [INIT, NATIVE], "volumes": make_volumes(), **changes})


def create(environment: Environment, body: Object, *arguments: str) -> str:
    """Create; what kubectl said where it was refused, else nothing."""
    done = environment.try_kubectl("create", "-f", "-", *arguments, input=json.dumps(body))
    return done.stderr if done.returncode else ""


def try_all(environment: Environment, namespace: str, documents: dict[str, Object]) -> dict[str, str]:
    """Every document in one call, nothing stored: what was said about those that were refused, by name."""
    items = []
    for number, document in enumerate(documents.values()):
        metadata = {**document.get("metadata", {}), "name": f"n{number}", "namespace": namespace}
        metadata.pop("creationTimestamp", None)
        items.append({**document, "metadata": metadata})
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, default=str)
    done = environment.try_kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
    created = {int(number) for number in re.findall(r"^\S+/n(\d+) created", done.stdout, re.MULTILINE)}
    errors = re.split(r'^(?=The \w+ "|Error from server)', done.stderr, flags=re.MULTILINE)
    errors = [one for one in errors if one.startswith(("The ", "Error"))]
    refused = [name for number, name in enumerate(documents) if number not in created]
    assert len(refused) == len(errors), done.stderr
    return dict(zip(refused, errors, strict=True))  # kubectl takes them one after the other
