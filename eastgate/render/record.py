"""A decision as one record of the log: what was asked, by whom, what became of it, and why.

Knows: the record's fields. Must not know: where it is written, the time, or any token. Neither the query nor a header
is ever in it: tokens travel in both. Text from the request is cut to a bound and control characters are escaped, so
that a record cannot forge another one, move a terminal's cursor, or fill a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from json import JSONEncoder
from typing import NamedTuple

from eastgate.model.decisions import Check, Decision, Reason
from eastgate.model.requests import Request
from eastgate.render.labels import name_decision

MAX_TEXT = 512
"""Characters of a path. An ordinary record stays below PIPE_BUF (4096 bytes), which a pipe takes in one piece."""

MAX_HOST = 256
"""A DNS name has at most 253 characters."""

MAX_CHECKS = 6
"""Failed checks named in a record; ``explain`` shows them all."""

MAX_CHECK = 200

_encode = JSONEncoder(separators=(",", ":")).encode

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def render_record(
    request: Request, decision: Decision, *, time: str, seconds: float, mode: str, status: int = 0
) -> dict[str, object]:
    """The record.

    ``time`` is RFC 3339; ``seconds`` the time spent deciding; ``status`` what the client got, 0 where it is the
    application's to say.
    """
    record: dict[str, object] = {
        "time": time,
        **_describe_decision(decision, mode),
        "method": clean_bytes(request.method, 32),
        "host": clean_bytes(request.authority, MAX_HOST),
        "path": clean_bytes(request.target.partition(b"?")[0], MAX_TEXT),
        "peer": request.peer,
        "port": request.port,
        "protocol": request.protocol,
        "seconds": round(seconds, 6),
    }
    if status:
        record["status"] = status
    if decision.denied_by_policy or not decision.allowed:
        if "status" not in record:
            record["would_status" if decision.allowed else "status"] = decision.status
        record["checks"] = summarize_checks(decision.checks)
    return record


def render_line(request: Request, decision: Decision, *, time: str, seconds: float, mode: str, status: int = 0) -> str:
    """``render_record`` as JSON on one line, ASCII only; the same members, several times as fast.

    What repeats from request to request (everything about the decision, methods, hosts, paths) is encoded once.
    """
    line = (
        f'{{"time":"{time}",{_encode_decision(_Constant.of(decision), mode)}'
        f',"method":{_encode_bytes(request.method, 32)}'
        f',"host":{_encode_bytes(request.authority, MAX_HOST)}'
        f',"path":{_encode_bytes(request.target.partition(b"?")[0], MAX_TEXT)}'
        f',"peer":{_encode_text(request.peer)},"port":{request.port},"protocol":{_encode_text(request.protocol)}'
        f',"seconds":{seconds:.6f}'
    )
    if decision.allowed and not decision.denied_by_policy:
        return f'{line},"status":{status}}}' if status else line + "}"
    name = "would_status" if decision.allowed and not status else "status"
    checks = _encode(summarize_checks(decision.checks))
    return f'{line},"{name}":{status or decision.status},"checks":{checks}}}'


class _Constant(NamedTuple):
    """What a record says about a decision whatever the request was. Plain strings: an enumeration hashes slowly."""

    reason: str
    allowed: bool
    denied_by_policy: bool
    route: str
    policies: tuple[str, ...]

    @classmethod
    def of(cls, decision: Decision) -> _Constant:
        return cls(decision.reason, decision.allowed, decision.denied_by_policy, decision.route, decision.policies)


@lru_cache(maxsize=1024)
def _encode_decision(constant: _Constant, mode: str) -> str:
    decision = Decision(
        constant.allowed, 0, constant.reason, route=constant.route, policies=constant.policies,
        denied_by_policy=constant.denied_by_policy,
    )  # fmt: skip
    return _encode(_describe_decision(decision, mode))[1:-1]


@lru_cache(maxsize=1024)
def _encode_bytes(value: bytes, limit: int) -> str:
    return _encode(clean_bytes(value, limit))


@lru_cache(maxsize=1024)
def _encode_text(text: str) -> str:
    return _encode(text)


def _describe_decision(decision: Decision, mode: str) -> dict[str, object]:
    return {
        "level": grade(decision),
        "event": "decision",
        "decision": name_decision(decision),
        "reason": str(decision.reason),
        "route": decision.route,
        "policies": decision.policies,
        "mode": mode,
    }


def grade(decision: Decision) -> str:
    """The record's level: what is our fault is an error, what was refused (or would have been) a warning."""
    if decision.reason == Reason.INTERNAL_ERROR:
        return "error"
    return "warning" if decision.denied_by_policy or not decision.allowed else "info"


def summarize_checks(checks: Iterable[Check]) -> list[str]:
    """The checks that failed, one line each."""
    lines: list[str] = []
    for check in checks:
        if check.passed:
            continue
        if len(lines) == MAX_CHECKS:
            lines.append("...")
            break
        detail = f": {check.detail}" if check.detail else ""
        lines.append(clean_text(f"{check.kind} {check.subject}{detail}", MAX_CHECK))
    return lines


def clean_bytes(value: bytes, limit: int) -> str:
    """Bytes of a request as printable ASCII, cut at ``limit``; what is not printable shows by its number."""
    text = value[:limit].decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub(_escape, text)
    return text if len(value) <= limit else text + "..."


def clean_text(text: str, limit: int) -> str:
    """The same for text that is already decoded."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(character if character.isprintable() else _escape_character(character) for character in cut)
    return cut if len(text) <= limit else cut + "..."


def _escape(found: re.Match[str]) -> str:
    return _escape_character(found.group())


def _escape_character(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"
