"""A cluster that somebody gave with ``KUBECONFIG``: whose it is, what it lacks, and that it is left as it was found.

What it needs (docs/walkthrough.md has the commands for kind and k3d):

- kubectl on the path, and the rights of an administrator;
- nodes of this machine's architecture that have the images: ``python -m e2e.cluster.images FILE`` writes them all into
  one archive, the stand-ins for the sample applications under the sample applications' names;
- for the seeds, a name server that leads the hosts of their key sets to the test's identity provider (``ALIASES``).

Knows: what the tests put into a cluster. Must not know what they ask of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster.cluster import CLIENT, SYSTEM, Cluster
from e2e.cluster.identity import ALIASES
from e2e.cluster.kubectl import SECONDS, KubectlError, run_kubectl
from e2e.cluster.node import ROOT

LOOK_UP = """
import socket, sys
try:
    print(socket.gethostbyname(sys.argv[1]))
except OSError:
    print("nowhere")
"""
REGISTRATIONS = "mutatingwebhookconfiguration,validatingwebhookconfiguration"


class GivenClusterError(Exception):
    """The cluster cannot be used; the text says what it lacks and how it gets it."""


class GivenCluster:
    """kubectl from the path."""

    def kubectl(
        self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = SECONDS  # noqa: A002
    ) -> str:  # fmt: skip
        """As ``run_kubectl``."""
        return run_kubectl(["kubectl"], arguments, input, check, timeout)

    def run_script(self, script: Path) -> None:
        """Run one that calls ``kubectl``."""
        subprocess.run([script], check=True, stdout=subprocess.DEVNULL)

    def describe(self) -> str:
        """Whose cluster it is. Raises ``GivenClusterError`` where nobody answers, or Eastgate is there already."""
        try:
            context = self.kubectl("config", "current-context").strip()
            version = self.kubectl("version", "--request-timeout=10s").strip().splitlines()[-1]
            there = self.kubectl("get", "namespace", SYSTEM, "--ignore-not-found", "-o", "name")
        except (OSError, KubectlError) as error:
            raise GivenClusterError(f"KUBECONFIG is set, and its cluster does not answer: {error}") from None
        if there:
            raise GivenClusterError(
                f"KUBECONFIG is set, and its cluster ({context}) has Eastgate already: these tests install and remove "
                "their own. Unset KUBECONFIG, or give a cluster to try things on"
            )
        return f"KUBECONFIG: cluster of context {context}, {version}; it is left as it was"


def check_images(cluster: Cluster) -> None:
    """Wait for the client's pod. Raises ``GivenClusterError`` where the nodes do not have its image."""

    def known() -> bool:
        status = cluster.get("pod", CLIENT, "-n", CLIENT)["status"]
        waiting = [one["state"].get("waiting", {}).get("reason") for one in status.get("containerStatuses", [])]
        if "ErrImageNeverPull" in waiting:
            raise GivenClusterError(
                "the nodes do not have the images of the tests: `python -m e2e.cluster.images FILE` writes them, and "
                "`kind load image-archive FILE` or `k3d image import FILE` brings them there"
            )
        return bool(status["phase"] == "Running")

    cluster.await_true(known, "the client's pod runs", 90)


def check_names(cluster: Cluster) -> None:
    """Raises ``GivenClusterError`` where the names of the seeds' key sets lead somewhere else than to the test's."""
    for alias in ALIASES:
        name, _, service = alias.partition("=")
        wanted = cluster.get("service", service.partition(".")[0], "-n", service.partition(".")[2])["spec"]["clusterIP"]
        found = cluster.kubectl("exec", "-n", CLIENT, CLIENT, "--", "python3", "-c", LOOK_UP, name).strip()
        if found != wanted:
            rules = "".join(f"\n    rewrite name {one.replace('=', ' ')}.svc.cluster.local" for one in ALIASES)
            raise GivenClusterError(
                f"{name} leads to {found} and not to {wanted}: put this above `kubernetes` in the "
                f"Corefile (kubectl -n kube-system edit configmap coredns, rollout restart deployment/coredns):{rules}"
            )


def find_kinds(cluster: Cluster) -> set[str]:
    """The custom resource definitions that there are."""
    return set(cluster.kubectl("get", "crd", "-o", "name").split())


def remove_everything(cluster: Cluster, kinds: set[str]) -> None:
    """In the order of docs/install.md; kinds that were there before stay."""
    ours = (CLIENT, *{one.rpartition(".")[2] for one in ALIASES})
    cluster.kubectl("delete", REGISTRATIONS, "eastgate", "--ignore-not-found", check=False)
    cluster.kubectl("delete", "namespace", *ours, "--ignore-not-found", "--wait=false", check=False)
    kustomization = str(ROOT / "manifests" / "install")
    cluster.kubectl("delete", "-k", kustomization, "--ignore-not-found", check=False, timeout=180)
    new = find_kinds(cluster) - kinds
    if new:
        cluster.kubectl("delete", *sorted(new), check=False)
