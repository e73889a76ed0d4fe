"""An event loop on which connections take turns, a few at a time.

asyncio asks the kernel for everything that is ready and then serves all of it. With 50 clients at work such a round
takes 50 reviews, and who comes a moment after it has begun waits for the whole of it: always the same one, for whoever
was served last in a round is never back before the next begins. One review in a hundred took twice as long as the
others for that. The kernel keeps what is ready in the order in which it came, so asking for a few at a time is enough.

Knows: selectors. Must not know: what is served.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import Final

AT_ONCE: Final = 4
"""Connections served before the kernel is asked again, which takes as long as a fiftieth of a review."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def make_loop() -> asyncio.AbstractEventLoop:
    """The loop; asyncio's own where the system is no Linux."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()

    import select

    class Turns(selectors.EpollSelector):
        """``EpollSelector`` with a bound."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """What is ready, but not more than ``AT_ONCE``. As the base has it, which asks for as many as there are."""
            wait = -1.0 if timeout is None else max(math.ceil(timeout * 1e3) * 1e-3, 0.0)
            try:
                events = self._selector.poll(wait, AT_ONCE)  # type: ignore[attr-defined]
            except InterruptedError:
                return []
            found = []
            for descriptor, event in events:
                key = self._fd_to_key.get(descriptor)  # type: ignore[attr-defined]
                if key is not None:
                    reading = _READ if event & ~select.EPOLLOUT else 0
                    writing = _WRITE if event & ~select.EPOLLIN else 0
                    found.append((key, (reading | writing) & key.events))
            return found

    return asyncio.SelectorEventLoop(Turns())
