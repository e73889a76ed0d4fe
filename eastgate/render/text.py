"""A decision with all its reasons, for a person to read at a glance.

Knows: the order in which a reader wants to know (verdict, request, route, policies, checks, answer or what goes
upstream) and which words deserve colour; ``Span.style`` is a role, and the terminal paints it. Must not know: whether
there is a terminal. No token is ever written: values that look like one, and long ones, are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eastgate.model.decisions import Check
from eastgate.render.grpc import is_grpc, map_status
from eastgate.render.trace import Explanation, decode

_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)*")
"""``eyJ`` is base64url for ``{"``: how every JWS header and payload begins."""

_LONGEST_VALUE = 240
"""A value beyond this is cut: three lines of a terminal. What is expected often stands at the end of a detail."""

_LONGEST_QUERY_VALUE = 32
"""Opaque secrets are rarely shorter, and what people read in a query rarely longer."""

_GRPC_CODES = {
    0: "OK",
    2: "Unknown",
    7: "PermissionDenied",
    12: "Unimplemented",
    13: "Internal",
    14: "Unavailable",
    16: "Unauthenticated",
}
"""Codes that a refusal can have, by the names grpcurl prints."""

_DEPTH = {"token": 1, "verify": 1, "keys": 1, "rule": 1, "default": 1, "claim": 2, "scope": 2}
"""Where a check hangs in the tree; kinds not listed stand at the root."""

_PARTS_OF_A_RULE = ("claim", "scope")
"""Kinds that the engine reports before the rule they belong to, and a reader wants after it."""


class Span(NamedTuple):
    """A piece of a line. Styles: ``good``, ``bad``, ``strong``, ``faint``, ``name``, or none."""

    text: str
    style: str = ""


type Line = tuple[Span, ...]


def conceal(text: str) -> str:
    """The text with everything that looks like a token taken out, shortened, on one line, safe for a terminal."""
    text = _TOKEN.sub("<token>", text)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def conceal_query(target: str) -> str:
    """A request target whose long or token-like query values are left out."""
    path, mark, query = target.partition("?")
    parts = []
    for part in query.split("&") if mark else []:
        name, equals, value = part.partition("=")
        secret = len(value) > _LONGEST_QUERY_VALUE or "token" in name.lower() or _TOKEN.search(value)
        parts.append(name + equals + ("…" if secret and value else value))
    return conceal(path + mark + "&".join(parts))


def render_text(explanation: Explanation) -> list[Line]:
    """The lines of one explained request."""
    return list(_lines(explanation))


def plain(lines: Sequence[Line]) -> str:
    """The same without any style, one line a line."""
    return "\n".join("".join(span.text for span in line) for line in lines)


def _lines(explanation: Explanation) -> Iterator[Line]:
    request, decision = explanation.request, explanation.decision
    yield _verdict(explanation)
    scheme, authority = decode(request.scheme), decode(request.authority)
    url = f"{scheme}://{conceal(authority)}{conceal_query(decode(request.target))}"
    yield _row("request", Span(f"{conceal(decode(request.method))} {url}"))
    for note in explanation.notes:
        yield _row("", Span(note, "faint"))
    yield _row("route", Span(decision.route or "none", "" if decision.route else "faint"))
    yield _row("policies", Span(", ".join(decision.policies) or "none", "" if decision.policies else "faint"))
    for index, line in enumerate(_tree(decision.checks)):
        yield _row("checks" if index == 0 else "", *line)
    if decision.allowed:
        yield from _upstream(explanation)
    else:
        yield from _answer(explanation)


def _verdict(explanation: Explanation) -> Line:
    decision = explanation.decision
    reason = Span(f"  ({decision.reason})", "faint")
    text = conceal(decode(decision.body))
    if decision.allowed and decision.denied_by_policy:
        return (Span("ALLOW", "good"), Span(f" in audit mode; enforced it would be {decision.status}", "bad"), reason)
    if decision.allowed:
        return (Span("ALLOW", "good"), reason)
    return (Span("DENY", "bad"), Span(f" {decision.status} {text}".rstrip(), "strong"), reason)


def _row(label: str, *spans: Span) -> Line:
    return (Span(f"  {label:<10}", "faint"), *spans)


def _arrange(checks: Sequence[Check]) -> list[Check]:
    """The checks in the order they were taken, but a rule before its claims and scopes."""
    arranged: list[Check] = []
    parts: list[Check] = []
    for check in checks:
        if check.kind in _PARTS_OF_A_RULE:
            parts.append(check)
            continue
        arranged += [check, *parts] if check.kind == "rule" else [*parts, check]
        parts = []
    return arranged + parts


def _tree(given: Sequence[Check]) -> Iterator[Line]:
    """Checks hung under the selection and the rule they belong to."""
    checks = _arrange(given)
    depths = [_DEPTH.get(check.kind, 0) for check in checks]
    present = sorted(set(depths))
    for index, check in enumerate(checks):
        depth = present.index(depths[index])
        stem = "".join(_rail(depths, index, present[level]) for level in range(1, depth))
        branch = ""
        if depth:
            branch = "├─ " if _continues(depths, index, present[depth]) else "└─ "
        mark = Span("✓ ", "good") if check.passed else Span("✗ ", "bad")
        detail = Span(f"  {conceal(check.detail)}", "" if check.passed else "strong") if check.detail else Span("")
        label = check.kind if check.subject == check.kind else f"{check.kind} {conceal(check.subject)}".rstrip()
        yield (Span(stem + branch, "faint"), mark, Span(label, "name"), detail)


def _continues(depths: Sequence[int], index: int, depth: int) -> bool:
    """Whether a later check stands at ``depth`` before the tree goes back above it."""
    for later in depths[index + 1 :]:
        if later < depth:
            return False
        if later == depth:
            return True
    return False


def _rail(depths: Sequence[int], index: int, depth: int) -> str:
    return "│  " if _continues(depths, index, depth) else "   "


def _answer(explanation: Explanation) -> Iterator[Line]:
    answer = explanation.answer
    if is_grpc(explanation.request.headers):
        code = map_status(explanation.decision.status)
        yield _row("answer", Span(f"gRPC status {code} {_GRPC_CODES.get(code, '')}".rstrip()))
    else:
        yield _row("answer", Span(f"HTTP {answer.status}"))
    for name, value in answer.headers:
        if name not in (b"content-length", b"content-type"):
            yield _row("", Span(f"{decode(name)}: {conceal(decode(value))}"))


def _upstream(explanation: Explanation) -> Iterator[Line]:
    request, edits = explanation.request, explanation.decision.edits
    target = decode(explanation.upstream_target)
    yield _row("upstream", Span(f"{decode(request.method)} {conceal_query(target)}"))
    if edits is None:
        return
    if edits.target != request.target:
        yield _row("", Span("~ ", "name"), Span("the target was changed on the way", "faint"))
    kept = {name for name, _ in edits.apply(request.headers)}
    for name in dict.fromkeys(name for name, _ in request.headers):
        if name in edits.remove or name.replace(b"_", b"-") in edits.remove:
            added = name in kept
            yield _row("", Span("- ", "bad"), Span(decode(name)), Span("  the client's own" if added else "", "faint"))
    for name, value in edits.add:
        yield _row("", Span("+ ", "good"), Span(f"{decode(name)}: {conceal(decode(value))}"))
