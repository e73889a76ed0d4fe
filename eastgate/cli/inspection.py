"""What a token says, for ``token inspect``: header, claims, times in words, and what is doubtful about it.

Knows: the compact form (RFC 7515) and the registered claims (RFC 7519 section 4.1). Must not know: keys; whether it
verifies is asked elsewhere (``eastgate.demonstrations.verification``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from eastgate.keys.base64url import decode_base64url
from eastgate.keys.json_text import JSONTextError, parse_json

_MOMENTS = {
    "exp": "expires",
    "nbf": "valid from",
    "iat": "issued",
    "auth_time": "authenticated",
    "updated_at": "updated",
}
_UNITS = ((31_557_600, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@dataclass(slots=True)
class Reading:
    """``times`` are words for the claims that are moments; ``problem`` says why it is not a token at all."""

    header: dict[str, object] | None = None
    claims: dict[str, object] | None = None
    times: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problem: str | None = None


def read_token(text: str, now: float) -> Reading:
    """Read without verifying."""
    reading = Reading()
    parts = text.split(".")
    if len(parts) != 3 or not all(parts[:2]):
        reading.problem = f"not a signed token: expected header.payload.signature, found {len(parts)} part(s)"
        return reading
    for name, part in zip(("header", "claims"), parts[:2], strict=True):
        try:
            value = parse_json(decode_base64url(part.encode()))
        except (ValueError, JSONTextError) as error:
            reading.problem = f"the token's {name} cannot be read: {error}"
            return reading
        if not isinstance(value, dict):
            reading.problem = f"the token's {name} is not a JSON object"
            return reading
        setattr(reading, name, value)
    _tell_times(reading, now)
    _warn(reading, parts[2], now)
    return reading


def _tell_times(reading: Reading, now: float) -> None:
    for name, verb in _MOMENTS.items():
        value = (reading.claims or {}).get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        try:
            moment = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        except (ValueError, OverflowError, OSError):
            moment = "beyond the calendar"
        past = {"exp": "expired", "nbf": "valid since"}.get(name, verb) if value <= now else verb
        reading.times[name] = f"{past} {moment}, {_distance(value - now)}"


def _distance(seconds: float) -> str:
    size = abs(seconds)
    for length, unit in _UNITS:
        if size >= length:
            number = int(size // length)
            words = f"{number} {unit}{'' if number == 1 else 's'}"
            return f"in {words}" if seconds > 0 else f"{words} ago"
    return "now"


def _warn(reading: Reading, signature: str, now: float) -> None:
    header, claims, say = reading.header or {}, reading.claims or {}, reading.warnings.append
    expires, start = claims.get("exp"), claims.get("nbf")
    if header.get("alg") == "none" or not signature:
        say("it is not signed: every policy refuses it")
    if isinstance(expires, (int, float)) and expires <= now:
        say("it has expired")
    if expires is None:
        say("it has no `exp`: it never expires")
    if isinstance(start, (int, float)) and start > now:
        say("it is not valid yet")
    if isinstance(header.get("alg"), str) and str(header["alg"]).startswith("HS"):
        say(f"{header['alg']} is a shared secret: whoever can verify it can forge it")
    if "kid" not in header:
        say("it has no `kid`: every key of the set is tried")
    if "iss" not in claims:
        say("it has no `iss`: a provider with an issuer refuses it")
    if "crit" in header:
        say("it has `crit`: extensions must be understood, and none is")
