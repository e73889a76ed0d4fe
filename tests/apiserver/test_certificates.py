"""The keeper against a real API server, with the rights that it needs and no others."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.apiserver.environment import Environment
from tests.apiserver.programs import await_true
from webhook.certificates.authority import make_authority
from webhook.certificates.holding import Holding, render_secret
from webhook.certificates.keeper import CertificateKeeper
from webhook.certificates.options import KeeperOptions
from webhook.certificates.schedule import DAY
from webhook.cluster import Cluster
from webhook.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource

NAMESPACE = "certificates"
SERVICE = "eastgate-webhook"
NAME = "certificates-test"
SECRET = "eastgate-webhook-ca"
OPTIONS = KeeperOptions(namespace=NAMESPACE, mutating=(NAME,), validating=(NAME,), settle=0.5, tick=0.2)

RIGHTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: {SERVICE}, namespace: {NAMESPACE}}}
spec: {{ports: [{{port: 443, targetPort: 9443}}]}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: keeper, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: keeper, namespace: {NAMESPACE}}}
rules:
- {{apiGroups: [""], resources: [secrets], verbs: [create]}}
- {{apiGroups: [""], resources: [secrets], resourceNames: [{SECRET}], verbs: [get, list, watch, update]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: keeper, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: keeper}}
subjects: [{{kind: ServiceAccount, name: keeper, namespace: {NAMESPACE}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: certificates-keeper}}
rules:
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
  resourceNames: [{NAME}]
  verbs: [get, list, watch, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: certificates-keeper}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: certificates-keeper}}
subjects: [{{kind: ServiceAccount, name: keeper, namespace: {NAMESPACE}}}]
"""


