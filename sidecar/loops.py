"""The event loop and the garbage collector, set up for a proxy.

Knows: uvloop where there is one, and what is left out of collections. Must not know: what runs in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator


def make_loop() -> asyncio.AbstractEventLoop:
    """A new loop of the fastest kind there is."""
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        pass
    else:
        make = uvloop.new_event_loop
    return make()


@contextlib.contextmanager
def pause_collections() -> Iterator[None]:
    """No garbage collection meanwhile. For what makes many objects and hardly any garbage, as compiling policies does:
    looking through them again and again while they become more was half of its time, and held up every request.
    Higher thresholds are as fast, but old plans, which are cycles, then add up to twice the memory.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def tune_memory() -> None:
    """Leave what start-up loaded out of every later collection. Call once, when everything is loaded.

    A full collection of the modules alone takes tens of milliseconds, in which no request moves; afterwards it takes
    less than one. Other thresholds, or no collections at all, made no measurable difference to the throughput.
    """
    gc.collect()
    gc.freeze()
