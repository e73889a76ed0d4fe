"""The platform's own certificate authorities (``--trusted-ca``): read from files, read again when they change.

A file that cannot be used leaves what it said before in force: policy goes on being written, and a metric says so.
Knows: files. Must not know: bundles, or whom a change concerns. A mounted ConfigMap is what the files usually are:
kubelet brings a new one within about a minute, and a look once a second adds nothing to that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from eastgate.pods.authorities import MAX_TEXT, Authorities, TrustedFiles

LOOK_SECONDS: Final = 1.0
"""Between two looks."""
_MOST_SHOWN: Final = 5

log = logging.getLogger("eastgate.controller.trust")


class TrustError(Exception):
    """A file cannot be used, and there is nothing of it yet that could stay; ``str()`` says why."""


class TrustWatch:
    """``on_change`` is called, in a thread of its own, when the authorities are others than before.

    Raises ``TrustError``: to begin without an authority would take it, and the keys that it vouched for, from every
    pod. Not to begin leaves them as they are.
    """

    name = "trust"

    def __init__(self, paths: Sequence[str], on_change: Callable[[], None]) -> None:
        self._files = TrustedFiles(paths, _read)
        self._on_change = on_change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=self.name, daemon=True)
        self.refresh()
        if self.is_behind:
            raise TrustError("; ".join(self._files.problems))

    def start(self) -> None:
        """Begin to look."""
        if self._files.paths:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    @property
    def is_alive(self) -> bool:
        """It looks, or there is nothing to look at."""
        return not self._files.paths or self._thread.is_alive()

    @property
    def is_behind(self) -> bool:
        """A file cannot be used as it is."""
        return bool(self._files.problems)

    @property
    def authorities(self) -> Authorities:
        """Those to be trusted now."""
        return self._files.authorities

    def refresh(self) -> bool:
        """Read the files; whether that gave other authorities than before."""
        before = self.authorities
        for problem in self._files.refresh():
            log.error("trusted authorities stay as they were: %s", problem)
        if self.authorities == before:
            return False
        subjects = ", ".join(one.subject for one in self.authorities[:_MOST_SHOWN])
        more = len(self.authorities) - _MOST_SHOWN
        log.info("trusted authorities: %s", subjects + (f", and {more} more" if more > 0 else ""))
        return True

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            if self.refresh():
                self._on_change()


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(MAX_TEXT + 1).decode("ascii", "replace")
