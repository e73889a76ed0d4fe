"""The work queue: which namespaces are to be looked at, and when.

Knows: a key that is added again while it waits is done once; one that is added while it is worked on is done again
afterwards; a burst settles first, but not for ever; what failed is tried again, later each time. Must not know: what
the keys name. Rules: client-go's workqueue (deduplication, one worker a key, exponential failure rate limiter), its
settling as in Istio's debounce (``PILOT_DEBOUNCE_AFTER`` and ``_MAX``). It holds a key once: as many entries as there
are namespaces bound it.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from webhook.controllers.backoff import Backoff

SETTLE_SECONDS: Final = 0.03
"""How long nothing more must come: ``kubectl apply`` of several documents sends one each 5 to 20 ms."""
MOST_SECONDS: Final = 0.15
"""How long more may come before the first of them is done."""
SPACING_SECONDS: Final = 0.2
"""Between the end of one round for a key and the start of the next: an object that changes all the time costs five
rounds a second, not all there is."""
FIRST_RETRY_SECONDS: Final = 0.1
MOST_RETRY_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Waiting:
    since: float
    due: float


class WorkQueue:
    """Keys that wait, each once. ``clock`` is monotonic."""

    def __init__(
        self,
        *,
        settle: float = SETTLE_SECONDS,
        most: float = MOST_SECONDS,
        spacing: float = SPACING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle = settle
        self._most = most
        self._spacing = spacing
        self._clock = clock
        self._condition = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        self._order: list[tuple[float, str]] = []  # a heap of (due, key); an entry that is not in force is passed over
        self._working: dict[str, bool] = {}  # key -> whether it was added meanwhile
        self._ended: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._stopped = False

    def add(self, key: str, *, after: float = 0.0) -> None:
        """Let a key be done: when things have settled, or ``after`` so many seconds."""
        with self._condition:
            if key in self._working:
                self._working[key] = True
                return
            now = self._clock()
            waiting = self._waiting.get(key)
            since = now if waiting is None else waiting.since
            due = max(now + after, min(now + self._settle, since + self._most))
            if waiting is not None and after > 0:
                due = min(due, waiting.due)  # asking for later postpones nothing
            due = max(due, self._ended.get(key, -self._spacing) + self._spacing)
            self._enter(key, since, due)

    def take(self, timeout: float | None = None) -> str | None:
        """The next key that is due, or None after ``timeout`` or when the queue has stopped. Then call ``done``."""
        with self._condition:
            limit = None if timeout is None else self._clock() + timeout
            while not self._stopped:
                now = self._clock()
                due = self._find_due()
                if due is not None and due <= now:
                    _, key = heapq.heappop(self._order)
                    del self._waiting[key]
                    self._working[key] = False
                    return key
                if limit is not None and limit <= now:
                    return None
                wake = min((when for when in (due, limit) if when is not None), default=None)
                self._condition.wait(None if wake is None else wake - now)
            return None

    def done(self, key: str, *, failed: bool = False) -> None:
        """The key was worked on. One that failed waits for its turn again."""
        with self._condition:
            again = self._working.pop(key)
            now = self._clock()
            if self._spacing > 0:
                self._ended = {one: ended for one, ended in self._ended.items() if ended + self._spacing > now}
                self._ended[key] = now
            if failed:
                wait = self._backoffs.setdefault(key, Backoff(FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS)).fail()
                self._enter(key, now, now + (min(wait, self._spacing) if again else wait))
            else:
                self._backoffs.pop(key, None)
                if again:
                    self._enter(key, now, now + self._spacing)

    def _enter(self, key: str, since: float, due: float) -> None:
        self._waiting[key] = _Waiting(since, due)
        heapq.heappush(self._order, (due, key))
        self._condition.notify()

    def _find_due(self) -> float | None:
        """When the first key is due."""
        while self._order:
            due, key = self._order[0]
            waiting = self._waiting.get(key)
            if waiting is not None and waiting.due == due:
                return due
            heapq.heappop(self._order)
        return None

    def stop(self) -> None:
        """Wake everybody and give nothing more out."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def depth(self) -> int:
        """How many keys wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is worked on."""
        with self._condition:
            return not self._waiting and not self._working
