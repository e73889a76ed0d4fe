"""All remote keys of a worker: one fetcher a source, shared by every policy that says the same.

Implements ``eastgate.keys.ring.KeyRing``, which decisions read synchronously, and the waiting that lanes do. Sources
follow the plan: ``prefetch`` before one comes into force, ``retain`` after.

Knows: which sources there are. Must not know: how one is fetched (``source``, ``client``), or any request.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

from eastgate.keys.keyset import KeyProblem
from eastgate.keys.ring import Held
from eastgate.model.keys import RemoteKeys
from eastgate.pods.authorities import Authorities
from sidecar.jwks.client import Contexts, Reach
from sidecar.jwks.files import KeyFiles
from sidecar.jwks.source import FetchSettings, SourceFetcher, SourceState
from sidecar.options import ServeOptions

__all__ = ["FetchSettings", "KeyStore", "SourceState", "read_settings"]

_DEFAULTS = FetchSettings()
_UNKNOWN = Held()
_UNRESOLVED = Held(problem=KeyProblem.FETCH_FAIL.text)


def _ignore(source: str, result: str) -> None:
    """Nobody counts."""


def read_settings(options: ServeOptions, *, block_loopback: bool = False) -> FetchSettings:
    """What the command line says about fetching."""
    return FetchSettings(
        stale_seconds=options.stale_seconds,
        wait_seconds=options.limits.keys_seconds,
        reach=Reach(options.resolve, block_loopback),
        files=KeyFiles(options.keys_directory) if options.keys_directory else None,
    )


class KeyStore:
    """``report`` is told (source, result) for every fetch that ended. Everything but ``held`` needs a running loop."""

    def __init__(self, settings: FetchSettings = _DEFAULTS, report: Callable[[str, str], None] = _ignore) -> None:
        self._settings = settings
        self._report = report
        self._fetchers: dict[RemoteKeys, SourceFetcher] = {}
        # Hashing a source costs a microsecond and a half; requests ask with the plan's own object, over and over.
        self._by_identity: dict[int, tuple[RemoteKeys, SourceFetcher]] = {}
        self._generations = itertools.count(1)
        self._contexts = Contexts()
        self._trusted: Authorities = ()

    def held(self, source: RemoteKeys) -> Held:
        """The present state of a source; never fetches."""
        fetcher = self._find(source)
        if fetcher is None:
            return _UNKNOWN if source.unresolved is None else _UNRESOLVED
        return fetcher.held()

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:
        """Whether ``kid``, unknown among the held keys, is worth a fetch now. True reserves it: call ``fetch`` next."""
        fetcher = self._find(source)
        return fetcher is not None and fetcher.may_refetch(kid)

    def trust(self, authorities: Authorities) -> None:
        """Trust these besides the system's, for sources that have no CA of their own, and no others from now on."""
        self._trusted = authorities
        for fetcher in self._fetchers.values():
            fetcher.trust(authorities)

    async def fetch(self, sources: Iterable[RemoteKeys]) -> None:
        """Wait until the flights of these sources landed, or for ``wait_seconds``. Joins flights under way; begins
        one only for a source never heard of, or one that ``may_refetch`` granted.
        """
        landings = {landing for source in sources if (landing := self._ensure(source).join_flight()) is not None}
        if landings:
            await asyncio.wait(landings, timeout=self._settings.wait_seconds)

    async def prefetch(self, sources: Iterable[RemoteKeys], seconds: float) -> None:
        """Begin to look after ``sources``; wait for the first fetch of new ones, but not longer than ``seconds``."""
        fresh = [self._ensure(source) for source in sources if source not in self._fetchers]
        landings = {landing for fetcher in fresh if (landing := fetcher.join_flight()) is not None}
        if landings:
            await asyncio.wait(landings, timeout=seconds)

    async def retain(self, sources: Iterable[RemoteKeys]) -> None:
        """Stop looking after every source that is not among ``sources``, and forget its keys."""
        wanted = frozenset(sources)
        dropped = [self._fetchers.pop(source) for source in list(self._fetchers) if source not in wanted]
        self._by_identity.clear()
        for fetcher in dropped:
            await fetcher.close()
            if self._settings.files is not None:
                await asyncio.to_thread(self._settings.files.forget, fetcher.source)

    def describe(self) -> list[SourceState]:
        """Every source, for ``/config`` and metrics."""
        return [fetcher.describe() for fetcher in self._fetchers.values()]

    async def close(self) -> None:
        """End all fetching. Kept files stay."""
        fetchers = list(self._fetchers.values())
        self._fetchers.clear()
        self._by_identity.clear()
        for fetcher in fetchers:
            await fetcher.close()

    def _find(self, source: RemoteKeys) -> SourceFetcher | None:
        known = self._by_identity.get(id(source))
        if known is not None:
            return known[1]
        fetcher = self._fetchers.get(source)
        if fetcher is not None and len(self._by_identity) < 1024:
            # The entry holds the source, so that no other object can take its identity.
            self._by_identity[id(source)] = (source, fetcher)
        return fetcher

    def _ensure(self, source: RemoteKeys) -> SourceFetcher:
        fetcher = self._fetchers.get(source)
        if fetcher is None:
            fetcher = SourceFetcher(
                source,
                self._settings,
                lambda: next(self._generations),
                self._report,
                self._contexts,
                self._trusted,
            )
            self._fetchers[source] = fetcher
        return fetcher
