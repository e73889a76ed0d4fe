"""A rollout of three replicas under 200 requests a second, each on a connection of its own: none fails."""

from __future__ import annotations

import time

import pytest

from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.places import make_place
from e2e.cluster.traffic import Ask, Traffic, await_outcome
from e2e.cluster.workloads import APP, make_deployment, make_service

NAMESPACE, REPLICAS, RATE = "rollout", 3, 230
"""A little more than 200: threads that wait for an answer fall behind."""


@pytest.mark.timeout(300, func_only=True)
def test_no_request_is_lost(installation: Installation, tell: Tell) -> None:
    cluster, node = installation.cluster, installation.node
    if node is None:
        pytest.skip("NOT TESTED: needs the node's own network, and KUBECONFIG names a cluster")
    with make_place(cluster, node, NAMESPACE) as place:
        # As any app that is rolled over without loss has it: Services learn of the end some moments after the pod.
        lifecycle = {"preStop": {"sleep": {"seconds": 10}}}
        quiet = [{"name": "QUIET", "value": "1"}]
        place.apply(make_service(NAMESPACE), make_deployment(NAMESPACE, REPLICAS, lifecycle=lifecycle, env=quiet))
        cluster.rolled_out(NAMESPACE, f"deployment/{APP}")
        host = cluster.get("service", APP, "-n", NAMESPACE)["spec"]["clusterIP"]
        request = Ask("token", host, place.token, port=80)
        await_outcome(node, request, [200])
        with Traffic(node, [request], rate=RATE, threads=16) as traffic:
            traffic.wait(RATE)
            began = time.monotonic()
            place.kubectl("rollout", "restart", f"deployment/{APP}")
            cluster.rolled_out(NAMESPACE, f"deployment/{APP}")
            took = time.monotonic() - began
            # The last old one drains.
            cluster.await_true(lambda: len(cluster.list_pods(NAMESPACE)) == REPLICAS, "only new pods")
        seconds = time.monotonic() - traffic.began
        slowest = max(one.answered - one.sent for one in traffic.samples)
    outcomes = traffic.count()
    tell(
        f"rollout of {REPLICAS} in {took:.1f} s under {len(traffic.samples) / seconds:.0f} requests a second: "
        f"{dict(outcomes)}, slowest {slowest:.2f} s"
    )
    assert set(outcomes) == {200}
    assert len(traffic.samples) / seconds > RATE * 0.4  # shared machines
