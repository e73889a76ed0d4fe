from __future__ import annotations

from webhook.metrics import Metrics


def _lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_reviews_and_their_time() -> None:
    metrics = Metrics()
    metrics.observe_review("/mutate", "patched", "injected", 0.0004)
    metrics.observe_review("/mutate", "refused", "bad-annotation", 0.3)
    lines = _lines(metrics)
    assert 'eastgate_webhook_reviews_total{outcome="refused",path="/mutate",reason="bad-annotation"} 1.0' in lines
    assert 'eastgate_webhook_review_seconds_bucket{le="0.00025",path="/mutate"} 0.0' in lines
    assert 'eastgate_webhook_review_seconds_bucket{le="0.0005",path="/mutate"} 1.0' in lines
    assert 'eastgate_webhook_review_seconds_bucket{le="0.5",path="/mutate"} 2.0' in lines


def test_numbers_that_others_keep_are_asked_for_at_each_scrape() -> None:
    metrics = Metrics()
    calls = 0
    metrics.ask_counter("api_calls", "Calls.", lambda: calls)
    metrics.ask_gauge("ca_bundle_drift", "Drift.", lambda: 2)
    assert "eastgate_webhook_api_calls_total 0.0" in _lines(metrics)
    calls = 3
    assert "eastgate_webhook_api_calls_total 3.0" in _lines(metrics)
    assert "eastgate_webhook_ca_bundle_drift 2.0" in _lines(metrics)


def test_one_number_that_cannot_be_had_does_not_cost_the_others() -> None:
    def broken() -> float:
        raise RuntimeError

    metrics = Metrics()
    metrics.ask_gauge("broken", "Broken.", broken)
    metrics.ask_gauge("fine", "Fine.", lambda: 1.0)
    lines = _lines(metrics)
    assert "eastgate_webhook_fine 1.0" in lines
    assert not any(line.startswith("eastgate_webhook_broken") for line in lines)


def test_two_webhooks_in_one_process_do_not_share_counters() -> None:
    one, other = Metrics(), Metrics()
    one.observe_review("/mutate", "patched", "injected", 0.1)
    assert not any('outcome="patched"' in line for line in _lines(other))
