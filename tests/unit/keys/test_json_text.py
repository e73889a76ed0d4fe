"""Strict JSON: what is refused, and that refusing is cheap."""

from __future__ import annotations

import time

import pytest

from eastgate.keys.json_text import MAX_DEPTH, JSONTextError, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"{}", {}),
        (b' {"a": [1, 2.5, "x", true, null]}\r\n', {"a": [1, 2.5, "x", True, None]}),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        ('"é"'.encode(), "é"),
        (b'"\\\\ud800"', "\\ud800"),
        (b"-0", 0),
        (b"1e300", 1e300),
        (b"1" + b"0" * 308, 10**308),
        (b'"[[[[{{{{"', "[[[[{{{{"),
    ],
)
def test_reads_what_is_strict(text: bytes, value: object) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte-order-mark"),
        pytest.param('{"a":1}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a":1}'.encode("utf-16-le"), id="utf-16-without-mark"),
        pytest.param('{"a":1}'.encode("utf-32"), id="utf-32"),
        pytest.param(b'{"a":"\xff"}', id="not-utf-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate-in-utf-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="overlong-utf-8"),
        pytest.param(b'{"a":"\\ud800"}', id="lone-high-surrogate"),
        pytest.param(b'{"a":"\\udc00\\ud800"}', id="surrogates-the-wrong-way-round"),
        pytest.param(b'{"\\udfff":1}', id="lone-surrogate-in-a-name"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="duplicate-by-escape"),
        pytest.param(b'[{"x":{"a":1,"b":2,"a":3}}]', id="duplicate-deep-inside"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b'{"a":NaN}', id="nan-inside"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b"[-Infinity]", id="minus-infinity"),
        pytest.param(b"1e400", id="float-overflow"),
        pytest.param(b"-1e400", id="float-underflow"),
        pytest.param(b"9" * 309, id="integer-beyond-a-double"),
        pytest.param(b"9" * 5000, id="endless-integer"),
        pytest.param(b"-" + b"9" * 5000, id="endless-negative-integer"),
        pytest.param(b'{"a":1,}', id="trailing-comma"),
        pytest.param(b"[1,]", id="trailing-comma-in-a-list"),
        pytest.param(b"{'a':1}", id="single-quotes"),
        pytest.param(b"{a:1}", id="bare-name"),
        pytest.param(b"01", id="leading-zero"),
        pytest.param(b"+1", id="plus"),
        pytest.param(b"1.", id="no-fraction"),
        pytest.param(b".5", id="no-whole"),
        pytest.param(b'"\t"', id="tab-in-a-string"),
        pytest.param(b'"\x00"', id="nul-in-a-string"),
        pytest.param(b'"\\x41"', id="bad-escape"),
        pytest.param(b"{} {}", id="two-values"),
        pytest.param(b"{}//", id="comment"),
        pytest.param("\u00a01".encode(), id="other-white-space"),
        pytest.param("١".encode(), id="arabic-digits"),
        pytest.param(b"1_000", id="underscore"),
    ],
)
def test_refuses_what_two_readers_could_take_differently(text: bytes) -> None:
    with pytest.raises(JSONTextError):
        parse_json(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_ends_where_envoys_does(opening: str, closing: str) -> None:
    parse_json(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
    with pytest.raises(JSONTextError, match="nested deeper than 100 levels"):
        parse_json(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))


def test_brackets_inside_of_strings_are_not_depth() -> None:
    text = '["' + "[{" * 500 + '\\"' + "[" * 500 + '"]'
    assert isinstance(parse_json(text), list)


def test_wide_is_not_deep() -> None:
    assert parse_json("[" + ",".join(["[]"] * 500) + "]") == [[]] * 500


def test_a_hundred_thousand_brackets_cost_nothing() -> None:
    started = time.perf_counter()
    for text in (
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 200 + '"\\"' * 50_000,
        "[" * 200 + '"' + '\\"' * 50_000 + "\\",
    ):
        with pytest.raises(JSONTextError):
            parse_json(text)
    assert time.perf_counter() - started < 5


def test_size_is_bounded_before_anything_is_read() -> None:
    with pytest.raises(JSONTextError, match="longer than 10 bytes"):
        parse_json(b"12345678901", max_bytes=10)


def test_a_string_is_held_to_the_same_rules() -> None:
    for text in ("\ufeff{}", '"\ud800"', '{"a":1,"a":2}'):
        with pytest.raises(JSONTextError):
            parse_json(text)


def test_the_error_quotes_nothing_of_the_text() -> None:
    for text in (b'{"secret":"hunter2",}', b'{"hunter2":1,"hunter2":2}', b'{"a":hunter2}', b'["hunter2\\ud800"]'):
        with pytest.raises(JSONTextError) as caught:
            parse_json(text)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
