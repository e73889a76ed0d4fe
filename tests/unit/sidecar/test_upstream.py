"""What the application did wrong: from the system's error to a word, and from the word to a metric and a log record."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from eastgate.keys.ring import NoRemoteKeys
from eastgate.model.workloads import Workload
from sidecar.gate import Gate
from sidecar.log import Journal, install_log
from sidecar.options import LogOptions
from sidecar.policies.snapshot import compile_snapshot, demand_plan
from sidecar.upstream import UpstreamError, UpstreamFailure, describe_problem, read_problem

ERROR = UpstreamError(UpstreamFailure.CONNECT_REFUSED, ("::1", 8080), "HTTPRoute a/b", "Connection refused")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ("connect_refused", "Connection refused")),
        (TimeoutError(), ("connect_timeout", "")),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), ("connect_timeout", "Connection timed out")),
        (OSError(errno.EHOSTUNREACH, "No route to host"), ("connect_unreachable", "No route to host")),
        (OSError(errno.EMFILE, "Too many open files"), ("connect_failed", "Too many open files")),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ("connect_failed", "Name or service not known")),
        (OSError("Multiple exceptions: secret"), ("connect_failed", "OSError")),
    ],
)  # fmt: skip
def test_every_error_has_a_word(error: OSError, expected: tuple[str, str]) -> None:
    assert read_problem(describe_problem(error)) == expected


def test_a_text_without_a_word() -> None:
    assert read_problem("no address") == ("connect_failed", "no address")


def test_every_word_has_a_text() -> None:
    assert len({failure.text for failure in UpstreamFailure}) == len(UpstreamFailure)


@pytest.fixture
def root() -> Iterator[None]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.captureWarnings(capture=False)


def make_gate(count: object = None) -> Gate:
    plan = demand_plan(compile_snapshot((), Workload()))
    return Gate(plan, NoRemoteKeys(), lambda outcome: None, count_upstream_error=count)  # type: ignore[arg-type]


@pytest.mark.usefixtures("root")
def test_one_record_and_one_count(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    counted: list[str] = []
    gate = make_gate(counted.append)
    install_log(LogOptions(), Journal(descriptor))
    gate.report_upstream_error(ERROR)
    os.close(descriptor)
    [record] = map(json.loads, path.read_text().splitlines())
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "event": "upstream",
        "message": "the application refused the connection",
        "reason": "connect_refused",
        "upstream": "[::1]:8080",
        "detail": "Connection refused",
        "route": "HTTPRoute a/b",
    }
    assert counted == ["connect_refused"]


def test_a_count_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError("secret")

    make_gate(fail).report_upstream_error(ERROR)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "secret" not in caplog.text


def test_without_anybody_who_counts(caplog: pytest.LogCaptureFixture) -> None:
    make_gate().report_upstream_error(ERROR._replace(upstream=None, detail=""))
    [record] = caplog.records
    assert record.levelname == "WARNING"
