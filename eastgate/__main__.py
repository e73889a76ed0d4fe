"""``python -m eastgate``: the same door as the ``eastgate`` command; worker processes of ``serve`` come back by it."""

from __future__ import annotations

import sys

from eastgate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
