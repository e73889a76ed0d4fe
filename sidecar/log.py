"""The log: one JSON record a line on standard error, for every decision and every event.

Decisions are written in one piece a turn of the event loop. Nothing here ever blocks it: a pipe is asked first
whether it takes a page, lines are handed over whole in pieces of at most ``PIPE_BUF`` (so that the lines of several
workers do not mix), and when nobody reads, records are kept up to a bound, then dropped and counted.

Knows: where records go, levels, sampling. Must not know: what a decision means (``eastgate.render.record`` does), or
any token. Events come through ``logging``; neither exception texts nor tracebacks are written, because they may quote
a request: an exception is named by its type and place. mitmproxy's own records are reduced to that too: its crash
reports print the events of the connection, tokens included.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import select
import stat
import time
import traceback
from collections import deque
from collections.abc import Callable

from eastgate.render.labels import ALLOW, name_decision
from eastgate.render.record import clean_text, grade, render_line
from sidecar.gate import Outcome
from sidecar.options import LogOptions

MAX_KEPT = 1024 * 1024
"""Bytes of records kept while standard error takes none."""

_PIECE = select.PIPE_BUF
_RETRY_SECONDS = 0.05
_FOREIGN = ("mitmproxy", "asyncio")
"""Loggers whose messages may quote what a connection carried."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode_record(record: dict[str, object]) -> bytes:
    """One line. ASCII only: whatever is not, including every control character, is escaped."""
    return _encode(record).encode("ascii") + b"\n"


class Journal:
    """Lines to a file descriptor, without ever waiting for it."""

    def __init__(self, descriptor: int = 2, on_drop: Callable[[], None] = lambda: None) -> None:
        self._descriptor = descriptor
        self._on_drop = on_drop
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            self._regular = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Gather lines for one write a turn of ``loop``; without one every line is written at once."""
        self.flush()
        self._loop = loop

    def add(self, line: bytes) -> None:
        """Take one line. On the loop's own thread, or before there is a loop."""
        size = self._size + len(line)
        if size > MAX_KEPT:
            self._on_drop()
            return
        self._kept.append(line)
        self._size = size
        if self._loop is None:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def add_from_anywhere(self, line: bytes) -> None:
        """Take one line, from any thread."""
        loop = self._loop
        if loop is not None:
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is not loop:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self.add, line)
                return
        self.add(line)

    def flush(self) -> None:
        """Write what can be written now."""
        kept = self._kept
        try:
            while kept and (self._regular or self._poll.poll(0)):
                piece = [kept.popleft()]
                size = len(piece[0])
                bound = MAX_KEPT if self._regular else _PIECE
                while kept and size + len(kept[0]) <= bound:
                    size += len(kept[0])
                    piece.append(kept.popleft())
                self._size -= size
                data = b"".join(piece)
                written = os.write(self._descriptor, data[:bound])
                if written < size:
                    kept.appendleft(data[written:])
                    self._size += size - written
        except OSError:
            # Nobody is listening any more (EPIPE), or the disk is full: a proxy does not stop for that.
            for _ in range(len(kept)):
                self._on_drop()
            kept.clear()
            self._size = 0

    def _turn(self) -> None:
        self._scheduled = False
        self.flush()
        if self._kept and self._loop is not None and not self._scheduled:
            self._scheduled = True
            self._loop.call_later(_RETRY_SECONDS, self._turn)


class DecisionLog:
    """Writes one record a decision. ``mode`` is the workload's, and may change with the plan."""

    def __init__(self, journal: Journal, options: LogOptions, mode: str) -> None:
        self._journal = journal
        self._share = options.allows
        self.mode = mode
        self._threshold = read_level(options.level)
        self._second = 0
        self._prefix = ""
        self._moment = 0
        self._text = ""

    def observe(self, outcome: Outcome) -> None:
        """Write the record, unless its level or its share says not to."""
        request, decision, seconds, status = outcome
        if self._threshold > logging.INFO and _LEVELS[grade(decision)] < self._threshold:
            return
        if self._share < 1.0 and name_decision(decision) == ALLOW and random.random() >= self._share:  # noqa: S311
            return
        stamp = self._stamp(time.time())
        line = render_line(request, decision, time=stamp, seconds=seconds, mode=self.mode, status=status)
        self._journal.add(line.encode("ascii") + b"\n")

    def _stamp(self, now: float) -> str:
        """RFC 3339 with milliseconds; made once a millisecond, and the part down to the second once a second."""
        moment = int(now * 1000)
        if moment != self._moment:
            second, milliseconds = divmod(moment, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._moment, self._text = moment, f"{self._prefix}.{milliseconds:03d}Z"
        return self._text


_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def read_level(name: str) -> int:
    """The number of a level's name. Raises ``ValueError`` with what is accepted."""
    try:
        return _LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f"log level `{name}` is not one of {', '.join(_LEVELS)}") from None


def _ignore(fault: str) -> None:
    """Nobody counts faults."""


class EventHandler(logging.Handler):
    """``logging`` records as JSON lines. ``on_fault`` is told of every record that carries a ``fault``."""

    def __init__(self, journal: Journal, on_fault: Callable[[str], None] = _ignore) -> None:
        super().__init__()
        self._journal = journal
        self._on_fault = on_fault

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never raises: a log that cannot be written must not take the request with it."""
        with contextlib.suppress(Exception):
            fault = name_fault(record)
            if fault:
                self._on_fault(fault)
            self._journal.add_from_anywhere(encode_record(render_event(record, fault)))


def render_event(record: logging.LogRecord, fault: str = "") -> dict[str, object]:
    """The fields of an event. ``extra={"fields": {...}}`` adds its own, text and numbers only."""
    foreign = record.name.partition(".")[0] in _FOREIGN
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    event: dict[str, object] = {
        "time": f"{seconds}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "event": record.name.removeprefix("eastgate."),
        "message": "a library reported a problem" if foreign else clean_text(record.getMessage(), 1024),
    }
    if fault:
        event["fault"] = fault
        place = locate_fault(record)
        if place:
            event["at"] = place
    fields = getattr(record, "fields", None)
    if isinstance(fields, dict):
        for name, value in fields.items():
            event.setdefault(str(name), clean_text(value, 512) if isinstance(value, str) else value)
    return event


def name_fault(record: logging.LogRecord) -> str:
    """The type of the exception a record is about, empty where it is about none."""
    fault = getattr(record, "fault", None)
    if isinstance(fault, str):
        return fault
    if record.exc_info and record.exc_info[0] is not None:
        return record.exc_info[0].__name__
    return ""


def locate_fault(record: logging.LogRecord) -> str:
    """``file:line`` of where the exception was raised."""
    if not record.exc_info or record.exc_info[2] is None:
        return ""
    frames = traceback.extract_tb(record.exc_info[2])
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119


class _ForeignFilter(logging.Filter):
    """Lets mitmproxy's and asyncio's records through from warnings upwards only."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.partition(".")[0] not in _FOREIGN or record.levelno >= logging.WARNING


def install_log(options: LogOptions, journal: Journal, on_fault: Callable[[str], None] = _ignore) -> EventHandler:
    """Send every ``logging`` record of this process to ``journal``, in place of whatever was set up before."""
    handler = EventHandler(journal, on_fault)
    handler.addFilter(_ForeignFilter())
    root = logging.getLogger()
    for present in list(root.handlers):
        root.removeHandler(present)
    root.addHandler(handler)
    root.setLevel(read_level(options.level))
    logging.captureWarnings(capture=True)
    return handler
