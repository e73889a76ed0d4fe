"""Properties of reading: total, the same with and without libyaml, and never a shorter policy by a mistake in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from eastgate.dialects import documents
from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.documents import read_documents
from eastgate.dialects.durations import parse_duration
from eastgate.dialects.scalars import read_scalar
from eastgate.model.diagnostics import Diagnostic, Severity
from tests.examples import examples
from tests.unit.dialects.reading import GLOO, OWN, policy_text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=15
)

SOUP = st.lists(
    st.sampled_from(
        ["a", "b: ", "- ", "\n", "  ", "{", "}", "[", "]", ",", ":", "&x ", "*x", "<<: ", "|\n", ">-\n", "'", '"', "#",
         "---\n", "yes", "0x1", "1.5", "!!str ", "? ", "\t", "%", "...", "é", "~"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


def read(text: str) -> tuple[list[Any], list[Diagnostic]]:
    sink: list[Diagnostic] = []
    return [one.plain() for one in read_documents("f.yaml", text, sink)], sink


@given(DATA)
def test_json_is_read_as_it_was_written(data: Any) -> None:
    found, problems = read(json.dumps({"kind": "X", "data": data}))
    assert (found, problems) == ([{"kind": "X", "data": data}], [])


@given(DATA)
def test_what_pyyaml_writes_is_read_back(data: Any) -> None:
    text = yaml.safe_dump({"kind": "X", "data": data}, allow_unicode=True)
    found, problems = read(text)
    assert problems == []
    # PyYAML leaves words like `y` and `08` unquoted that kubectl takes for something else.
    if all(isinstance(read_scalar(one), str) for one in list_texts(data) if one):
        assert found == [{"kind": "X", "data": data}]


def list_texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list | dict):
        for one in [*data, *(data.values() if isinstance(data, dict) else ())]:
            yield from list_texts(one)


@given(SOUP)
@examples(300)
def test_any_text_gives_documents_or_a_reason(text: str) -> None:
    found, problems = read(text)
    assert all(one.position.line <= text.count("\n") + 2 for one in problems)
    assert all(one is not None for one in found)
    read_policy_set([("f.yaml", text)])


@given(SOUP)
@examples(300)
def test_both_parsers_agree_where_both_accept(text: str) -> None:
    fast, fast_problem = documents._read_with(documents._fast_parser, "f.yaml", text, True)
    pure, pure_problem = documents._read_with(documents._PureParser, "f.yaml", text, True)
    if fast_problem is None and pure_problem is None:
        assert [one.plain() for one in fast.found] == [one.plain() for one in pure.found]
        assert fast.duplicates == pure.duplicates


KEYS = st.sampled_from(
    ["applyToRoutes", "applyToDestinations", "route", "labels", "namespace", "withDestinations", "selector", "port",
     "number", "name", "kind", "config", "providers", "dev", "local", "inline", "remote", "url", "destinationRef", "ref",
     "claims", "key", "path", "values", "notValues", "requiredScopes", "tokenSource", "headers", "queryParams", "cookies",
     "claimsToHeaders", "header", "claim", "phase", "preAuthz", "postAuthz", "priority", "validationPolicy", "missing",
     "authorization", "rules", "action", "paths", "addresses", "hosts", "http", "forwardTo", "destinations", "delegate",
     "routeTables", "matchers", "uri", "prefix", "regex", "method", "workloadSelectors", "pathRewrite", "regexRewrite",
     "pattern", "substitution", "secretRef", "objectRef", "configMapRef", "retryPolicy", "backoff", "cacheDuration"]
)  # fmt: skip
WORDS = st.sampled_from(["", "a", "x", "Allow", "SERVICE", "5s", "https://a/k", "/a", "(", "*", "10.0.0.0/8", "\\9"])
SPECS = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
KINDS = st.sampled_from(
    [(GLOO, "JWTPolicy"), (OWN, "JWTPolicy"), (OWN, "RouteTable"), ("networking.gloo.solo.io/v2", "RouteTable"),
     ("networking.gloo.solo.io/v2", "ExternalService"), ("v1", "Service"), ("v1", "Secret"),
     ("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy"), ("gateway.networking.k8s.io/v1", "HTTPRoute")]
)  # fmt: skip


@given(st.lists(st.tuples(KINDS, SPECS, st.sampled_from(["a", "x"])), max_size=4))
@examples(300)
def test_reading_is_total(objects: list[tuple[tuple[str, str], Any, str]]) -> None:
    items = [
        {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec, "data": spec}
        for (api, kind), spec, name in objects
    ]
    found = read_policy_set([("f.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))])
    assert [one for one in found.diagnostics if one.code == "internal-error"] == []
    if found.policies or found.routes:
        broken = any(one.severity is Severity.ERROR for one in found.diagnostics)
        assert broken or not any([one.invalid for one in found.policies] + [one.invalid for one in found.routes])


@given(SPECS)
@examples(200)
def test_a_policy_is_whole_or_invalid_and_never_selects_less_by_a_mistake(selectors: Any) -> None:
    text = policy_text(spec="applyToRoutes: " + json.dumps(selectors))
    (policy,) = read_policy_set([("f.yaml", text)]).policies
    assert policy.everything or policy.routes or policy.destinations
    if policy.invalid:
        assert policy.everything


@given(st.integers(0, 8759), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    expected = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    assert abs((parse_duration(text) or 0) - expected) < 1e-6


@given(TEXT)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration(text) is None or text[:1] in "0123456789."
