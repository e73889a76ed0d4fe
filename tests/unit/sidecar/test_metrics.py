"""Counters, and the page made of them."""

from __future__ import annotations

import json
import timeit

from prometheus_client.parser import text_string_to_metric_families

from eastgate.model.decisions import Decision, Reason
from eastgate.model.requests import Request
from sidecar.gate import Outcome
from sidecar.metrics import MAX_SERIES, Metrics, Reading, add_readings, keep_counters, render_page

REQUEST = Request(b"GET", b"/", b"a", ())
ALLOWED = Decision(True, 200, Reason.ALLOWED, route="r", policies=("ns/jwt",))
DENIED = Decision(False, 401, "jwt_missing", route="r", policies=("ns/jwt",), denied_by_policy=True)


def outcome(decision: Decision, seconds: float = 0.0001) -> Outcome:
    return Outcome(REQUEST, decision, seconds)


def parse(reading: Reading) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The page as a scraper reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(render_page(reading).decode())
        for sample in family.samples
    }


def requests(decision: str, reason: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = {"decision": decision, "policy": "ns/jwt", "reason": reason, "route": "r"}
    return "eastgate_requests_total", tuple(sorted(labels.items()))


def test_requests_and_their_time() -> None:
    metrics = Metrics()
    for seconds in (0.00002, 0.0002, 5.0):
        metrics.observe(outcome(ALLOWED, seconds))
    metrics.observe(outcome(DENIED))
    page = parse(metrics.read())
    assert page[requests("allow", "allowed")] == 3
    assert page[requests("deny", "jwt_missing")] == 1
    assert page["eastgate_decision_seconds_count", ()] == 4
    assert abs(page["eastgate_decision_seconds_sum", ()] - 5.00032) < 1e-6
    assert page["eastgate_decision_seconds_bucket", (("le", "2.5e-05"),)] == 1
    assert page["eastgate_decision_seconds_bucket", (("le", "0.5"),)] == 3
    assert page["eastgate_decision_seconds_bucket", (("le", "+Inf"),)] == 4


def test_counters_gauges_and_the_process() -> None:
    metrics = Metrics()
    metrics.count("eastgate_jwks_fetch_total", "idp/keys", "success")
    metrics.count("eastgate_jwks_fetch_total", "idp/keys", "success")
    metrics.count("eastgate_faults_total", "ValueError")
    metrics.show("eastgate_connections", lambda: [((), 7.0)])
    page = parse(metrics.read())
    assert page["eastgate_jwks_fetch_total", (("result", "success"), ("source", "idp/keys"))] == 2
    assert page["eastgate_faults_total", (("fault", "ValueError"),)] == 1
    assert page["eastgate_connections", ()] == 7
    assert page["process_resident_memory_bytes", ()] > 1_000_000


def test_workers_are_added_up_through_json() -> None:
    one, other = Metrics(), Metrics()
    for metrics, connections, age in ((one, 2.0, 10.0), (other, 3.0, 20.0)):
        metrics.observe(outcome(ALLOWED))
        metrics.show("eastgate_connections", lambda value=connections: [((), value)])
        metrics.show("eastgate_jwks_age_seconds", lambda value=age: [(("idp",), value)])
    page = parse(add_readings(json.loads(json.dumps([one.read(), other.read()]))))
    assert page[requests("allow", "allowed")] == 2
    assert page["eastgate_decision_seconds_count", ()] == 2
    assert page["eastgate_connections", ()] == 5
    assert page["eastgate_jwks_age_seconds", (("source", "idp"),)] == 20


def test_a_dead_workers_counters_stay_and_its_gauges_do_not() -> None:
    metrics = Metrics()
    metrics.observe(outcome(ALLOWED))
    metrics.show("eastgate_connections", lambda: [((), 2.0)])
    page = parse(keep_counters(metrics.read()))
    assert page[requests("allow", "allowed")] == 1
    assert page["eastgate_decision_seconds_count", ()] == 1
    assert ("eastgate_connections", ()) not in page


def test_the_number_of_series_is_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 50):
        metrics.observe(outcome(Decision(True, 200, Reason.ALLOWED, route=f"r{number}")))
    rows = [row for row in metrics.read() if row[0] == "eastgate_requests_total"]
    assert len(rows) == MAX_SERIES + 1
    assert {labels: value for _, labels, value in rows}["other", "other", "other", "other"] == 50


def test_unknown_metrics_of_a_worker_are_left_out() -> None:
    assert add_readings([[("made_up", ("x",), 1.0)]]) == []


def test_counting_is_cheap() -> None:
    metrics, one = Metrics(), outcome(ALLOWED)
    seconds = min(timeit.repeat(lambda: metrics.observe(one), number=5000, repeat=5)) / 5000
    assert seconds < 10e-6, f"{seconds * 1e6:.2f} us"
