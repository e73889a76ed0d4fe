"""One spelling a value."""

from __future__ import annotations

import base64
from itertools import product

import pytest

from eastgate.keys.base64url import Base64Error, decode_base64url, encode_base64url

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_reads_rfc_7515_appendix_c() -> None:
    assert decode_base64url(b"A-z_4ME") == bytes([3, 236, 255, 224, 193])
    assert encode_base64url(bytes([3, 236, 255, 224, 193])) == b"A-z_4ME"


@pytest.mark.parametrize(
    "text",
    [
        b"A",
        b"AAAAA",
        b"AA==",
        b"AA=",
        b"A+8_",
        b"A/8_",
        b"A A_",
        b"AA\n",
        b"\nAA",
        b"AAA\x00",
        b"AA\xff",
        b"=",
        b"AAAA=",
    ],
)
def test_refuses_other_spellings(text: bytes) -> None:
    with pytest.raises(Base64Error):
        decode_base64url(text)


@pytest.mark.parametrize("length", [2, 3])
def test_exactly_the_canonical_endings_are_accepted(length: int) -> None:
    accepted = 0
    for last in ALPHABET:
        text = b"A" * (length - 1) + bytes([last])
        canonical = base64.urlsafe_b64encode(base64.urlsafe_b64decode(text + b"=" * (4 - length))).rstrip(b"=") == text
        try:
            decode_base64url(text)
        except Base64Error:
            assert not canonical
        else:
            assert canonical
            accepted += 1
    assert accepted == {2: 4, 3: 16}[length]


def test_every_value_has_one_spelling() -> None:
    for value in product(range(256), repeat=1):
        assert decode_base64url(encode_base64url(bytes(value))) == bytes(value)
