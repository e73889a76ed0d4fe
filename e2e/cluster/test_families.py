"""The second family: a pod's and a Service's IPv6 address let in what the IPv4 one does, and nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from e2e.cluster.cluster import CLIENT
from e2e.cluster.configuration import IPV6
from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.places import Place, make_place
from e2e.cluster.traffic import Ask, ask_once, await_outcome
from e2e.cluster.workloads import APP, PORT, STRANGER, make_pod, make_service, make_token
from eastgate.demonstrations.scenes import HTTPCall
from eastgate.pods.names import INBOUND_PORT, OUTBOUND_PORT, SIDECAR_CONTAINER

pytestmark = pytest.mark.timeout(300, func_only=True)
NAMESPACE = "families"
OPAQUE, EXCLUDED = 9100, 3000
REFUSED = ("ConnectionResetError", "ConnectionRefusedError", "RemoteDisconnected")


@pytest.fixture(scope="module")
def place(installation: Installation) -> Iterator[Place]:
    """One protected pod, a Service with an address of each family, and one that has IPv6 alone."""
    if installation.node is None:
        pytest.skip("NOT TESTED: needs the node's own network, and KUBECONFIG names a cluster")
    if IPV6 not in installation.node.families:
        pytest.skip("NOT TESTED: this kernel has no IPv6")
    with make_place(installation.cluster, installation.node, NAMESPACE) as place:
        ports = {"eastgate.dev/opaque-ports": str(OPAQUE), "eastgate.dev/exclude-inbound-ports": str(EXCLUDED)}
        services = (make_service(NAMESPACE, families=("IPv4", "IPv6")), make_service(NAMESPACE, "six", ("IPv6",)))
        place.apply(*services, make_pod(NAMESPACE, APP, ports))
        place.await_protected(place.await_ready(APP))
        for address in (*find_service(place), *find_service(place, "six")):  # kube-proxy learns of the pod later.
            await_outcome(place.node, Ask("service", address, place.token, port=80), [200])
        yield place


def find_service(place: Place, name: str = APP) -> list[str]:
    """Its addresses."""
    found: list[str] = place.cluster.get("service", name, "-n", NAMESPACE)["spec"]["clusterIPs"]
    return found


def test_every_address_demands_a_token(place: Place, tell: Tell) -> None:
    """Asked from another pod; what the app saw and what the sidecar logged are their own words."""
    own, service, clients = place.families(), find_service(place), place.families(CLIENT, CLIENT)
    assert [":" in one for one in (*own, *service, *clients)] == [False, True] * 3
    ways = {
        "pod-4": (f"{own[0]}:{PORT}", clients[0]),
        "pod-6": (f"{own[1]}:{PORT}", clients[1]),
        "service-4": (f"{service[0]}:80", clients[0]),
        "service-6": (f"{service[1]}:80", clients[1]),
        "name-of-six": (f"six.{NAMESPACE}:80", clients[1]),
    }
    tokens = {"none": None, "token": place.token, "forged": make_token(STRANGER)}
    calls = [
        (to, HTTPCall("app.example.com", f"/{way}/{name}", (("authorization", f"Bearer {token}"),) if token else ()))
        for way, (to, _) in ways.items()
        for name, token in tokens.items()
    ]
    answers = place.cluster.send(calls, await_open=True)
    asked = [call.target for _, call in calls]
    statuses = dict(zip(asked, (one.got.status for one in answers), strict=True))
    assert statuses == {
        f"/{way}/{name}": {"none": 401, "token": 200, "forged": 401}[name] for way in ways for name in tokens
    }

    def find_peers(records: list[dict[str, Any]]) -> dict[str, str]:
        return {one["path"]: one["peer"] for one in records if one.get("event") == "decision" and one["path"] in asked}

    def find_seen(records: list[dict[str, Any]]) -> list[str]:
        return sorted(one["seen"][1] for one in records if "seen" in one and one["seen"][1] in asked)

    peers = find_peers(place.log(APP, SIDECAR_CONTAINER, lambda records: len(find_peers(records)) == len(asked)))
    assert peers == {f"/{way}/{name}": peer for way, (_, peer) in ways.items() for name in tokens}
    seen = find_seen(place.log(APP, APP, lambda records: len(find_seen(records)) >= len(ways)))
    assert seen == sorted(f"/{way}/token" for way in ways)
    tell(f"{len(calls)} requests to addresses of both families: each refused or let in as its token says")
    tell(f"the log has the client's own address, as {peers['/service-6/none']} through {service[1]}")


def test_the_sidecars_own_ports_cannot_be_dialled(place: Place) -> None:
    for address in place.families():
        for port in (INBOUND_PORT, OUTBOUND_PORT):
            for token in (None, place.token):
                assert ask_once(place.node, Ask("own port", address, token, port=port)) in REFUSED, (address, port)


def test_an_opaque_and_an_excluded_port(place: Place) -> None:
    def greet(address: str) -> bytes:
        with socket.create_connection((address, OPAQUE), timeout=20) as connection:
            greeting = connection.recv(100)
            connection.sendall(b"ping")
            return greeting + connection.recv(100)

    for address in place.families():
        assert ask_once(place.node, Ask("excluded", address, port=EXCLUDED)) == 200
        assert ask_once(place.node, Ask("not named", address, port=80)) == 401
        assert place.node.call(partial(greet, address)) == b"220 hello\r\nping"


def test_a_pod_that_calls_itself(place: Place) -> None:
    """Through a Service it comes in from outside, and is decided; over the loopback it never leaves the pod."""

    def ask(host: str, port: int) -> str:
        command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}:{port}/get")
        return place.kubectl("exec", APP, "-c", APP, "--", *command)

    four, six = find_service(place)
    assert {host: ask(host, 80) for host in (four, f"[{six}]")} == {four: "401", f"[{six}]": "401"}
    assert [ask(host, PORT) for host in ("127.0.0.1", "[::1]")] == ["200", "200"]
