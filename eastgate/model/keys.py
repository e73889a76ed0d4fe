"""Where verification keys come from. The values name a source; ``eastgate.keys`` parses what it holds.

A remote source is its own identity: policies that say the same share one fetcher, because equal frozen values hash
alike. Defaults: Envoy Gateway (cache 300 s), Gloo (timeout 5 s), Envoy (one second after a failed fetch).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalKeys:
    """Keys written into a policy, a Secret or a ConfigMap: PEM, JWK, JWKS or a ``{kid: certificate}`` map.

    ``origin`` says where for messages (``ConfigMap default/jwks``, ``inline``), never the text itself, which ``repr``
    leaves out too: it may hold a symmetric secret.
    """

    text: str
    origin: str = "inline"

    def __repr__(self) -> str:
        return f"LocalKeys(origin={self.origin!r})"


RETRY_TRIGGERS = (
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
)
"""Envoy's words for what makes a fetch be tried again (``retry_on``)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Retries inside one fetch. Waits are seconds; ``triggers`` are some of ``RETRY_TRIGGERS``."""

    attempts: int = 0
    base_interval: float = 1.0
    max_interval: float = 10.0
    triggers: tuple[str, ...] = ("5xx", "gateway-error", "connect-failure", "reset")


@dataclass(frozen=True, slots=True)
class RemoteKeys:
    """A JWKS behind a URL. Durations in seconds.

    ``addresses`` are (host, port) to connect to where a backend reference replaces the URL's own; path and Host
    still come from ``url``. ``tls`` says whether the connection is TLS: by the URL's scheme, or by a BackendTLSPolicy.
    ``ca`` is PEM; None means the system's trust. ``server_name`` is sent as SNI and verified; None means the URL's
    host. ``unresolved`` names a reference that could not be resolved: the source then never has keys, and is never
    fetched in a weaker way instead (GHSA-qm8v-g4f9-qhjx).
    """

    url: str
    addresses: tuple[tuple[str, int], ...] = ()
    tls: bool = True
    ca: str | None = None
    server_name: str | None = None
    timeout: float = 5.0
    cache_duration: float = 300.0
    failed_refetch: float = 1.0
    retry: Retry = Retry()
    unresolved: str | None = None

    @property
    def label(self) -> str:
        """The URL without what may be secret in it: user information and query. For logs, metrics and messages."""
        scheme, separator, rest = self.url.partition("?")[0].partition("://")
        authority, slash, path = rest.partition("/")
        return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"

    def __hash__(self) -> int:
        """By URL alone: a source is looked up with every request, and few share a URL."""
        return hash(self.url)


KeySource = LocalKeys | RemoteKeys
