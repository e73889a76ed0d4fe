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

from eastgate.model.decisions import Check, Decision, Reason
from eastgate.model.requests import Request
from eastgate.render.labels import name_decision

MAX_TEXT = 512
"""Characters of a path. An ordinary record stays below PIPE_BUF (4096 bytes), which a pipe takes in one piece."""

MAX_METHOD = 32

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
        "method": clean_bytes(request.method, MAX_METHOD),
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


_REMEMBERED = 1024
"""Parts of lines kept, of each kind: less than a megabyte, whatever callers send."""

_constants: dict[tuple[object, ...], tuple[str, str, str]] = {}

_PLAIN = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7e]*+")
"""Bytes that JSON writes as they are."""


def render_line(request: Request, decision: Decision, *, time: str, seconds: float, mode: str, status: int = 0) -> str:
    """``render_record`` as JSON on one line, ASCII only; the same members, several times as fast.

    What is said again whenever the same caller is told the same is encoded once and remembered. That leaves the time,
    the host, the path and the seconds, of which a caller can make up as many as he likes.
    """
    key = (
        request.method[: MAX_METHOD + 1], request.peer, request.port, request.protocol, decision.allowed,
        decision.denied_by_policy, decision.reason, decision.route, decision.policies, decision.status, mode, status,
    )  # fmt: skip
    constant = _constants.get(key)
    if constant is None:
        if len(_constants) >= _REMEMBERED:
            _constants.clear()
        constant = _constants[key] = _encode_constant(request, decision, mode, status)
    before, between, after = constant
    target = request.target
    path = target.partition(b"?")[0] if b"?" in target else target
    line = (
        f'{{"time":"{time}"{before}{_encode_bytes(request.authority, MAX_HOST)},"path":{_encode_bytes(path, MAX_TEXT)}'
        f"{between}{seconds:.6f}{after}"
    )
    if decision.allowed and not decision.denied_by_policy:
        return line + "}"
    return f'{line},"checks":{_encode_checks(decision.checks)}}}'


def _encode_constant(request: Request, decision: Decision, mode: str, status: int) -> tuple[str, str, str]:
    """What stands before the host, between the path and the seconds, and after them. No text has a quotation mark that
    is not escaped, so what is looked for is found where it belongs.
    """
    nothing = request._replace(authority=b"", target=b"")
    record = render_record(nothing, decision, time="", seconds=0.0, mode=mode, status=status)
    record.pop("checks", None)
    before, _, rest = _encode(record).partition('"host":"","path":""')
    between, _, after = rest.partition('"seconds":0.0')
    return before.removeprefix('{"time":""') + '"host":', between + '"seconds":', after.removesuffix("}")


def _encode_bytes(value: bytes, limit: int) -> str:
    if len(value) <= limit and _PLAIN.fullmatch(value) is not None:
        return f'"{value.decode("ascii")}"'
    return _encode(clean_bytes(value, limit))


def _encode_checks(checks: Iterable[Check]) -> str:
    """``summarize_checks`` as JSON."""
    lines = [_encode_check(check.kind, check.subject, check.detail) for check in checks if not check.passed]
    if len(lines) > MAX_CHECKS:
        lines[MAX_CHECKS:] = ['"..."']
    return f"[{','.join(lines)}]"


@lru_cache(maxsize=_REMEMBERED)
def _encode_check(kind: str, subject: str, detail: str) -> str:
    return _encode(_describe_check(kind, subject, detail))


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
        lines.append(_describe_check(check.kind, check.subject, check.detail))
    return lines


def _describe_check(kind: str, subject: str, detail: str) -> str:
    return clean_text(f"{kind} {subject}: {detail}" if detail else f"{kind} {subject}", MAX_CHECK)


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
