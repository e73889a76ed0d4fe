"""One remote source: its keys, and the task that keeps them fresh.

The task fetches, sleeps until a refresh or a retry is due, and fetches again; a request that needs keys wakes it. So
there is never more than one fetch of a source under way, however many requests wait for it (*single flight*). When to
fetch is arithmetic (``eastgate.keys.rotation``); how, is ``client``. Failures keep the old keys up to a limit.
``timeout`` bounds one flight, its retries included, as Envoy's route timeout does.

Knows: one source. Must not know: plans, requests, other sources. Never logs a URL's query, nor any part of a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import random

from eastgate.keys.keyset import KeyProblem, KeySet, KeySetError, parse_key_set
from eastgate.keys.ring import Held
from eastgate.keys.rotation import (
    DEFAULT_STALE_LIMIT,
    MAX_ABSENT_KIDS,
    UNKNOWN_KID_FLOOR,
    Freshness,
    UnknownKids,
    judge_freshness,
    refresh_delay,
    retry_delay,
)
from eastgate.model.keys import RemoteKeys
from eastgate.pods.authorities import Authorities
from sidecar.jwks.client import (
    Contexts,
    Failure,
    FetchError,
    Locator,
    Reach,
    fetch_document,
    read_locator,
    trusts_the_system,
)
from sidecar.jwks.files import KeyFiles

logger = logging.getLogger("eastgate.keys")

MAX_WAIT_WITHOUT_KEYS = 5.0
"""Longest pause between fetches while every request is refused for want of keys (Envoy: 1 s, always)."""

MAX_WAIT_WITH_KEYS = 30.0
"""Longest pause while the old keys still serve."""

PARSE_IN_THREAD = 64 * 1024
"""A set larger than this is parsed beside the event loop: a full MiB takes tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """``stale_seconds``: how long keys outlive their cache duration while fetches fail. ``wait_seconds``: how long a
    request waits for a fetch. ``unknown_kid_seconds``: least time between fetches caused by unknown ``kid`` values.
    """

    stale_seconds: float = DEFAULT_STALE_LIMIT
    wait_seconds: float = 10.0
    unknown_kid_seconds: float = UNKNOWN_KID_FLOOR
    reach: Reach = field(default_factory=Reach)
    files: KeyFiles | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source for ``/config`` and metrics. ``age`` None: never fetched."""

    source: str
    keys: int
    age: float | None
    stale: bool
    problem: str


class SourceFetcher:
    """Made inside a running loop; ``close`` ends it. ``report`` is told how every flight ended, in one word."""

    def __init__(
        self,
        source: RemoteKeys,
        settings: FetchSettings,
        next_generation: Callable[[], int],
        report: Callable[[str, str], None],
        contexts: Contexts,
        trusted: Authorities,
    ) -> None:
        self.source = source
        self._settings = settings
        self._next_generation = next_generation
        self._report = report
        self._held = Held()
        self._fetched_at: float | None = None
        self._problem = ""
        self._failures = 0
        self._unknown = UnknownKids()
        self._missing: list[str] = []
        self._granted = False
        self._wanted = asyncio.Event()
        self._in_flight = True
        self._landing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._locator: Locator | None = None
        self._contexts = contexts
        self._trusted: Authorities = trusted if trusts_the_system(source) else ()
        self._vouched: frozenset[str] = frozenset()  # for the keys that are held
        self._tls: tuple[Authorities, ssl.SSLContext | None] | None = None
        self.label = _name_source(source)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="eastgate keys")

    # --- what requests ask ---

    def held(self) -> Held:
        """The present keys; drops them when the time they may serve is over, whatever the task is doing."""
        if self._held.keys is not None and self._judge() is Freshness.DEAD:
            logger.error("keys dropped: the time they may serve is over", extra=self._name_it())
            self._held = Held(None, self._next_generation(), KeyProblem.FETCH_FAIL.text)
        return self._held

    def _judge(self) -> Freshness:
        if self._fetched_at is None:
            return Freshness.FRESH
        duration, stale = self.source.cache_duration, self._settings.stale_seconds
        return judge_freshness(self._fetched_at, duration, time.monotonic(), stale)

    def may_refetch(self, kid: str | None) -> bool:
        """Whether an unknown ``kid`` is worth waiting for a fetch. While one is under way, it is: rotation shows in
        many requests at once, and none of them should be refused.
        """
        if self._task.done():
            return False
        now = time.monotonic()
        joins = self._in_flight or self._granted
        floor = 0.0 if joins else self._settings.unknown_kid_seconds
        if not self._unknown.may_refetch(kid, now, floor):
            return False
        if kid is not None and kid not in self._missing and len(self._missing) < MAX_ABSENT_KIDS:
            self._missing.append(kid)
        if not joins:
            self._unknown = self._unknown.note_fetch(now)
            self._granted = True
        return True

    def join_flight(self) -> asyncio.Future[None] | None:
        """What to wait for: the flight under way, or one begun now if ``may_refetch`` granted it; else None."""
        if not self._in_flight:
            if not self._granted or self._task.done():
                return None
            self._in_flight = True
            self._wanted.set()
        return self._landing

    def trust(self, trusted: Authorities) -> None:
        """Trust these authorities besides the system's, and no others, from now on. Keys that another one vouched for
        are dropped; those, and what could not be fetched, are fetched at once.
        """
        if not trusts_the_system(self.source) or trusted == self._trusted:
            return
        self._trusted = trusted
        if not self._is_vouched(self._vouched):
            logger.warning("keys dropped: who vouched for them is not trusted any more", extra=self._name_it())
            self._held, self._vouched = Held(None, self._next_generation()), frozenset()
            self._fetched_at = None
        if (self._held.keys is None or self._problem) and not self._task.done():
            self._in_flight = True
            self._wanted.set()

    def _is_vouched(self, vouched: frozenset[str]) -> bool:
        return vouched <= {one.fingerprint for one in self._trusted}

    def describe(self) -> SourceState:
        """How the source stands."""
        keys = self.held().keys
        age = None if self._fetched_at is None else time.monotonic() - self._fetched_at
        stale = keys is not None and self._judge() is not Freshness.FRESH
        return SourceState(self.label, len(keys.keys) if keys is not None else 0, age, stale, self._problem)

    async def close(self) -> None:
        """End the task; whoever waits is woken."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task
        self._land()

    # --- the task ---

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            self._in_flight = True
            fetched_before = self._fetched_at
            delay = await self._fly()
            self._land()
            if self._fetched_at != fetched_before:
                await self._keep()
            if delay is None:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wanted.wait()

    async def _fly(self) -> float | None:
        """One flight. Returns the time until the next; None where no later try could mend what is wrong."""
        try:
            locator = self._locator or await self._prepare()
            keys, vouched = await self._fetch_keys(locator)
            if not self._is_vouched(vouched):
                raise FetchError(Failure.TLS, "the authority was trusted a moment ago, and is not any more")
        except FetchError as error:
            delay = self._fail(error)
            return None if error.failure is Failure.CONFIGURATION else delay
        except Exception as error:
            # Not foreseen, but no reason to stop refreshing.
            return self._fail(FetchError(Failure.RESPONSE, f"unexpected {type(error).__name__}"))
        self._accept(keys, vouched)
        return refresh_delay(self.source.cache_duration, random())  # noqa: S311

    async def _prepare(self) -> Locator:
        """Read the URL and the CA, and take up the keys of an earlier life."""
        if self.source.unresolved is not None:
            raise FetchError(Failure.CONFIGURATION, f"reference not resolved: {self.source.unresolved}")
        locator = read_locator(self.source)
        await self._secure()
        files = self._settings.files
        if files is not None:
            limit = self.source.cache_duration + self._settings.stale_seconds
            kept = await asyncio.to_thread(files.load, self.source, time.time(), limit)
            if kept is not None and self._is_vouched(kept.vouched):
                self._held = Held(kept.keys, self._next_generation())
                self._vouched = kept.vouched
                self._fetched_at = time.monotonic() - kept.age
                self._land()  # who waits need not wait for the network any more
                self._in_flight = True
        self._locator = locator
        return locator

    async def _secure(self) -> tuple[Authorities, ssl.SSLContext | None]:
        """The TLS settings, and the authorities besides the system's that they trust: those of now."""
        if self._tls is None or self._tls[0] != self._trusted:
            trusted = self._trusted
            self._tls = trusted, await asyncio.to_thread(self._contexts.make, self.source, trusted)
        return self._tls

    async def _fetch_keys(self, locator: Locator) -> tuple[KeySet, frozenset[str]]:
        """The keys, and who vouched for them (``client.Fetched``)."""
        source, retry = self.source, self.source.retry
        attempt = 0
        try:
            async with asyncio.timeout(source.timeout):
                while True:
                    try:
                        trusted, tls = await self._secure()
                        document = await fetch_document(source, locator, tls, self._settings.reach, trusted)
                        break
                    except FetchError as error:
                        attempt += 1
                        if attempt > retry.attempts or not may_retry(error, retry.triggers):
                            raise
                    delay = retry_delay(attempt, retry.base_interval, retry.max_interval, random())  # noqa: S311
                    await asyncio.sleep(delay)
        except TimeoutError:
            raise FetchError(Failure.TIMEOUT, f"not done within {source.timeout:g} s") from None
        if len(document.body) > PARSE_IN_THREAD:
            return await asyncio.to_thread(_parse_document, document.body), document.vouched
        return _parse_document(document.body), document.vouched

    def _accept(self, keys: KeySet, vouched: frozenset[str]) -> None:
        self._vouched = vouched
        held, now = self._held, time.monotonic()
        recovered = self._failures > 0
        self._fetched_at, self._failures, self._problem = now, 0, ""
        changed = held.keys != keys
        if changed:
            self._held = Held(keys, self._next_generation())
        for kid in self._missing:
            if not any(key.kid == kid for key in keys.keys):
                self._unknown = self._unknown.note_absent(kid, now, self.source.cache_duration)
        self._missing.clear()
        self._report(self.label, "success")
        if changed or recovered:
            fields = {"source": self.label, "keys": len(keys.keys), "skipped": len(keys.skipped)}
            logger.info("keys changed" if changed else "keys fetched again", extra={"fields": fields})

    async def _keep(self) -> None:
        """Write down what was just fetched. Nobody waits for it."""
        files, keys = self._settings.files, self._held.keys
        if files is None or keys is None:
            return
        try:
            await asyncio.to_thread(files.save, self.source, keys, time.time(), self._vouched)
        except OSError as error:
            logger.warning("keys not kept: %s", error.strerror, extra=self._name_it())

    def _fail(self, error: FetchError) -> float:
        """Note a failed flight. Returns the time until the next."""
        self._failures += 1
        said = self._problem
        self._problem = str(error)
        self._missing.clear()
        held = self.held()
        if held.keys is None and held.problem != error.text:
            self._held = Held(None, held.generation, error.text)
        self._report(self.label, error.failure)
        if self._problem != said:
            fields = {"source": self.label, "why": self._problem, "keys": len(held.keys.keys) if held.keys else 0}
            logger.warning("keys not fetched", extra={"fields": fields})
        longest = MAX_WAIT_WITHOUT_KEYS if held.keys is None else MAX_WAIT_WITH_KEYS
        base = self.source.failed_refetch
        return retry_delay(self._failures, base, max(base, longest), random())  # noqa: S311

    def _name_it(self) -> dict[str, object]:
        """The source, for a log record."""
        return {"fields": {"source": self.label}}

    def _land(self) -> None:
        """Wake everyone who waits for the flight."""
        self._in_flight = False
        self._granted = False
        if not self._landing.done():
            self._landing.set_result(None)
        self._landing = asyncio.get_running_loop().create_future()


