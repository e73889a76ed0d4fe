"""A policy is changed fifty times while requests come in on kept connections: each answer is the old one or the new.

What "neither" would look like: no token let in, a token that both policies accept refused, one that neither accepts let
in. These are asked all the time, of every pod.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.node import Node
from e2e.cluster.places import make_place
from e2e.cluster.traffic import Ask, Traffic, await_outcome, describe
from e2e.cluster.workloads import APP, make_deployment, make_policy, make_token

NAMESPACE = "changes"
CHANGES, PODS = 50, 3
MEDIAN_SECONDS, WORST_SECONDS = 5.0, 20.0
"""The bars are 1 s and 3 s, and what was measured is printed; asserted is what no busy machine explains."""
ALWAYS = {"none": {401}, "neither": {403}, "both": {200}}


def find_moment(node: Node, what: Ask) -> float:
    """When the request was let in."""
    await_outcome(node, what, [200], 30)
    return time.monotonic()


@pytest.mark.timeout(600, func_only=True)
def test_a_change_is_in_force_at_once_and_between_two_there_is_nothing(installation: Installation, tell: Tell) -> None:
    cluster, node = installation.cluster, installation.node
    if node is None:
        pytest.skip("NOT TESTED: needs the node's own network, and KUBECONFIG names a cluster")
    tokens = [make_token(org="org-0"), make_token(org="org-1")]
    with make_place(cluster, node, NAMESPACE, make_policy(NAMESPACE, values=["org-0", "always"])) as place:
        place.apply(make_deployment(NAMESPACE, PODS, env=[{"name": "QUIET", "value": "1"}]))
        cluster.rolled_out(NAMESPACE, f"deployment/{APP}")
        hosts = place.addresses()
        assert len(hosts) == PODS
        for host in hosts:
            await_outcome(node, Ask("old", host, tokens[0]), [200])
        asks = [
            Ask(name, host, token)
            for host in hosts
            for name, token in (("none", None), ("neither", make_token(org="x")), ("both", make_token(org="always")))
        ]
        begun, returned = [], []
        with Traffic(node, asks, rate=60, threads=3, keep=True) as traffic, ThreadPoolExecutor(PODS) as pool:
            for number in range(CHANGES):
                new = (number + 1) % 2
                values = [f"org-{new}", "always"]
                asked = time.monotonic()
                # Looked at from the moment in which kubectl is started: what it takes itself is in the figure.
                waiting = [pool.submit(find_moment, node, Ask("new", host, tokens[new])) for host in hosts]
                place.apply(make_policy(NAMESPACE, values=values))
                applied = time.monotonic()
                for future in waiting:
                    in_force = future.result()
                    begun.append(in_force - asked)
                    returned.append(max(0.0, in_force - applied))
                # What the old policy let in is not let in any more, on any pod.
                for host in hosts:
                    await_outcome(node, Ask("old", host, tokens[1 - new]), [403], WORST_SECONDS)
        wrong = Counter((one.name, one.outcome) for one in traffic.samples if one.outcome not in ALWAYS[one.name])
    tell(f"{CHANGES} changes on {PODS} pods, from the start of kubectl apply: {describe(begun)}")
    tell(
        f"from its end: {describe(returned)}; of {len(traffic.samples)} requests meanwhile, decided by neither: "
        f"{dict(wrong)}"
    )
    assert not wrong
    assert len(traffic.samples) > CHANGES * 10
    assert statistics.median(returned) <= MEDIAN_SECONDS, describe(returned)
    assert max(returned) <= WORST_SECONDS, describe(returned)
