"""How many examples property tests try: half of what each asks for, in a run that people wait for.

Such a run tries the same examples every time, so that a failure says something about the change. ``EXAMPLES=1000 make
test`` tries ten times as many as they ask for, and others each time, as a run at night should. No example has a deadline:
machines that run tests are busy.
"""

from __future__ import annotations

import os

from hypothesis import settings

GIVEN = os.environ.get("EXAMPLES", "")
PERCENT = int(GIVEN or "50")
ORDINARY = 100
"""Of a test that asks for no number; hypothesis' own."""


def examples(count: int = ORDINARY) -> settings:
    """A decorator: this many."""
    return settings(max_examples=max(10, count * PERCENT // 100), deadline=None, derandomize=not GIVEN)
