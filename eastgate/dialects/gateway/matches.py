"""The matches of HTTPRoute and GRPCRoute rules.

Knows how each match is written and turns it into the model's. A match that cannot be read whole keeps what could be
read, and so covers every request that could have been meant. Must not know: hosts, filters, precedence.
Rules: Gateway API v1 ``HTTPRouteMatch``, ``GRPCRouteMatch`` with their CEL messages.
"""

from __future__ import annotations

import re2

from eastgate.dialects.gateway.values import check_method, check_regex, read_header_name
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch

MOST_MATCHES = 64
MOST_FIELDS = 16
LONGEST_PATH = 1024
LONGEST_FIELD = 4096
"""All from the CRDs."""

ROOT = StringMatch(Comparison.SEGMENTS, "/")
EVERY_REQUEST = Match(path=ROOT)
"""The match of a rule without ``matches``."""

_TYPES = ("Exact", "RegularExpression")
_FORBIDDEN = ("//", "/./", "/../", "%2f", "%2F", "#")
_FORBIDDEN_ENDS = ("/..", "/.")
_ANY_ELEMENT = "[^/]+"


def read_http_match(item: Value, report: Reporter) -> Match:
    """One entry of ``HTTPRoute.spec.rules[].matches``."""
    with Fields(item, report) as match:
        path = _read_path(match, report)
        headers = _read_fields(match, "headers", report, is_header=True)
        query = _read_fields(match, "queryParams", report, is_header=False)
        method = match.text("method") or None
        if method is not None and not check_method(method, match.at("method"), report):
            method = None
    return Match(path=path, method=method, headers=headers, query=query)


def read_grpc_match(item: Value, report: Reporter) -> Match:
    """One entry of ``GRPCRoute.spec.rules[].matches``. A call is a POST to ``/service/method``."""
    path: StringMatch | None = ROOT
    with Fields(item, report) as match:
        headers = _read_fields(match, "headers", report, is_header=True)
        method = match.fields("method")
        if method is not None:
            with method:
                path = _read_grpc_method(method, report)
    return Match(path=path, headers=headers)


def _read_path(match: Fields, report: Reporter) -> StringMatch | None:
    fields = match.fields("path")
    if fields is None:
        return ROOT
    before = len(report.errors)
    with fields:
        kind = fields.choice("type", ("Exact", "PathPrefix", "RegularExpression"), "PathPrefix")
        value = fields.text("value", longest=LONGEST_PATH)
    if len(report.errors) > before:
        return None
    value = "/" if value is None else value
    at = fields.at("value")
    if kind == "RegularExpression":
        return StringMatch(Comparison.REGEX, value) if check_regex(value, at, report) else None
    if not check_path(value, at, report):
        return None
    if kind == "Exact":
        return StringMatch(Comparison.EXACT, value)
    return StringMatch(Comparison.SEGMENTS, value.rstrip("/") or "/")


def check_path(value: str, at: Value, report: Reporter) -> bool:
    """True for a path that the CRD accepts in ``Exact`` and ``PathPrefix``; otherwise its message is reported."""
    message = ""
    if not value.startswith("/"):
        message = "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"
    for part in _FORBIDDEN:
        if part in value:
            message = message or f"must not contain '{part}' when type one of ['Exact', 'PathPrefix']"
    for end in _FORBIDDEN_ENDS:
        if value.endswith(end):
            message = message or f"must not end with '{end}' when type one of ['Exact', 'PathPrefix']"
    if any(not "!" <= character <= "~" or character in '"<>\\^`{|}?' for character in value):
        message = message or "must only contain valid characters of a path (RFC 3986 section 3.3)"
    if message:
        report.error(at, "bad-path", f"{message}, found {show(value)}")
    return not message


def _read_fields(match: Fields, name: str, report: Reporter, *, is_header: bool) -> tuple[FieldMatch, ...]:
    found: dict[str, FieldMatch] = {}
    for item in match.items(name, most=MOST_FIELDS):
        with Fields(item, report) as entry:
            kind = entry.choice("type", _TYPES, "Exact")
            key = read_header_name(entry) if is_header else entry.text("name", required=True, longest=256)
            value = entry.text("value", required=True, longest=LONGEST_FIELD)
            if value is not None and kind == "RegularExpression" and not check_regex(value, entry.at("value"), report):
                continue
        if key is None or value is None:
            continue
        if key in found:
            # Gateway API: "only the first entry with an equivalent name MUST be considered for a match".
            report.warning(item, "no-effect", f"no effect: `{key}` is already matched by an entry before it")
            continue
        comparison = Comparison.REGEX if kind == "RegularExpression" else Comparison.EXACT
        found[key] = FieldMatch(key, StringMatch(comparison, value))
    return tuple(found.values())


def _read_grpc_method(method: Fields, report: Reporter) -> StringMatch | None:
    before = len(report.errors)
    kind = method.choice("type", _TYPES, "Exact")
    service = method.text("service", longest=LONGEST_PATH) or None
    name = method.text("method", longest=LONGEST_PATH) or None
    if service is None and name is None and len(report.errors) == before:
        report.error(method.value, "missing-field", "One or both of 'service' or 'method' must be specified")
    for key, value in (("service", service), ("method", name)):
        if value is not None and kind == "RegularExpression":
            check_regex(value, method.at(key), report)
        elif value is not None and not _is_grpc_name(value, dots=key == "service"):
            accepted = "letters, digits and `_`" + (", with `.` between" if key == "service" else "")
            report.error(method.at(key), "bad-name", f"{show(value)} is not a gRPC {key}; accepted: {accepted}")
    if len(report.errors) > before:
        return None
    if kind == "RegularExpression":
        return StringMatch(Comparison.REGEX, f"/(?:{service or _ANY_ELEMENT})/(?:{name or _ANY_ELEMENT})")
    if service is None:
        return StringMatch(Comparison.REGEX, f"/{_ANY_ELEMENT}/{re2.escape(name or '')}")
    if name is None:
        return StringMatch(Comparison.SEGMENTS, f"/{service}")
    return StringMatch(Comparison.EXACT, f"/{service}/{name}")


def _is_grpc_name(text: str, *, dots: bool) -> bool:
    parts = text.removeprefix(".").split(".") if dots else [text]
    return all(part.isascii() and part.isidentifier() for part in parts)
