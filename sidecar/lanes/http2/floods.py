"""Floods: what is cheap to send and costs the receiver, counted.

Knows: how much of it a second is too much. Must not know: frames or streams. Precedents: rapid reset (CVE-2023-44487):
Envoy counts streams reset within their first second (``overload.premature_reset_*``), nginx and Go bound resets and
handlers a connection; control frames (CVE-2019-9512, -9515, -9518, the settings, ping and empty-frame floods): Envoy
bounds them by the frames that do work, nginx by their share of the bytes. The clock is read only when a count is high.

Requests that are refused are not counted: each costs what an allowed one costs, and is logged; no proxy bounds them by
the connection. Their number in one turn is bounded instead (``requests.FRAMES_A_TURN``), so that others are served.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.lanes.http2.frames import ENHANCE_YOUR_CALM, Http2Error

YOUNG_SECONDS = 1.0
"""A stream reset before this age is premature (Envoy's default): a deadline that cancels many calls is no attack."""

CONTROL_FRAMES = 1000
"""Control frames a second that need no justification."""

CONTROL_PER_WORK = 10
"""Further ones for each frame that carries a head or data, either way (Envoy's figure for WINDOW_UPDATE)."""


class FloodGuard:
    """One connection's counts. ``work`` is raised by whoever relays a head or data."""

    __slots__ = ("_clock", "_control", "_reset_limit", "_resets", "_since", "_work_before", "work")

    def __init__(self, resets_per_second: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reset_limit = resets_per_second
        self._since = clock()
        self._control = 0
        self._resets = 0
        self._work_before = 0
        self.work = 0

    def count_control(self) -> None:
        """A frame from the client that does no work by itself."""
        self._control += 1
        if self._control > CONTROL_FRAMES and self._same_second():
            work = self.work - self._work_before
            if self._control > CONTROL_FRAMES + CONTROL_PER_WORK * work:
                raise Http2Error(ENHANCE_YOUR_CALM, "too many control frames")

    def count_reset(self, opened: float) -> None:
        """A stream that the client reset, or made the lane reset. ``opened``: the clock when it began."""
        if self._clock() - opened > YOUNG_SECONDS:
            return
        self._resets += 1
        if self._resets > self._reset_limit and self._same_second():
            raise Http2Error(ENHANCE_YOUR_CALM, "too many resets")

    def _same_second(self) -> bool:
        """False if the second that was counted is over: a new one begins."""
        now = self._clock()
        if now - self._since <= 1.0:
            return True
        self._since, self._control, self._resets, self._work_before = now, 1, 1, self.work
        return False
