"""Strict JSON against everything that can be written down, and against Python's own reader."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from eastgate.keys.base64url import Base64Error, decode_base64url, encode_base64url
from eastgate.keys.json_text import JSONTextError, parse_json

scalars = (
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[Any] = st.recursive(
    scalars | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
)


@given(values, st.booleans())
def test_whatever_is_written_is_read_back(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text.encode()) == value
    assert parse_json(text) == value


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 150)
def test_any_bytes_are_a_value_or_the_one_error(data: bytes) -> None:
    try:
        value = parse_json(data)
    except JSONTextError:
        return
    assert json.loads(data.decode("utf-8")) == value


PIECES = ["{", "}", "[", "]", ":", ",", '"', '"a"', '"b"', "\\", "\\u", "d800", "dc00", "\\ud83d\\ude00", "é"]
PIECES += ["1", "0", "-", ".5", "e9", "1e999", "NaN", "Infinity", "true", "null"]
fragments = st.lists(st.sampled_from([*PIECES, " ", "\n", "\ufeff", "\x00"]), max_size=25).map("".join)


@given(fragments)
def test_what_looks_like_json_is_read_no_laxer_than_by_python(text: str) -> None:
    try:
        value = parse_json(text)
    except JSONTextError:
        return
    assert json.loads(text) == value
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


@given(st.lists(st.sampled_from(["a", "b", "\\u0061", "c"]), min_size=1, max_size=5))
def test_a_name_twice_is_never_read(names: list[str]) -> None:
    text = "{" + ",".join(f'"{name}":1' for name in names) + "}"
    plain = [name.replace("\\u0061", "a") for name in names]
    try:
        read = parse_json(text)
    except JSONTextError:
        assert len(set(plain)) < len(plain)
    else:
        assert read == dict.fromkeys(plain, 1)
        assert len(set(plain)) == len(plain)


@given(st.integers(0, 400), st.sampled_from(["", "-"]), st.sampled_from("123456789"))
def test_numbers_are_those_a_double_can_hold(digits: int, sign: str, first: str) -> None:
    text = sign + first + "7" * digits
    try:
        value = parse_json(text)
    except JSONTextError:
        assert math.isinf(float(text))
    else:
        assert value == int(text)
        assert math.isfinite(float(text))


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data)) == data


@given(st.binary(max_size=40) | st.text("ABCDQgwxyz019-_=+/ \n", max_size=20).map(str.encode))
def test_base64url_has_one_spelling(text: bytes) -> None:
    try:
        data = decode_base64url(text)
    except Base64Error:
        return
    assert encode_base64url(data) == text
