"""When to fetch keys again: arithmetic over times, so that the fetcher has no rule of its own.

Knows: refresh before expiry, backoff after failure, how long old keys may serve, and when a token's unknown ``kid``
is worth a fetch. Must not know: clocks, randomness, sockets: ``now`` and ``jitter`` (0 <= jitter < 1) are passed in.
Seconds everywhere. Rules: Envoy's jwks_async_fetcher (refresh before expiry, wait after failure) and its jittered
backoff; Nimbus JOSE and PyJWKClient (a floor between fetches for unknown keys). Envoy never fetches for an unknown
``kid``, and its old keys serve for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REFRESH_SHARE = 0.8
"""Refresh at the latest when this share of the cache duration is over."""

REFRESH_SPREAD = 0.1
"""Jitter moves a refresh earlier by at most this share, so that replicas do not fetch in step."""

MIN_DELAY = 1.0
"""Never ask one source more often than this by schedule (Envoy's failed_refetch_duration)."""

DEFAULT_STALE_LIMIT = 3600.0
"""How long keys outlive their cache duration while fetches fail: one hour, Nimbus's and jwks-rsa's order of
magnitude.
"""

UNKNOWN_KID_FLOOR = 30.0
"""Least time between two fetches caused by unknown ``kid``s, for each source (PyJWKClient's and Nimbus's default)."""

MAX_ABSENT_KIDS = 64
"""Remembered absent ``kid``s of a source. A full memory forgets the oldest; the floor still holds."""

MAX_KID_CHARACTERS = 256
"""No issuer's ``kid`` is longer (thumbprints have 43 characters, GUIDs 36); a longer one is not worth a fetch."""


class Freshness(StrEnum):
    """``FRESH``: within the cache duration. ``STALE``: past it, still used while fetches fail. ``DEAD``: not used."""

    FRESH = "fresh"
    STALE = "stale"
    DEAD = "dead"


def judge_freshness(
    fetched_at: float, cache_duration: float, now: float, stale_limit: float = DEFAULT_STALE_LIMIT
) -> Freshness:
    """What keys fetched at ``fetched_at`` are good for. A clock that went back makes them fresh, never dead."""
    age = now - fetched_at
    if age < cache_duration:
        return Freshness.FRESH
    return Freshness.STALE if age < cache_duration + stale_limit else Freshness.DEAD


def refresh_delay(cache_duration: float, jitter: float) -> float:
    """From a successful fetch to the next one: 70 to 80 % of the cache duration."""
    return max(MIN_DELAY, cache_duration * (REFRESH_SHARE - REFRESH_SPREAD * jitter))


def retry_delay(attempt: int, base: float, maximum: float, jitter: float) -> float:
    """From a failed fetch to the next one; ``attempt`` counts failures in a row from 1.

    Doubles from ``base`` up to ``maximum``; jitter takes away up to half. Envoy's jitter may take away everything,
    which makes a fleet retry at once.
    """
    doubled = base * 2.0 ** min(max(attempt, 1) - 1, 32)
    return min(maximum, doubled) * (1.0 - jitter / 2)


@dataclass(frozen=True, slots=True)
class UnknownKids:
    """What is remembered of one source's unknown ``kid``s: the last fetch they caused, and those a fetch did not bring.

    A value: the methods that change something return the next one.
    """

    asked_at: float | None = None
    absent: tuple[tuple[str, float], ...] = ()

    def may_refetch(self, kid: str | None, now: float, floor: float = UNKNOWN_KID_FLOOR) -> bool:
        """Whether this ``kid`` is worth a fetch now: the last such fetch is long enough ago and did not just miss
        it.
        """
        if self.asked_at is not None and 0 <= now - self.asked_at < floor:
            return False
        if kid is None:
            return True
        return len(kid) <= MAX_KID_CHARACTERS and not any(one == kid and now < until for one, until in self.absent)

    def note_fetch(self, now: float) -> UnknownKids:
        """A fetch for an unknown ``kid`` begins."""
        return UnknownKids(now, self.absent)

    def note_absent(self, kid: str, now: float, cache_duration: float) -> UnknownKids:
        """The fetch ended and the ``kid`` is still not there: do not ask for it again before the cache duration is
        over.
        """
        kept = tuple((one, until) for one, until in self.absent if one != kid and now < until)
        return UnknownKids(self.asked_at, (*kept[-(MAX_ABSENT_KIDS - 1) :], (kid, now + cache_duration)))
