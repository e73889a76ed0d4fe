"""What is counted, and the page that a Prometheus server reads.

Counting is plain dictionaries, about a microsecond a request: `prometheus_client` takes a lock and two look-ups a
sample, so it only writes the page, from a *reading*: a flat list that a worker can also send to the process with the
admin port, which adds the readings of all workers up. Every label value comes from configuration or a fixed list, and
the number of series is bounded all the same.

Knows: metric names, labels and how readings are added. Must not know: connections, keys or policies; those who have
something to show register a gauge.
"""

from __future__ import annotations

import resource
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from eastgate.render.labels import Labels, render_labels
from sidecar.gate import Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

type Reading = list[tuple[str, tuple[str, ...], float]]
"""(metric, label values, value), also as JSON (lists for tuples). Counters, and histogram buckets by their index."""

MAX_SERIES = 5000
"""Series of ``eastgate_requests_total`` in one worker. Policies x routes x reasons of one workload stay far below."""

_OTHER = Labels("other", "other", "other", "other")

_BOUNDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
_BUCKETS = "eastgate_decision_seconds"
_SUM = "eastgate_decision_seconds_sum"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. ``adds``: values of several workers are added up; otherwise the largest is shown."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    adds: bool = True


FAMILIES = {
    "eastgate_requests_total": Family("counter", "Requests decided", Labels._fields),
    _BUCKETS: Family("histogram", "Time spent deciding one request", ("le",)),
    "eastgate_jwks_fetch_total": Family(
        "counter", "Fetches of a remote JWKS, retries not counted", ("source", "result")
    ),
    "eastgate_jwks_keys": Family("gauge", "Usable keys held of a remote JWKS", ("source",), adds=False),
    "eastgate_jwks_age_seconds": Family("gauge", "Time since a JWKS was last fetched", ("source",), adds=False),
    "eastgate_jwks_stale": Family("gauge", "1 while keys are used past their cache duration", ("source",), adds=False),
    "eastgate_bundle_info": Family("gauge", "1 for the policies in force", ("digest",), adds=False),
    "eastgate_bundle_unusable": Family("gauge", "1 while what is mounted cannot be put in force", adds=False),
    "eastgate_bundle_behind": Family("gauge", "1 while the pod's annotation names another bundle", adds=False),
    "eastgate_reloads_total": Family("counter", "Changes of the policies in force", ("result",)),
    "eastgate_upstream_errors_total": Family(
        "counter", "Allowed requests that the application did not answer, or not to the end", ("reason",)
    ),
    "eastgate_connections": Family("gauge", "Client connections open"),
    "eastgate_connections_capacity": Family("gauge", "Client connections that may be open"),
    "eastgate_connections_turned_away_total": Family("counter", "Client connections closed unread, one too many"),
    "eastgate_connections_displaced_total": Family("counter", "Idle client connections closed to make room"),
    "eastgate_faults_total": Family("counter", "Exceptions that were turned into refusals", ("fault",)),
    "eastgate_log_dropped_total": Family("counter", "Log records dropped because standard error was not read"),
    "eastgate_workers": Family("gauge", "Worker processes that accept connections"),
    "eastgate_worker_restarts_total": Family("counter", "Worker processes that died and were started again"),
    "process_cpu_seconds_total": Family("counter", "User and system CPU time of all processes"),
    "process_resident_memory_bytes": Family("gauge", "Resident memory of all processes"),
    "process_open_fds": Family("gauge", "Open file descriptors of all processes"),
    "process_start_time_seconds": Family("gauge", "Start of the youngest process, Unix time", adds=False),
}

