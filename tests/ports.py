"""Ports for what is started in a moment, a port at which nobody answers, and how a listener ends.

A port of the kernel's own choice (``bind`` to 0) is safe only while it is held: let go of, it is as good as any other for
the next listener or the next client of the tests that run beside this one. So what needs its number beforehand gets one
from below the range that the kernel chooses from, and every process of the tests begins somewhere else in there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

LOWEST = 12_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that the kernel gives to nobody."""
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", _numbers.take())) as probe:
            port: int = probe.getsockname()[1]
            return port
    raise RuntimeError("no free port")


def stop_accepting(listener: socket.socket, accepting: threading.Thread) -> None:
    """Close a listener that a thread waits at: wake the thread, see it end, and only then give the descriptor back.

    Closing alone leaves the thread in ``accept``. A machine that stops the process and lets it go on makes the kernel
    begin that call anew, by the descriptor's number; by then that may be another listener, and the thread takes a
    connection of a test that it knows nothing of.
    """
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join(20)
    listener.close()


@contextlib.contextmanager
def unanswered_port() -> Iterator[int]:
    """A port that refuses every connection: bound, so that nobody else may have it, and not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class _Numbers:
    """One after the other, from a place that depends on the process; 0, the kernel's choice, where it chooses from all."""

    def __init__(self) -> None:
        self._owner = 0
        self._numbers: Iterator[int] = iter(())

    def take(self) -> int:
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._numbers = itertools.cycle(_list_numbers())
        return next(self._numbers)


def _list_numbers() -> list[int]:
    try:
        end = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        end = 32_768
    if end - LOWEST < 2000:
        return [0]
    first = random.SystemRandom().randrange(LOWEST, end)
    return [*range(first, end), *range(LOWEST, first)]


_numbers = _Numbers()
