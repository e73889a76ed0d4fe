"""Remote keys for ``explain``: handed in as files, fetched for real through the sidecar's own fetcher, or left out.

Knows: ``KeyRing``, files, and how to run one fetch to its end. Must not know: how a fetch is made or a key is chosen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from eastgate.cli.applications import locate
from eastgate.cli.terminal import warn
from eastgate.keys.keyset import KeySet
from eastgate.keys.ring import Held
from eastgate.model.keys import RemoteKeys
from eastgate.pods.authorities import Authorities

_FETCH_FAILED = "Jwks remote fetch is failed"


class Ring:
    """Key sets given by URL come first; the rest is fetched, once a source, unless ``offline``."""

    def __init__(
        self,
        given: Mapping[str, KeySet],
        *,
        offline: bool,
        resolve: tuple[tuple[str, int, str, int], ...] = (),
        trusted: Authorities = (),
    ) -> None:
        self._given = given
        self._offline = offline
        self._resolve = resolve
        self._trusted = trusted
        self._fetched: dict[RemoteKeys, Held] = {}

    def held(self, source: RemoteKeys) -> Held:
        """What is known now. A given set stands for its URL in whatever way a policy reaches it."""
        keys = self._given.get(source.url)
        if keys is not None:
            return Held(keys=keys)
        if self._offline:
            return Held(problem=_FETCH_FAILED)
        return self._fetched.get(source, Held())

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:  # noqa: ARG002 (the protocol's)
        """Never: what was fetched a moment ago is what there is."""
        return False

    def fetch(self, sources: Sequence[RemoteKeys]) -> None:
        """Fetch what is missing; a source that fails holds its problem from then on, and why is said."""
        missing = tuple(source for source in dict.fromkeys(sources) if source not in self._fetched)
        if not missing or self._offline:
            return
        locate()
        from sidecar.jwks.store import KeyStore, read_settings
        from sidecar.options import ServeOptions

        logging.getLogger("eastgate").addHandler(logging.NullHandler())
        options = ServeOptions(policies=(), upstream=("", 0), listen=("", 0), resolve=self._resolve)

        async def run() -> list[Held]:
            store = KeyStore(read_settings(options))
            store.trust(self._trusted)
            try:
                await store.fetch(missing)
                for state in store.describe():
                    if state.problem:
                        warn(f"keys not fetched from {state.source}: {state.problem}")
                return [store.held(source) for source in missing]
            finally:
                await store.close()

        for source, held in zip(missing, asyncio.run(run()), strict=True):
            known = held.keys is not None or held.problem is not None
            self._fetched[source] = held if known else Held(problem=_FETCH_FAILED)
