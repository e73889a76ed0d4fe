"""Options that ``serve`` and ``sidecar run`` share: the engine's, wherever its policies come from.

Knows: names, variables and help texts of flags. Must not know: what is done with them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eastgate.model.workloads import KeysUnavailable

WORKLOAD, TRAFFIC, KEYS, RUNNING = "The workload", "Traffic", "Keys", "Running"


class LogLevel(StrEnum):
    """How much is logged besides decisions."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


KeysUnavailableOption = Annotated[
    KeysUnavailable,
    typer.Option(
        envvar="EASTGATE_KEYS_UNAVAILABLE",
        help="The answer while a provider's keys cannot be had; 401 as Envoy.",
        rich_help_panel=KEYS,
    ),
]
StaleOption = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        envvar="EASTGATE_STALE_SECONDS",
        help="How long old keys are used while fetching fails.",
        rich_help_panel=KEYS,
    ),
]
ResolveOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT:ADDRESS:PORT",
        envvar="EASTGATE_RESOLVE",
        help="Fetch keys of HOST:PORT from ADDRESS:PORT; the name and its certificate stay. May be repeated.",
        rich_help_panel=KEYS,
    ),
]
TrustedCaOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        envvar="EASTGATE_TRUSTED_CA",
        help="PEM certificates trusted besides the system's where a policy names no CA. May be repeated.",
        rich_help_panel=KEYS,
    ),
]
WorkersOption = Annotated[
    str, typer.Option(metavar="N", envvar="EASTGATE_WORKERS", help="Processes.", rich_help_panel=RUNNING)
]
MaxConnectionsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        envvar="EASTGATE_MAX_CONNECTIONS",
        help="Clients of one worker; one more is closed unread. Default: as file descriptors allow, at most 10000.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
DrainOption = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        envvar="EASTGATE_DRAIN_SECONDS",
        help="How long SIGTERM waits for requests in flight.",
        rich_help_panel=RUNNING,
    ),
]
LogLevelOption = Annotated[
    LogLevel, typer.Option(envvar="EASTGATE_LOG_LEVEL", help="Least severity.", rich_help_panel=RUNNING)
]
LogAllowsOption = Annotated[
    str,
    typer.Option(
        metavar="SHARE",
        envvar="EASTGATE_LOG_ALLOWS",
        help="Share of allowed requests that are logged, 0 to 1. Refusals always are.",
        rich_help_panel=RUNNING,
    ),
]
