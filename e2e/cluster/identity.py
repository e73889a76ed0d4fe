"""The identity provider of the tests: a pod that serves the seeds' key sets under the seeds' names.

``raw.githubusercontent.com`` has a certificate of the platform's authority, which the controller tells every sidecar of
(``manifests/components/trusted-ca``); ``foo.bar.com`` has one of its own, which only the policy's ConfigMap can vouch
for, and fails twice first. That the names lead here is the doing of the cluster's name server.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from eastgate.demonstrations.identity import Authority
from eastgate.demonstrations.scenarios import Material

NAMESPACE = "identity"
PUBLIC, PRIVATE = "raw.githubusercontent.com", "foo.bar.com"
ALIASES = (f"{PUBLIC}=public.{NAMESPACE}", f"{PRIVATE}=private.{NAMESPACE}")
"""What the name server is to say."""


def make_identity(material: Material, platform: Authority, private: Authority, failures: int = 2) -> str:
    """All objects, as JSON for ``kubectl apply``."""
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "public.pem": platform.certify((PUBLIC,), Path(folder)).read_text(),
            "private.pem": private.certify((PRIVATE,), Path(folder)).read_text(),
            "documents.json": json.dumps(material.key_sets()),
        }
    labels = {"app": "keys"}
    container = {
        "name": "keys",
        "image": "localhost/apps:1",
        "imagePullPolicy": "Never",
        "command": ["python3", "/opt/apps/keys.py"],
        "env": [{"name": "FAILURES", "value": str(failures)}],
        "volumeMounts": [{"name": "keys", "mountPath": "/keys"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
    }
    objects: list[dict[str, object]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": NAMESPACE},
            "stringData": files,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "keys", "namespace": NAMESPACE},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": [container],
                        "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
                        "terminationGracePeriodSeconds": 0,
                    },
                },
            },
        },
    ]
    for name, port in (("public", 8443), ("private", 8444)):
        spec: object = {"selector": labels, "ports": [{"port": 443, "targetPort": port}]}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        objects.append(service)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
