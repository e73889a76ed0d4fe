"""What is wrong with something a person wrote, and where.

One type for every message to a policy author: readers, compiler, ``lint``, ``serve`` and the webhook all speak
it. Message style: lower case, no final period, what the person wrote in backticks, and what would be accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error`` stops ``serve`` from starting and fails ``lint``; ``warning`` is said and survived."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; ``line`` counts from 1. ``<stdin>`` is the file behind ``-``."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. ``str()`` is the line that INTERFACES promise: ``file:line: severity: message``.

    ``subject`` names the object (``JWTPolicy httpbin/jwt-policy``), ``field`` is its dotted path
    (``spec.config.providers.dev.issuer``); both are empty where the file itself is at fault. ``code`` is a short
    stable name for programs (``unknown-field``).
    """

    position: Position
    severity: Severity
    code: str
    message: str
    subject: str = ""
    field: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.subject, self.field) if part)
        line = f"{self.position}: {self.severity}: {where + ': ' if where else ''}{self.message}"
        # One line, whatever names and keys hold: nothing a file says may forge a line or reach the terminal.
        return line if line.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def suggest_name(given: str, accepted: Iterable[str]) -> str:
    """`` (did you mean `x`?)`` for the nearest accepted name, or an empty string when none is near."""
    close = difflib.get_close_matches(given, list(accepted), n=1, cutoff=0.6)
    return f" (did you mean `{close[0]}`?)" if close else ""


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """True when at least one diagnostic is an error."""
    return any(one.severity is Severity.ERROR for one in diagnostics)
