"""The one answer: it feeds the lane, the log, the metrics, ``explain`` and audit mode.

Built only by ``eastgate.decide``. A lane that has no decision has no permission: there is no default one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from eastgate.model.keys import RemoteKeys


class Reason(StrEnum):
    """Why, in one word for logs and metric labels. Every JWT failure has its own word in ``eastgate.decide.statuses``
    (``jwt_missing``, ``jwt_expired`` …); these are the others.
    """

    ALLOWED = "allowed"
    NO_POLICY = "no_policy"
    UNMATCHED_ALLOWED = "unmatched_allowed"
    ROUTE_NOT_FOUND = "route_not_found"
    POLICY_UNAVAILABLE = "policy_unavailable"
    KEYS_UNAVAILABLE = "keys_unavailable"
    ACCESS_DENIED = "rbac_access_denied"
    BAD_REQUEST = "bad_request"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Check:
    """One step of the reasoning, in the order it was taken.

    ``kind``: ``target``, ``route``, ``selection``, ``token``, ``verify``, ``claim``, ``scope``, ``rule``,
    ``default``, ``keys``, ``mode``. ``subject`` names what was looked at (a policy, provider, header, claim);
    ``detail`` says what was found and expected. Never holds a token: a token is named by its place.
    """

    kind: str
    subject: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Edits:
    """What changes on the way to the application.

    ``remove`` are lower-case header names to drop, compared after folding ``_`` to ``-``; ``add`` is appended after the
    surviving headers; ``target`` is the canonical target with stripped query parameters taken out byte for byte.
    """

    target: bytes
    remove: frozenset[bytes] = frozenset()
    add: tuple[tuple[bytes, bytes], ...] = ()

    def apply(self, headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        """The header list that the application sees."""
        if not self.remove:
            return [*headers, *self.add] if self.add else list(headers)
        remove = self.remove
        kept = [pair for pair in headers if (pair[0].replace(b"_", b"-") if b"_" in pair[0] else pair[0]) not in remove]
        kept.extend(self.add)
        return kept


@dataclass(frozen=True, slots=True)
class Decision:
    """``allowed`` is what the lane does; ``denied_by_policy`` is also true for an audit-mode request that passed.

    For a refusal ``status``, ``body`` and ``headers`` are the HTTP answer (``render`` turns them into a gRPC one).
    For a pass ``edits`` is set. ``policies`` are ``namespace/name`` of those that were consulted, ``route`` the
    route's text form, empty where none matched.
    """

    allowed: bool
    status: int
    reason: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    edits: Edits | None = None
    route: str = ""
    policies: tuple[str, ...] = ()
    denied_by_policy: bool = False
    checks: tuple[Check, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class KeysNeeded:
    """Not an answer: these sources have to be fetched before there can be one. Ask again after the fetch ended."""

    sources: tuple[RemoteKeys, ...]
