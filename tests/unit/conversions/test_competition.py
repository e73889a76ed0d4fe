from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eastgate.compile.hosts import HostIndex
from eastgate.compile.routes import compile_match
from eastgate.conversions.competition import covers, may_meet
from eastgate.model.requests import Request
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch

TEXTS = ("", "/", "/a", "/a/", "/A", "/a/b", "/ab", "/a%41", "/b")
PATHS = ("/", "/a", "/A", "/a/b", "/a/b/c", "/ab", "/aA", "/b")

paths = st.builds(
    StringMatch,
    st.sampled_from([Comparison.EXACT, Comparison.PREFIX, Comparison.SEGMENTS, Comparison.REGEX]),
    st.sampled_from(TEXTS),
    st.booleans(),
)
values = st.one_of(
    st.just(StringMatch(Comparison.PRESENT)),
    st.builds(StringMatch, st.just(Comparison.EXACT), st.sampled_from(["1", "x", "X"]), st.booleans()),
    st.just(StringMatch(Comparison.REGEX, "[0-9]")),
)
fields = st.lists(st.builds(FieldMatch, st.sampled_from(["p", "q"]), values, st.booleans()), max_size=2).map(tuple)
matches = st.builds(
    Match,
    path=st.none() | paths,
    method=st.sampled_from([None, "GET", "get", "POST"]),
    headers=fields,
    query=fields,
    port=st.sampled_from([None, 80, 81]),
)
requests = st.builds(
    lambda method, path, query, headers, port: Request(
        method, path.encode() + b"?" + query, b"h", tuple((b"p", value) for value in headers), port
    ),
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from(PATHS),
    st.sampled_from([b"", b"p=1", b"q=x&p=X"]),
    st.lists(st.sampled_from([b"1", b"x", b"X"]), max_size=2),
    st.sampled_from([80, 81]),
)


def is_matched(match: Match, request: Request) -> bool:
    ports = frozenset({match.port}) if match.port is not None else None
    test, rest = compile_match(match, ports)
    path, _, query = request.target.partition(b"?")
    return (test is None or test(path)) and (rest is None or rest(request, query))


@given(matches, matches, st.lists(requests, max_size=20))
def test_what_is_told_apart_never_matches_one_request(one: Match, other: Match, asked: list[Request]) -> None:
    assert may_meet((one,), (other,)) == may_meet((other,), (one,))
    if not may_meet((one,), (other,)):
        assert not any(is_matched(one, request) and is_matched(other, request) for request in asked)


@given(paths, paths)
def test_paths_are_told_apart_only_where_no_path_fits_both(one: StringMatch, other: StringMatch) -> None:
    asked = [Request(b"GET", path.encode() + b"?", b"h", ()) for path in PATHS]
    first, second = Match(path=one), Match(path=other)

    if any(is_matched(first, request) and is_matched(second, request) for request in asked):
        assert may_meet((first,), (second,))


def test_the_usual_ones_are_told_apart() -> None:
    exact, inside, beside = (
        Match(path=StringMatch(Comparison.EXACT, "/a")),
        Match(path=StringMatch(Comparison.SEGMENTS, "/a/b")),
        Match(path=StringMatch(Comparison.SEGMENTS, "/ab")),
    )
    wide = Match(path=StringMatch(Comparison.SEGMENTS, "/a"))

    assert not may_meet((exact,), (inside,))
    assert not may_meet((wide,), (beside,))
    assert may_meet((wide,), (inside,))
    assert may_meet((), (exact,))
    assert not may_meet((Match(method="GET"),), (Match(method="POST"),))
    one, two = (Match(headers=(FieldMatch("x", StringMatch(Comparison.EXACT, value)),)) for value in "12")
    assert not may_meet((one,), (two,))


hosts = st.sampled_from(["*", "*.a.b", "*a.b", "x.a.b", "xa.b", "a.b", "*.b", "y.x.a.b", "c"])


@given(hosts, hosts.filter(lambda host: not host.startswith("*")))
def test_a_wildcard_covers_what_is_found_under_it(pattern: str, host: str) -> None:
    found = HostIndex([(pattern, "found")]).find(host.encode()) == "found"

    assert covers(pattern, host) == (found and pattern != host)


def test_a_wildcard_covers_a_longer_one_and_not_itself() -> None:
    assert covers("*.b", "*.a.b")
    assert covers("*", "*.a.b")
    assert not covers("*.a.b", "*.b")
    assert not covers("*.b", "*.b")
