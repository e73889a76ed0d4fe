"""Finding a route, against a slow reading of the Gateway API's and Gloo's words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eastgate.compile.coverage import covers, find_unreachable
from eastgate.compile.guards import Guard
from eastgate.compile.plan import Plan
from eastgate.model.routes import Comparison, FieldMatch, Match, Order, Route, StringMatch
from eastgate.model.workloads import Workload
from tests.unit.decide.scenes import compiled, http_route, policy, request, selecting, service, table

PATHS = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/b"]
paths = st.one_of(
    st.none(),
    st.builds(
        StringMatch, st.sampled_from([Comparison.EXACT, Comparison.PREFIX, Comparison.SEGMENTS]), st.sampled_from(PATHS)
    ),
)
headers = st.lists(
    st.builds(
        FieldMatch,
        st.just("x"),
        st.builds(StringMatch, st.just(Comparison.EXACT), st.sampled_from("12")),
        st.booleans(),
    ),
    max_size=1,
).map(tuple)
matches = st.builds(Match, paths, st.sampled_from([None, "GET", "POST"]), headers)
hosts = st.lists(st.sampled_from(["a.example", "*.example", "*", "b.example"]), max_size=2, unique=True).map(tuple)
entries = st.lists(st.tuples(st.lists(matches, max_size=2).map(tuple), hosts, st.booleans()), max_size=5)
requests = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from([b"GET", b"POST"]),
    st.sampled_from([b"a.example", b"B.Example:1", b"c"]),
    st.sampled_from([None, b"1", b"2"]),
)


def accepts(match: Match, path: str, method: bytes, header: bytes | None) -> bool:
    if match.path is not None:
        value = match.path.value
        if match.path.comparison is Comparison.EXACT:
            fits = path == value
        elif match.path.comparison is Comparison.PREFIX:
            fits = path.startswith(value)
        else:
            fits = path == value or path.startswith(value.rstrip("/") + "/")
        if not fits:
            return False
    if match.method is not None and match.method.encode() != method:
        return False
    return all((header == one.value.value.encode()) is not one.invert for one in match.headers)


def best_host(routes: list[Route], host: str) -> str | None:
    known = {one for route in routes for one in route.hosts or ("*",)}
    if host in known:
        return host
    for suffix in ("*.example", "*"):
        if suffix in known and host.endswith(suffix[1:]):
            return suffix
    return None


def slow_find(routes: list[Route], path: str, method: bytes, authority: bytes, header: bytes | None) -> str | None:
    host = best_host(routes, authority.decode().lower().partition(":")[0])
    ranked = []
    for route in routes:
        if host in (route.hosts or ("*",)):
            for match in route.matches or (Match(),):
                if accepts(match, path, method, header):
                    one = match.path or StringMatch(Comparison.SEGMENTS, "/")
                    key = (
                        one.comparison is not Comparison.EXACT,
                        -len(one.value),
                        match.method is None,
                        -len(match.headers),
                    )
                    ranked.append((key if route.order is Order.PRECEDENCE else (), route.index, str(route)))
    if not ranked:
        return None
    return min(ranked, key=lambda one: one[:2])[2]


@given(entries, requests)
def test_it_finds_what_the_words_say(
    given_entries: list[tuple[tuple[Match, ...], tuple[str, ...], bool]], asked: tuple[str, bytes, bytes, bytes | None]
) -> None:
    path, method, authority, header = asked
    routes = [
        (table if listed else http_route)(*some, hosts=names, index=index)
        for index, (some, names, listed) in enumerate(given_entries)
    ]
    sent = () if header is None else ((b"x", header),)
    guard = compiled(*routes).find(request(path, *sent, method=method, host=authority), path.encode(), None)
    families = [[route for route in routes if route.order is order] for order in Order]
    expected = [found for family in families if (found := slow_find(family, path, method, authority, header))]
    if routes:
        assert guard.route == " + ".join(expected)
    else:
        assert guard.route == "implicit"


@given(matches, matches, requests)
def test_a_match_that_covers_another_matches_all_of_it(
    wide: Match, narrow: Match, asked: tuple[str, bytes, bytes, bytes | None]
) -> None:
    path, method, _, header = asked
    if covers(wide, narrow) and accepts(narrow, path, method, header):
        assert accepts(wide, path, method, header)


WEB = service("web", 80, namespace="shop")
POD = Workload(namespace="shop", labels=(("app", "web"),), services=(("shop", "web", None),))
POLICIES = [
    policy(name="one", namespace="shop", routes=selecting(one="yes")),
    policy(name="two", namespace="shop", dialect="eastgate", routes=selecting(two="yes")),
    policy(name="pods", namespace="shop", dialect="third", routes=selecting(app="web")),
]
labels = st.sampled_from([(), (("one", "yes"),), (("two", "yes"),)])
written = st.tuples(st.lists(matches, max_size=2).map(tuple), hosts, st.booleans(), labels)
scenes = st.tuples(st.lists(written, max_size=3), st.lists(written, min_size=1, max_size=3), st.booleans(), requests)


@given(st.lists(matches, max_size=6))
def test_a_route_is_unreachable_when_an_earlier_one_covers_it(listed: list[Match]) -> None:
    routes = [table(match, name=str(place)) for place, match in enumerate(listed)]
    expected = {
        str(routes[place])
        for place, narrow in enumerate(listed)
        if any(wide == narrow or (not wide.headers and covers(wide, narrow)) for wide in listed[:place])
    }
    assert {str(route) for route, _ in find_unreachable(routes)} == expected


def build_route(
    written: tuple[tuple[Match, ...], tuple[str, ...], bool, tuple[tuple[str, str], ...]],
    index: int,
    namespace: str,
    granted: bool,
) -> Route:
    some, names, listed, labelled = written
    make = table if listed or (namespace != "shop" and not granted) else http_route
    leave = (("shop", "web"),) if granted else ()
    return make(
        *some, hosts=names, index=index, namespace=namespace, destinations=(WEB,), labels=labelled, granted=leave
    )


@given(scenes, st.booleans())
def test_no_namespace_opens_or_closes_another(
    scene: tuple[
        list[tuple[tuple[Match, ...], tuple[str, ...], bool, tuple[tuple[str, str], ...]]],
        list[tuple[tuple[Match, ...], tuple[str, ...], bool, tuple[tuple[str, str], ...]]],
        bool,
        tuple[str, bytes, bytes, bytes | None],
    ],
    first: bool,
) -> None:
    ours, theirs, granted, (path, method, authority, header) = scene
    own = [build_route(one, index, "shop", False) for index, one in enumerate(ours)]
    other = [build_route(one, index, "mallory", granted) for index, one in enumerate(theirs)]
    together = compiled(*POLICIES, *(other + own if first else own + other), workload=POD)
    alone = compiled(*POLICIES, *own, workload=POD)
    sent = () if header is None else ((b"x", header),)

    def ask(plan: Plan, host: bytes) -> Guard:
        return plan.find(request(path, *sent, method=method, host=host), path.encode(), None)

    before, after = ask(alone, authority), ask(together, authority)
    matched = before.refusal is None and own
    if matched:
        assert after.refusal is None
        assert set(before.names) <= set(after.names)
        assert granted or (before.route, before.names) == (after.route, after.names)
    elif not own and not granted:
        assert after.refusal is None
        assert after.names == before.names
    elif after.refusal is None and not granted:
        # Under one of the names that the workload has anyway, whoever calls may call as well.
        names = [b"a.example", b"b.example", b"x.example", b"x", b"web.shop"]
        open_to = [ask(alone, host) for host in names]
        assert any(one.refusal is None and set(one.names) <= set(after.names) for one in open_to)
