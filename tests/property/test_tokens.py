"""Finding tokens: none is passed over, whatever stands around it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eastgate.decide.tokens import Places
from eastgate.model.policies import DEFAULT_SOURCES, HeaderSource, TokenSources

tokens = st.text("abc.-_", min_size=1, max_size=8).map(str.encode)
noise = st.tuples(st.sampled_from([b"x", b"cookie", b"authorization2", b"x-auth"]), st.binary(max_size=8))
SOURCES = TokenSources(
    headers=(HeaderSource("authorization", "Bearer "), HeaderSource("x-auth")), query=("t",), cookies=("c",)
)


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30))
def test_it_is_total(header: bytes, query: bytes, cookie: bytes) -> None:
    headers = ((b"authorization", header), (b"cookie", cookie), (b"x-auth", header))
    for sources in (SOURCES, DEFAULT_SOURCES, TokenSources()):
        for found in Places(sources).find(headers, query):
            assert isinstance(found.value, bytes)


@given(st.lists(tokens, max_size=4), st.lists(noise, max_size=4), st.randoms(use_true_random=False))
def test_every_header_value_is_found(values: list[bytes], around: list[tuple[bytes, bytes]], random: object) -> None:
    headers = [(b"authorization", b"Bearer " + value) for value in values]
    mixed = [*headers, *around]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    expected = [value.removeprefix(b"Bearer ") for name, value in mixed if name == b"authorization"]
    found = Places(DEFAULT_SOURCES).find(tuple(mixed), None)
    assert [one.value for one in found] == expected


@given(
    st.lists(tokens, max_size=4),
    st.lists(st.binary(max_size=6).filter(lambda raw: b"t" not in raw and b"%" not in raw)),
)
def test_every_parameter_is_found(values: list[bytes], around: list[bytes]) -> None:
    pieces = [b"t=" + value for value in values]
    query = b"&".join([*around[:1], *pieces, *around[1:]])
    found = [one.value for one in Places(SOURCES).find((), query)]
    assert found == values


@given(st.lists(tokens, max_size=4))
def test_every_cookie_is_found(values: list[bytes]) -> None:
    one_header = Places(SOURCES).find(((b"cookie", b"; ".join(b"c=" + value for value in values)),), None)
    many = Places(SOURCES).find(tuple((b"cookie", b"a=b; c=" + value) for value in values), None)
    assert [one.value for one in one_header] == [one.value for one in many] == values
