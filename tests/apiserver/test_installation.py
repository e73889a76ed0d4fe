"""Everything of the control plane together: what a person who writes policies sees, and what survives which trouble."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.apiserver.environment import ROOT, Environment, KubectlError
from tests.apiserver.programs import SYSTEM, Program, await_true, install, running, start_controller, start_webhook
from webhook.certificates.authority import make_authority
from webhook.certificates.holding import Holding, render_secret

SERVER_NAME = "eastgate-webhook.eastgate-system.svc"
SECRET = "eastgate-webhook-ca"
REVIEWS_PER_SECOND = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("installation")


@pytest.fixture(scope="module")
def webhook(environment: Environment, folder: Path) -> Iterator[Program]:
    install(environment)
    program = start_webhook(environment, folder)
    with running(program):
        await_true(lambda: read_bundle(environment), "the caBundle")
        yield program


@pytest.fixture(scope="module")
def controller(environment: Environment, webhook: Program, folder: Path) -> Iterator[Program]:
    program = start_controller(environment, folder)
    with running(program):
        yield program


def read_bundle(environment: Environment) -> bytes:
    """The CAs that every entry of the live configuration trusts; empty while one has none."""
    found = environment.get("mutatingwebhookconfiguration", "eastgate")
    bundles = {one["clientConfig"].get("caBundle", "") for one in found["webhooks"]}  # type: ignore[attr-defined]
    return base64.b64decode(bundles.pop()) if len(bundles) == 1 else b""


def apply(environment: Environment, *documents: dict[str, Any]) -> str:
    """What kubectl said, warnings included."""
    done = environment.try_kubectl(
        "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    )
    if done.returncode:
        raise KubectlError("apply", done.stderr)
    return done.stderr


def make_policy(namespace: str, name: str, **provider: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy.eastgate.dev/v1alpha1",
        "kind": "JWTPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"config": {"providers": {"dev": {"issuer": "https://dev.example.com", **provider}}}},
    }


# --- policies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", ["claim-authorization", "jwt-authentication/http", "claims", "east-west"])
def test_the_examples_apply_as_they_are(
    environment: Environment, webhook: Program, controller: Program, scenario: str
) -> None:
    folder = ROOT / "manifests" / "examples" / scenario
    environment.kubectl("apply", "-k", str(folder))
    objects = json.loads(environment.kubectl("get", "-k", str(folder), "-o", "json"))["items"]
    deployment = next(one for one in objects if one["kind"] == "Deployment")
    namespace = deployment["metadata"]["namespace"]
    environment.create_account(namespace)
    await_true(
        lambda: environment.try_kubectl("get", "cm", "eastgate-bundle", "-n", namespace).returncode == 0, "bundle"
    )
    pod = {"apiVersion": "v1", "kind": "Pod", **deployment["spec"]["template"]}
    pod["metadata"] |= {"name": scenario.replace("/", "-"), "namespace": namespace}
    made = json.loads(environment.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(pod)))
    assert [one["name"] for one in made["spec"]["initContainers"]] == ["eastgate-init", "eastgate-sidecar"]


def test_a_policy_that_could_not_work_is_refused_by_kubectl_apply(environment: Environment, webhook: Program) -> None:
    namespace = environment.create_namespace("policies-refused", "enabled")
    with pytest.raises(KubectlError) as refused:
        apply(environment, make_policy(namespace, "bad", local={"inline": "no key at all"}))
    assert "spec.config.providers.dev.local.inline: no usable key in inline" in refused.value.message
    gloo = make_policy(namespace, "gloo", local={"inline": "x"}, tokenSources={})
    gloo["apiVersion"] = "security.policy.gloo.solo.io/v2"
    with pytest.raises(KubectlError, match=r"spec\.config\.providers\.dev\.tokenSources.*did you mean `tokenSource`"):
        apply(environment, gloo)
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route", "namespace": namespace},
        "spec": {"rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}]},
    }
    with pytest.raises(KubectlError, match=r"spec\.rules\[0\]\.matches\[0\]\.path"):
        apply(environment, route)


def test_what_a_policy_refers_to_may_come_later(
    environment: Environment, webhook: Program, controller: Program
) -> None:
    namespace = environment.create_namespace("policies-later", "enabled")
    policy = make_policy(namespace, "later", local={"secretRef": {"name": "keys", "key": "jwks"}})
    said = ""
    try:
        said = apply(environment, policy)
    except KubectlError as error:  # the field's name is the reader's business
        pytest.fail(str(error))
    assert "Warning:" in said
    assert "keys" in said

    def condition(kind: str) -> dict[str, Any]:
        found = environment.get("jwtpolicies.policy.eastgate.dev", "later", "-n", namespace)
        listed: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])  # type: ignore[attr-defined]
        return next((one for one in listed if one["type"] == kind), {})

    await_true(lambda: condition("ResolvedRefs").get("status") == "False", "ResolvedRefs is False")
    assert "keys" in condition("ResolvedRefs")["message"]


# --- the webhook under load and in trouble ---------------------------------------------------------------------------


@dataclass
class Callers:
    """Clients that trust what the live configuration says, and nothing else; every tenth review on a new connection."""

    port: int
    bundle: bytes
    body: bytes
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    issuers: set[str] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, place: int, count: int) -> None:
        connection: http.client.HTTPConnection | None = None
        pause, number = count / REVIEWS_PER_SECOND, 0
        due = time.monotonic() + place * pause / count
        while not self.stopping.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due += pause
            number += 1
            try:
                if connection is None or number % 10 == 0:
                    if connection is not None:
                        connection.close()
                    connection = self.connect()
                connection.request("POST", "/mutate", self.body, {"content-type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                assert answer["response"]["allowed"], answer
                self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection = None

    def connect(self) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cadata=self.bundle.decode())
        raw = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        raw.connect()
        wrapped = context.wrap_socket(raw.sock, server_hostname=SERVER_NAME)
        der = wrapped.getpeercert(binary_form=True)
        assert der is not None
        identifier = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        self.issuers.add((identifier.value.key_identifier or b"").hex())
        raw.sock = wrapped
        return raw


def make_review(namespace: str) -> bytes:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "namespace": namespace, "annotations": {"eastgate.dev/policies": "*"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": namespace,
        "object": pod,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def test_certificates_change_under_a_hundred_reviews_a_second(environment: Environment, webhook: Program) -> None:
    callers = Callers(webhook.port, read_bundle(environment), make_review("any"))
    threads = [threading.Thread(target=callers.run, args=(place, 5), daemon=True) for place in range(5)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    try:
        await_true(lambda: callers.answered > REVIEWS_PER_SECOND, "reviews are answered")
        # An operator brings an authority of their own: both are trusted before the first leaf of the new one is shown.
        own = make_authority(time.time())
        secret = render_secret(Holding(own, (own.certificate,)), SECRET, SYSTEM, None)
        environment.kubectl("replace", "-f", "-", input=json.dumps(secret))

        def has_changed() -> bool:
            callers.bundle = read_bundle(environment) or callers.bundle
            return len(callers.issuers) == 2

        await_true(has_changed, "a leaf of the new authority")
        time.sleep(1.0)
    finally:
        callers.stopping.set()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - began
    assert callers.failures == []
    assert callers.answered > 0.2 * REVIEWS_PER_SECOND * seconds, "there was a load; a crowded machine does not do all"


def test_a_wiped_bundle_is_back_in_no_time(environment: Environment, webhook: Program) -> None:
    wipe = json.dumps([{"op": "remove", "path": f"/webhooks/{place}/clientConfig/caBundle"} for place in (0, 1)])
    environment.kubectl("patch", "mutatingwebhookconfiguration", "eastgate", "--type=json", "-p", wipe)
    seconds = await_true(lambda: read_bundle(environment), "repaired")
    print(f"caBundle repaired after {seconds:.2f} s (the bar is 2 s)")


def test_a_review_asks_the_cluster_nothing(environment: Environment, webhook: Program) -> None:
    callers = Callers(webhook.port, read_bundle(environment), make_review("any"))

    def count_calls() -> float:
        connection = callers.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.findall(r"^eastgate_webhook_api_calls_total(?:\{[^}]*\})? ([0-9.e+]+)$", text, re.MULTILINE)
        assert found, text
        return sum(map(float, found))

    time.sleep(1.0)
    before = count_calls()
    thread = threading.Thread(target=callers.run, args=(0, 1), daemon=True)
    thread.start()
    await_true(lambda: callers.answered >= 200, "200 reviews")
    callers.stopping.set()
    thread.join()
    assert callers.failures == []
    # The keeper looks after its certificate every now and then, whatever is reviewed, and 200 reviews may take a while.
    assert count_calls() - before <= 20


def test_a_controller_that_starts_again_writes_nothing(
    environment: Environment, webhook: Program, controller: Program, folder: Path
) -> None:
    time.sleep(1.0)
    before = environment.get("configmaps", "-A", "-l", "app.kubernetes.io/managed-by=eastgate")["items"]
    policies = environment.get("jwtpolicies.policy.eastgate.dev", "-A")["items"]
    assert before
    assert controller.stop() == 0
    with running(start_controller(environment, folder, "again")):
        time.sleep(3.0)
        assert environment.get("configmaps", "-A", "-l", "app.kubernetes.io/managed-by=eastgate")["items"] == before
        assert environment.get("jwtpolicies.policy.eastgate.dev", "-A")["items"] == policies
