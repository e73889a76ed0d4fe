"""``--trusted-ca``: files of authorities that are trusted besides the system's.

Knows: how such a file is read. Must not know: what is in it (``eastgate.pods.authorities``), or when to read it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eastgate.pods.authorities import MAX_TEXT, TrustedFiles


def open_trust(paths: Sequence[str]) -> TrustedFiles:
    """Nothing is read before ``refresh``, which blocks: call it from a thread."""
    return TrustedFiles(paths, _read)


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(MAX_TEXT + 1).decode("ascii", "replace")
