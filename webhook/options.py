"""What ``eastgate webhook`` is started with, as frozen values. Parsed by the command line."""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.pods.names import SYSTEM_NAMESPACE


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one connection and of all of them. Sizes in bytes, times in seconds."""

    head_bytes: int = 16 * 1024
    """The API server sends under 1 KiB. nginx takes 4 x 8 KiB, Go 1 MiB."""
    connections: int = 512
    """Each API server keeps at most 25 idle ones to a webhook (client-go) and opens more under load."""
    buffered_bytes: int = 64 * 1024 * 1024
    """Bodies being received, of all connections together: nine of the largest, or 600 of a large pod."""
    handshake_seconds: float = 10.0
    """As Go's crypto/tls in the API server (``TLSHandshakeTimeout``)."""
    head_seconds: float = 10.0
    """nginx and Go's own servers wait for 60 s and for ever; istiod for 15 s."""
    request_seconds: float = 30.0
    """From the first byte of a request to the last of its answer. No API server waits for longer: 30 s is the most that
    ``timeoutSeconds`` of a webhook may be."""
    idle_seconds: float = 120.0
    """Longer than the 90 s after which Go's client closes an idle connection: who closes first should be the one who
    sends next, or a review could cross with the close."""
    linger_seconds: float = 1.0
    """After a refusal in the middle of a request: a close that meets bytes on their way would take the answer with it.
    nginx lingers for 5 s at most."""
    tick_seconds: float = 1.0
    """Between two looks at what has met its time."""
    drained_seconds: float = 10.0
    """For reviews in flight, once nothing new is accepted. Kubelet kills after 30 s by default."""


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """``listen`` and ``health_listen`` are (host, port); port 0 picks a free one."""

    listen: tuple[str, int]
    sidecar_image: str
    health_listen: tuple[str, int] | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    native_sidecars: bool = True
    tls_files: tuple[str, str] | None = None
    """Certificate and key as files that somebody else renews. None: own authority, kept in a Secret."""
    kubeconfig: str | None = None
    service: tuple[str, str] = (SYSTEM_NAMESPACE, "eastgate-webhook")
    """(namespace, name) of the Service: the certificate is for its names."""
    secret: str = "eastgate-webhook-ca"  # noqa: S105 (a name)
    mutating: tuple[str, ...] = ("eastgate",)
    validating: tuple[str, ...] = ("eastgate",)
    """Names of the configurations whose ``caBundle`` is kept."""
    cluster_domain: str = "cluster.local"
    log_level: str = "info"
    drain_seconds: float = 5.0
    """Between the first sign of the end (not ready) and not accepting any more: endpoints take about that long to be
    taken out of every node's and API server's tables."""
    reload_seconds: float = 2.0
    """Between two looks at the certificate's files. Kubelet itself takes a minute to bring a new one."""
    limits: ServerLimits = ServerLimits()
