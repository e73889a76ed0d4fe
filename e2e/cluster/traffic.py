"""Requests to pods' addresses from inside the node's network, many and for a while, each with what became of it.

A request's outcome is its status, or the name of the exception. Clocks are the process's own (``time.monotonic``).
"""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from e2e.cluster.node import Node
from e2e.cluster.workloads import PORT

TIMEOUT_SECONDS = 10.0

type Outcome = int | str


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request. ``name`` is what samples are told apart by."""

    name: str
    host: str
    token: str | None = None
    port: int = PORT
    path: str = "/get"


class Sample(NamedTuple):
    """When it was sent, when answered, and how."""

    name: str
    host: str
    sent: float
    answered: float
    outcome: Outcome


def ask(what: Ask, connection: http.client.HTTPConnection | None = None, timeout: float = TIMEOUT_SECONDS) -> Sample:
    """One request, on a connection of its own unless one is given."""
    own = connection or http.client.HTTPConnection(what.host, what.port, timeout=timeout)
    headers = {"authorization": f"Bearer {what.token}"} if what.token is not None else {}
    sent = time.monotonic()
    outcome: Outcome
    try:
        own.request("GET", what.path, headers=headers)
        answer = own.getresponse()
        answer.read()
        outcome = answer.status
    except (OSError, http.client.HTTPException) as error:
        outcome = type(error).__name__
        own.close()
    if connection is None:
        own.close()
    return Sample(what.name, what.host, sent, time.monotonic(), outcome)


def ask_once(node: Node, what: Ask, timeout: float = TIMEOUT_SECONDS) -> Outcome:
    """From the node."""
    return node.call(lambda: ask(what, timeout=timeout)).outcome


def await_outcome(
    node: Node, what: Ask, wanted: Iterable[Outcome], seconds: float = 60.0, never: Iterable[Outcome] = ()
) -> float:
    """Ask again and again; returns how long it took. Answers other than the wanted ones are waited out, but for those
    that must ``never`` be given.
    """
    accepted, refused = set(wanted), set(never)

    def work() -> float:
        began = time.monotonic()
        sample = None
        while time.monotonic() - began < seconds:
            sample = ask(what, timeout=1.0)
            if sample.outcome in accepted:
                return sample.answered - began
            assert sample.outcome not in refused, f"{what.name} of {what.host}: {sample.outcome}"
            time.sleep(0.02)
        said = sample and sample.outcome
        raise AssertionError(f"{what.name} of {what.host}: not {accepted} within {seconds:g} s, but {said}")

    return node.call(work)


class Traffic:
    """Asks in turn, ``rate`` a second in all, from ``threads``, until the block ends.

    ``keep``: each thread keeps its connections, as clients of a mesh do; otherwise each request has its own.
    """

    def __init__(self, node: Node, asks: Sequence[Ask], rate: float, threads: int = 4, *, keep: bool = False) -> None:
        self._node, self._asks, self._keep = node, asks, keep
        self._pause = threads / rate
        self._threads = threads
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        self._futures: list[Future[None]] = []
        self.samples: list[Sample] = []
        self.began = 0.0

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        for number in range(self._threads):
            self._futures.append(self._pool.submit(self._node.call, lambda number=number: self._work(number)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def wait(self, count: int, seconds: float = 60.0) -> None:
        """Until so many have been answered in all."""
        deadline = time.monotonic() + seconds
        while len(self.samples) < count:
            assert time.monotonic() < deadline, f"{count} answers within {seconds:g} s: {self.count()}"
            time.sleep(0.01)

    def count(self, name: str | None = None, since: float = 0.0) -> Counter[Outcome]:
        """Outcomes by how often."""
        with self._lock:
            return Counter(one.outcome for one in self.samples if name in (None, one.name) and one.sent >= since)

    def select(self, predicate: Callable[[Sample], bool]) -> list[Sample]:
        """In the order in which they were answered."""
        with self._lock:
            return [one for one in self.samples if predicate(one)]

    def _work(self, number: int) -> None:
        kept: dict[tuple[str, int], http.client.HTTPConnection] = {}
        due = time.monotonic() + self._pause * number / self._threads
        turn = number
        while not self._ended.is_set():
            if (rest := due - time.monotonic()) > 0:
                self._ended.wait(rest)
            due = max(due + self._pause, time.monotonic() - 1.0)
            what = self._asks[turn % len(self._asks)]
            turn += 1
            connection = None
            if self._keep:
                place = (what.host, what.port)
                connection = kept.setdefault(place, http.client.HTTPConnection(*place, timeout=TIMEOUT_SECONDS))
            sample = ask(what, connection)
            with self._lock:
                self.samples.append(sample)
        for connection in kept.values():
            connection.close()


def describe(seconds: Sequence[float]) -> str:
    """Median, 90th percentile and worst."""
    ordered = sorted(seconds)
    ninetieth = ordered[int(len(ordered) * 0.9)] if len(ordered) > 1 else ordered[0]
    return f"median {statistics.median(ordered):.2f} s, p90 {ninetieth:.2f} s, worst {ordered[-1]:.2f} s"
