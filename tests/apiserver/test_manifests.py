"""The manifests on a real API server, with nobody behind the webhook's Service: what holds without the webhook.

Where a webhook is asked, the answer here is "failed calling webhook", so these tests also show who is asked, and about
what. What is written into the cluster stays, but for the registrations: there is no controller manager here that would
end a namespace, and the next module applies the same manifests.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eastgate.pods import names
from tests.apiserver.environment import Environment
from tests.apiserver.manifests import (
    ENFORCED_POLICY,
    INIT,
    MANIFESTS,
    NATIVE,
    Object,
    apply_kinds,
    create,
    forget_registrations,
    injected,
    pod,
    policy,
    sidecar,
    try_all,
)

NOT_REACHED = "failed calling webhook"
MIRROR = "kubernetes.io/config.mirror"
NEVER_ASKED = ("kube-system", "kube-public", "kube-node-lease", names.SYSTEM_NAMESPACE)
ENFORCED = "manifests-enforced"


@pytest.fixture(scope="module")
def installed(environment: Environment) -> Iterator[Environment]:
    """Everything of ``manifests/install``, with nobody behind the webhook's Service."""
    apply_kinds(environment)
    environment.kubectl("apply", "-k", str(MANIFESTS / "install"))
    environment.connect(f"{names.SYSTEM_NAMESPACE}/eastgate-webhook", None)
    namespace = environment.create_namespace("manifests-probe", "enforced")
    wait_until(lambda: NOT_REACHED in create(environment, pod(namespace), "--dry-run=server"))
    yield environment
    forget_registrations(environment)


def wait_until(true: Callable[[], bool]) -> None:
    """The API server takes note of a registration a moment after it was stored."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "the API server took no note of the registrations"


@contextlib.contextmanager
def unregistered(environment: Environment, kind: str) -> Iterator[None]:
    """The webhook's registration taken away for a while."""
    found = environment.get(kind, "eastgate")
    kept = ("name", "labels", "annotations")
    found["metadata"] = {key: found["metadata"][key] for key in kept}  # type: ignore[index]
    environment.kubectl("delete", kind, "eastgate")
    try:
        yield
    finally:
        environment.kubectl("create", "-f", "-", input=json.dumps(found))


def test_applying_again_changes_nothing(installed: Environment) -> None:
    assert installed.kubectl("diff", "-k", str(MANIFESTS / "install")) == ""


def test_applying_again_keeps_what_the_webhook_wrote(installed: Environment) -> None:
    file = MANIFESTS / "examples" / "jwt-authentication" / "self-signed" / "ca" / "configmap.yaml"
    bundle = base64.b64encode(yaml.safe_load(file.read_text())["data"]["ca.crt"].encode()).decode()
    patch = [{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}]
    installed.kubectl("patch", "mutatingwebhookconfiguration", "eastgate", "--type=json", "-p", json.dumps(patch))
    installed.kubectl("apply", "-k", str(MANIFESTS / "install"))
    assert bundle in json.dumps(installed.get("mutatingwebhookconfiguration", "eastgate"))


def test_the_control_plane_is_admitted_where_it_runs(installed: Environment) -> None:
    """By Pod Security ``restricted``, by the quota for its priority, and by nobody's webhook."""
    quota = json.dumps({"status": {"hard": {"pods": "50"}, "used": {"pods": "0"}}})  # as the controller manager would
    installed.kubectl(
        *("patch", "resourcequota", "eastgate-critical-pods", "-n", names.SYSTEM_NAMESPACE),
        *("--subresource=status", "--type=merge", "-p", quota),
    )
    for name in ("eastgate-webhook", "eastgate-controller"):
        deployment = installed.get("deployment", name, "-n", names.SYSTEM_NAMESPACE)
        assert deployment["spec"]["replicas"] == 2  # type: ignore[index]
        template = deployment["spec"]["template"]  # type: ignore[index]
        metadata = {**template["metadata"], "name": name, "namespace": names.SYSTEM_NAMESPACE}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        done = installed.try_kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(body))
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # no warning of Pod Security either
        assert json.loads(done.stdout)["spec"]["priority"] == 2_000_000_000


