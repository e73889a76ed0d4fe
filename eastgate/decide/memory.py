"""What was verified before: tokens by digest and provider, never by their text.

A remembered token is good only within its own time (plus the provider's clock skew) and only while its source's keys
are those that verified it; both are asked on every hit, here and nowhere else. Bounded. Must not know: how a token is
verified. One memory serves one plan: bound to another, it forgets everything.
Rules: Envoy's jwt_cache (off by default there, by token text); RFC 8725 leaves caching to the verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from eastgate.decide.headers import HeaderPairs, Statement, settle_statements
from eastgate.decide.statuses import Status
from eastgate.keys.ring import KeyRing
from eastgate.model.keys import RemoteKeys

MAX_TOKENS = 10_000
"""About 40 MB at 4 KB a token. Envoy's cache keeps 100 a worker; a cluster has thousands of service accounts."""

MAX_REFUSED = 2_000
"""Bad signatures remembered: a flood of one bad token costs one verification. Distinct ones cannot be helped."""

MAX_ANSWERS = 4_000
"""Answers remembered: callers repeat themselves (a gRPC method is one target). About 10 MB at most."""

MAX_ANSWER_TARGET = 1_024
"""Bytes of target and authority up to which an answer is worth remembering."""


class Remembered:
    """A verified token and what was worked out from it. Immutable but for ``rulings``, which memoises pure results."""

    __slots__ = ("add", "claims", "generation", "good_from", "good_until", "rulings", "source", "statements")

    def __init__(
        self,
        claims: Mapping[str, object],
        statements: tuple[Statement, ...],
        good_from: float,
        good_until: float,
        source: RemoteKeys | None,
        generation: int,
    ) -> None:
        self.claims = claims
        self.statements = statements
        self.add: HeaderPairs = settle_statements((statements,))
        self.good_from = good_from
        self.good_until = good_until
        self.source = source
        self.generation = generation
        self.rulings: dict[int, Any] = {}


class TokenMemory:
    """Two generations of entries: what is used again moves to the young one, the old one is dropped whole when the
    young is full. That keeps the recently used, costs no bookkeeping on a hit, and never holds more than ``size``.
    """

    __slots__ = ("_answers", "_half", "_old", "_owner", "_prepared", "_refused", "_young")

    def __init__(self, size: int = MAX_TOKENS) -> None:
        self._half = max(1, size // 2)
        self._owner: object | None = None
        self._young: dict[bytes, Remembered] = {}
        self._old: dict[bytes, Remembered] = {}
        self._refused: dict[bytes, tuple[int, Status]] = {}
        self._prepared: dict[Any, Any] = {}
        self._answers: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def bind(self, owner: object) -> None:
        """Belong to a plan. Its numbers of providers mean nothing in another one: another plan is forgotten."""
        if self._owner is not owner:
            self._owner = owner
            self._young, self._old, self._refused, self._prepared, self._answers = {}, {}, {}, {}, {}

    def find_answer(self, key: object) -> Any:
        """The answer to the same question before, or None."""
        return self._answers.get(key)

    def keep_answer(self, key: object, answer: object) -> None:
        """Remember an answer by everything it depends on. The key of a permission holds the ``Remembered`` token
        itself: once that is forgotten nobody can ask for it.
        """
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        self._answers[key] = answer

    def prepared[Key, Made](self, key: Key, make: Callable[[Key], Made]) -> Made:
        """What the decision works out once for a part of the plan."""
        found: Made | None = self._prepared.get(key)
        if found is None:
            found = self._prepared[key] = make(key)
        return found

    def find(self, key: bytes, now: float, ring: KeyRing) -> Remembered | None:
        """A token that is still good at this moment with the keys of this moment, or None."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is None:
                return None
            self.keep(key, entry)
        if entry.good_from <= now < entry.good_until:
            source = entry.source
            if source is None:
                return entry
            held = ring.held(source)
            if held.keys is not None and held.generation == entry.generation:
                return entry
        del self._young[key]
        return None

    def keep(self, key: bytes, entry: Remembered) -> None:
        """Remember a verified token."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = entry

    def find_refused(self, key: bytes, generation: int) -> Status | None:
        """The status of a signature that failed before with the same keys."""
        found = self._refused.get(key)
        return found[1] if found is not None and found[0] == generation else None

    def refuse(self, key: bytes, generation: int, status: Status) -> None:
        """Remember a signature that failed."""
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[key] = (generation, status)


def token_key(token: bytes, provider: bytes) -> bytes:
    """The name of a token at a provider. The token cannot be had from it."""
    return sha256(token).digest() + provider
