"""Configured comparisons as functions on bytes.

Regular expressions are RE2's and match the whole value, as in Envoy; they run in linear time whatever the pattern. A
value that is no UTF-8 must not slip past a rule (CVE-2026-73552: a regex on such bytes failed open), so ASCII patterns
compare byte for byte. Must not know: routes, policies, or where a value came from.
"""

from __future__ import annotations

from collections.abc import Callable

import re2

from eastgate.compile.paths import canonicalise_configured_path, decode_once
from eastgate.model.requests import Request
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch

BytesTest = Callable[[bytes], bool]
RequestTest = Callable[[Request, bytes | None], bool]
"""A test on the request and its raw query, for everything but the path."""

PSEUDO_HEADERS = frozenset({"host", ":authority", ":method", ":path", ":scheme"})
"""Header names that a match may use for what ``Request`` keeps outside its header list."""


class MatcherError(ValueError):
    """A configured comparison that cannot be compiled; the text says why."""


def compile_regex(pattern: str, ignore_case: bool = False) -> BytesTest:
    """A full match by RE2. ``.`` is any character: a query parameter may hold a line break (``%0A``), and `.*` on one
    that did not match it would hand the request to the next route.
    """
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        if pattern.isascii():
            options.encoding = re2.Options.Encoding.LATIN1
            fullmatch = re2.compile(pattern.encode(), options).fullmatch
            return lambda value: fullmatch(value) is not None
        options.encoding = re2.Options.Encoding.UTF8
        unicode_fullmatch = re2.compile(pattern, options).fullmatch
    except (re2.error, UnicodeError) as error:
        raise MatcherError(f"`{pattern}` is not a regular expression that RE2 accepts: {_reason(error)}") from None
    return lambda value: unicode_fullmatch(value.decode("utf-8", "replace")) is not None


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else "invalid"
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def compile_value(match: StringMatch) -> BytesTest | None:
    """A test for a header or query value; None accepts every value."""
    return _compile(match, match.value.encode("utf-8", "surrogatepass"))


def compile_path(match: StringMatch) -> BytesTest | None:
    """A test for a canonical path; None accepts every path."""
    if match.comparison is Comparison.REGEX:
        return compile_regex(match.value, match.ignore_case)
    return _compile(match, canonicalise_configured_path(match.value))


def _compile(match: StringMatch, wanted: bytes) -> BytesTest | None:
    if match.comparison is Comparison.PRESENT:
        return None
    if match.comparison is Comparison.REGEX:
        return compile_regex(match.value, match.ignore_case)
    if match.ignore_case:
        lowered = _compile(StringMatch(match.comparison, match.value), wanted.lower())
        return None if lowered is None else lambda value: lowered(value.lower())
    if match.comparison is Comparison.EXACT:
        return wanted.__eq__
    if match.comparison is Comparison.PREFIX:
        # Every canonical path starts with a slash.
        return None if wanted in (b"", b"/") else lambda value: value.startswith(wanted)
    stem = wanted.rstrip(b"/")
    inside = stem + b"/"
    return None if not stem else lambda value: value == stem or value.startswith(inside)


def header_values(request: Request, name: bytes) -> list[bytes]:
    """Every value of a header; none where it is absent. Joined with commas they would hide from what looks for one of
    them (CVE-2026-26308), so each is compared by itself, as in Envoy.
    """
    if name in (b"host", b":authority"):
        return [request.authority]
    if name == b":method":
        return [request.method]
    if name == b":path":
        return [request.target]
    if name == b":scheme":
        return [request.scheme]
    return [value for key, value in request.headers if key == name]


def read_parameter(query: bytes | None, name: bytes) -> bytes | None:
    """The first value of a query parameter, name and value decoded once (Envoy takes the first, too)."""
    if not query:
        return None
    for piece in query.split(b"&"):
        key, _, value = piece.partition(b"=")
        if decode_once(key) == name:
            return decode_once(value)
    return None


def compile_header(match: FieldMatch) -> RequestTest:
    """A test on one header: some value of it matches; inverted, none does, so that an absent one is accepted, too (as
    Gloo documents ``invertMatch``; Envoy accepts an absent header only where its presence is what is inverted).
    """
    name = match.name.lower().encode("utf-8", "surrogatepass")
    test, invert = compile_value(match.value), match.invert

    def matches(request: Request, _query: bytes | None) -> bool:
        return any(test is None or test(value) for value in header_values(request, name)) is not invert

    return matches


def compile_parameter(match: FieldMatch) -> RequestTest:
    """A test on one query parameter."""
    name = match.name.encode("utf-8", "surrogatepass")
    test, invert = compile_value(match.value), match.invert

    def matches(_request: Request, query: bytes | None) -> bool:
        value = read_parameter(query, name)
        return (value is not None and (test is None or test(value))) is not invert

    return matches


def _compile_method(method: str) -> RequestTest:
    # Methods are case-sensitive (RFC 9110 section 9.1), applications not always: `get` must not slip past a GET route.
    wanted = method.upper().encode()
    return lambda request, _query: request.method == wanted or request.method.upper() == wanted


def _compile_ports(ports: frozenset[int]) -> RequestTest:
    return lambda request, _query: not request.port or request.port in ports


def compile_conditions(match: Match, ports: frozenset[int] | None) -> RequestTest | None:
    """Everything in a match but its path, or None when there is nothing else. ``ports`` are those it accepts."""
    tests: list[RequestTest] = []
    if match.method is not None:
        tests.append(_compile_method(match.method))
    if ports is not None:
        tests.append(_compile_ports(ports))
    tests.extend(compile_header(header) for header in match.headers)
    tests.extend(compile_parameter(parameter) for parameter in match.query)
    if len(tests) < 2:
        return tests[0] if tests else None
    together = tuple(tests)
    return lambda request, query: all(test(request, query) for test in together)
