"""The controller as a process, with the rights that its manifests give, on a real API server."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import gzip
import http.client
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.environment import ROOT, Environment
from tests.apiserver.programs import SYSTEM, Program, await_true, running, start_controller
from webhook.cluster import Cluster, NotFound
from webhook.resources import (
    CONFIG_MAPS,
    EVENTS,
    JWT_POLICIES,
    LEASES,
    NAMESPACES,
    PODS,
    ROUTE_TABLES,
    SECRETS,
    SECURITY_POLICIES,
    Resource,
)

BASE = ("namespace", "accounts", "controller-rbac", "controller-secrets-rbac", "controller-restraint")
KEYS = (  # RFC 7517, A.1
    '{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",'
    '"y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}'
)
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # of the test server

LEASE_SECONDS = 6.0
STATUS = {"eastgate.dev/status": '{"version":"test"}'}

Object = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(environment: Environment) -> Cluster:
    """An administrator, with everything installed but the webhook."""
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        environment.kubectl("delete", kind, "eastgate", "--ignore-not-found")
    environment.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "crds"))
    environment.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "compat"))
    environment.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    for name in BASE:
        environment.kubectl("apply", "--server-side", "-f", str(ROOT / "manifests" / "base" / f"{name}.yaml"))
    return Cluster(str(environment.kubeconfig))


@pytest.fixture(scope="module")
def controller(
    environment: Environment, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    with start_replica(environment, cluster, tmp_path_factory.mktemp("controller"), "one") as program:
        yield program


@contextlib.contextmanager
def start_replica(environment: Environment, cluster: Cluster, folder: Path, name: str) -> Iterator[Program]:
    # Shorter than the 15 s that a cluster has, for the suite's sake.
    program = start_controller(environment, folder, name, "--lease-duration", f"{LEASE_SECONDS:.0f}s")
    with running(program):
        yield program
        if program.process.poll() is None:
            assert program.stop() == 0


@pytest.fixture
def namespace(environment: Environment, request: pytest.FixtureRequest) -> str:
    """Labelled, and by the test's own name."""
    name = request.node.name.removeprefix("test_").replace("_", "-").partition("[")[0][:50].strip("-")
    return environment.create_namespace(name, "enabled")


# --- making and reading ---------------------------------------------------------------------------------------------


def make_policy(
    namespace: str, name: str = "policy", issuer: str = "https://example.com", local: Object | None = None
) -> Object:
    provider = {"issuer": issuer, "local": local or {"inline": KEYS}}
    return {
        "apiVersion": JWT_POLICIES.api_version,
        "kind": JWT_POLICIES.kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"config": {"providers": {"main": provider}}},
    }


def make_pod(namespace: str, name: str, annotations: dict[str, str] | None = None) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "labels": {"app": "app"},
            "annotations": {"eastgate.dev/policies": "policy", **(STATUS if annotations is None else annotations)},
        },
        "spec": {"containers": [{"name": "app", "image": "app"}], "terminationGracePeriodSeconds": 0},
    }


def find(cluster: Cluster, resource: Resource, namespace: str | None, name: str) -> Object | None:
    try:
        return cluster.get(resource, namespace, name)
    except NotFound:
        return None


def find_bundle(cluster: Cluster, namespace: str) -> Object | None:
    return find(cluster, CONFIG_MAPS, namespace, "eastgate-bundle")


def digest_of(cluster: Cluster, namespace: str) -> str:
    bundle = find_bundle(cluster, namespace)
    return "" if bundle is None else str(bundle["metadata"]["annotations"]["eastgate.dev/bundle"])


def content_of(bundle: Object) -> str:
    return gzip.decompress(base64.b64decode(bundle["binaryData"]["policies.jsonl.gz"])).decode()


def await_bundle(cluster: Cluster, namespace: str, holds: Callable[[str], bool] = lambda _: True) -> Object:
    found: list[Object] = []

    def is_there() -> bool:
        bundle = find_bundle(cluster, namespace)
        if bundle is not None and holds(content_of(bundle)):
            found.append(bundle)
        return bool(found)

    await_true(is_there, f"the bundle of {namespace}", pause=0.01)
    return found[0]


def conditions_of(cluster: Cluster, resource: Resource, namespace: str, name: str) -> dict[str, Object]:
    status = cluster.get(resource, namespace, name).get("status") or {}
    return {one["type"]: one for one in status.get("conditions") or ()}


