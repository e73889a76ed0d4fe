"""Canonical targets: one spelling, which stays what it is, and in which nothing dangerous is left."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from eastgate.decide.targets import BadTarget, Target, canonicalise_target

PIECES = [
    *(
        b"/",
        b"//",
        b".",
        b"..",
        b"%2e",
        b"%2E%2e",
        b"%2f",
        b"%5C",
        b"%00",
        b"%41",
        b"%7e",
        b"%3b",
        b"%c3%a9",
        b"%",
        b"%zz",
    ),
    *(
        b";",
        b";x=y",
        b"..;",
        b"a",
        b"b",
        b"~",
        b"?",
        b"#",
        b"\\",
        b"\xff",
        b" ",
        b"admin",
        b"&",
        b"=",
        b"%25",
        b"%252e",
        b"|",
        b"{",
        b"%7C",
    ),
]
targets = st.one_of(
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: b"/" + b"".join(pieces)),
    st.binary(max_size=40),
)


def slow_reading(path: bytes) -> list[bytes]:
    """RFC 3986 section 5.2.4 by the letter, on the decoded path, slashes merged afterwards."""
    text = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), path)
    output: list[bytes] = []
    while text:
        if text.startswith(b"/./"):
            text = text[2:]
        elif text == b"/.":
            text = b"/"
        elif text.startswith(b"/../"):
            text, output = text[3:], output[:-1]
        elif text == b"/..":
            text, output = b"/", output[:-1]
        else:
            end = text.find(b"/", 1)
            end = len(text) if end < 0 else end
            output.append(text[:end])
            text = text[end:]
    return output


@given(targets)
@example(b"/a/%2e%2e/%2E/b//../c?..")
def test_canonical_is_canonical(target: bytes) -> None:
    first = canonicalise_target(target)
    if isinstance(first, Target):
        assert canonicalise_target(first.whole) == first
        assert first.whole == first.path + (b"" if first.query is None else b"?" + first.query)


@given(targets)
def test_nothing_dangerous_is_left(target: bytes) -> None:
    canonical = canonicalise_target(target)
    if isinstance(canonical, Target):
        path = canonical.path
        assert path.startswith(b"/")
        assert not re.search(rb"//|/\.{1,2}(/|;|%3B|$)|[#\\?\x00-\x20\x7f-\xff\"<>^`{|}]", path)
        assert not re.search(rb"%(?![0-9A-F]{2})|%2F|%5C|%00|%2E|%[46][1-9A-F]", path)
        assert b"#" not in canonical.whole


@given(targets)
def test_the_query_is_not_touched(target: bytes) -> None:
    canonical = canonicalise_target(target)
    if isinstance(canonical, Target):
        sent, mark, query = target.partition(b"?")
        assert canonical.query == (query if mark else None)
        assert sent.startswith(b"/")


@given(targets)
def test_it_means_the_same_path(target: bytes) -> None:
    canonical = canonicalise_target(target)
    if isinstance(canonical, Target):
        expected = b"".join(slow_reading(target.partition(b"?")[0])) or b"/"
        decoded = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), canonical.path)
        assert decoded == re.sub(rb"//+", b"/", expected)


@given(st.binary(max_size=60))
def test_it_is_total(target: bytes) -> None:
    canonical = canonicalise_target(target)
    assert isinstance(canonical, Target | BadTarget)
    if isinstance(canonical, BadTarget):
        assert canonical.detail.isascii()
