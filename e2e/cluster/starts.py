"""What a pod's start is made of: the moments of its containers, from the runtime's own events and the sidecar's log.

Knows the runtime's event stream. Must not know what is asserted of it. Moments are of ``time.time``.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from e2e.cluster.node import Node
from e2e.cluster.places import Place
from e2e.cluster.workloads import APP
from eastgate.pods.names import INIT_CONTAINER, SIDECAR_CONTAINER

PARTS = {
    "kubelet: the network is there, init container not yet": False,
    "init container": True,
    "kubelet: between init container and sidecar": False,
    "sidecar, until it is ready": True,
    "kubelet: sees that it is ready, starts the app": False,
    "app, until it answers": False,
}
"""In their order; true where the time is our own programs'."""


@contextmanager
def follow_runtime(node: Node) -> Iterator[Path]:
    """Write containerd's events to a file for the block."""
    socket = node.folder / "containerd.sock"
    node.run("events", node.runtime / "ctr", "-a", socket, "-n", "k8s.io", "events")
    try:
        yield node.folder / "events.log"
    finally:
        node.end("events")


def read_events(file: Path) -> dict[tuple[str, str], float]:
    """Container and ``start`` or ``exit`` -> when. A line is a moment, a namespace, a topic, and JSON."""
    found = {}
    for line in file.read_text().splitlines():
        head, brace, body = line.partition("{")
        if "/tasks/" not in head or not brace:
            continue
        date, clock, *_, path = head.split()
        topic, event = path.rpartition("/")[2], json.loads(brace + body)
        if topic in ("start", "exit") and event.get("id", event["container_id"]) == event["container_id"]:
            found[event["container_id"], topic] = read_moment(f"{date}T{clock}")
    return found


def read_moment(text: str) -> float:
    """``2026-01-31T12:00:00.123456789``, of any precision, in UTC."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def list_containers(pod: Mapping[str, Any]) -> dict[str, str]:
    """Name -> the runtime's identifier."""
    status = pod["status"]
    listed = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
    return {one["name"]: one["containerID"].partition("://")[2] for one in listed}


def find_ready(place: Place, pod: str) -> float:
    """When the sidecar said so."""
    lines = place.kubectl("logs", pod, "-c", SIDECAR_CONTAINER, "--timestamps").splitlines()
    return read_moment(next(line for line in lines if " ready http" in line).partition(" ")[0])


def measure_parts(place: Place, pod: Mapping[str, Any], file: Path, addressed: float, answered: float) -> list[float]:
    """Seconds of each of ``PARTS``. ``file`` has the events; the moments given are of ``time.monotonic``."""
    events = read_events(file)
    offset = time.time() - time.monotonic()
    known = list_containers(pod)
    init, sidecar = known[INIT_CONTAINER], known[SIDECAR_CONTAINER]
    moments = [
        addressed + offset,
        events[init, "start"],
        events[init, "exit"],
        events[sidecar, "start"],
        find_ready(place, pod["metadata"]["name"]),
        events[known[APP], "start"],
        answered + offset,
    ]
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


def draw_parts(turns: Sequence[Sequence[float]]) -> tuple[list[str], float]:
    """A line for each part with its median; and the sum of those that are ours."""
    medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    lines = [
        f"  {seconds:5.2f} s  {'ours   ' if ours else '       '} {part}"
        for (part, ours), seconds in zip(PARTS.items(), medians, strict=True)
    ]
    return lines, sum(seconds for ours, seconds in zip(PARTS.values(), medians, strict=True) if ours)