# --- who waits for the webhook --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [names.ENABLED, names.ENFORCED])
def test_some_namespaces_are_never_locked_out(installed: Environment, label: str) -> None:
    installed.kubectl("label", "namespace", *NEVER_ASKED, "--overwrite", f"{names.INJECTION_LABEL}={label}")
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    containers = [{"name": "app", "image": "app", "securityContext": security}]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    try:
        for namespace in NEVER_ASKED:
            installed.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(account))
            body = pod(namespace, containers=containers, annotations={names.POLICIES: "*"})
            assert create(installed, body, "--dry-run=server") == ""
    finally:
        installed.kubectl("label", "namespace", *NEVER_ASKED, f"{names.INJECTION_LABEL}-")


def test_who_waits_for_the_webhook_in_an_enabled_namespace(installed: Environment) -> None:
    here = installed.create_namespace("manifests-enabled", "enabled")
    asked = {names.POLICIES: "*"}
    waiting = {
        "annotated": pod(here, annotations=asked),
        "mistyped": pod(here, annotations={names.PREFIX + "policy": "*"}),
        "a strange label": pod(here, labels={names.INJECT_LABEL: "no"}),
    }
    others = {
        "plain": pod(here),
        "opted out": pod(here, labels={names.INJECT_LABEL: "false"}, annotations=asked),
        "ours elsewhere": pod(here, labels={names.PREFIX + "component": "webhook"}, annotations=asked),
        "mirror": pod(here, annotations={**asked, MIRROR: "x"}, nodeName="n", automountServiceAccountToken=False),
    }
    said = try_all(installed, here, {**waiting, **others})
    assert set(said) == set(waiting), said
    assert all(f'{NOT_REACHED} "enabled.injection.eastgate.dev"' in text for text in said.values())


def test_a_namespace_without_the_label_never_waits(installed: Environment) -> None:
    here = installed.create_namespace("manifests-free")
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {}}
    assert try_all(installed, here, {"pod": pod(here, annotations={names.POLICIES: "*"}), "route": route}) == {}


def test_foreign_policies_wait_where_they_are_enforced(installed: Environment) -> None:
    here = installed.create_namespace("manifests-policies", "enabled")
    foreign = {
        f"{api} {kind}": {"apiVersion": api, "kind": kind, "spec": {}}
        for api, kind in (
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"),
            ("gateway.networking.k8s.io/v1alpha2", "GRPCRoute"),
            ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"),
            ("security.policy.gloo.solo.io/v2", "JWTPolicy"),
            ("networking.gloo.solo.io/v2", "RouteTable"),
        )
    }
    said = try_all(installed, here, foreign)
    assert set(said) == set(foreign)
    assert all(f'{NOT_REACHED} "foreign.validation.eastgate.dev"' in text for text in said.values())


