"""One cluster for the session, with Eastgate installed as its documentation says, an identity provider and a client.

Everything is ended and taken away afterwards, also after a failure or a SIGTERM. With ``KUBECONFIG`` the cluster is
that one: what it needs stands in ``given``, and tests that need the node's own network or processes are skipped there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster.cluster import CLIENT, SYSTEM, Cluster
from e2e.cluster.given import GivenCluster, GivenClusterError, check_images, find_kinds, remove_everything
from e2e.cluster.identity import ALIASES, make_identity
from e2e.cluster.images import ImageError, load_layout, prepare_images
from e2e.cluster.node import ROOT, Node, NodeError, run_node
from e2e.cluster.places import Place
from e2e.cluster.workloads import make_policy
from eastgate.demonstrations.identity import Authority
from eastgate.demonstrations.scenarios import Material

KEEP = os.environ.get("EASTGATE_E2E_KEEP") == "1"
"""Keep the node's folder with its logs; and what was put into a given cluster."""


@dataclass
class Installation:
    """A cluster with Eastgate in it. ``node`` is None where the cluster was given."""

    cluster: Cluster
    node: Node | None
    material: Material
    private: Authority
    seconds: dict[str, float]


type Tell = Callable[[str], None]


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config) -> Tell:
    """Print at once: these tests take their time, and their figures are half of what they are for."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(what: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  {what}", end="", flush=True)

    return say


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says what went on in the namespace of its module, and which of the node's programs are gone."""
    report = yield
    known = getattr(item, "funcargs", {})
    place, installed = known.get("place"), known.get("installation")
    if report.failed and isinstance(place, Place):
        report.sections.append((f"namespace {place.namespace}", place.cluster.describe(place.namespace)))
    if report.failed and isinstance(installed, Installation) and installed.node and installed.node.ended:
        report.sections.append(("the node", f"ended by themselves: {', '.join(installed.node.ended)}"))
    return report


@pytest.fixture(scope="session")
def installation(tell: Tell, pytestconfig: pytest.Config) -> Iterator[Installation]:
    """Images, node, manifests; what each took is told."""
    seconds: dict[str, float] = {}
    began = time.monotonic()
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def note(what: str) -> None:
        seconds[what] = time.monotonic() - began - sum(seconds.values())
        tell(f"{what}: {seconds[what]:.1f} s")

    with ExitStack() as stack:
        node = None
        # A job that is cancelled ends as one that somebody interrupts: everything is taken away.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        try:
            if os.environ.get("KUBECONFIG"):
                cluster = _take_given(stack, tell)
            else:
                if os.geteuid() != 0:
                    pytest.skip("NOT TESTED: a node needs root (or give a cluster with KUBECONFIG)")
                # Who waits for another run's node, or builds Kubernetes, says so at once.
                with capture.global_and_fixture_disabled(), prepare_images() as layout:
                    note("images")
                    node = _start_node(stack)
                    cluster = Cluster(node.kubectl, node.run_script)
                    note("node")
                    load_layout(node, layout)
                    note("images into the node")
        except (NodeError, ImageError, GivenClusterError) as error:
            if str(error).startswith("missing:"):
                pytest.skip(f"NOT TESTED: {error}")
            raise
        material, private = Material.generate(), Authority("Eastgate e2e self-signed authority")
        platform = Authority("Eastgate e2e platform authority")
        _install(cluster, platform)
        note("manifests applied")
        _make_surroundings(cluster, material, platform, private)
        if node is None:
            check_images(cluster)
        cluster.rolled_out(SYSTEM, "deployment/eastgate-webhook", "deployment/eastgate-controller")
        cluster.rolled_out("identity", "deployment/keys")
        cluster.await_condition(CLIENT, f"pod/{CLIENT}")
        _await_webhook(cluster)
        note("control plane ready")
        yield Installation(cluster, node, material, private, seconds)


def _take_given(stack: ExitStack, tell: Tell) -> Cluster:
    given = GivenCluster()
    tell(given.describe())
    cluster = Cluster(given.kubectl, given.run_script)
    if not KEEP:
        stack.callback(remove_everything, cluster, find_kinds(cluster))
    return cluster


def _start_node(stack: ExitStack) -> Node:
    # Not below a folder of pytest's: sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="eastgate-node-"))
    if not KEEP:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return stack.enter_context(run_node(folder, f"eastgate-{os.getpid()}", ALIASES))


def _install(cluster: Cluster, platform: Authority) -> None:
    """As docs/install.md says, the images being in the node under their plain names: what is published, unchanged, in a
    kustomization that adds the platform's certificate authority.
    """
    manifests = ROOT / "manifests"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ca.crt").write_text(platform.pem)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(manifests / "install", folder)],
            "components": [os.path.relpath(manifests / "components" / "trusted-ca", folder)],
            "generatorOptions": {"disableNameSuffixHash": True},
            "configMapGenerator": [{"name": "eastgate-trusted-ca", "namespace": SYSTEM, "files": ["ca.crt"]}],
        }
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(kustomization))
        cluster.kubectl("apply", "-k", folder)
    cluster.run_script(manifests / "compat" / "apply")


def _make_surroundings(cluster: Cluster, material: Material, platform: Authority, private: Authority) -> None:
    cluster.kubectl("apply", "-f", "-", input=make_identity(material, platform, private))
    container = {
        "name": CLIENT,
        "image": "localhost/apps:1",
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
    }
    pod = {"containers": [container], "terminationGracePeriodSeconds": 0}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLIENT}})
    # Without its service account a pod is refused, and the controller that makes it has just been started.
    cluster.await_true(lambda: cluster.get("serviceaccount", "default", "-n", CLIENT), f"an account in {CLIENT}")
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": CLIENT, "namespace": CLIENT}, "spec": pod})


def _await_webhook(cluster: Cluster) -> None:
    """Its pods are ready some moments before the API server finds them behind their Service."""
    policy = json.dumps(make_policy(CLIENT))
    cluster.await_true(
        lambda: cluster.kubectl("apply", "--dry-run=server", "-f", "-", input=policy), "the webhook answers"
    )