def read_metrics(program: Program) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/metrics", timeout=20) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def list_writes(program: Program) -> dict[str, float]:
    """What a replica has written, by kind and verb."""
    prefix = "eastgate_controller_writes_total"
    return {name.removeprefix(prefix): value for name, value in read_metrics(program).items() if prefix in name}


def record(what: str, *seconds: float) -> None:
    """Shown with ``pytest -s``."""
    sys.stdout.write(f"\n{what}: {', '.join(f'{one:.3f}' for one in seconds)} s\n")


def await_quiet(program: Program) -> None:
    """Nothing waits, and nothing has been written for a while."""
    seen: list[tuple[dict[str, float], float]] = []

    def is_quiet() -> bool:
        metrics = read_metrics(program)
        waiting = sum(
            metrics[f"eastgate_controller_{one}"] for one in ("queue_depth", "nudges_waiting", "reports_waiting")
        )
        seen.append((list_writes(program), time.monotonic()))
        return waiting == 0 and any(writes == seen[-1][0] and now < seen[-1][1] - 1.2 for writes, now in seen)

    await_true(is_quiet, "the controller is quiet", pause=0.1)


def test_probes_are_answered(controller: Program) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/nothing", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", controller.port, timeout=20)
        connection.request("GET", path)
        assert connection.getresponse().status == status
        connection.close()


# --- bundles --------------------------------------------------------------------------------------------------------


def test_a_labelled_namespace_has_a_bundle_at_once(
    environment: Environment, cluster: Cluster, controller: Program
) -> None:
    environment.create_namespace("plain")
    cluster.patch(NAMESPACES, None, "plain", {"metadata": {"labels": {"eastgate.dev/injection": "enforced"}}})
    seconds = await_true(lambda: find_bundle(cluster, "plain"), "a bundle", pause=0.01)
    assert seconds < 20.0  # the bar, on a quiet machine: at once
    bundle = await_bundle(cluster, "plain")
    assert content_of(bundle) == ""
    assert json.loads(bundle["data"]["manifest.json"])["namespace"] == "plain"
    assert bundle["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "eastgate"}


def test_a_policy_is_in_the_bundle_in_no_time(cluster: Cluster, controller: Program, namespace: str) -> None:
    await_bundle(cluster, namespace)
    times = []
    for number in range(5):
        issuer = f"https://issuer-{number}.example.com"
        begun = time.monotonic()
        if number == 0:
            cluster.create(JWT_POLICIES, make_policy(namespace, issuer=issuer))
        else:
            patch = make_policy(namespace, issuer=issuer)["spec"]
            cluster.patch(JWT_POLICIES, namespace, "policy", {"spec": patch})
        await_bundle(cluster, namespace, lambda content, issuer=issuer: issuer in content)
        times.append(time.monotonic() - begun)
        time.sleep(0.3)
    record("policy change to ConfigMap", *times)
    assert sorted(times)[2] < 5.0  # the bar is 0.3 s; here others run beside it
    cluster.delete(JWT_POLICIES, namespace, "policy")
    await_bundle(cluster, namespace, lambda content: content == "")


def test_two_hundred_pods_are_told_once_each(cluster: Cluster, controller: Program, namespace: str) -> None:
    await_bundle(cluster, namespace)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cluster.create(PODS, make_pod(namespace, f"pod-{number}")), range(200)))
    first = digest_of(cluster, namespace)

    def all_know(digest: str) -> bool:
        pods = cluster.list(PODS, namespace, metadata_only=True)
        return len(pods) == 200 and all(
            pod["metadata"]["annotations"].get("eastgate.dev/bundle") == digest for pod in pods
        )

    await_true(lambda: all_know(first), "all pods know the first bundle")
    await_quiet(controller)
    before = {pod["metadata"]["name"]: pod for pod in cluster.list(PODS, namespace)}
    nudges = read_metrics(controller)['eastgate_controller_writes_total{kind="Pod",verb="patch"}']
    begun = time.monotonic()
    cluster.create(JWT_POLICIES, make_policy(namespace))
    await_true(lambda: digest_of(cluster, namespace) != first, "a new bundle", pause=0.01)
    second = digest_of(cluster, namespace)
    await_true(lambda: all_know(second), "all pods know the second bundle", pause=0.05)
    seconds = time.monotonic() - begun
    record("policy change to the nudge on 200 pods", seconds)
    assert seconds < 60.0  # the bar is 3 s, on a quiet machine
    time.sleep(0.5)
    assert read_metrics(controller)['eastgate_controller_writes_total{kind="Pod",verb="patch"}'] == nudges + 200
    for pod in cluster.list(PODS, namespace):  # and nothing else of them was touched
        old = before[pod["metadata"]["name"]]
        assert pod["spec"] == old["spec"]
        assert pod["metadata"]["uid"] == old["metadata"]["uid"]


