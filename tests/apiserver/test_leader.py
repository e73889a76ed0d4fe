"""Leader election by a real Lease, with short times."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.apiserver.environment import Environment
from tests.apiserver.programs import await_true
from webhook.cluster import Cluster, Object, Unreachable
from webhook.controllers.leader import (
    LEASE_SECONDS,
    RENEW_SHARE,
    RETRY_SHARE,
    LeaderElection,
    NotLeading,
)
from webhook.resources import LEASES, Resource

pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # of the test server

SECONDS = 2.5
"""Of a lease. Short, and yet a leader renews it in time where a busy machine stops it, or the server, for a second."""


class Flaky(Cluster):
    """A way to the API server that can be cut; ``slow`` requests arrive, and their answers do not."""

    cut = False

    def get(self, resource: Resource, namespace: str | None, name: str, *, timeout: float = 5) -> Object:
        if self.cut:
            raise Unreachable(0, "cut", "cut")
        return super().get(resource, namespace, name, timeout=timeout)

    def replace(
        self, resource: Resource, body: object, *, subresource: str | None = None, timeout: float = 5
    ) -> Object:
        if self.cut:
            raise Unreachable(0, "cut", "cut")
        return super().replace(resource, body, subresource=subresource, timeout=timeout)  # type: ignore[arg-type]


@pytest.fixture
def namespace(environment: Environment, request: pytest.FixtureRequest) -> str:
    return environment.create_namespace(request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-"))


def stand(environment: Environment, namespace: str, identity: str, log: list[str]) -> tuple[LeaderElection, Flaky]:
    cluster = Flaky(str(environment.kubeconfig))
    election = LeaderElection(
        cluster,
        namespace,
        "lease",
        identity,
        on_start=lambda: log.append(f"+{identity}"),
        on_stop=lambda: log.append(f"-{identity}"),
        lease_seconds=SECONDS,
    )
    election.start()
    return election, cluster


def read(cluster: Cluster, namespace: str) -> Object:
    spec: Object = cluster.get(LEASES, namespace, "lease")["spec"]
    return spec


def test_defaults_take_over_within_twenty_seconds() -> None:
    renewed, tried = LEASE_SECONDS * RENEW_SHARE, LEASE_SECONDS * RETRY_SHARE
    assert (round(renewed), round(tried)) == (10, 2)
    assert LEASE_SECONDS + 2 * tried * 1.25 <= 20  # missed the last renewal, and just tried before the end
    assert renewed < LEASE_SECONDS


def test_one_leads_and_hands_over(environment: Environment, namespace: str) -> None:
    log: list[str] = []
    one, cluster = stand(environment, namespace, "one", log)
    await_true(one.holds, "one leads", pause=0.01)
    two, _ = stand(environment, namespace, "two", log)
    time.sleep(SECONDS * 1.2)  # renewed, all the time
    assert one.holds()
    assert not two.holds()
    with pytest.raises(NotLeading, match=f"two does not hold lease {namespace}/lease"):
        two.check()
    one.check()
    first = read(cluster, namespace)
    begun = time.monotonic()
    one.stop()
    assert not one.holds()
    await_true(two.holds, "two leads", pause=0.01)
    assert time.monotonic() - begun < SECONDS * 0.8  # it did not wait for the end of the lease
    second = read(cluster, namespace)
    assert (first["holderIdentity"], second["holderIdentity"]) == ("one", "two")
    assert second["leaseTransitions"] == first["leaseTransitions"] + 1
    assert second["acquireTime"] > first["acquireTime"]
    two.stop()
    assert read(cluster, namespace)["holderIdentity"] == ""
    assert log == ["+one", "-one", "+two", "-two"]


def test_a_leader_that_is_cut_off_stops_before_another_begins(environment: Environment, namespace: str) -> None:
    log: list[str] = []
    one, cluster = stand(environment, namespace, "one", log)
    await_true(one.holds, "one leads", pause=0.01)
    two, _ = stand(environment, namespace, "two", log)
    both: list[float] = []
    done = threading.Event()

    def observe() -> None:
        while not done.wait(0.002):
            if one.holds() and two.holds():
                both.append(time.monotonic())

    watcher = threading.Thread(target=observe)
    watcher.start()
    cluster.cut = True
    begun = time.monotonic()
    await_true(lambda: not one.holds(), "one stops", pause=0.005)
    assert time.monotonic() - begun < SECONDS * (RENEW_SHARE + 1)  # by itself, and this thread may have been late
    await_true(two.holds, "two leads", pause=0.01)
    cluster.cut = False
    time.sleep(SECONDS)
    # A machine that is too busy to let two renew in time makes it stop, too, and say so; then one may lead again.
    assert not one.holds() or "-two" in log
    done.set()
    watcher.join()
    assert both == []
    assert log[:3] == ["+one", "-one", "+two"]
    one.stop()
    assert two.holds() or "-two" in log  # who does not hold it releases nothing
    two.stop()


def test_many_who_try_at_once(environment: Environment, namespace: str) -> None:
    log: list[str] = []
    candidates = [stand(environment, namespace, f"c{number}", log)[0] for number in range(5)]
    await_true(lambda: any(one.holds() for one in candidates), "one leads", pause=0.01)
    for _ in range(100):
        assert sum(one.holds() for one in candidates) <= 1
        time.sleep(0.01)
    for one in candidates:
        one.stop()
    assert len([line for line in log if line.startswith("+")]) == len([line for line in log if line.startswith("-")])


def test_a_lease_taken_by_hand_is_let_go(environment: Environment, namespace: str, tmp_path: Path) -> None:
    log: list[str] = []
    one, cluster = stand(environment, namespace, "one", log)
    await_true(one.holds, "one leads", pause=0.01)
    cluster.patch(LEASES, namespace, "lease", {"spec": {"holderIdentity": "by-hand"}})
    await_true(lambda: not one.holds(), "one lets go", pause=0.005)
    await_true(one.holds, "and takes it again when it is not renewed", pause=0.01)
    cluster.delete(LEASES, namespace, "lease")
    time.sleep(SECONDS)
    await_true(one.holds, "it holds what it made again", pause=0.01)
    assert read(cluster, namespace)["holderIdentity"] == "one"
    one.stop()
