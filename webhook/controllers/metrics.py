"""What Prometheus is told about the controller.

Knows: names, labels, buckets. Must not know: where numbers come from: others count, or hand over a function that says
the number when it is asked for. Names follow ``eastgate_controller_*``; no label holds the name of an object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eastgate import __version__

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. An empty namespace takes a millisecond, one with 500 policies and 500 route tables some 300."""


class Metrics:
    """One registry of its own: nothing of the process's other libraries gets in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._seconds = Histogram(
            "eastgate_controller_reconcile_seconds",
            "Time to look at one namespace, by result (unchanged, written, waiting, too_large, failed).",
            ["result"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._writes = Counter(
            "eastgate_controller_writes", "Writes to the API server, by kind and verb.", ["kind", "verb"],
            registry=self.registry,
        )  # fmt: skip
        build = Gauge("eastgate_controller_build_info", "1.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self._asked = _Asked()
        self.registry.register(self._asked)

    def observe_reconcile(self, result: str, seconds: float) -> None:
        """Count one look at a namespace."""
        self._seconds.labels(result).observe(seconds)

    def count_write(self, kind: str, verb: str) -> None:
        """Count one write."""
        self._writes.labels(kind, verb).inc()

    def ask_gauge(self, name: str, text: str, label: str, ask: Callable[[], Mapping[str, float]]) -> None:
        """A gauge whose values by one label (or under an empty one) ``ask`` says when it is scraped."""
        self._asked.entries.append((GaugeMetricFamily, f"eastgate_controller_{name}", text, label, ask))

    def ask_counter(self, name: str, text: str, label: str, ask: Callable[[], Mapping[str, float]]) -> None:
        """A counter whose values ``ask`` says."""
        self._asked.entries.append((CounterMetricFamily, f"eastgate_controller_{name}", text, label, ask))

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


type _Family = type[GaugeMetricFamily] | type[CounterMetricFamily]


class _Asked(Collector):
    """Numbers that others keep. One that cannot be had is left out rather than wrong."""

    def __init__(self) -> None:
        self.entries: list[tuple[_Family, str, str, str, Callable[[], Mapping[str, float]]]] = []

    def collect(self) -> Iterator[Metric]:
        for family, name, text, label, ask in self.entries:
            try:
                values = dict(ask())
            except Exception:  # noqa: S112 (a scrape must not fail for one number)
                continue
            metric = family(name, text, labels=[label] if label else [])
            for value, number in values.items():
                metric.add_metric([value] if label else [], float(number))
            yield metric
