"""``eastgate controller``: start everything, say ``ready``, wait for the end, end in order.

Knows: signals, the ``ready`` line, exit codes. Must not know: what a controller does.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Final

from webhook.cluster import Cluster, ClusterError
from webhook.controllers.controller import Controller
from webhook.controllers.health import HealthServer
from webhook.controllers.metrics import CONTENT_TYPE, Metrics
from webhook.controllers.options import ControllerOptions
from webhook.controllers.trust import TrustError
from webhook.log import Journal, install_log

log = logging.getLogger("eastgate.controller")

YOUNG_OBJECTS: Final = 50_000
"""New objects between two collections (Python: 2,000). Reading 500 policies makes a million that stay, and looking
through them while they become more was a third of the start; with this many it takes no more memory at the end.
"""


def run(options: ControllerOptions) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    install_log(options.log_level, Journal())
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    metrics = Metrics()
    try:
        # Each informer holds a connection, each worker may need one.
        cluster = Cluster(options.kubeconfig, connections=64 + options.workers + options.nudge_threads)
        controller = Controller(cluster, options, metrics, options.identity or make_identity())
        health = _open_health(options, controller, metrics)
    except (ClusterError, OSError, TrustError) as error:
        print(f"eastgate controller: {error}", file=sys.stderr)  # noqa: T201 (why it does not run)
        return 1
    if health is not None:
        health.start()
    begun = time.monotonic()
    controller.start()
    if controller.wait_until_synced(stop):
        # What is there now mostly stays: later collections pass it over.
        gc.collect()
        gc.freeze()
        log.info("synced after %.2f s", time.monotonic() - begun)
        where = "" if health is None else f" http://{_show(options)}:{health.port}"
        print(f"ready{where}", flush=True)  # noqa: T201 (the interface)
        stop.wait()
    controller.stop()
    if health is not None:
        health.stop()
    # Threads that wait for an API server that answers nothing are daemons; the interpreter need not wait for them.
    sys.stdout.flush()
    return 0


def make_identity() -> str:
    """As client-go's callers do: a host may start again under its name while its old Lease is still in force."""
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


def _open_health(options: ControllerOptions, controller: Controller, metrics: Metrics) -> HealthServer | None:
    if options.health_listen is None:
        return None
    return HealthServer(
        options.health_listen,
        alive=controller.list_faults,
        ready=controller.list_lags,
        metrics=metrics.render,
        metrics_type=CONTENT_TYPE,
    )


def _show(options: ControllerOptions) -> str:
    host = options.health_listen[0] if options.health_listen else ""
    return f"[{host}]" if ":" in host else host
