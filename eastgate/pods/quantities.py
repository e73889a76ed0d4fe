"""Amounts of cpu and memory as Kubernetes writes them: ``100m``, ``0.5``, ``128Mi``, ``1e3``.

Rules: apimachinery's ``resource.Quantity`` (decimal and binary suffixes, decimal exponent, at most 2^63-1), and what
the Kubernetes documentation says of the two resources: cpu no finer than 1m, memory in whole bytes.
Must not know: where a quantity stands.
"""

from __future__ import annotations

import re
from fractions import Fraction

CPU_ACCEPTED = "an amount of cpu above 0, no finer than 1m, as 100m, 0.5 or 2"
MEMORY_ACCEPTED = "an amount of memory in whole bytes above 0, as 128Mi, 1Gi or 500M"

_QUANTITY = re.compile(
    r"\+?([0-9]{1,24}(?:\.[0-9]{0,24})?|\.[0-9]{1,24})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,2}))?"
)

_SUFFIXES = {
    **{
        suffix: Fraction(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{suffix + "i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}

_MOST = 2**63 - 1


def read_quantity(text: str) -> Fraction:
    """The number that a quantity stands for. Raises ``ValueError`` where Kubernetes would not read it."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("is not a quantity")
    digits, suffix, exponent = match.groups()
    number = Fraction(digits)
    if suffix is not None:
        number *= _SUFFIXES[suffix]
    elif exponent is not None:
        number *= Fraction(10) ** int(exponent)
    if number > _MOST:
        raise ValueError("is more than 2^63-1")
    return number


def read_cpu(text: str) -> Fraction:
    """Cores. Raises ``ValueError``."""
    number = read_quantity(text)
    if number <= 0:
        raise ValueError("is not above 0")
    if (number * 1000).denominator != 1:
        raise ValueError("is finer than 1m")
    return number


def read_memory(text: str) -> Fraction:
    """Bytes. Raises ``ValueError``; ``400m`` is a slip that the Kubernetes documentation warns of: 0.4 bytes."""
    number = read_quantity(text)
    if number <= 0:
        raise ValueError("is not above 0")
    if number.denominator != 1:
        slip = f"is in thousandths of a byte (did you mean `{text[:-1]}Mi`?)"
        raise ValueError(slip if text.endswith("m") else "is not whole bytes")
    return number
