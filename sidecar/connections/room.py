"""Room for a newcomer when there are as many clients as there may be: who has been idle longest makes it.

An idle connection is the cheapest thing to hold and the cheapest to lose: its client dials anew. So it is closed for a
newcomer, as nginx closes reusable connections (``ngx_drain_connections``); without that whoever opens enough of them
and says nothing keeps everybody else out, for as long as ``Limits.idle_seconds``. What is in flight is never touched.

Knows: who is idle since when. Must not know: sockets, lanes, what being idle means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

logger = logging.getLogger("eastgate.proxy")

LEAST_IDLE_SECONDS = 10.0
"""A client that was heard of more recently keeps its place: it is just dialling, or between two requests, and the next
may be on its way (nginx: ``keepalive_min_timeout``)."""

LOOK_SECONDS = 1.0
"""Between two looks at all connections, while there is no room: 10,000 take some milliseconds."""

MOST_LEAVING = 128
"""Connections beyond the bound, while those that made room for them are being closed. Their descriptors come out of
``capacity.RESERVED``."""

ANNOUNCE_SECONDS = 1.0
"""Between two records of the same: a flood of connections must not become one of records."""


class Idling(Protocol):
    """A connection, as far as room is concerned."""

    @property
    def idle_since(self) -> float | None:
        """The loop's clock when it was last heard of; None while anything is in flight."""
        ...


class IdleClients[C: Idling]:
    """Finds who has been idle longest. Costs nothing as long as nobody asks."""

    def __init__(self, connections: Mapping[Any, C], clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock
        self._found: list[tuple[float, Any]] = []  # since when, which one; the longest is last
        self._next_look = 0.0

    def take_longest(self) -> C | None:
        """The connection that has been idle longest, and long enough; None where there is none."""
        if not self._found:
            self._look()
        while self._found:
            since, connection_id = self._found.pop()
            connection = self._connections.get(connection_id)
            if connection is not None and connection.idle_since == since:
                return connection
        return None

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        for connection_id, connection in self._connections.items():
            since = connection.idle_since
            if since is not None and now - since >= LEAST_IDLE_SECONDS:
                self._found.append((since, connection_id))
        self._found.sort(key=lambda found: found[0], reverse=True)


class Tally:
    """Counts what happens to connections where there is no room, and says so, at most once a second. ``count`` only
    grows; ``describe`` gives the fields of a record beside the number since the last one.
    """

    def __init__(self, message: str, describe: Callable[[], dict[str, int]]) -> None:
        self.count = 0
        self._message = message
        self._describe = describe
        self._announced = 0
        self._announcing = False

    def add(self) -> None:
        """One more."""
        self.count += 1
        if not self._announcing:
            self._announce()

    def _announce(self) -> None:
        """Log what was counted since the last time; look again after a second."""
        count, self._announced = self.count - self._announced, self.count
        self._announcing = count > 0
        if count:
            logger.warning(self._message, extra={"fields": {"count": count, **self._describe()}})
            asyncio.get_running_loop().call_later(ANNOUNCE_SECONDS, self._announce)
