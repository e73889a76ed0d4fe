"""Where the applications (``sidecar``, ``webhook``) are, so that ``import sidecar`` works from a checkout and a wheel.

In a checkout or an editable install both are top-level packages beside ``eastgate``. A wheel must not put such generic
names into site-packages (there is a ``sidecar`` on PyPI), so it carries them under ``eastgate/_applications``; that
folder goes *first* on ``sys.path``, and only when it exists: then it is the only right one.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder of ``eastgate`` itself."""


def locate(package: Path = PACKAGE) -> Path:
    """Make ``sidecar`` and ``webhook`` importable and say which folder they are in."""
    carried = package / "_applications"
    found = carried if carried.is_dir() else package.parent
    if str(found) not in sys.path:
        sys.path.insert(0, str(found))
    return found
