"""The components of the manifests, built as a user's own kustomization has them, and shown to a real API server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.apiserver.environment import Environment
from tests.apiserver.manifests import MANIFESTS, Object, await_kinds

COMPONENTS = ("ha", "cert-manager", "enforced", "network-policy", "service-monitor", "trusted-ca")

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: {kind}, plural: {plural}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
"""Of kinds that the components use and others install."""

STRANGERS = [
    ("cert-manager.io", "Issuer"),
    ("cert-manager.io", "Certificate"),
    ("monitoring.coreos.com", "ServiceMonitor"),
    ("monitoring.coreos.com", "PodMonitor"),
]


def build(environment: Environment, folder: Path, *components: str) -> list[Object]:
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(MANIFESTS / "base", folder)],
        "components": [os.path.relpath(MANIFESTS / "components" / one, folder) for one in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return list(yaml.safe_load_all(environment.kubectl("kustomize", str(folder))))


def test_all_components_together_apply(environment: Environment, tmp_path: Path) -> None:
    crds = [CRD.format(group=group, kind=kind, plural=f"{kind.lower()}s") for group, kind in STRANGERS]
    environment.kubectl("apply", "-f", "-", input="---".join(crds))
    await_kinds(environment)
    environment.kubectl("apply", "-f", str(MANIFESTS / "base" / "namespace.yaml"))
    text = yaml.safe_dump_all(build(environment, tmp_path, *COMPONENTS))
    environment.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_stands_by_itself(environment: Environment, tmp_path: Path, component: str) -> None:
    assert len(build(environment, tmp_path, component)) > 15


def test_the_controller_is_led_to_the_authorities_that_are_mounted(environment: Environment, tmp_path: Path) -> None:
    documents = build(environment, tmp_path, *COMPONENTS)
    (deployment,) = (
        one for one in documents if one["metadata"]["name"] == "eastgate-controller" and one["kind"] == "Deployment"
    )
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"] == ["controller"]
    (variable,) = container["env"]
    assert variable["name"] == "EASTGATE_TRUSTED_CA"
    folder, _, file = variable["value"].rpartition("/")
    (mounted,) = (one for one in container["volumeMounts"] if one["mountPath"] == folder)
    assert "subPath" not in mounted, "kubelet would not keep it up to date"
    (volume,) = (one for one in spec["volumes"] if one["name"] == mounted["name"])
    assert volume["configMap"] == {"name": "eastgate-trusted-ca", "items": [{"key": "ca.crt", "path": file}]}
    assert {one["name"] for one in spec["volumes"]} == {"tmp", "trusted-ca"}


def test_with_cert_manager_the_webhook_has_no_rights(environment: Environment, tmp_path: Path) -> None:
    documents = build(environment, tmp_path, *COMPONENTS)
    roles = yaml.safe_dump_all([one for one in documents if "Role" in one["kind"]])
    assert "eastgate-controller" in roles
    assert "eastgate-webhook" not in roles
    named = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    spec = named["Deployment", "eastgate-webhook"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"] == [
        "webhook",
        "--tls-cert-file=/var/run/eastgate/tls/tls.crt",
        "--tls-key-file=/var/run/eastgate/tls/tls.key",
    ]
    mounted, volumes = ({one["name"] for one in many} for many in (container["volumeMounts"], spec["volumes"]))
    assert mounted == volumes == {"tls", "tmp"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["topologySpreadConstraints"]  # of the other component: they do not undo each other
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        one = named[kind, "eastgate"]
        assert one["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == "eastgate-system/eastgate-webhook"
        service = one["webhooks"][0]["clientConfig"]["service"]
        certificate = named["Certificate", "eastgate-webhook"]["spec"]
        assert f"{service['name']}.{service['namespace']}.svc" in certificate["dnsNames"]