def _name_source(source: RemoteKeys) -> str:
    try:
        return read_locator(source).label
    except FetchError:
        return "invalid URL"


def may_retry(error: FetchError, triggers: tuple[str, ...]) -> bool:
    """Whether a failure is one that Envoy's ``retry_on`` names (router filter, ``x-envoy-retry-on``).

    ``5xx`` also covers having got no answer at all; ``reset`` covers a connection that broke before the answer.
    """
    status = error.status
    if error.failure in (Failure.CONNECT, Failure.RESOLVE):
        return "connect-failure" in triggers or "5xx" in triggers
    if error.failure is Failure.RESET:
        return "reset" in triggers or "5xx" in triggers
    if error.failure is Failure.STATUS:
        return (
            ("5xx" in triggers and 500 <= status <= 599)
            or ("gateway-error" in triggers and status in (502, 503, 504))
            or ("retriable-4xx" in triggers and status == 409)
        )
    return False


def _parse_document(document: bytes) -> KeySet:
    try:
        return parse_key_set(document.decode("utf-8"), remote=True)
    except UnicodeDecodeError:
        raise FetchError(Failure.KEYS, "document is not UTF-8") from None
    except KeySetError as error:
        raise FetchError(Failure.KEYS, error.detail or error.text, text=error.text) from None