def test_our_policies_wait_everywhere_and_their_end_does_not(installed: Environment) -> None:
    here = installed.create_namespace("manifests-own")
    document = policy()
    document["metadata"] = {"name": "p", "namespace": here}
    assert f'{NOT_REACHED} "own.validation.eastgate.dev"' in create(installed, document)
    with unregistered(installed, "validatingwebhookconfiguration"):
        installed.kubectl("create", "-f", "-", input=json.dumps(document))
    condition = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    condition["lastTransitionTime"] = "2026-01-31T12:00:00Z"
    status = json.dumps({"status": {"conditions": [condition]}})
    at = ("ejwt", "p", "-n", here)
    installed.kubectl("patch", *at, "--subresource=status", "--type=merge", "-p", status)
    installed.kubectl("annotate", *at, "example.com/owner=me")
    wait_until(lambda: NOT_REACHED in installed.try_kubectl("label", *at, "route=x", "--dry-run=server").stderr)
    installed.kubectl("patch", *at, "--type=merge", "-p", '{"metadata":{"finalizers":["example.com/a"]}}')
    installed.kubectl("delete", *at, "--wait=false")
    installed.kubectl("patch", *at, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert installed.try_kubectl("get", *at).returncode == 1


def test_what_happens_to_a_running_pod_does_not_wait(installed: Environment) -> None:
    here = installed.create_namespace("manifests-running", "enabled")
    body = pod(here, annotations={names.POLICIES: "*", names.MODE: "audit"})
    with unregistered(installed, "mutatingwebhookconfiguration"):
        wait_until(lambda: create(installed, body) == "")
    at = ("pod", "p", "-n", here, "--overwrite")
    installed.kubectl("label", *at, "version=2")
    installed.kubectl("annotate", *at, "example.com/owner=me")
    installed.kubectl("annotate", *at, f"{names.BUNDLE}=sha256:2", f"{names.MODE}=audit")
    installed.kubectl("annotate", *at, f"{names.BUNDLE}-")
    for change in (f"{names.MODE}=enforce", f"{names.MODE}-", f"{names.PREFIX}mood=x"):
        done = installed.try_kubectl("annotate", *at, change)
        assert f'{NOT_REACHED} "enabled.pods.validation.eastgate.dev"' in done.stderr, change
    assert debug(installed, here, "d1") == ""
    for who in ({"runAsUser": names.PROXY_ID}, {"runAsGroup": names.PROXY_ID}):
        assert f'{NOT_REACHED} "enabled.pods.validation.eastgate.dev"' in debug(installed, here, "d2", **who)
    installed.kubectl("delete", "pod", "p", "-n", here, "--grace-period=0", "--force")


def debug(environment: Environment, namespace: str, name: str, **security: Any) -> str:
    """Add an ephemeral container, as ``kubectl debug`` does; what was said where it was refused."""
    container = {"name": name, "image": "debug", "securityContext": security}
    patch = json.dumps({"spec": {"ephemeralContainers": [container]}})
    done = environment.try_kubectl(
        "patch", "pod", "p", "-n", namespace, "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch
    )
    return done.stderr


# --- enforced namespaces, with the webhook's registration away ------------------------------------------------------


@pytest.fixture(scope="module")
def enforced(installed: Environment) -> Iterator[Environment]:
    """Nobody injects: only the admission policy is left."""
    installed.create_namespace(ENFORCED, "enforced")
    with unregistered(installed, "mutatingwebhookconfiguration"):
        wait_until(lambda: ENFORCED_POLICY in create(installed, pod(ENFORCED), "--dry-run=server"))
        yield installed


def as_user(**security: Any) -> list[Object]:
    return [{"name": "thief", "image": "app", "securityContext": security}]


NO_SIDECAR = "the pod has no Eastgate sidecar, and this namespace is labelled eastgate.dev/injection=enforced"
NOT_OURS = "the container eastgate-sidecar is not the one that the webhook adds"
NOT_OUR_INIT = "the container eastgate-init is not the one that the webhook adds"
POWER = "can take the redirection to the sidecar away"
THIEF = "container thief must run as another user and group"
OTHER_GROUPS = "the pod's securityContext must name other users and groups"
OURS = {"runAsUser": names.PROXY_ID}


def pair(init: Object | None = None, native: Object | None = None) -> Object:
    """A pod whose injected containers somebody has had hands on."""
    return injected(ENFORCED, initContainers=[INIT | (init or {}), NATIVE | (native or {})])


def plus(container: Object, field: str, **item: str) -> Object:
    """One more variable or mount."""
    return {field: [*container[field], item]}


def with_bundle(**config_map: object) -> Object:
    """The bundle's volume, with another source."""
    volume = {"name": names.BUNDLE_VOLUME, "configMap": config_map}
    others = [one for one in injected(ENFORCED)["spec"]["volumes"] if one["name"] != names.BUNDLE_VOLUME]
    return injected(ENFORCED, volumes=[volume, *others])


def mounting(path: str) -> Object:
    """Something else mounted into the sidecar."""
    body = pair(native=plus(NATIVE, "volumeMounts", name="mine", mountPath=path))
    body["spec"]["volumes"] = [*body["spec"]["volumes"], {"name": "mine", "configMap": {"name": "mine"}}]
    return body


ENDING = {key: value for key, value in sidecar().items() if key != "lifecycle" and not key.endswith("Probe")}
"""The API server takes neither hooks nor probes of an init container that ends."""

LOOKALIKES: dict[str, tuple[Object, str]] = {
    "another program": (pair(native={"command": ["sleep"]}), NOT_OURS),
    "other arguments": (pair(native={"args": ["sidecar", "run", "--upstream=http://127.0.0.1:80"]}), NOT_OURS),
    "an upstream": (pair(native=plus(NATIVE, "env", name="EASTGATE_UPSTREAM", value="http://127.0.0.1")), NOT_OURS),
    "a completion": (pair(init=plus(INIT, "env", name="_EASTGATE_COMPLETE", value="source_bash")), NOT_OURS),
    "variables from elsewhere": (pair(native={"envFrom": [{"configMapRef": {"name": "mine"}}]}), NOT_OURS),
    "a hook": (pair(native={"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}}), NOT_OURS),
    "another bundle": (with_bundle(name="mine"), NOT_OURS),
    "parts of the bundle": (with_bundle(name=names.BUNDLE_NAME, items=[{"key": "a", "path": "b"}]), NOT_OURS),
    "a bundle on top": (mounting("/run/eastgate/bundle"), NOT_OURS),
    "a loader on top": (mounting("/etc/ld.so.preload"), NOT_OURS),
    "a way about": (mounting("/srv/../usr"), NOT_OURS),
    "another init program": (pair(init={"command": ["true"]}), NOT_OURS),
    "help": (pair(init={"args": ["--help"]}), NOT_OUR_INIT),
    "everything excluded": (pair(init={"args": [*INIT["args"][:-1], "--exclude-inbound-ports=1-65535"]}), NOT_OUR_INIT),
    "no rights": (pair(init={"securityContext": {}}), NOT_OUR_INIT),
    "redirection afterwards": (injected(ENFORCED, initContainers=[NATIVE, INIT]), NOT_OUR_INIT),
    "privileged": (injected(ENFORCED, containers=as_user(privileged=True)), POWER),
    "net_admin": (injected(ENFORCED, containers=as_user(capabilities={"add": ["net_admin"]})), POWER),
}
REFUSED: dict[str, tuple[Object, str]] = {
    "plain": (pod(ENFORCED), NO_SIDECAR),
    "annotated": (pod(ENFORCED, annotations={names.POLICIES: "*"}), NO_SIDECAR),
    "no redirection": (injected(ENFORCED, initContainers=[NATIVE]), NO_SIDECAR),
    "redirection only": (injected(ENFORCED, initContainers=[INIT]), NO_SIDECAR),
    "a sidecar that ends": (injected(ENFORCED, initContainers=[INIT, ENDING]), NO_SIDECAR),
    "another user": (injected(ENFORCED, initContainers=[INIT, {**NATIVE, "securityContext": {}}]), NOT_OURS),
    "no bundle": (injected(ENFORCED, initContainers=[INIT, {**NATIVE, "volumeMounts": []}]), NOT_OURS),
    "opted out": (injected(ENFORCED, labels={names.INJECT_LABEL: "false"}), "eastgate.dev/inject=false opts out"),
    "host network": (injected(ENFORCED, hostNetwork=True), "a pod with hostNetwork cannot be intercepted"),
    "our user": (injected(ENFORCED, containers=as_user(**OURS)), THIEF),
    "our group": (injected(ENFORCED, containers=as_user(runAsGroup=names.PROXY_ID)), THIEF),
    "the pod's user": (injected(ENFORCED, securityContext=OURS), OTHER_GROUPS),
    "the files' group": (injected(ENFORCED, securityContext={"fsGroup": names.PROXY_ID}), OTHER_GROUPS),
    "its groups": (injected(ENFORCED, securityContext={"supplementalGroups": [names.PROXY_ID]}), OTHER_GROUPS),
    **LOOKALIKES,
}
ADMITTED: dict[str, Object] = {
    "native": injected(ENFORCED),
    "opted in": injected(ENFORCED, labels={names.INJECT_LABEL: "true"}),
    "classic": injected(ENFORCED, initContainers=[INIT], containers=[sidecar(), {"name": "app", "image": "app"}]),
    "certificates of others": mounting("/etc/ssl/certs"),
    "ports of its own choice": pair(init={"args": [*INIT["args"][:-1], "--exclude-inbound-ports=1-65535"]}),
    "mirror": pod(ENFORCED, annotations={MIRROR: "x"}, nodeName="n", automountServiceAccountToken=False),
}
ADMITTED["ports of its own choice"]["metadata"]["annotations"] = {names.EXCLUDE_INBOUND_PORTS: "1-65535"}


def test_an_enforced_namespace_admits_no_pod_without_the_sidecar(enforced: Environment) -> None:
    bodies = {name: body for name, (body, _) in REFUSED.items()}
    said = try_all(enforced, ENFORCED, {**bodies, **ADMITTED})
    assert set(said) == set(REFUSED), said
    for name, (_, message) in REFUSED.items():
        assert message in said[name], (name, said[name])


def test_a_debugger_in_an_enforced_namespace_is_nobody_special(enforced: Environment) -> None:
    assert create(enforced, injected(ENFORCED)) == ""
    assert debug(enforced, ENFORCED, "debugger") == ""
    assert THIEF in debug(enforced, ENFORCED, "thief", **OURS)
    assert POWER in debug(enforced, ENFORCED, "root", privileged=True)
    enforced.kubectl("delete", "pod", "p", "-n", ENFORCED, "--grace-period=0", "--force")


def test_the_sidecar_of_a_running_pod_stays_what_it_is(enforced: Environment) -> None:
    assert create(enforced, injected(ENFORCED)) == ""
    for name in names.CONTAINERS:
        done = enforced.try_kubectl("set", "image", "pod/p", "-n", ENFORCED, f"{name}=evil")
        assert "cannot be changed in a running pod" in done.stderr
    enforced.kubectl("set", "image", "pod/p", "-n", ENFORCED, "app=other")
    enforced.kubectl("delete", "pod", "p", "-n", ENFORCED, "--grace-period=0", "--force")


def test_a_bundle_is_written_by_who_may_write_policies(installed: Environment, tmp_path: Path) -> None:
    here = installed.create_namespace("manifests-bundles")
    role: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "editor", "namespace": here},
        "rules": [{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["*"]}],
    }
    binding = {
        **{"apiVersion": role["apiVersion"], "kind": "RoleBinding", "metadata": role["metadata"]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "editor"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": here}],
    }
    installed.kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
    )
    editor = installed.make_kubeconfig(here, "default", tmp_path)

    def write(kind: str, name: str) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": here}})
        done = installed.try_kubectl("create", "--dry-run=server", "-f", "-", input=text, kubeconfig=editor)
        return done.stderr

    assert write("ConfigMap", "other") == ""
    for kind, name in (
        ("ConfigMap", "eastgate-bundle"),
        ("ConfigMap", "eastgate-bundle-7"),
        ("Secret", "eastgate-bundle"),
    ):
        assert "is written by Eastgate's controller" in write(kind, name)
    role["rules"].append({"apiGroups": ["policy.eastgate.dev"], "resources": ["jwtpolicies"], "verbs": ["update"]})
    installed.kubectl("apply", "-f", "-", input=json.dumps(role))
    wait_until(lambda: write("ConfigMap", "eastgate-bundle") == "")


# --- rights ---------------------------------------------------------------------------------------------------------

ADMISSION = "admissionregistration.k8s.io"
HOME = names.SYSTEM_NAMESPACE
RIGHTS = [
    # account, verb, resource, group, namespace, name, allowed
    ("webhook", "get", "secrets", "", HOME, "eastgate-webhook-ca", True),
    ("webhook", "watch", "secrets", "", HOME, "eastgate-webhook-ca", True),
    ("webhook", "create", "secrets", "", HOME, "", True),
    ("webhook", "patch", "mutatingwebhookconfigurations", ADMISSION, "", "eastgate", True),
    ("webhook", "patch", "validatingwebhookconfigurations", ADMISSION, "", "eastgate", True),
    ("webhook", "get", "secrets", "", HOME, "other", False),
    ("webhook", "list", "secrets", "", HOME, "", False),
    ("webhook", "create", "secrets", "", "default", "", False),
    ("webhook", "patch", "mutatingwebhookconfigurations", ADMISSION, "", "other", False),
    ("webhook", "create", "mutatingwebhookconfigurations", ADMISSION, "", "", False),
    ("webhook", "get", "pods", "", "default", "p", False),
    ("controller", "watch", "httproutes", "gateway.networking.k8s.io", "", "", True),
    ("controller", "patch", "jwtpolicies/status", "policy.eastgate.dev", "default", "p", True),
    ("controller", "update", "configmaps", "", "default", "eastgate-bundle-7", True),
    ("controller", "update", "leases", "coordination.k8s.io", HOME, "eastgate-controller", True),
    ("controller", "list", "secrets", "", "", "", True),
    ("controller", "patch", "jwtpolicies", "policy.eastgate.dev", "default", "p", False),
    ("controller", "update", "configmaps", "", "default", "other", False),
    ("controller", "update", "secrets", "", "default", "other", False),
    ("controller", "delete", "pods", "", "default", "p", False),
    ("controller", "update", "leases", "coordination.k8s.io", HOME, "other", False),
    ("controller", "update", "leases", "coordination.k8s.io", "default", "eastgate-controller", False),
]


def test_rights(installed: Environment) -> None:
    reviews = []
    for account, verb, place, group, namespace, name, _ in RIGHTS:
        resource, _, subresource = place.partition("/")
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        asked |= {"namespace": namespace, "name": name}
        spec = {"user": f"system:serviceaccount:{HOME}:eastgate-{account}", "resourceAttributes": asked}
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = installed.kubectl("create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}', input=text).split()
    for right, answer in zip(RIGHTS, answers, strict=True):
        assert (answer == "true") is right[-1], right


def test_the_controller_changes_one_annotation_of_a_pod_and_its_own_bundles(
    installed: Environment, tmp_path: Path
) -> None:
    here = installed.create_namespace("manifests-restraint")
    assert create(installed, pod(here, annotations={"a": "b", names.BUNDLE: "1"})) == ""
    config = installed.make_kubeconfig(HOME, "eastgate-controller", tmp_path)

    def patch(body: Object) -> str:
        arguments = ("patch", "pod", "p", "-n", here, "--type=strategic", "-p", json.dumps(body))
        return installed.try_kubectl(*arguments, kubeconfig=config).stderr

    only = "the controller may change the annotation eastgate.dev/bundle of a pod, and nothing else of it"
    for value in ("2", None, "3"):
        assert patch({"metadata": {"annotations": {names.BUNDLE: value}}}) == ""
    for change in (
        {"metadata": {"annotations": {"a": "c"}}},
        {"metadata": {"annotations": {"a": None}}},
        {"metadata": {"annotations": {names.MODE: "audit"}}},
        {"metadata": {"labels": {"app": "other"}}},
        {"metadata": {"finalizers": ["example.com/a"]}},
        {"spec": {"containers": [{"name": "app", "image": "other"}]}},
    ):
        assert only in patch(change), change
    token = {"kubernetes.io/service-account.name": "default"}
    for kind, name, fields, message in (
        ("ConfigMap", "eastgate-bundle-7", {}, ""),
        ("ConfigMap", "other", {}, "by the name of eastgate-bundle, and no others"),
        ("Secret", "eastgate-bundle", {}, ""),
        ("Secret", "other", {}, "by the name of eastgate-bundle, and no others"),
        ("Secret", "eastgate-bundle-1", {"type": "kubernetes.io/service-account-token"}, "Secrets of type Opaque"),
    ):
        metadata = {"name": name, "namespace": here, "annotations": token}
        text = json.dumps({"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields})
        done = installed.try_kubectl("create", "--dry-run=server", "-f", "-", input=text, kubeconfig=config)
        assert message in done.stderr, done.stderr
        assert bool(message) is bool(done.returncode), done.stderr
    installed.kubectl("delete", "pod", "p", "-n", here, "--grace-period=0", "--force")


def test_the_webhook_writes_one_secret(installed: Environment, tmp_path: Path) -> None:
    config = installed.make_kubeconfig(HOME, "eastgate-webhook", tmp_path)
    metadata = {"namespace": HOME, "annotations": {"kubernetes.io/service-account.name": "eastgate-controller"}}
    empty = {"tls.crt": "", "tls.key": ""}
    for name, kind, allowed in (
        ("eastgate-webhook-ca", "kubernetes.io/tls", True),
        ("other", "kubernetes.io/tls", False),
        ("eastgate-webhook-ca", "kubernetes.io/service-account-token", False),
    ):
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**metadata, "name": name},
            "type": kind,
            "data": empty,
        }
        done = installed.try_kubectl(
            "create", "--dry-run=server", "-f", "-", input=json.dumps(secret), kubeconfig=config
        )
        assert allowed is ("the webhook writes the Secret" not in done.stderr), done.stderr


def test_the_images_of_the_sample_have_one_tag(installed: Environment) -> None:
    text = installed.kubectl("kustomize", str(MANIFESTS / "overlays" / "registry"))
    images = set(re.findall(r"(?:image|value): (registry\S+)", text))
    assert {image.rpartition("/")[2].partition(":")[0] for image in images} == {"eastgate-webhook", "eastgate-sidecar"}
    assert len({image.rpartition(":")[2] for image in images}) == 1
