"""One spelling for paths."""

from __future__ import annotations

import pytest

from eastgate.compile.paths import canonicalise_configured_path, decode_once, drop_parameters, normalise_escapes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"/a", b"/a"),
        (b"/%7e%2D%5f%2e", b"/~-_."),
        (b"/%c3%a9%3b", b"/%C3%A9%3B"),
        (b"/%2541", b"/%2541"),
        (b"/%zz%", b"/%zz%"),
    ],
)
def test_escapes(given: bytes, expected: bytes) -> None:
    assert normalise_escapes(given) == expected
    assert normalise_escapes(expected) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a", b"/a"),
        ("/café", b"/caf%C3%A9"),
        ("/caf%c3%a9", b"/caf%C3%A9"),
        ("/a b", b"/a%20b"),
        ("/%41", b"/A"),
        ("/a|{b}", b"/a%7C%7Bb%7D"),
    ],
)
def test_configured_paths(given: str, expected: bytes) -> None:
    assert canonicalise_configured_path(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [(b"a+b", b"a+b"), (b"a%2Bb", b"a+b"), (b"%2541", b"%41"), (b"%zz%", b"%zz%"), (b"", b"")]
)
def test_decode_once(given: bytes, expected: bytes) -> None:
    assert decode_once(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"), [(b"/a;x=1/b;y", b"/a/b"), (b"/a/;x/b", b"/a/b"), (b"/;x", b"/"), (b"/a", b"/a")]
)
def test_drop_parameters(given: bytes, expected: bytes) -> None:
    assert drop_parameters(given) == expected
