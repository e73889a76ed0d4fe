"""When to renew: arithmetic on Unix times and seconds, nothing else.

A leaf is renewed after two thirds of its life (cert-manager's rule), some replicas earlier than others. An authority is
followed by the next after four fifths: the old one lives on beside it for the last fifth, which is much longer than
any leaf that it signed.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3600.0
DAY = 24 * HOUR

LEAF_LIFETIME = 90 * DAY
"""As Let's Encrypt and cert-manager give."""

AUTHORITY_LIFETIME = 5 * 365 * DAY
"""Linkerd's default of one year is what its users forget; ten, as of ``kubeadm``, outlive the key's good name."""

SKEW = HOUR
"""A certificate is valid from before it was made, for callers whose clock is behind. Let's Encrypt's hour."""

_LEAF_SHARE = 2 / 3
_LEAF_JITTER = 1 / 10
_AUTHORITY_SHARE = 4 / 5


@dataclass(frozen=True, slots=True)
class Span:
    """A certificate's life: ``begins`` and ``ends`` as they stand in it."""

    begins: float
    ends: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.ends - self.begins

    def covers(self, now: float) -> bool:
        """X.509 counts both ends in; the last second is given up for clocks that round."""
        return self.begins <= now < self.ends


def plan_authority(now: float, lifetime: float) -> Span:
    """The life of an authority that is made now."""
    return Span(now - SKEW, now + lifetime)


def plan_leaf(now: float, lifetime: float, authority: Span) -> Span:
    """The life of a leaf that is made now: never longer than its authority's, nobody would believe the rest."""
    return Span(now - SKEW, min(now + lifetime, authority.ends))


def is_authority_due(authority: Span, now: float) -> bool:
    """Whether the next authority should stand beside this one. One that is not valid yet is not due: the clock is."""
    return now >= authority.begins + _AUTHORITY_SHARE * authority.seconds


def date_leaf_renewal(made: float, leaf: Span, jitter: float) -> float:
    """When to renew a leaf. ``jitter`` from 0 to 1 spreads the replicas over a tenth of its life, before two thirds."""
    return made + max(leaf.ends - made, 0.0) * (_LEAF_SHARE - _LEAF_JITTER * jitter)
