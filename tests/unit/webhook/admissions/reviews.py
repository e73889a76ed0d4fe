"""Reviews as the API server writes them."""

from __future__ import annotations

import base64
import json
from typing import Any

POLICY: dict[str, Any] = {
    "apiVersion": "policy.eastgate.dev/v1alpha1",
    "kind": "JWTPolicy",
    "metadata": {"name": "login", "namespace": "shop"},
    "spec": {
        "applyToRoutes": [{"route": {"labels": {"app": "web"}}}],
        "config": {
            "providers": {
                "dev": {
                    "issuer": "https://issuer.example.com",
                    "remote": {"url": "https://issuer.example.com/jwks.json"},
                }
            }
        },
    },
}


def make_review(
    found: object,
    *,
    group: str = "",
    version: str = "v1",
    kind: str = "Pod",
    operation: str = "CREATE",
    before: object = None,
    namespace: str = "shop",
    subresource: str | None = None,
    **more: object,
) -> dict[str, Any]:
    """A review with everything in it that an API server sends."""
    named = {"group": group, "version": version, "kind": kind}
    resource = {"group": group, "version": version, "resource": f"{kind.lower()}s"}
    request: dict[str, Any] = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": named,
        "resource": resource,
        "requestKind": named,
        "requestResource": resource,
        "namespace": namespace,
        "operation": operation,
        "userInfo": {"username": "admin", "groups": ["system:authenticated"], "extra": {"key": ["value"]}},
        "object": found,
        "oldObject": before,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        **more,
    }
    if subresource is not None:
        request["subResource"] = subresource
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


def make_pod(annotations: dict[str, str] | None = None, **spec: object) -> dict[str, Any]:
    """A pod as it comes from a ReplicaSet: no name yet."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-7d4b9c-",
            "namespace": "shop",
            "creationTimestamp": None,
            "labels": {"app": "web"},
            "annotations": {"eastgate.dev/policies": "login"} if annotations is None else annotations,
        },
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example.com/web:1",
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {},
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
            "restartPolicy": "Always",
            "securityContext": {},
            **spec,
        },
        "status": {},
    }


def as_bytes(review: object) -> bytes:
    """The body of a request."""
    return json.dumps(review).encode()


def read_answer(content: bytes) -> dict[str, Any]:
    """The response in an answer; the envelope is checked."""
    answer = json.loads(content)
    assert set(answer) == {"apiVersion", "kind", "response"}
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answer["response"]
    return response


def read_patch(response: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations in a response."""
    assert response["patchType"] == "JSONPatch"
    patch: list[dict[str, Any]] = json.loads(base64.b64decode(response["patch"], validate=True))
    return patch
