"""What Prometheus is told about the webhook. Counters only move forward; every label has few values.

Knows: names, labels, buckets. Must not know: where the numbers come from: others call ``observe_review`` and the like,
or hand over a function that says the number when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eastgate import __version__

BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. A review takes a fraction of a millisecond here; the API server gives up after 10 s by default."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry of its own: nothing of the process's other libraries gets in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._reviews = Counter(
            "eastgate_webhook_reviews",
            "Reviews answered, by path, outcome (patched, unchanged, skipped, allowed, refused, error) and reason.",
            ["path", "outcome", "reason"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "eastgate_webhook_review_seconds",
            "Time from the whole review received to its answer made.",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._rejected = Counter(
            "eastgate_webhook_rejected_requests",
            "Requests that were no AdmissionReview, by HTTP status.",
            ["path", "status"],
            registry=self.registry,
        )
        self.connections = Gauge("eastgate_webhook_connections", "Connections that are open.", registry=self.registry)
        self.closed = Counter(
            "eastgate_webhook_closed_connections",
            "Connections closed by us for a bound they met, by the bound.",
            ["bound"],
            registry=self.registry,
        )
        self.certificate_changes = Counter(
            "eastgate_webhook_certificate_changes", "Certificates taken into use.", registry=self.registry
        )
        self.certificate_failures = Counter(
            "eastgate_webhook_certificate_failures",
            "Certificate files that could not be used; the last good ones stay.",
            registry=self.registry,
        )
        build = Gauge("eastgate_webhook_build_info", "1.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self._asked = _Asked()
        self.registry.register(self._asked)

    def observe_review(self, path: str, outcome: str, reason: str, seconds: float) -> None:
        """Count one review."""
        key = (path, outcome, reason)
        children = self._children.get(key)
        if children is None:
            # Looking a child up by its labels costs more than counting.
            children = self._children[key] = (self._reviews.labels(*key), self._seconds.labels(path))
        children[0].inc()
        children[1].observe(seconds)

    def observe_rejected(self, path: str, status: int) -> None:
        """Count one request that was no review."""
        self._rejected.labels(path, str(status)).inc()

    def ask_gauge(self, name: str, help_text: str, ask: Callable[[], float]) -> None:
        """A gauge whose value ``ask`` says when it is scraped: the certificate's end, the drift of ``caBundle``."""
        self._asked.entries.append((GaugeMetricFamily, f"eastgate_webhook_{name}", help_text, ask))

    def ask_counter(self, name: str, help_text: str, ask: Callable[[], float]) -> None:
        """A counter whose value ``ask`` says: calls to the API server, repairs of ``caBundle``."""
        self._asked.entries.append((CounterMetricFamily, f"eastgate_webhook_{name}", help_text, ask))

    def render(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Asked(Collector):
    """Numbers that others keep. One that cannot be had is left out rather than wrong."""

    def __init__(self) -> None:
        self.entries: list[
            tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str, str, Callable[[], float]]
        ] = []

    def collect(self) -> Iterator[Metric]:
        for family, name, help_text, ask in self.entries:
            try:
                value = float(ask())
            except Exception:  # noqa: S112 (a scrape must not fail for one number)
                continue
            yield family(name, help_text, value=value)
