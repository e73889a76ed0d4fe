"""Configured comparisons on bytes."""

from __future__ import annotations

import pytest

from eastgate.compile.matchers import (
    MatcherError,
    compile_conditions,
    compile_header,
    compile_parameter,
    compile_path,
    compile_regex,
    compile_value,
)
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch
from tests.unit.decide.scenes import request


@pytest.mark.parametrize(
    ("match", "path", "expected"),
    [
        (StringMatch(Comparison.EXACT, "/a"), b"/a", True),
        (StringMatch(Comparison.EXACT, "/a"), b"/a/", False),
        (StringMatch(Comparison.EXACT, "/A", ignore_case=True), b"/a", True),
        (StringMatch(Comparison.EXACT, "/caf%c3%a9"), b"/caf%C3%A9", True),
        (StringMatch(Comparison.PREFIX, "/foo"), b"/foobar", True),
        (StringMatch(Comparison.PREFIX, "/FOO", ignore_case=True), b"/foobar", True),
        (StringMatch(Comparison.PREFIX, "/foo"), b"/fo", False),
        (StringMatch(Comparison.SEGMENTS, "/foo"), b"/foobar", False),
        (StringMatch(Comparison.SEGMENTS, "/foo"), b"/foo", True),
        (StringMatch(Comparison.SEGMENTS, "/foo/"), b"/foo", True),
        (StringMatch(Comparison.SEGMENTS, "/foo/"), b"/foo/bar", True),
        (StringMatch(Comparison.SEGMENTS, "/"), b"/x", True),
        (StringMatch(Comparison.REGEX, "/v[0-9]+/.*"), b"/v1/x", True),
        (StringMatch(Comparison.REGEX, "/v[0-9]+"), b"/v1/x", False),
        (StringMatch(Comparison.REGEX, "/A", ignore_case=True), b"/a", True),
        (StringMatch(Comparison.PRESENT), b"/x", True),
    ],
)
def test_paths(match: StringMatch, path: bytes, expected: bool) -> None:
    test = compile_path(match)
    assert (test is None or test(path)) is expected


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{1001}"])
def test_what_re2_refuses(pattern: str) -> None:
    with pytest.raises(MatcherError, match="not a regular expression that RE2 accepts"):
        compile_regex(pattern)


def test_bytes_that_are_no_utf8_do_not_slip_past() -> None:
    # CVE-2026-73552: such a value matched no pattern, so what denied by pattern failed open.
    assert compile_regex(".*")(b"a\xff\xfeb")
    assert compile_regex("[^a]*")(b"\xff")
    assert compile_regex("é.*")("é".encode() + b"\xff")


def test_a_line_break_does_not_slip_past() -> None:
    # Only the value of a query parameter can hold one.
    matches = compile_parameter(FieldMatch("tenant", StringMatch(Comparison.REGEX, ".+")))
    assert matches(request("/"), b"tenant=a%0Ab")
    assert not matches(request("/"), b"tenant=")


@pytest.mark.parametrize("invert", [False, True])
def test_each_value_of_a_repeated_header_is_compared(invert: bool) -> None:
    # As Envoy 1.40 does. Joined, a second value would hide the first from a route (CVE-2026-26308).
    asked = request("/", (b"x", b"a"), (b"y", b"c"), (b"x", b"b"))
    for text, expected in (("a", True), ("b", True), ("c", False), ("a,b", False)):
        match = FieldMatch("x", StringMatch(Comparison.EXACT, text), invert)
        assert compile_header(match)(asked, None) is (expected is not invert)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (FieldMatch("X-A", StringMatch(Comparison.EXACT, "1")), True),
        (FieldMatch("x-a", StringMatch(Comparison.PRESENT)), True),
        (FieldMatch("x-b", StringMatch(Comparison.PRESENT)), False),
        (FieldMatch("x-b", StringMatch(Comparison.PRESENT), invert=True), True),
        (FieldMatch("x-a", StringMatch(Comparison.PRESENT), invert=True), False),
        (FieldMatch("x-a", StringMatch(Comparison.EXACT, "2"), invert=True), True),
        (FieldMatch("x-b", StringMatch(Comparison.EXACT, "2"), invert=True), True),
        (FieldMatch("x-a", StringMatch(Comparison.REGEX, "[0-9]")), True),
        (FieldMatch("x-a", StringMatch(Comparison.PREFIX, "")), True),
        (FieldMatch(":authority", StringMatch(Comparison.EXACT, "www.example.com")), True),
        (FieldMatch(":method", StringMatch(Comparison.EXACT, "GET")), True),
        (FieldMatch(":path", StringMatch(Comparison.PREFIX, "/q")), True),
        (FieldMatch(":scheme", StringMatch(Comparison.EXACT, "http")), True),
    ],
)
def test_headers(match: FieldMatch, expected: bool) -> None:
    assert compile_header(match)(request("/q", (b"x-a", b"1")), None) is expected


@pytest.mark.parametrize(
    ("query", "value", "expected"),
    [
        (b"v=2", "2", True),
        (b"v=1&v=2", "1", True),
        (b"v=1&v=2", "2", False),
        (b"%76=%32", "2", True),
        (b"V=2", "2", False),
        (b"v", "", True),
        (b"", "2", False),
        (None, "2", False),
    ],
)
def test_parameters(query: bytes | None, value: str, expected: bool) -> None:
    match = FieldMatch("v", StringMatch(Comparison.EXACT, value))
    assert compile_parameter(match)(request("/"), query) is expected
    inverted = FieldMatch("v", StringMatch(Comparison.EXACT, value), invert=True)
    assert compile_parameter(inverted)(request("/"), query) is not expected


def test_conditions() -> None:
    assert compile_conditions(Match(), None) is None
    test = compile_conditions(Match(method="get"), frozenset({80}))
    assert test is not None
    assert test(request("/", method=b"GET", port=80), None)
    assert test(request("/", method=b"get", port=0), None)
    assert not test(request("/", method=b"GET", port=81), None)
    assert not test(request("/", method=b"PUT", port=80), None)


def test_values_may_be_anything() -> None:
    assert compile_value(StringMatch(Comparison.PRESENT)) is None
    test = compile_value(StringMatch(Comparison.EXACT, "é"))
    assert test is not None
    assert test("é".encode())