def test_a_bundle_that_somebody_changed_is_repaired(cluster: Cluster, controller: Program, namespace: str) -> None:
    cluster.create(JWT_POLICIES, make_policy(namespace))
    good = await_bundle(cluster, namespace, lambda content: "policy" in content)
    cluster.patch(CONFIG_MAPS, namespace, "eastgate-bundle", {"data": {"manifest.json": "{}"}})
    await_true(lambda: (find_bundle(cluster, namespace) or {}).get("data") == good["data"], "changed back", pause=0.01)
    cluster.delete(CONFIG_MAPS, namespace, "eastgate-bundle")
    await_bundle(cluster, namespace, lambda content: "policy" in content)
    cluster.patch(CONFIG_MAPS, namespace, "eastgate-bundle", {"metadata": {"labels": None}, "data": {"more": "x"}})
    await_true(
        lambda: (find_bundle(cluster, namespace) or {}).get("data") == good["data"], "taken over again", pause=0.01
    )
    # The API server lets nobody change it back: it has to be made anew.
    cluster.patch(CONFIG_MAPS, namespace, "eastgate-bundle", {"data": {"manifest.json": "{}"}, "immutable": True})
    await_true(lambda: (find_bundle(cluster, namespace) or {}).get("data") == good["data"], "made anew", pause=0.01)


def test_an_unlabelled_namespace_keeps_its_bundle_for_its_pods(
    cluster: Cluster, controller: Program, namespace: str
) -> None:
    await_bundle(cluster, namespace)
    cluster.create(PODS, make_pod(namespace, "pod"))
    cluster.patch(NAMESPACES, None, namespace, {"metadata": {"labels": {"eastgate.dev/injection": None}}})
    cluster.create(JWT_POLICIES, make_policy(namespace))
    await_bundle(cluster, namespace, lambda content: "policy" in content)
    cluster.delete(PODS, namespace, "pod")
    await_true(lambda: find_bundle(cluster, namespace) is None, "the bundle is removed", pause=0.02)


def test_a_large_bundle_has_parts_and_an_oversize_one_leaves_the_old(
    cluster: Cluster, controller: Program, namespace: str
) -> None:
    cluster.create(JWT_POLICIES, make_policy(namespace))
    small = await_bundle(cluster, namespace, lambda content: "policy" in content)

    def create_table(number: int) -> None:  # 640 KiB that cannot be compressed away
        table = {
            "apiVersion": ROUTE_TABLES.api_version,
            "kind": ROUTE_TABLES.kind,
            "metadata": {"namespace": namespace, "name": f"table-{number}"},
            "spec": {"hosts": ["app"], "http": [], "x": base64.b64encode(os.urandom(640 * 1024)).decode()},
        }
        cluster.create(ROUTE_TABLES, table)

    def list_parts() -> list[str]:
        return [one["metadata"]["name"] for one in cluster.list(CONFIG_MAPS, namespace, metadata_only=True)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(create_table, range(2)))
        await_true(lambda: list_parts() == ["eastgate-bundle", "eastgate-bundle-1"], "two parts")
        large = digest_of(cluster, namespace)
        list(pool.map(create_table, range(2, 11)))
        await_true(
            lambda: any(one["reason"] == "BundleTooLarge" for one in cluster.list(EVENTS, namespace)), "an Event", 30.0
        )
        await_true(
            lambda: "bytes" in conditions_of(cluster, JWT_POLICIES, namespace, "policy")["Programmed"]["message"],
            "the condition says so",
            30.0,
        )
        programmed = conditions_of(cluster, JWT_POLICIES, namespace, "policy")["Programmed"]
        assert (programmed["status"], programmed["reason"]) == ("False", "BundleNotWritten")
        # What is in force is whole: the last that was written.
        manifest = json.loads((find_bundle(cluster, namespace) or {})["data"]["manifest.json"])
        assert manifest["digest"] == digest_of(cluster, namespace)
        assert len(manifest["parts"]) == len(list_parts())
        assert large
        list(pool.map(lambda number: cluster.delete(ROUTE_TABLES, namespace, f"table-{number}"), range(11)))
    await_true(lambda: list_parts() == ["eastgate-bundle"], "the parts are removed")
    assert content_of(await_bundle(cluster, namespace)) == content_of(small)


