"""``--trusted-ca`` of the controller: from a file, as a ConfigMap is mounted, into every namespace's bundle."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eastgate.pods.bundles import unpack
from tests.apiserver.environment import ROOT, Environment
from tests.apiserver.programs import SYSTEM, await_true, running, start_controller
from tests.apiserver.test_controller import BASE, find_bundle, read_metrics, record
from tests.live.pod_running import Mount
from tests.unit.sidecar.key_server import make_authority
from webhook.cluster import Cluster

ONE, OTHER = (make_authority(name).pem for name in ("Example Corp Root", "Example Corp Root 2"))
NAMESPACES = ("trusting-one", "trusting-two", "trusting-three")


@pytest.fixture
def cluster(environment: Environment) -> Cluster:
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        environment.kubectl("delete", kind, "eastgate", "--ignore-not-found")
    environment.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "crds"))
    for name in BASE:
        environment.kubectl("apply", "--server-side", "-f", str(ROOT / "manifests" / "base" / f"{name}.yaml"))
    return Cluster(str(environment.kubeconfig))


def trusted_in(cluster: Cluster, namespace: str) -> list[str]:
    """The subjects that a pod of this namespace would trust; what it mounts is read as it reads it."""
    bundle = find_bundle(cluster, namespace)
    if bundle is None:
        return ["no bundle"]
    files = {name: text.encode() for name, text in bundle["data"].items()}
    files |= {name: base64.b64decode(text) for name, text in bundle["binaryData"].items()}
    return [one.subject for one in unpack(files, namespace).authorities]


def test_a_changed_file_is_in_every_bundle(environment: Environment, cluster: Cluster, tmp_path: Path) -> None:
    for namespace in NAMESPACES:
        environment.create_namespace(namespace, "enabled")
    mount = Mount(tmp_path / "trusted-ca")
    mount.write({"ca.crt": ONE.encode()})
    file = str(tmp_path / "trusted-ca" / "ca.crt")
    program = start_controller(environment, tmp_path, "trusting", "--no-leader-elect", "--trusted-ca", file)

    def all_trust(*names: str) -> bool:
        wanted = sorted(f"CN={name}" for name in names)
        return all(sorted(trusted_in(cluster, namespace)) == wanted for namespace in NAMESPACES)

    with running(program):
        await_true(lambda: all_trust("Example Corp Root"), "the first authority in every bundle")
        mount.write({"ca.crt": (ONE + OTHER).encode()})
        begun = time.monotonic()
        await_true(lambda: all_trust("Example Corp Root", "Example Corp Root 2"), "both", pause=0.01)
        record("authority to three bundles", time.monotonic() - begun)
        # What cannot be used changes nothing, is said, and is not repeated.
        mount.write({"ca.crt": b"-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n"})
        gauge = "eastgate_controller_trusted_ca_unusable"
        await_true(lambda: read_metrics(program)[gauge] == 1.0, "the complaint")
        assert read_metrics(program)["eastgate_controller_trusted_authorities"] == 2.0
        assert all_trust("Example Corp Root", "Example Corp Root 2")
        said = program.log.read_text()
        assert "holds a private key" in said
        assert "MC4CAQAw" not in said
        mount.write({"ca.crt": OTHER.encode()})
        await_true(lambda: all_trust("Example Corp Root 2"), "the second alone")
        assert program.stop() == 0
    # Without the option they go, as they came.
    program = start_controller(environment, tmp_path, "plain", "--no-leader-elect")
    with running(program):
        await_true(all_trust, "no authorities")
        assert program.stop() == 0


def test_it_does_not_begin_without_them(environment: Environment, tmp_path: Path) -> None:
    """It would take them from every pod."""
    kubeconfig = environment.make_kubeconfig(SYSTEM, "eastgate-controller", tmp_path)
    command = [Path(sys.executable).parent / "eastgate", "controller", "--kubeconfig", str(kubeconfig)]
    ended = subprocess.run(
        [*command, "--trusted-ca", str(tmp_path / "none.pem")], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert "--trusted-ca" in ended.stderr
    assert "none.pem" in ended.stderr
