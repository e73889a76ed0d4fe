"""What a node's programs are told: addresses of both families, and their files.

Knows the formats of the files. Must not know how a program is started, or how long it takes.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Family:
    """The node's own address in one family, its length, and the ranges of pods and Services."""

    address: str
    length: int
    pods: str
    services: str
    everywhere: str


IPV4 = Family("10.77.1.1", 32, "10.244.0.0/24", "10.96.0.0/16", "0.0.0.0/0")
IPV6 = Family("fd77::1", 128, "fd77:244::/64", "fd77:96::/112", "::/0")
API_SERVER = f"https://{IPV4.address}:6443"


def find_families() -> tuple[Family, ...]:
    """What this kernel has. IPv4 is first: it is the one of pods and Services that ask for nothing else."""
    return (IPV4, IPV6) if Path("/proc/net/if_inet6").exists() else (IPV4,)


def write_configuration(folder: Path, runtime: Path, families: tuple[Family, ...]) -> None:
    """All files, the administrator's ``admin.conf`` among them; certificates and kubectl are not in it."""
    token = secrets.token_hex(16)
    subprocess.run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"], check=True, capture_output=True)
    (folder / "cni").mkdir()
    texts: dict[str, str | dict[str, object]] = {
        "tokens.csv": f"{token},admin,admin,system:masters\n",
        "admin.conf": make_kubeconfig(token),
        "cni/10-bridge.conflist": make_network(folder, families),
        "containerd.toml": write_runtime(folder, runtime),
        "kubelet.yaml": make_kubelet(folder),
        "kube-proxy.yaml": make_proxy(folder, families),
    }
    for name, content in texts.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content, indent=1))


def make_kubeconfig(token: str) -> dict[str, object]:
    """An administrator's. The API server's certificate is made by itself, at its first start."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "node", "cluster": {"server": API_SERVER, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "admin"}}],
        "current-context": "node",
    }


def make_network(folder: Path, families: tuple[Family, ...]) -> dict[str, object]:
    """The bridge plugin: an address of each family for each pod."""
    addresses: dict[str, object] = {
        "type": "host-local",
        "ranges": [[{"subnet": one.pods}] for one in families],
        "routes": [{"dst": one.everywhere} for one in families],
        "dataDir": str(folder / "ipam"),
    }
    bridge: dict[str, object] = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{**bridge, "ipMasq": False, "ipam": addresses}]}


def write_runtime(folder: Path, runtime: Path) -> str:
    """containerd's file."""
    # restrict_oom_score_adj: where a process may not lower its own, runc would fail without a reason.
    return f"""version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
address = "{folder}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{runtime}/cni"]
conf_dir = "{folder}/cni"
"""


def make_kubelet(folder: Path) -> dict[str, object]:
    """The kubelet's file; what has no place there is a flag."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failSwapOn": False,
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "clusterDomain": "cluster.local",
        "clusterDNS": [IPV4.address],
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "resolvConf": "",
        # Of a machine that others use, too: a share of it says nothing.
        "evictionHard": {"imagefs.available": "200Mi", "nodefs.available": "200Mi", "memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
    }


def make_proxy(folder: Path, families: tuple[Family, ...]) -> dict[str, object]:
    """kube-proxy's file."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(folder / "admin.conf")},
        "hostnameOverride": "node0",
        "clusterCIDR": ",".join(one.pods for one in families),
        # Not this node's to set.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