type Gauge = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """The counters of one process. ``observe`` is on the path of every request."""

    def __init__(self) -> None:
        self._requests: dict[object, int] = {}
        self._labels: dict[object, Labels] = {}
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0
        self._counters: dict[tuple[str, tuple[str, ...]], float] = {}
        self._gauges: dict[str, Gauge] = {}
        self._started = time.time()

    def observe(self, outcome: Outcome) -> None:
        """Count one decision and the time it took."""
        decision = outcome.decision
        key: object = (decision.reason, decision.allowed, decision.denied_by_policy, decision.route, decision.policies)
        try:
            self._requests[key] += 1
        except KeyError:
            if len(self._requests) >= MAX_SERIES:
                key = None
            self._labels.setdefault(key, _OTHER if key is None else render_labels(decision))
            self._requests[key] = self._requests.get(key, 0) + 1
        seconds = outcome.seconds
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._sum += seconds

    def count(self, metric: str, *labels: str) -> None:
        """Add one to a counter. Also called from threads: an update lost to a race is one event, and rare."""
        key = (metric, labels)
        self._counters[key] = self._counters.get(key, 0) + 1

    def show(self, metric: str, gauge: Gauge) -> None:
        """Register what a gauge reads when the page is asked for: pairs of label values and a value."""
        self._gauges[metric] = gauge

    def read(self) -> Reading:
        """Everything counted up to now, and the gauges as they stand."""
        reading: Reading = [
            ("eastgate_requests_total", tuple(self._labels[key]), count) for key, count in self._requests.items()
        ]
        reading += [(_BUCKETS, (str(index),), count) for index, count in enumerate(self._buckets)]
        reading.append((_SUM, (), self._sum))
        reading += [(metric, labels, value) for (metric, labels), value in self._counters.items()]
        for metric, gauge in self._gauges.items():
            reading += [(metric, labels, value) for labels, value in gauge()]
        reading += _read_process(self._started)
        return reading


def add_readings(readings: Iterable[Reading]) -> Reading:
    """One reading out of several workers'. Accepts what came through JSON; unknown metrics are left out."""
    total: dict[tuple[str, tuple[str, ...]], float] = {}
    for reading in readings:
        for metric, labels, value in reading:
            family = FAMILIES.get(metric)
            if family is None and metric != _SUM:
                continue
            key = (metric, tuple(labels))
            if family is not None and not family.adds:
                total[key] = max(total.get(key, value), value)
            else:
                total[key] = total.get(key, 0.0) + value
    return [(metric, labels, value) for (metric, labels), value in total.items()]


def keep_counters(reading: Reading) -> Reading:
    """What stays true of a worker that is gone: its counters. A sum that shrank would look like a restart."""
    return [
        (metric, labels, value)
        for metric, labels, value in reading
        if metric == _SUM or (metric in FAMILIES and FAMILIES[metric].kind != "gauge")
    ]


def render_page(reading: Reading) -> bytes:
    """The page at ``/metrics``, in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_ReadingCollector(add_readings([reading])))
    return generate_latest(registry)


class _ReadingCollector(Collector):
    """A reading in the shape that ``prometheus_client`` writes down."""

    def __init__(self, reading: Reading) -> None:
        self._samples: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for metric, labels, value in reading:
            self._samples.setdefault(metric, []).append((labels, value))

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            samples = self._samples.get(name, [])
            if family.kind == "histogram":
                yield self._collect_histogram(name, family, dict(samples))
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(name, family.help, labels=family.labels)
            for labels, value in sorted(samples):
                metric.add_metric(labels, value)
            yield metric

    def _collect_histogram(self, name: str, family: Family, counts: dict[tuple[str, ...], float]) -> Metric:
        buckets: list[tuple[str, float]] = []
        cumulated = 0.0
        for index, bound in enumerate((*map(str, _BOUNDS), "+Inf")):
            cumulated += counts.get((str(index),), 0)
            buckets.append((bound, cumulated))
        total = sum(value for _, value in self._samples.get(_SUM, []))
        return HistogramMetricFamily(name, family.help, buckets=buckets, sum_value=total)


def _read_process(started: float) -> Reading:
    """This process's use of the machine; what the system does not tell is left out."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    reading: Reading = [
        ("process_cpu_seconds_total", (), usage.ru_utime + usage.ru_stime),
        ("process_start_time_seconds", (), started),
    ]
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        reading.append(("process_resident_memory_bytes", (), float(pages * resource.getpagesize())))
        reading.append(("process_open_fds", (), float(sum(1 for _ in Path("/proc/self/fd").iterdir()))))
    except (OSError, ValueError, IndexError):
        pass
    return reading
