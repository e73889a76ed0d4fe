"""What ``eastgate serve`` and ``eastgate sidecar run`` are started with, as frozen values. The command line parses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eastgate.model.workloads import KeysUnavailable, Workload
from eastgate.pods import names
from eastgate.pods.probes import AppProbe


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
    """``policies`` are paths as given (``-`` for stdin); ``upstream`` and ``listen`` are (host, port). Without an
    ``upstream`` every connection leads where its client had dialled before the kernel redirected it.
    """

    policies: tuple[str, ...]
    upstream: tuple[str, int] | None
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
    max_connections: int | None = None
    """Client connections of one worker; None is what its file descriptors allow (``sidecar.connections.capacity``)."""
    trusted_ca: tuple[str, ...] = ()
    """PEM files of authorities trusted besides the system's, for JWKS hosts that no policy gives a CA of its own. They
    are read again when they change (``sidecar.policies.trust``)."""


@dataclass(frozen=True, slots=True)
class PodOptions:
    """``engine`` is what the pod has in common with ``serve``; its policies and its workload are not looked at, for
    they come from the three folders. ``ports`` are the named ones of the app's containers. ``expect_redirection``: not
    ready unless the kernel's rules are proven to be there.
    """

    engine: ServeOptions
    namespace: str
    name: str = ""
    address: str = ""
    bundle: str = names.BUNDLE_MOUNT
    shards: str = names.SHARDS_MOUNT
    pod: str = names.POD_MOUNT
    ports: tuple[tuple[str, int], ...] = ()
    probes: Mapping[str, AppProbe] = field(default_factory=dict)
    keys_unavailable: KeysUnavailable = KeysUnavailable.UNAVAILABLE
    expect_redirection: bool = False
