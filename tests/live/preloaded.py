"""What the process that others are forked off does once, so that they need not: imports, and the command line's parser.
What is there stays out of the garbage collector's way: looking at it would copy it into every process.

Imported in that process only (``tests.live.forking``).
"""

from __future__ import annotations

import contextlib
import encodings.idna
import gc
import io

import typer
import uvloop

import sidecar.admin
import sidecar.connections.proxy
import sidecar.jwks.store
import sidecar.serve
import sidecar.workers.worker
from eastgate.cli import main

__all__ = ["encodings", "sidecar", "uvloop"]

_command = typer.main.get_command(main.app)
typer.main.get_command = lambda _: _command  # the parser of everybody's command line, made once
with contextlib.redirect_stderr(io.StringIO()):
    main.main(["serve", "--upstream", "http://127.0.0.1:1", "--policy", "/nonexistent", "--listen", "127.0.0.1:0"])
gc.collect()
gc.freeze()
