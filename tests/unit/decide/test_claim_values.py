"""Claims found, split, and written into headers."""

from __future__ import annotations

import base64
import json

import pytest

from eastgate.decide.claim_values import MISSING, UnsafeClaimError, claim_header_value, find_claim, split_scopes
from eastgate.keys.json_text import parse_json


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ('"acme"', b"acme"),
        ('"a b\\tc"', b"a b\tc"),
        ('" acme "', b"acme"),
        ('"é"', "é".encode()),
        ("true", b"true"),
        ("false", b"false"),
        ("0", b"0"),
        ("-0", b"0"),
        ("-0.0", b"0"),
        ("7", b"7"),
        ("1.0", b"1"),
        ("1e3", b"1000"),
        ("1.5", b"1.500000"),
        ("-3", b"-3.000000"),
        ("9007199254740993", b"9007199254740993"),
        ("18446744073709551616", b"18446744073709551616.000000"),
        ("1e30", b"1000000000000000019884624838656.000000"),
        ('["str1","str2"]', b"WyJzdHIxIiwic3RyMiJd"),
        ("[]", b"W10="),
        ("{}", b"e30="),
    ],
)
def test_a_claim_becomes_a_header_value_as_envoys(text: str, header: bytes) -> None:
    assert claim_header_value(parse_json(text)) == header


def test_objects_are_compact_json_with_sorted_names_and_whole_numbers() -> None:
    value = claim_header_value(parse_json('{"b": 1, "a": [1.0, 1.5, -3, 1e30, null, true, "é"]}'))
    assert value is not None
    assert base64.b64decode(value).decode() == '{"a":[1,1.5,-3,1e+30,null,true,"é"],"b":1}'


@pytest.mark.parametrize("value", [None, "", " ", "\t ", MISSING])
def test_nothing_is_no_header(value: object) -> None:
    assert claim_header_value(value) is None


@pytest.mark.parametrize("character", [*(chr(code) for code in range(0x20) if code != 9), "\x7f"])
def test_a_control_character_is_refused_and_not_quoted(character: str) -> None:
    for value in (f"hunter2{character}X-Admin: 1", character, f"{character}hunter2", f"hunter2{character}"):
        with pytest.raises(UnsafeClaimError) as caught:
            claim_header_value(value)
        assert "hunter2" not in str(caught.value)


def test_control_characters_inside_of_a_list_are_encoded_away() -> None:
    assert claim_header_value(["a\r\nX: 1"]) == base64.b64encode(json.dumps(["a\r\nX: 1"]).encode())


CLAIMS = {"org": "acme", "user": {"name": "John", "roles": ["admin"], "none": None}, "user.name": "literal", "a": [1]}


@pytest.mark.parametrize(
    ("literal", "path", "found"),
    [
        ("org", ("org",), "acme"),
        ("user.name", ("user", "name"), "literal"),
        ("user.roles", ("user", "roles"), ["admin"]),
        ("user.none", ("user", "none"), None),
        ("user.name.first", ("user", "name", "first"), MISSING),
        ("a.0", ("a", "0"), MISSING),
        ("absent", ("absent",), MISSING),
        ("absent", (), MISSING),
        ("", ("",), MISSING),
    ],
)
def test_the_literal_name_comes_before_the_path(literal: str, path: tuple[str, ...], found: object) -> None:
    assert find_claim(CLAIMS, literal, path) == found


@pytest.mark.parametrize(
    ("value", "scopes"),
    [
        ("read write", ("read", "write")),
        ("  read  write ", ("read", "write")),
        ("read\twrite", ("read\twrite",)),
        (["read", "write all"], ("read", "write all")),
        (["read", 1, None], ("read",)),
        ("", ()),
        (None, ()),
        (7, ()),
        ({"read": True}, ()),
        (MISSING, ()),
    ],
)
def test_scopes(value: object, scopes: tuple[str, ...]) -> None:
    assert split_scopes(value) == scopes
