"""How long to wait after a failure: twice as long each time, up to a limit, and never in step with others.

Must not know: what failed. Rules: client-go's backoff manager (doubling, jitter), AWS "Exponential Backoff And Jitter".
"""

from __future__ import annotations

import random
from typing import Final

JITTER: Final = 0.25
"""Of the wait, either way."""


def spread(seconds: float) -> float:
    """About so long."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 (spreads load, hides nothing)


class Backoff:
    """The waits after one failure, two, and so on."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def fail(self) -> float:
        """Note a failure; how long to wait now."""
        wait = min(self._most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return spread(wait)

    def succeed(self) -> None:
        """Begin anew with the next failure."""
        self._failures = 0
