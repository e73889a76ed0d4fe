"""The log: one JSON record a line on standard error, for each review that matters and for every event.

A line never waits for its reader: standard error is asked first whether it takes one, and what it does not take is
kept up to a bound, then dropped and counted. What can wait a tenth of a second is written together with others: a
system call for each review would be a tenth of what a review costs.
Knows: how records look and where they go. Must not know: what is in an object: names, kinds and reasons are logged,
contents are not, and exceptions only by type and place.
The shape of a record is the sidecar's.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import select
import stat
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

import msgspec

MAX_KEPT: Final = 256 * 1024
"""Bytes of records kept while standard error takes none."""
MAX_LINE: Final = select.PIPE_BUF
"""Bytes. A pipe takes as many in one piece or not at all, so lines of several writers do not mix."""

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_encode_text = json.JSONEncoder(separators=(",", ":"), default=str).encode
_encode_fast = msgspec.json.Encoder(enc_hook=str).encode


class Journal:
    """Lines to a file descriptor, from any thread, without ever waiting for it."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self._kept: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._expected = False
        self.call_later: Callable[[Callable[[], None]], object] | None = None
        """Calls a function a little later, from any thread. Without it nothing waits."""
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        try:
            self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:
            self._regular = False
        self.dropped = 0

    def write(self, record: dict[str, object], *, urgent: bool = True) -> None:
        """Take one record. Never raises: a log that cannot be written must not take the review with it."""
        with contextlib.suppress(Exception), self._lock:
            line = encode_record(record)
            if self._size + len(line) > MAX_KEPT:
                self.dropped += 1
                return
            self._kept.append(line)
            self._size += len(line)
            if urgent or self.call_later is None or self._size >= MAX_LINE:
                self._flush()
            elif not self._expected:
                self._expected = True
                self.call_later(self.flush)

    def flush(self) -> None:
        """Write what is kept, as far as it is taken."""
        with self._lock:
            self._expected = False
            self._flush()

    def _flush(self) -> None:
        kept = self._kept
        try:
            while kept and (self._regular or self._poll.poll(0)):
                lines = [kept.popleft()]
                size = len(lines[0])
                while kept and size + len(kept[0]) <= MAX_LINE:
                    size += len(kept[0])
                    lines.append(kept.popleft())
                self._size -= size
                os.write(self._descriptor, b"".join(lines))
        except OSError:  # nobody is listening any more, or the disk is full
            self.dropped += len(lines) + len(kept)
            kept.clear()
            self._size = 0


def encode_record(record: dict[str, object]) -> bytes:
    """One line, in ASCII: whatever is not, control characters among it, is escaped. What is too long for one is cut."""
    line = _encode_fast(record)
    if not line.isascii():
        line = _encode_text(record).encode("ascii")
    if len(line) >= MAX_LINE:
        short = {key: value[:256] if isinstance(value, str) else value for key, value in record.items()}
        line = _encode_text(short).encode("ascii")
        if len(line) >= MAX_LINE:
            line = _encode_fast({"time": record.get("time"), "event": record.get("event"), "dropped": "too long"})
    return line + b"\n"


class ReviewLog:
    """One record a review that was patched, refused or broke; the others on level ``debug`` only."""

    def __init__(self, journal: Journal, level: str = "info") -> None:
        self._journal = journal
        self._threshold = read_level(level)

    def observe(
        self, *, path: str, uid: str, kind: str, namespace: str, name: str, operation: str, dry_run: bool,
        outcome: str, reason: str, seconds: float, message: str = "",
    ) -> None:  # fmt: skip
        """Write the record, unless the level says not to."""
        level = _GRADES.get(outcome, logging.DEBUG)
        if level < self._threshold:
            return
        record: dict[str, object] = {
            "time": stamp(time.time()),
            "level": _NAMES[level],
            "event": "review",
            "path": path,
            "uid": uid,
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "operation": operation,
            "outcome": outcome,
            "reason": reason,
            "seconds": round(seconds, 6),
        }
        if dry_run:
            record["dry_run"] = True
        if message:
            record["message"] = message[:1024]
        self._journal.write(record, urgent=level > logging.INFO)


_NAMES: Final = {number: name for name, number in LEVELS.items()}
_GRADES: Final = {"patched": logging.INFO, "refused": logging.WARNING, "error": logging.ERROR}


class EventHandler(logging.Handler):
    """``logging`` records of everything else as JSON lines."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with contextlib.suppress(Exception):
            self._journal.write(render_event(record))


def render_event(record: logging.LogRecord) -> dict[str, object]:
    """The fields of an event. ``extra={"fields": {...}}`` adds its own."""
    event: dict[str, object] = {
        "time": stamp(record.created),
        "level": record.levelname.lower(),
        "event": record.name.removeprefix("webhook."),
        "message": record.getMessage()[:1024],
    }
    if record.exc_info and record.exc_info[0] is not None:
        event["fault"] = record.exc_info[0].__name__
        frames = traceback.extract_tb(record.exc_info[2])
        event["at"] = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames[-5:]]
    fields = getattr(record, "fields", None)
    if isinstance(fields, dict):
        for key, value in fields.items():
            event.setdefault(str(key), value)
    return event


def stamp(now: float) -> str:
    """RFC 3339 with milliseconds."""
    second = int(now)
    return f"{_date(second)}.{int((now - second) * 1000):03d}Z"


@functools.lru_cache(4)
def _date(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def read_level(name: str) -> int:
    """The number of a level's name. Raises ``ValueError`` with what is accepted."""
    try:
        return LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f"log level `{name}` is not one of {', '.join(LEVELS)}") from None


def install_log(level: str, journal: Journal) -> None:
    """Send every ``logging`` record of this process to ``journal``, in place of whatever was set up before."""
    root = logging.getLogger()
    for present in list(root.handlers):
        root.removeHandler(present)
    root.addHandler(EventHandler(journal))
    root.setLevel(read_level(level))
    for noisy in ("urllib3", "asyncio", "werkzeug", "kubernetes"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, read_level(level)))
    logging.captureWarnings(capture=True)
