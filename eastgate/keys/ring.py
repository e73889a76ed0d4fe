"""What a decision may ask about remote keys. The sidecar implements it; tests and ``explain`` hand in a dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eastgate.keys.keyset import KeySet
from eastgate.model.keys import RemoteKeys


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of one remote source at this moment.

    ``keys`` None: there are none to verify with; then ``problem`` says why in Envoy's words (``Jwks remote fetch is
    failed``), or is None when no fetch has ended yet. ``generation`` changes whenever the keys change: verified
    tokens of another generation are forgotten.
    """

    keys: KeySet | None = None
    generation: int = 0
    problem: str | None = None


class KeyRing(Protocol):
    """Synchronous view on the keys of remote sources."""

    def held(self, source: RemoteKeys) -> Held:
        """The present state of a source; a source never heard of is ``Held()``."""
        ...

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:
        """True when a token's unknown ``kid`` is worth one fetch now (a floor per source, a negative cache)."""
        ...


class NoRemoteKeys:
    """A ring for pure use: every remote source is out of reach."""

    def held(self, source: RemoteKeys) -> Held:  # noqa: ARG002
        """Nothing, and no fetch will help."""
        return Held(problem="Jwks remote fetch is failed")

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:  # noqa: ARG002
        """Never."""
        return False
