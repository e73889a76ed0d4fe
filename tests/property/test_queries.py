"""Taking a token out of a query leaves every other byte as it was."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from eastgate.compile.paths import decode_once
from eastgate.decide.tokens import Places, strip_parameters
from eastgate.model.policies import TokenSources

names = st.sampled_from([b"t", b"%74", b"T", b"tt", b"", b"a", b"%7", b"%2574", b"t%00"])
values = st.binary(max_size=6).map(lambda raw: raw.replace(b"&", b"+"))
pieces = st.one_of(st.tuples(names, values).map(lambda pair: pair[0] + b"=" + pair[1]), names)
queries = st.lists(pieces, max_size=6).map(b"&".join)
NAMES = frozenset([b"t"])


@given(queries)
@example(b"&t=x&")
@example(b"t")
def test_what_is_kept_is_kept_in_order(query: bytes) -> None:
    kept = [piece for piece in query.split(b"&") if decode_once(piece.split(b"=")[0]) != b"t"]
    stripped = strip_parameters(query, NAMES)
    assert stripped == (b"&".join(kept) if kept else None)


@given(queries)
def test_no_token_is_left(query: bytes) -> None:
    stripped = strip_parameters(query, NAMES)
    assert Places(TokenSources(query=("t",))).find((), stripped) == []


@given(queries)
def test_without_the_parameter_nothing_happens(query: bytes) -> None:
    stripped = strip_parameters(query, NAMES)
    if stripped is not None:
        assert strip_parameters(stripped, NAMES) == stripped
        assert strip_parameters(query, frozenset([b"not-there"])) == query
