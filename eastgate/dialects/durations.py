"""Durations as Gloo's users write them: protobuf's JSON form (``600s``, ``1.5s``) and Go's (``10m``, ``1h30m``).

Rules: protobuf ``Duration`` JSON mapping; Go ``time.ParseDuration``. The Gateway API's narrower form (GEP-2257) is read
in ``gateway.values``.
"""

from __future__ import annotations

import re

from eastgate.dialects.documents import Fields, show

LONGEST = 365 * 24 * 3600.0
"""One year. Envoy refuses protobuf durations beyond some 292 years; nothing here is sensibly longer than this."""

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds, or None when the text is not a duration. Negative ones are none here."""
    if _DURATION.fullmatch(text) is None:
        return 0.0 if text == "0" else None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def is_number(data: object) -> bool:
    """True for what YAML took for a number: a duration without its unit."""
    return isinstance(data, int | float) and not isinstance(data, bool)


def read_duration(fields: Fields, name: str, default: float, *, positive: bool = True) -> float:
    """Seconds; ``default`` when absent or after an error was reported."""
    written = fields.take(name)
    text = str(written.data) if written is not None and is_number(written.data) else fields.text(name)
    if text is None:
        return default
    seconds = parse_duration(text) if isinstance(fields.at(name).data, str) else None
    if seconds is None or seconds > LONGEST or (positive and seconds <= 0):
        fields.report.error(
            fields.at(name),
            "bad-duration",
            f"{show(text)} is not a duration{' above zero' if positive else ''}; "
            "accepted: `600s`, `1.5s`, `500ms`, `10m`, `1h30m`, up to a year",
        )
        return default
    return seconds