def render_configurations() -> str:
    """Two entries of ours and one of somebody else in the mutating one; one of ours in the validating one."""

    def entry(name: str, service: str, resources: list[str]) -> dict[str, object]:
        return {
            "name": f"{name}.eastgate.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"service": {"name": service, "namespace": NAMESPACE, "path": "/"}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": resources}],
        }

    def configuration(kind: str, *entries: dict[str, object]) -> dict[str, object]:
        api = "admissionregistration.k8s.io/v1"
        return {"apiVersion": api, "kind": kind, "metadata": {"name": NAME}, "webhooks": list(entries)}

    items = [
        configuration(
            "MutatingWebhookConfiguration",
            entry("one", SERVICE, ["podtemplates"]),
            entry("foreign", "another", ["replicationcontrollers"]),
            entry("two", SERVICE, ["limitranges"]),
        ),
        configuration("ValidatingWebhookConfiguration", entry("three", SERVICE, ["podtemplates"])),
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture(scope="module")
def kubeconfig(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    environment.create_namespace(NAMESPACE)
    environment.kubectl("apply", "-f", "-", input=RIGHTS)
    yield environment.make_kubeconfig(NAMESPACE, "keeper", tmp_path_factory.mktemp("certificates"))
    remove_configurations(environment)
    environment.kubectl("delete", "clusterrole,clusterrolebinding", "certificates-keeper")
    environment.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(autouse=True)
def configurations(environment: Environment, kubeconfig: Path) -> None:
    remove_configurations(environment)
    environment.kubectl("delete", "secret", SECRET, "-n", NAMESPACE, "--ignore-not-found")
    environment.kubectl("create", "-f", "-", input=render_configurations())


def remove_configurations(environment: Environment) -> None:
    kinds = "mutatingwebhookconfiguration,validatingwebhookconfiguration"
    environment.kubectl("delete", kinds, NAME, "--ignore-not-found")


@contextmanager
def keeping(kubeconfig: Path, count: int = 1, **settings: Any) -> Iterator[list[CertificateKeeper]]:
    settings = {"options": OPTIONS, **settings}
    keepers = [CertificateKeeper(Cluster(str(kubeconfig)), **settings) for _ in range(count)]
    with ExitStack() as stack:
        for keeper in keepers:
            keeper.start()
            stack.callback(keeper.stop)
        yield keepers


def read_secret(environment: Environment) -> dict[str, Any]:
    return environment.get("secret", SECRET, "-n", NAMESPACE)


def read_bundles(environment: Environment) -> list[str | None]:
    """The ``caBundle`` of our three entries, then that of the foreign one."""
    mutating: Any = environment.get("mutatingwebhookconfiguration", NAME)["webhooks"]
    validating: Any = environment.get("validatingwebhookconfiguration", NAME)["webhooks"]
    return [entry["clientConfig"].get("caBundle") for entry in (mutating[0], mutating[2], validating[0], mutating[1])]


def count_certificates(bundle: str) -> int:
    return len(x509.load_pem_x509_certificates(base64.b64decode(bundle)))


def test_three_replicas_at_once_make_one_authority_and_all_are_trusted(
    environment: Environment, kubeconfig: Path
) -> None:
    with keeping(kubeconfig, 3) as keepers:
        await_true(lambda: all(keeper.ready for keeper in keepers), "three keepers are ready")

        secret = read_secret(environment)
        bundles = read_bundles(environment)
        assert secret["type"] == "kubernetes.io/tls"
        assert bundles[:3] == [secret["data"]["ca.crt"]] * 3
        assert bundles[3] is None
        assert count_certificates(secret["data"]["ca.crt"]) == 1
        assert [keeper.state.drift for keeper in keepers] == [0, 0, 0]
        assert [keeper.state.failures for keeper in keepers] == [0, 0, 0]
        # One write a configuration, whoever made it: the others found nothing left to do, or were told of a conflict.
        assert sum(keeper.state.repairs for keeper in keepers) == 2


def test_nothing_is_written_before_the_server_accepts(environment: Environment, kubeconfig: Path) -> None:
    accepts = threading.Event()
    with keeping(kubeconfig, serving=accepts.is_set) as (keeper,):
        assert keeper.wait(10)
        time.sleep(0.5)
        assert read_bundles(environment) == [None] * 4
        assert not keeper.ready

        accepts.set()

        await_true(lambda: keeper.ready, "ready")
        assert read_bundles(environment)[:3] == [read_secret(environment)["data"]["ca.crt"]] * 3


def test_a_wiped_or_foreign_bundle_is_repaired_at_once(
    environment: Environment, kubeconfig: Path, record_property: Callable[[str, object], None]
) -> None:
    with keeping(kubeconfig, 2) as keepers:
        await_true(lambda: all(keeper.ready for keeper in keepers), "ready")
        right = read_secret(environment)["data"]["ca.crt"]
        cluster = Cluster(str(environment.kubeconfig))
        taken = []
        for value in ("", base64.b64encode(b"-----BEGIN NONSENSE-----").decode(), None):
            for kind, index in (("mutating", 0), ("mutating", 2), ("validating", 0)):
                begun = time.monotonic()
                change_bundle(cluster, kind, index, value)
                while read_bundle(cluster, kind, index) != right:
                    # The bar is 2 s, on a quiet machine; a crowded one may stop the keeper or the server for longer.
                    assert time.monotonic() - begun < 10, (value, kind, index)
                    time.sleep(0.005)
                taken.append(time.monotonic() - begun)
        record_property("repair seconds", [round(seconds, 3) for seconds in taken])
        assert all(keeper.ready for keeper in keepers)
        assert read_bundles(environment)[3] is None


def change_bundle(cluster: Cluster, kind: str, index: int, value: str | None) -> None:
    path = f"/webhooks/{index}/clientConfig/caBundle"
    operation = {"op": "remove", "path": path} if value is None else {"op": "replace", "path": path, "value": value}
    if value is not None and value != "":  # what the API server lets through only where it is a certificate
        operation["value"] = foreign_bundle()
    resource = MUTATING_WEBHOOKS if kind == "mutating" else VALIDATING_WEBHOOKS
    cluster.patch(resource, None, NAME, [operation], "json")


def foreign_bundle() -> str:
    return base64.b64encode(make_authority(time.time()).certificate.public_bytes(Encoding.PEM)).decode()


def read_bundle(cluster: Cluster, kind: str, index: int) -> str | None:
    resource = MUTATING_WEBHOOKS if kind == "mutating" else VALIDATING_WEBHOOKS
    found: str | None = cluster.get(resource, None, NAME)["webhooks"][index]["clientConfig"].get("caBundle")
    return found


def test_a_deleted_secret_comes_back_with_the_same_authority(environment: Environment, kubeconfig: Path) -> None:
    with keeping(kubeconfig, 2) as keepers:
        await_true(lambda: all(keeper.ready for keeper in keepers), "ready")
        before = read_secret(environment)

        environment.kubectl("delete", "secret", SECRET, "-n", NAMESPACE)

        await_true(lambda: environment.try_kubectl("get", "secret", SECRET, "-n", NAMESPACE).returncode == 0, "back")
        assert read_secret(environment)["data"] == before["data"]
        assert all(keeper.ready for keeper in keepers)
        assert [keeper.state.leaf_renewals for keeper in keepers] == [1, 1]


def test_a_broken_secret_is_made_whole_and_keeps_what_is_not_ours(environment: Environment, kubeconfig: Path) -> None:
    with keeping(kubeconfig) as (keeper,):
        await_true(lambda: keeper.ready, "ready")
        before = read_secret(environment)["data"]
        broken = {"data": {"tls.key": "bm9uc2Vuc2U=", "extra": "eA=="}, "metadata": {"annotations": {"theirs": "1"}}}

        environment.kubectl("patch", "secret", SECRET, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(broken))

        await_true(lambda: read_secret(environment)["data"]["tls.key"] == before["tls.key"], "whole again")
        after = read_secret(environment)
        assert after["data"] == {**before, "extra": "eA=="}
        assert after["metadata"]["annotations"]["theirs"] == "1"
        assert keeper.state.leaf_renewals == 1


def test_an_operator_s_authority_is_taken_over_side_by_side(environment: Environment, kubeconfig: Path) -> None:
    own = make_authority(time.time())
    with keeping(kubeconfig, 2) as keepers:
        await_true(lambda: all(keeper.ready for keeper in keepers), "ready")
        body = render_secret(Holding(own, (own.certificate,)), SECRET, NAMESPACE, None)

        environment.kubectl("replace", "-f", "-", input=json.dumps(body))

        await_true(lambda: all(keeper.state.leaf_renewals == 2 for keeper in keepers), "both have taken it over")
        assert all(keeper.ready for keeper in keepers)
        bundles = read_bundles(environment)
        assert bundles[:3] == [read_secret(environment)["data"]["ca.crt"]] * 3
        assert count_certificates(bundles[0] or "") == 2


class Clock:
    """The time of day, some days off."""

    def __init__(self, days: float) -> None:
        self.off = days * DAY

    def __call__(self) -> float:
        return time.time() + self.off


class Reviews(BaseHTTPRequestHandler):
    """Allows everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": review["request"]["uid"], "allowed": True},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        # A connection that stays open would never see another certificate.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class TLSServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Reviews)
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is none; what went wrong, the callers say."""


class Caller(threading.Thread):
    """Connects again and again, trusting what the configuration says at that moment and nothing else."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        super().__init__(daemon=True)
        self.cluster, self.port = cluster, port
        self.calls = 0
        self.issuers: list[str] = []
        self.failed: list[str] = []
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            bundle = read_bundle(self.cluster, "mutating", 0) or ""
            context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as raw:
                    with context.wrap_socket(raw, server_hostname=f"{SERVICE}.{NAMESPACE}.svc") as tls:
                        issuer = str(dict(pair[0] for pair in tls.getpeercert()["issuer"])["serialNumber"])  # type: ignore
                        if issuer not in self.issuers:
                            self.issuers.append(issuer)
                self.calls += 1
            except OSError as error:
                self.failed.append(str(error))


def test_authority_and_leaf_are_rotated_without_a_failed_handshake(
    environment: Environment, kubeconfig: Path, record_property: Callable[[str, object], None]
) -> None:
    """Made 80 days ago by the keeper's clock; then it is today, and both are due. All is valid by everybody's clock."""
    clock = Clock(-80)
    options = KeeperOptions(
        namespace=NAMESPACE, mutating=(NAME,), validating=(NAME,), settle=1.0, tick=0.1, authority_lifetime=95 * DAY
    )
    template = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": "reviewed", "namespace": NAMESPACE},
        "template": {"spec": {"containers": [{"name": "app", "image": "app"}]}},
    }
    cluster = Cluster(str(environment.kubeconfig))
    with keeping(kubeconfig, 3, options=options, clock=clock) as keepers, ExitStack() as stack:
        await_true(lambda: all(keeper.ready for keeper in keepers), "ready")
        callers = []
        for keeper in keepers:
            server = TLSServer(keeper.context)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            callers.append(Caller(cluster, server.server_port))
            callers[-1].start()
        environment.connect(f"{NAMESPACE}/{SERVICE}", server.server_port)
        reviewed = Reviewer(cluster, template)
        reviewed.start()
        before = read_secret(environment)["data"]
        time.sleep(1)

        clock.off = 0.0

        await_true(lambda: all(keeper.state.leaf_renewals == 2 for keeper in keepers), "all have rotated")
        time.sleep(1)
        await_true(lambda: reviewed.calls > 20, "reviews before and after")
        for thread in (*callers, reviewed):
            thread.ended = True
        for thread in (*callers, reviewed):
            thread.join(10)

        after = read_secret(environment)["data"]
        assert after["tls.crt"] != before["tls.crt"]
        assert count_certificates(after["ca.crt"]) == 2
        assert base64.b64decode(after["ca.crt"]).endswith(base64.b64decode(before["ca.crt"]))
        assert [caller.failed for caller in callers] == [[], [], []]
        assert [len(caller.issuers) for caller in callers] == [2, 2, 2]
        assert reviewed.failed == []
        assert all(keeper.ready and keeper.state.failures == 0 for keeper in keepers)
        record_property("handshakes, reviews", [*(caller.calls for caller in callers), reviewed.calls])


class Reviewer(threading.Thread):
    """Creates a pod template again and again, for trial: each is reviewed twice by whoever serves."""

    def __init__(self, cluster: Cluster, template: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.cluster, self.template = cluster, template
        self.calls = 0
        self.failed: list[str] = []
        self.ended = False

    def run(self) -> None:
        resource = Resource("", "v1", "podtemplates", "PodTemplate")
        while not self.ended:
            try:
                self.cluster.create(resource, self.template, dry_run=True)
                self.calls += 1
            except Exception as error:
                self.failed.append(str(error))


def test_a_leaf_that_ended_makes_the_replica_not_ready(environment: Environment, kubeconfig: Path) -> None:
    clock = Clock(0)
    with keeping(kubeconfig, clock=clock) as (keeper,):
        await_true(lambda: keeper.ready, "ready")
        environment.kubectl("delete", "role", "keeper", "-n", NAMESPACE)  # the Secret cannot be written any more
        try:
            clock.off = 6 * 365 * DAY

            assert not keeper.ready
            await_true(lambda: keeper.state.failures > 1, "it says so")
            assert "secrets" in keeper.state.last_failure
            assert not keeper.ready
        finally:
            environment.kubectl("apply", "-f", "-", input=RIGHTS)

        await_true(lambda: keeper.ready, "ready again with a new authority and leaf")
        assert keeper.expires > clock()
