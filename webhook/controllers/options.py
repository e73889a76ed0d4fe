"""What ``eastgate controller`` is started with, as frozen values. Parsed by the command line."""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.pods.names import SYSTEM_NAMESPACE
from webhook.controllers.leader import LEASE_SECONDS
from webhook.controllers.nudges import THREADS


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """``health_listen`` is (host, port); port 0 picks a free one."""

    kubeconfig: str | None = None
    namespace: str = SYSTEM_NAMESPACE
    """Its own: where the Lease is."""
    leader_elect: bool = True
    lease: str = "eastgate-controller"
    identity: str | None = None
    """Of this replica, in the Lease. None: the host's name and something random, as client-go does."""
    health_listen: tuple[str, int] | None = None
    log_level: str = "info"
    workers: int = 2
    """Namespaces at a time. Bundles are made one at a time (Python); writing them overlaps."""
    nudge_threads: int = THREADS
    resync_seconds: float = 1800.0
    """Every namespace is looked at again so often, spread over that time, should an event have been missed.
    controller-runtime: ten hours; client-go's examples: minutes."""
    lease_seconds: float = LEASE_SECONDS
    trusted_ca: tuple[str, ...] = ()
    """PEM files of authorities that sidecars are to trust besides the system's; read again when they change."""
