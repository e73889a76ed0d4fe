"""The log: what is written, what never is, and that it never blocks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eastgate.model.decisions import Decision, Reason
from eastgate.model.requests import Request
from sidecar.gate import Outcome
from sidecar.log import MAX_KEPT, DecisionLog, Journal, install_log, read_level
from sidecar.options import LogOptions

REQUEST = Request(b"GET", b"/get?access_token=SECRET", b"a", ((b"authorization", b"Bearer SECRET"),))
ALLOWED = Outcome(REQUEST, Decision(True, 200, Reason.ALLOWED), 0.0001)
DENIED = Outcome(REQUEST, Decision(False, 401, "jwt_missing", b"Jwt is missing", denied_by_policy=True), 0.0001, 401)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    yield Journal(descriptor)
    os.close(descriptor)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.captureWarnings(capture=False)


def test_one_line_a_decision(journal: Journal, path: Path) -> None:
    log = DecisionLog(journal, LogOptions(), "enforce")
    log.observe(ALLOWED)
    log.observe(DENIED)
    allowed, denied = read_lines(path)
    assert (allowed["decision"], denied["decision"], denied["status"]) == ("allow", "deny", 401)
    assert allowed["time"].endswith("Z")
    assert len(allowed["time"]) == len("2026-11-22T08:00:00.000Z")
    assert "SECRET" not in path.read_text()


def test_allows_are_sampled_and_refusals_are_not(journal: Journal, path: Path) -> None:
    log = DecisionLog(journal, LogOptions(allows=0.0), "enforce")
    for _ in range(20):
        log.observe(ALLOWED)
        log.observe(DENIED)
    assert [line["decision"] for line in read_lines(path)] == ["deny"] * 20


def test_a_share_of_allows(journal: Journal, path: Path) -> None:
    log = DecisionLog(journal, LogOptions(allows=0.3), "enforce")
    for _ in range(1000):
        log.observe(ALLOWED)
    assert 200 < len(read_lines(path)) < 400


def test_the_level_applies_to_decisions(journal: Journal, path: Path) -> None:
    log = DecisionLog(journal, LogOptions(level="warning"), "enforce")
    log.observe(ALLOWED)
    log.observe(DENIED)
    assert [line["level"] for line in read_lines(path)] == ["warning"]
    with pytest.raises(ValueError, match="`loud` is not one of debug, info, warning, error"):
        read_level("loud")


def test_lines_of_one_turn_are_written_together(path: Path) -> None:
    reader, writer = os.pipe()
    journal = Journal(writer)

    async def run() -> bytes:
        journal.attach(asyncio.get_running_loop())
        for _ in range(3):
            journal.add(b"line\n")
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 100)
        await asyncio.sleep(0)
        return os.read(reader, 100)

    assert asyncio.run(run()) == b"line\n" * 3
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_nobody_reads_blocks_nothing() -> None:
    reader, writer = os.pipe()
    dropped: list[int] = []
    journal = Journal(writer, lambda: dropped.append(1))
    line = b"x" * 1023 + b"\n"

    async def run() -> int:
        journal.attach(asyncio.get_running_loop())
        for _ in range(4000):
            journal.add(line)
            if _ % 100 == 0:
                await asyncio.sleep(0)
        assert len(dropped) > 2000
        received = 0
        os.set_blocking(reader, False)
        async with asyncio.timeout(20):
            while received < MAX_KEPT:
                try:
                    data = os.read(reader, 65536)
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                    continue
                received += len(data)
        return received

    assert asyncio.run(run()) >= MAX_KEPT
    os.close(reader)
    os.close(writer)


def test_a_line_longer_than_a_pipe_takes_at_once_arrives_whole() -> None:
    reader, writer = os.pipe()
    line = b"x" * 20_000 + b"\n"
    Journal(writer).add(line)
    assert os.read(reader, 65536) == line
    os.close(reader)
    os.close(writer)


def test_a_closed_pipe_is_survived() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    dropped: list[int] = []
    journal = Journal(writer, lambda: dropped.append(1))
    for _ in range(3):
        journal.add(b"line\n")
    os.close(writer)


def test_events_are_json_and_count_faults(journal: Journal, path: Path, root: logging.Logger) -> None:
    faults: list[str] = []
    install_log(LogOptions(), journal, faults.append)
    logging.getLogger("eastgate.keys").info("keys changed", extra={"fields": {"source": "idp/keys", "keys": 2}})
    logging.getLogger("eastgate.gate").error("decision failed: ValueError", extra={"fault": "ValueError"})
    logging.getLogger("eastgate.gate").debug("not at this level")
    one, other = read_lines(path)
    assert (one["event"], one["message"], one["source"], one["keys"]) == ("keys", "keys changed", "idp/keys", 2)
    assert (other["level"], other["fault"]) == ("error", "ValueError")
    assert faults == ["ValueError"]


def test_neither_exception_texts_nor_foreign_messages(journal: Journal, path: Path, root: logging.Logger) -> None:
    install_log(LogOptions(level="debug"), journal)
    try:
        raise ValueError("Bearer SECRET")
    except ValueError as error:
        logging.getLogger("eastgate.gate").error("failed", exc_info=error)
        logging.getLogger("mitmproxy.proxy.server").error("mitmproxy has crashed!\nBearer SECRET", exc_info=error)
        logging.getLogger("asyncio").error("Task exception was never retrieved: SECRET", exc_info=error)
    logging.getLogger("mitmproxy.addons").info("client connect SECRET")
    lines = read_lines(path)
    assert "SECRET" not in path.read_text()
    assert [line["fault"] for line in lines] == ["ValueError"] * 3
    assert lines[0]["at"].startswith("test_log.py:")
    assert lines[1]["event"] == "mitmproxy.proxy.server"


def test_control_characters_in_events_are_escaped(journal: Journal, path: Path, root: logging.Logger) -> None:
    install_log(LogOptions(), journal)
    logging.getLogger("eastgate.x").warning('a\n{"level": "forged"}\x1b[2J')
    (line,) = read_lines(path)
    assert line["message"] == 'a\\x0a{"level": "forged"}\\x1b[2J'


def test_events_from_threads(journal: Journal, path: Path, root: logging.Logger) -> None:
    async def run() -> None:
        journal.attach(asyncio.get_running_loop())
        install_log(LogOptions(), journal)
        await asyncio.gather(
            *(asyncio.to_thread(logging.getLogger("eastgate.x").info, "from thread %d", number) for number in range(20))
        )
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert len(read_lines(path)) == 20
