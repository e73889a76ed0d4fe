"""Options that ``webhook`` and ``controller`` share: what any process of the control plane needs to run.

Knows: names, variables and help texts of flags. Must not know: what is done with them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.engine import RUNNING

KubeconfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        envvar="EASTGATE_KUBECONFIG",
        help="Default: KUBECONFIG, else the pod's own account.",
        rich_help_panel=RUNNING,
    ),
]
HealthListenOption = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        envvar="EASTGATE_HEALTH_LISTEN",
        help="Health and metrics in clear; port 0 picks one, `none` for none.",
        rich_help_panel=RUNNING,
    ),
]


def parse_health_listen(text: str) -> tuple[str, int] | None:
    """``HOST:PORT``, or None for ``none``."""
    return None if text == "none" else values.parse_address(text, "--health-listen")
