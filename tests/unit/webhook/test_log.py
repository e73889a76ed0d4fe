from __future__ import annotations

import json
import logging
import os
import threading
from typing import Any

import pytest

from webhook.log import MAX_KEPT, MAX_LINE, EventHandler, Journal, ReviewLog, encode_record, read_level, stamp


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def _read(end: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(end, 1 << 20).splitlines()]


def test_lines_are_ascii_json() -> None:
    line = encode_record(
        {
            "name": "ü\n\x1b[31m",
            "number": 1.5,
            "other": {
                1,
            },
        }
    )
    assert line.isascii()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["name"] == "ü\n\x1b[31m"


@pytest.mark.parametrize(
    "record",
    [{"event": "e", "message": "x" * 10_000}, {"event": "e", "message": "ü" * 3000}, {"event": "e", "l": ["x"] * 9000}],
)
def test_a_line_fits_a_pipe(record: dict[str, object]) -> None:
    line = encode_record(record)
    assert len(line) <= MAX_LINE
    assert json.loads(line)["event"] == "e"


def test_times() -> None:
    assert stamp(1767225600.9876) == "2026-01-01T00:00:00.987Z"


def test_levels() -> None:
    assert read_level("Warning") == logging.WARNING
    with pytest.raises(ValueError, match="`loud` is not one of debug, info, warning, error"):
        read_level("loud")


def test_a_log_that_nobody_reads_holds_up_nothing(pipe) -> None:
    journal = Journal(pipe[1])
    for number in range(5000):
        journal.write({"number": number, "fill": "x" * 200})
    assert journal.dropped > 0
    first = os.read(pipe[0], 1 << 20)  # somebody reads again: what was kept comes out in order
    journal.write({"number": -1})
    rest = first
    while b'"number":-1' not in rest and len(rest) < 2 * MAX_KEPT:
        rest += os.read(pipe[0], 1 << 20)
        journal.write({"number": -1})
    numbers = [json.loads(line)["number"] for line in rest.splitlines() if line.endswith(b"}")]
    assert numbers[: numbers.index(-1)] == list(range(numbers.index(-1)))


def test_a_log_whose_reader_is_gone_holds_up_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    journal = Journal(writing)
    journal.write({"event": "lost"})
    os.close(writing)
    assert journal.dropped == 1


def test_threads_do_not_mix_lines(pipe) -> None:
    journal = Journal(pipe[1])
    threads = [threading.Thread(target=lambda: [journal.write({"x": "y" * 50}) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_read(pipe[0])) == 200


def _observe(log: ReviewLog, outcome: str) -> None:
    log.observe(
        path="/mutate", uid="u", kind="Pod", namespace="shop", name="web", operation="CREATE", dry_run=True,
        outcome=outcome, reason="r", seconds=0.0012345678, message="why" if outcome == "refused" else "",
    )  # fmt: skip


def test_what_is_logged_of_reviews(pipe) -> None:
    log = ReviewLog(Journal(pipe[1]))
    for outcome in ("patched", "skipped", "allowed", "unchanged", "refused", "error"):
        _observe(log, outcome)
    records = _read(pipe[0])
    assert [(one["outcome"], one["level"]) for one in records] == [
        ("patched", "info"), ("refused", "warning"), ("error", "error"),
    ]  # fmt: skip
    assert records[0]["seconds"] == 0.001235
    assert records[0]["dry_run"] is True
    assert records[1]["message"] == "why"
    _observe(ReviewLog(Journal(pipe[1]), "warning"), "patched")
    _observe(ReviewLog(Journal(pipe[1]), "debug"), "skipped")
    assert [one["outcome"] for one in _read(pipe[0])] == ["skipped"]


def test_events_name_an_exception_and_do_not_quote_it(pipe) -> None:
    logger = logging.Logger("webhook.server")
    logger.addHandler(EventHandler(Journal(pipe[1])))
    try:
        raise ValueError("token eyJhbGciOi")
    except ValueError:
        logger.exception("it broke", extra={"fields": {"fault_id": "0badf00d"}})
    (record,) = _read(pipe[0])
    assert record.items() >= {
        "level": "error", "event": "server", "message": "it broke", "fault": "ValueError", "fault_id": "0badf00d",
    }.items()  # fmt: skip
    assert record["at"][-1].startswith("test_log.py:")
    assert "eyJ" not in json.dumps(record)
