"""The downward API's file format. The quoted texts were made by Go's ``strconv.Quote``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eastgate.pods.downward import DownwardError, read_pairs, write_pairs

QUOTED_BY_GO = [
    (r'"plain"', "plain"),
    (r'"a\"b\\c"', 'a"b\\c'),
    (r'"l1\nl2\ttab\r\a\b\f\v"', "l1\nl2\ttab\r\a\b\f\v"),
    (r'"\x00\x1f\x7f"', "\x00\x1f\x7f"),
    ('"\\u0080\\u009f\\u00a0é漢"', "\u0080\u009f\u00a0é漢"),
    ('"\\u2028\\u200b\U0001f600\\U000e0001"', "\u2028\u200b\U0001f600\U000e0001"),
    (r'"{\"a\":\"b\\n\"}"', '{"a":"b\\n"}'),
    ('""', ""),
    ('"\'`$"', "'`$"),
]


@pytest.mark.parametrize(("quoted", "value"), QUOTED_BY_GO)
def test_values_as_go_quotes_them(quoted: str, value: str) -> None:
    assert read_pairs(f"a/b={quoted}".encode()) == {"a/b": value}
    assert write_pairs({"a/b": value}) == f"a/b={quoted}"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert read_pairs(rb'a="\xff\xfe"') == {"a": "\ufffd\ufffd"}
    assert read_pairs(rb'a="\xc3\xa9"') == {"a": "é"}, "an escape names a byte, not a character"


def test_a_file_as_kubelet_writes_it() -> None:
    text = b'app="httpbin"\neastgate.dev/policies="a,b/c"\nkubernetes.io/config.source="api"'
    expected = {"app": "httpbin", "eastgate.dev/policies": "a,b/c", "kubernetes.io/config.source": "api"}
    assert read_pairs(text) == expected
    assert read_pairs(text + b"\n") == expected
    assert read_pairs(b"") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a=b", 'line 1 is not key="value"'),
        (b'a="b"\n\nc="d"', "line 2"),
        (b'a="b" ', "line 1"),
        (b'a="b"c"', "line 1"),
        (b'a="b\\"', "line 1"),
        (b'="b"', "line 1"),
        (b'a="1"\na="2"', "`a` is there already"),
        (rb'a="\q"', "an escape that Go does not write"),
        (rb'a="\x1"', "escape"),
        (rb'a="\xFF"', "escape"),
        (rb'a="\u12"', "escape"),
        (rb'a="\ud800"', "escape"),
        (rb'a="\U00110000"', "escape"),
        (b'a="\xff"', "not UTF-8"),
    ],
)
def test_what_kubelet_never_writes(text: bytes, message: str) -> None:
    with pytest.raises(DownwardError) as caught:
        read_pairs(text)
    assert message in str(caught.value)


def test_messages_quote_no_value() -> None:
    with pytest.raises(DownwardError) as caught:
        read_pairs(rb'token="SECRET\q"')
    assert "SECRET" not in str(caught.value)


@given(st.dictionaries(st.from_regex(r"\A[a-z./-]{1,20}\Z"), st.text(st.characters(exclude_categories=["Cs"]))))
def test_whatever_is_written_is_read(pairs: dict[str, str]) -> None:
    assert read_pairs(write_pairs(pairs).encode()) == pairs