def test_secrets_that_policies_refer_to_are_followed(
    environment: Environment, cluster: Cluster, controller: Program, namespace: str
) -> None:
    elsewhere = environment.create_namespace("keys-of-others")
    own = {"secretRef": {"name": "own", "key": "keys"}}
    cluster.create(JWT_POLICIES, make_policy(namespace, local=own))
    await_bundle(cluster, namespace, lambda content: '"policy"' in content)
    assert find(cluster, SECRETS, namespace, "eastgate-bundle") is None

    def find_sealed() -> str:
        found = find(cluster, SECRETS, namespace, "eastgate-bundle")
        text = "" if found is None else found["data"]["secrets.jsonl.gz"]
        return gzip.decompress(base64.b64decode(text)).decode() if text else ""

    def keys(name: str, place: str, text: str) -> Object:
        data = {"keys": base64.b64encode(text.encode()).decode(), "other": base64.b64encode(b"mine").decode()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": place, "name": name}, "data": data}

    cluster.create(SECRETS, keys("unrelated", namespace, "-"))
    cluster.create(SECRETS, keys("own", namespace, KEYS))
    await_true(lambda: '"own"' in find_sealed(), "the Secret is sealed into the bundle", pause=0.02)
    assert "other" not in find_sealed()
    assert "unrelated" not in find_sealed()
    # Changed, and another one wanted of the same kind and place: both are followed.
    changed = KEYS.replace('"P-256"', '"P-256","kid":"new"')
    cluster.patch(SECRETS, namespace, "own", {"data": {"keys": base64.b64encode(changed.encode()).decode()}})
    await_true(lambda: base64.b64encode(changed.encode()).decode() in find_sealed(), "the change", pause=0.02)
    cluster.create(SECRETS, keys("second", namespace, KEYS))
    second = {"secretRef": {"name": "second", "key": "keys"}}
    cluster.create(JWT_POLICIES, make_policy(namespace, "second", local=second))
    await_true(lambda: '"second"' in find_sealed() and '"own"' in find_sealed(), "both", pause=0.02)
    cluster.create(SECRETS, keys("theirs", elsewhere, KEYS))
    for name in ("policy", "second"):
        cluster.delete(JWT_POLICIES, namespace, name)
    await_true(lambda: find(cluster, SECRETS, namespace, "eastgate-bundle") is None, "no Secret is left", pause=0.02)
    cluster.create(JWT_POLICIES, make_policy(namespace, local=own))
    await_true(lambda: '"own"' in find_sealed(), "wanted again", pause=0.02)


# --- words to people ------------------------------------------------------------------------------------------------


def test_a_pod_without_a_sidecar_is_told_of_once(cluster: Cluster, controller: Program, namespace: str) -> None:
    cluster.create(PODS, make_pod(namespace, "bare", {}))
    events: list[Object] = []

    def is_said() -> bool:
        events[:] = [one for one in cluster.list(EVENTS, namespace) if one["reason"] == "NotProtected"]
        return bool(events)

    await_true(is_said, "an Event")
    cluster.patch(PODS, namespace, "bare", {"metadata": {"labels": {"more": "true"}}})
    time.sleep(1.5)
    assert is_said()
    assert len(events) == 1
    assert events[0]["involvedObject"]["name"] == "bare"
    assert "eastgate.dev/bundle" not in cluster.get(PODS, namespace, "bare")["metadata"]["annotations"]


def test_conditions_say_what_is_in_force(cluster: Cluster, controller: Program, namespace: str) -> None:
    cluster.create(PODS, make_pod(namespace, "pod"))
    cluster.create(JWT_POLICIES, make_policy(namespace))

    def is_programmed() -> bool:
        programmed = conditions_of(cluster, JWT_POLICIES, namespace, "policy").get("Programmed", {})
        return programmed.get("status") == "True" and "1 of 1 pods" in programmed["message"]

    await_true(is_programmed, "Programmed in 1 of 1 pods")
    found = cluster.get(JWT_POLICIES, namespace, "policy")
    conditions = conditions_of(cluster, JWT_POLICIES, namespace, "policy")
    assert conditions["Accepted"]["status"] == "True"
    assert {one["observedGeneration"] for one in conditions.values()} == {found["metadata"]["generation"]}
    # Somebody overwrites it: said again, with the time that it had.
    cluster.patch(JWT_POLICIES, namespace, "policy", {"status": {"conditions": []}}, subresource="status")
    await_true(is_programmed, "said again")
    # It becomes invalid: the time is that of the change, and only of what changed.
    time.sleep(1.1)
    cluster.patch(JWT_POLICIES, namespace, "policy", {"spec": make_policy("", local={"inline": "nonsense"})["spec"]})
    await_true(
        lambda: conditions_of(cluster, JWT_POLICIES, namespace, "policy")["Accepted"]["status"] == "False", "Accepted"
    )
    later = conditions_of(cluster, JWT_POLICIES, namespace, "policy")
    assert later["Accepted"]["lastTransitionTime"] != conditions["Accepted"]["lastTransitionTime"]
    assert later["Accepted"]["observedGeneration"] == found["metadata"]["generation"] + 1


def test_a_security_policy_has_our_ancestor_beside_others(
    cluster: Cluster, controller: Program, namespace: str
) -> None:
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    foreign = {"ancestorRef": target, "controllerName": "example.com/other", "conditions": []}
    jwks = {"uri": "https://example.com/jwks"}
    cluster.create(
        SECURITY_POLICIES,
        {
            "apiVersion": SECURITY_POLICIES.api_version,
            "kind": SECURITY_POLICIES.kind,
            "metadata": {"namespace": namespace, "name": "policy"},
            "spec": {
                "targetRefs": [target],
                "jwt": {"providers": [{"name": "one", "issuer": "x", "remoteJWKS": jwks}]},
            },
        },
    )
    cluster.patch(SECURITY_POLICIES, namespace, "policy", {"status": {"ancestors": [foreign]}}, subresource="status")

    def list_ancestors() -> list[Object]:
        return (cluster.get(SECURITY_POLICIES, namespace, "policy").get("status") or {}).get("ancestors") or []

    await_true(lambda: len(list_ancestors()) == 2, "our ancestor")
    first, second = list_ancestors()
    assert first == foreign
    assert second["controllerName"] == "eastgate.dev/controller"
    assert second["ancestorRef"] == target
    assert {one["type"] for one in second["conditions"]} >= {"Accepted", "Programmed"}


# --- again, and somebody else ---------------------------------------------------------------------------------------


def fingerprint(cluster: Cluster) -> dict[str, str]:
    """The version of everything that the controller writes."""
    return {
        f"{resource}/{one['metadata'].get('namespace')}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for resource in (CONFIG_MAPS, SECRETS, PODS, JWT_POLICIES, SECURITY_POLICIES, EVENTS)
        for one in cluster.list(resource)
    }


def test_a_restart_and_a_takeover_write_nothing(
    environment: Environment, cluster: Cluster, controller: Program, namespace: str, tmp_path: Path
) -> None:
    cluster.create(JWT_POLICIES, make_policy(namespace))
    cluster.create(PODS, make_pod(namespace, "pod"))
    await_bundle(cluster, namespace, lambda content: "policy" in content)
    with start_replica(environment, cluster, tmp_path, "two") as second:
        await_quiet(controller)
        before = fingerprint(cluster)
        # A clean end hands over at once.
        begun = time.monotonic()
        assert controller.stop() == 0
        await_true(lambda: read_metrics(second)["eastgate_controller_leader"] == 1.0, "the second leads")
        record("taken over after SIGTERM", time.monotonic() - begun)
        assert time.monotonic() - begun < 20.0
        await_quiet(second)
        assert list_writes(second) == {}
        assert fingerprint(cluster) == before
        with start_replica(environment, cluster, tmp_path, "three") as third:
            # And a dead leader is missed.
            begun = time.monotonic()
            second.kill()
            policy = make_policy(namespace, issuer="https://while-nobody-led.example.com")
            cluster.patch(JWT_POLICIES, namespace, "policy", {"spec": policy["spec"]})
            await_true(lambda: "while-nobody-led" in content_of(await_bundle(cluster, namespace)), "the third writes")
            record("taken over after SIGKILL", time.monotonic() - begun)
            assert time.monotonic() - begun < 45.0  # a lease, two tries, and a busy machine
            await_quiet(third)
            changed = {name for name, version in fingerprint(cluster).items() if before.get(name) != version}
            assert changed == {
                f"configmaps/{namespace}/eastgate-bundle",
                f"pods/{namespace}/pod",
                f"{JWT_POLICIES}/{namespace}/policy",
            }
            written = list_writes(third)
            assert written['{kind="ConfigMap",verb="update"}'] == 1
            assert written['{kind="Pod",verb="patch"}'] == 1
            lease = cluster.get(LEASES, SYSTEM, "eastgate-controller")
            assert lease["spec"]["holderIdentity"] == "three"
    lease = cluster.get(LEASES, SYSTEM, "eastgate-controller")
    assert lease["spec"]["holderIdentity"] == ""
