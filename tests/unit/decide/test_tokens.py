"""Where tokens are found, and what is left when they are taken out."""

from __future__ import annotations

import pytest

from eastgate.decide.tokens import Places, strip_cookies, strip_parameters
from eastgate.model.policies import DEFAULT_SOURCES, HeaderSource, TokenSources


def values(sources: TokenSources, query: bytes | None = None, *headers: tuple[bytes, bytes]) -> list[bytes]:
    return [found.value for found in Places(sources).find(headers, query)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Bearer abc", [b"abc"]),
        (b"bearer abc", [b"abc"]),
        (b"BEARER  \tabc", [b"abc"]),
        (b"Bearer", []),
        (b"Bearerabc", []),
        (b"x Bearer abc", []),
        (b"Basic abc", []),
        (b"", []),
        (b"Bearer a, Bearer b", [b"a, Bearer b"]),
    ],
)
def test_default_header(value: bytes, found: list[bytes]) -> None:
    assert values(DEFAULT_SOURCES, None, (b"authorization", value)) == found


def test_a_configured_prefix_is_compared_byte_for_byte() -> None:
    sources = TokenSources(headers=(HeaderSource("x-auth", "Bearer "),))
    assert values(sources, None, (b"x-auth", b"bearer a")) == []
    assert values(sources, None, (b"x-auth", b"Bearer a")) == [b"a"]


def test_without_prefix_the_whole_value_is_the_token() -> None:
    sources = TokenSources(headers=(HeaderSource("X-Auth"),))
    assert values(sources, None, (b"x-auth", b"Bearer a")) == [b"Bearer a"]
    # As Envoy: an empty value is a bad token, and not none.
    assert values(sources, None, (b"x-auth", b"")) == [b""]


def test_every_value_of_a_repeated_header() -> None:
    headers = [(b"authorization", b"Bearer a"), (b"x", b"y"), (b"authorization", b"Bearer b")]
    assert values(DEFAULT_SOURCES, None, *headers) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"access_token=a", [b"a"]),
        (b"x=1&access_token=a&access_token=b", [b"a", b"b"]),
        (b"access%5ftoken=a", [b"a"]),
        (b"access%255ftoken=a", []),
        (b"Access_token=a", []),
        (b"x=1;access_token=a", []),
        (b"access_token", [b""]),
        (b"access_token=", [b""]),
        (b"access_token=a%2Eb", [b"a.b"]),
        (b"access_token=a+b", [b"a+b"]),
        (b"access_token=a=b", [b"a=b"]),
        (b"xaccess_token=a", []),
        (b"", []),
    ],
)
def test_query(query: bytes, found: list[bytes]) -> None:
    assert values(DEFAULT_SOURCES, query) == found


@pytest.mark.parametrize(
    ("cookie", "found"),
    [
        (b"jwt=a", [b"a"]),
        (b"x=1; jwt=a; y=2", [b"a"]),
        (b'jwt="a"', [b"a"]),
        (b"jwt=", [b""]),
        (b"JWT=a", []),
        (b"jwt=a; jwt=b", [b"a", b"b"]),
        (b"jwt=a=b", [b"a=b"]),
        (b'x="jwt=a"', []),
    ],
)
def test_cookies(cookie: bytes, found: list[bytes]) -> None:
    assert values(TokenSources(cookies=("jwt",)), None, (b"cookie", cookie)) == found


def test_order_of_extraction() -> None:
    sources = TokenSources(
        headers=(HeaderSource("x-b"), HeaderSource("x-a", "Z "), HeaderSource("x-a", "A ")),
        query=("q2", "q1"),
        cookies=("c",),
    )
    headers = ((b"cookie", b"c=7"), (b"x-b", b"4"), (b"x-a", b"Z 2"), (b"x-a", b"A 1"), (b"x-a", b"Z 3"))
    found = Places(sources).find(headers, b"q2=6&q1=5")
    assert [one.value for one in found] == [b"1", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert [str(one.place) for one in found[-3:]] == ["query q1", "query q2", "cookie c"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a=1&t=x&b=2", b"a=1&b=2"),
        (b"t=x", None),
        (b"t", None),
        (b"a&t=x", b"a"),
        (b"&t=x&", b"&"),
        (b"T=x", b"T=x"),
        (b"%74=x&a=%2f", b"a=%2f"),
        (b"t=1&a=;t=2&t=3", b"a=;t=2"),
    ],
)
def test_strip(before: bytes, after: bytes | None) -> None:
    assert strip_parameters(before, frozenset([b"t"])) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a=1; t=x; b=2", b"a=1; b=2"),
        (b"t=x; a=1", b"a=1"),
        (b"a=1;t = x", b"a=1"),
        (b"t=x", None),
        (b"t", None),
        (b't="x"; T=y; at=z', b"T=y; at=z"),
        (b"t=1; a=t=2; t=3", b"a=t=2"),
    ],
)
def test_strip_cookies(before: bytes, after: bytes | None) -> None:
    headers = ((b"x", b"t=1"), (b"cookie", before), (b"cookie", b"other=1"))
    kept = [(b"cookie", b"other=1")] if after is None else [(b"cookie", after), (b"cookie", b"other=1")]
    assert list(strip_cookies(headers, frozenset([b"t"]))) == kept
