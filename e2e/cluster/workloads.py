"""Objects that the tests apply: a namespace, a policy of our own kind, the application as Pod or Deployment, tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from eastgate.demonstrations.signing import SigningKey, generate_key, public_key_set, sign_token

APP, PORT = "app", 8080
ISSUER = "https://issuer.example.com"
KEY: SigningKey = generate_key("EC", "main")
STRANGER: SigningKey = generate_key("EC", "main")

PATIENT = {"timeoutSeconds": 10}
"""A probe's."""

type Objects = dict[str, Any]


def make_token(key: SigningKey = KEY, **claims: object) -> str:
    """One that the policy accepts, unless the claims or the key say otherwise."""
    return sign_token(key, {"iss": ISSUER, "sub": "e2e", "exp": int(time.time()) + 36000, **claims})


def make_namespace(name: str, label: str = "enabled") -> Objects:
    """Labelled as its pods are to be treated."""
    labels = {"eastgate.dev/injection": label} if label else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def make_policy(namespace: str, *, values: list[str] | None = None, keys: Objects | None = None) -> Objects:
    """A token for every request; with ``values`` its claim ``org`` must hold one of them."""
    provider = {"issuer": ISSUER, **(keys or {"local": {"inline": public_key_set(KEY)}})}
    claims = {} if values is None else {"claims": [{"key": "org", "values": values}]}
    return {
        "apiVersion": "policy.eastgate.dev/v1alpha1",
        "kind": "JWTPolicy",
        "metadata": {"name": "jwt", "namespace": namespace},
        "spec": {"config": {"providers": {"e2e": provider}, **claims}},
    }


def make_template(name: str = APP, annotations: Mapping[str, str] | None = None, **container: Any) -> Objects:
    """Metadata and spec of a pod that asks for the policy."""
    return {
        "metadata": {"labels": {"app": name}, "annotations": {"eastgate.dev/policies": "jwt", **(annotations or {})}},
        "spec": {
            "terminationGracePeriodSeconds": 20,
            "containers": [
                {
                    "name": APP,
                    "image": "localhost/apps:1",
                    "imagePullPolicy": "Never",
                    "ports": [{"name": "http", "containerPort": PORT}],
                    # The second that a probe has by default is nothing on a busy machine.
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, **PATIENT},
                    **container,
                }
            ],
        },
    }


def make_pod(
    namespace: str, name: str = APP, annotations: Mapping[str, str] | None = None, **container: Any
) -> Objects:
    """A pod by itself."""
    template = make_template(name, annotations, **container)
    metadata = {**template["metadata"], "name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def make_deployment(namespace: str, replicas: int = 1, name: str = APP, **container: Any) -> Objects:
    """The same as a Deployment that never goes below its replicas."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "strategy": rolling,
        "template": make_template(name, **container),
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def make_service(namespace: str, name: str = APP, families: Sequence[str] = ()) -> Objects:
    """Port 80 to the app's. ``families`` is of ``IPv4`` and ``IPv6``, in the order of its addresses."""
    spec: Objects = {"selector": {"app": APP}, "ports": [{"port": 80, "targetPort": PORT}]}
    if families:
        policy = "RequireDualStack" if len(families) == 2 else "SingleStack"
        spec |= {"ipFamilyPolicy": policy, "ipFamilies": list(families)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
