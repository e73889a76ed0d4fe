"""What ``eastgate serve`` and the container are started with, as frozen values. Parsed by the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from eastgate.model.workloads import Workload


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection. Sizes in bytes, times in seconds. Precedents: Envoy edge guide (60 KiB headers, 100
    streams), nginx (60 s header timeout, 4x8k), Go net/http (1 MiB); ours are the stricter common ground.
    """

    head_bytes: int = 64 * 1024
    head_fields: int = 200
    first_byte_seconds: float = 60.0
    head_seconds: float = 10.0
    idle_seconds: float = 3600.0
    connect_seconds: float = 5.0
    keys_seconds: float = 10.0
    streams: int = 256
    resets_per_second: int = 100
    pending_bytes: int = 1024 * 1024
    body_chunk_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``allows`` is the share of allowed requests that are logged (0 to 1); refusals always are."""

    level: str = "info"
    allows: float = 1.0


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """``policies`` are paths as given (``-`` for stdin); ``upstream`` and ``listen`` are (host, port)."""

    policies: tuple[str, ...]
    upstream: tuple[str, int]
    listen: tuple[str, int]
    workload: Workload = field(default_factory=Workload)
    admin: tuple[str, int] | None = None
    workers: int = 1
    log: LogOptions = LogOptions()
    limits: Limits = Limits()
    drain_seconds: float = 30.0
    stale_seconds: float = 3600.0
    keys_directory: str | None = None
    opaque_ports: frozenset[int] = field(default_factory=frozenset)
    resolve: tuple[tuple[str, int, str, int], ...] = ()
    """(host, port, address, port): connections of the key fetcher to the first pair go to the second, as with curl's
    ``--connect-to``; Host, SNI and the verified name stay those of the first. ``sidecar.jwks.store`` honours it."""
    trusted_ca: str | None = None
    """PEM text added to the system's trust, for JWKS hosts that no policy gives a CA of its own. ``sidecar.jwks.store``
    honours it."""
