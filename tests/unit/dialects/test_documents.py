"""YAML as kubectl reads it: scalars, positions, duplicate keys, aliases, Lists, and what does not parse."""

from __future__ import annotations

from textwrap import dedent

import pytest

from eastgate.dialects import documents
from eastgate.dialects.documents import Fields, Reporter, Value, read_documents, show
from eastgate.model.diagnostics import Diagnostic, Position


def read(text: str) -> tuple[list[Value], list[str]]:
    sink: list[Diagnostic] = []
    found = read_documents("f.yaml", text, sink)
    return found, [str(one) for one in sink]


def plain(text: str) -> object:
    found, problems = read(text)
    assert problems == []
    return [one.plain() for one in found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("on", True),
        ("y", True),
        ("FALSE", False),
        ("off", False),
        ("'yes'", "yes"),
        ("~", None),
        ("", None),
        ("0777", 511),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", 3),
        ("-12", -12),
        ("1_000", 1000),
        ("08", 8.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("0x_", "0x_"),
        ("0b_", "0b_"),
        ("-", [None]),
        ("+", "+"),
        (".", "."),
        ("!!str 12", "12"),
        ('!!int "12"', 12),
        ("! 12", "12"),
        ("9" * 50, float("9" * 50)),
        ("1e400", "1e400"),
    ],
)
def test_scalars_resolve_as_in_kubectl(text: str, value: object) -> None:
    if value == [None]:
        assert plain("a:\n- ") == [{"a": [None]}]
    else:
        assert plain(f"a: {text}") == [{"a": value}]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("y", "true"),
        ("On", "true"),
        ("no", "false"),
        ("'y'", "y"),
        ("!!str y", "y"),
        ("8080", "8080"),
        ("010", "8"),
        ("0x10", "16"),
        ("1_000", "1000"),
        ("08", "8"),
        ("1.10", "1.1"),
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("123456.5", "123456.5"),
        ("16777217.0", "1.6777216e+07"),
        ("0.00001", "1e-05"),
        ("-0.0", "-0"),
        ("1e39", "1e39"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("=", "="),
    ],
)
def test_keys_resolve_as_in_kubectl(text: str, key: str) -> None:
    """All but 1e39, which is ``.inf`` there, are what kubectl 1.36 reads."""
    assert plain(f"m: {{{text}: 1}}") == [{"m": {key: 1}}]


def test_a_key_is_the_same_however_it_is_written() -> None:
    assert read("m: {1: a, 01: b}")[1] == ["f.yaml:1: error: m.1: key `1` (here as `01`) is already set on line 1"]


def test_every_value_knows_its_line_and_path() -> None:
    (found,), _ = read("a:\n  b:\n  - c: 1\n  - d:\n      e: [x, y]\n")
    last = found.data["a"].data["b"].data[1].data["d"].data["e"].data[1]
    assert (last.path, last.position) == ("a.b[1].d.e[1]", Position("f.yaml", 5))
    assert found.data["a"].keys["b"] == Position("f.yaml", 2)


def test_documents_are_separate_and_empty_ones_left_out() -> None:
    assert plain("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_a_list_is_opened_and_its_paths_begin_at_the_item() -> None:
    (one, two), _ = read("kind: List\nitems:\n- kind: A\n  spec: {x: 1}\n- kind: List\n  items:\n  - kind: B\n")
    assert [one.plain(), two.plain()] == [{"kind": "A", "spec": {"x": 1}}, {"kind": "B"}]
    assert one.data["spec"].data["x"].path == "spec.x"
    assert two.data["kind"].position.line == 7


def test_a_key_written_twice_is_an_error() -> None:
    _, problems = read("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert problems == ["f.yaml:4: error: a.b: key `b` is already set on line 2"]


def test_anchors_and_merges() -> None:
    text = "base: &x {a: 1, b: {c: 2}}\none: *x\ntwo: {<<: *x, a: 5}\nmany: {<<: [{z: 1}, *x], w: 2}\n"
    (found,), problems = read(text)
    assert problems == []
    assert found.plain() == {
        "base": {"a": 1, "b": {"c": 2}},
        "one": {"a": 1, "b": {"c": 2}},
        "two": {"a": 5, "b": {"c": 2}},
        "many": {"w": 2, "z": 1, "a": 1, "b": {"c": 2}},
    }
    assert found.data["two"].data["b"].data["c"].path == "two.b.c"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{<<: {b: 1}, b: 5}", {"b": 5}),
        ("{b: 5, <<: {b: 1}}", {"b": 1}),
        ("{b: 5, <<: {b: 1, c: 2}, c: 7}", {"b": 1, "c": 7}),
        ("{<<: {b: 1}, <<: {b: 2}}", {"b": 2}),
        ("{<<: [{b: 1}, {b: 2, c: 3}]}", {"b": 1, "c": 3}),
        ("{b: {z: 1}, <<: {b: {c: 1}}}", {"b": {"c": 1}}),
        ("{'<<': {b: 1}}", {"<<": {"b": 1}}),
    ],
)
def test_a_merge_counts_in_its_place_as_in_kubectl(text: str, found: object) -> None:
    """YAML's own rule is another one: there, what is written always counts more. All are what kubectl 1.36 reads."""
    assert plain(f"m: {text}") == [{"m": found}]


def test_json_objects_one_after_another() -> None:
    """As ``jq`` writes them, on a line each or over many; kubectl reads them."""
    assert plain('\n{"a": 1}\n{"b": "}\\n{"}\n\n{\n  "c": {\n  }\n}\n') == [{"a": 1}, {"b": "}\n{"}, {"c": {}}]
    (_, second), _ = read('{\n"a": 1\n}\n{"b":\n2}\n')
    assert second.data["b"].position == Position("f.yaml", 5)
    for text in ('{"a": 1} {"b": 2}', '{"a": 1}\n{"b": }', '{"a": 1}\n["b"]', '{"a": 1}\n}'):
        assert "not valid YAML" in read(text)[1][0]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: {~: 1}", 1, "a mapping key must not be null"),
        ("a: [1, 2", 1, "expected ',' or ']'"),
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", 2, "'\\t'"),
        ("a: &a [*a]", 1, "alias `*a` has no anchor before it"),
        ("a: *nobody", 1, "alias `*nobody` has no anchor before it"),
        ("a: {<<: 1}", 1, "`<<` takes a mapping"),
        ("? [a]\n: 1", 1, "a mapping key must be a scalar"),
        ("a: !!binary aGk=", 1, "is not accepted"),
        ("a: !mine {b: 1}", 1, "is not accepted"),
        ("a: \x01", 1, "special characters are not allowed"),
        ("a: 1\nb: \ud800", 2, "special characters are not allowed"),
        ("[" * 200, 1, "nested deeper than 100"),
        ("[" * 100_000, 1, "nested deeper than 100"),
        ('{"a": "\\ud800"}', 1, "surrogate"),
    ],
)
def test_what_does_not_parse_says_where(text: str, line: int, part: str) -> None:
    found, problems = read(text)
    assert found == []
    (problem,) = problems
    assert problem.startswith(f"f.yaml:{line}: error: not valid YAML: ")
    assert part in problem


def test_documents_before_a_syntax_error_are_kept() -> None:
    found, problems = read("a: 1\n---\nb: [\n")
    assert [one.plain() for one in found] == [{"a": 1}]
    assert len(problems) == 1


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found, problems = read("\n".join(lines))
    assert found == []
    assert "more than 100000 values by aliases" in problems[0]


def test_json_with_tabs_and_surrogate_pairs() -> None:
    assert plain('{\n\t"a": [1, true, null],\n\t"b": "x\\/y"\n}') == [{"a": [1, True, None], "b": "x/y"}]
    assert plain('{"a": "\\ud83d\\ude00"}') == [{"a": "😀"}]


def test_without_libyaml_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {b: yes, c: [1, '2']}\nd: {<<: *x, e: |\n    text\n  }\n---\nf: 1\n"
    fast = [one.plain() for one in read("a: &x {b: yes, c: [1, '2']}\nd: {<<: *x}\n---\nf: 1\n")[0]]
    monkeypatch.setattr(documents, "_fast_parser", documents._PureParser)
    assert [one.plain() for one in read("a: &x {b: yes, c: [1, '2']}\nd: {<<: *x}\n---\nf: 1\n")[0]] == fast
    assert read(text)[1] != []


def test_show_is_one_short_line() -> None:
    assert show("a\nb") == "`a\\nb`"
    assert len(show("x" * 500)) == 82


# --- Fields ---------------------------------------------------------------------------------------------------------


def fields(text: str) -> tuple[Fields, list[Diagnostic]]:
    sink: list[Diagnostic] = []
    (found,), _ = read(text)
    return Fields(found, Reporter(sink, "Kind ns/name")), sink


def test_a_field_nobody_asked_for_is_an_error_with_the_nearest_name() -> None:
    found, sink = fields("isuer: x\naudiences: []\n")
    with found:
        found.text("issuer")
        found.texts("audiences")
    assert [str(one) for one in sink] == [
        "f.yaml:1: error: Kind ns/name isuer: unknown field `isuer` (did you mean `issuer`?); accepted: audiences, issuer"
    ]


@pytest.mark.parametrize(
    ("text", "method", "arguments", "message"),
    [
        ("a: 1", "text", {}, "expected a string (quote it), found an integer `1`"),
        ("a: {b: 1}", "text", {}, "expected a string, found a mapping `{\"b\": 1}`"),
        ("a: ''", "text", {"required": True}, "`a` is required and must not be empty"),
        ("b: 1", "text", {"required": True}, "`a` is required and must not be empty"),
        ("a: xxx", "text", {"longest": 2}, "at most 2 characters, found 3"),
        ("a: 'true'", "boolean", {}, "expected true or false (without quotes), found a string `true`"),
        ("a: true", "integer", {}, "expected an integer, found a boolean `true`"),
        ("a: 70000", "integer", {"least": 1, "most": 65535}, "expected an integer from 1 to 65535, found `70000`"),
        ("a: -1", "integer", {"least": 0}, "expected an integer from 0, found `-1`"),
        ("a: Alow", "choice", {"accepted": ("Allow", "Deny"), "default": "Deny"},
         "unknown value `Alow` (did you mean `Allow`?); accepted: Allow, Deny"),
        ("a: x", "items", {}, "expected a list, found a string `x`"),
        ("a: [1, 2]", "items", {"most": 1}, "at most 1 entries, found 2"),
        ("a: [1]", "texts", {}, "expected a string (quote it), found an integer `1`"),
        ("a: {b: 1}", "labels", {}, "expected a string (quote it), found an integer `1`"),
        ("a: x", "mapping", {}, "expected a mapping, found a string `x`"),
    ],
)  # fmt: skip
def test_wrong_types_and_values(text: str, method: str, arguments: dict[str, object], message: str) -> None:
    found, sink = fields(text)
    getattr(found, method)("a", **arguments)
    assert [one.message for one in sink] == [message]
    assert sink[0].field.startswith("a")


def test_null_is_absent() -> None:
    found, sink = fields("a: null\nb:\n")
    assert not found.has("a")
    assert found.items("b") == ()
    assert found.mapping("a").data == {}
    assert sink == []


def test_choose_one_of_several() -> None:
    found, sink = fields("a: 1\nb: 2\n")
    assert found.choose("a", "b", "c") == "a"
    assert found.choose("d", "e", required=True) is None
    assert [one.message for one in sink] == [
        "only one of `a`, `b`, `c` may be set, found `a` and `b`",
        "one of `d`, `e` is required",
    ]


# --- lists, and what people cannot see -----------------------------------------------------------------------------


def test_a_list_of_the_api_gives_its_items_their_kind() -> None:
    text = """
        apiVersion: example.dev/v1
        kind: ThingList
        items:
        - metadata: {name: a}
          spec: {x: 1}
        - {apiVersion: other/v2, kind: Other}
    """
    sink: list[Diagnostic] = []
    first, second = read_documents("a.yaml", dedent(text), sink)
    assert first.plain() == {
        "apiVersion": "example.dev/v1",
        "kind": "Thing",
        "metadata": {"name": "a"},
        "spec": {"x": 1},
    }
    assert first.data["spec"].data["x"].path == "spec.x"
    assert first.position.line == 5
    assert second.plain() == {"apiVersion": "other/v2", "kind": "Other"}
    assert sink == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: List\nitems: {a: 1}",
            "a.yaml:2: error: List items: expected a list, found a mapping: nothing in it is read",
        ),
        ("kind: List\nitem: []", "a.yaml:1: error: List items: `items` is missing: nothing in it is read"),
        (
            "kind: ThingList\nitems: x",
            "a.yaml:2: error: ThingList items: expected a list, found a string: nothing in it is read",
        ),
    ],
)
def test_a_list_that_is_none_is_refused(text: str, message: str) -> None:
    sink: list[Diagnostic] = []
    assert read_documents("a.yaml", text, sink) == []
    assert [str(one) for one in sink] == [message]


@pytest.mark.parametrize("text", ["kind: List\nitems: []", "kind: List\nitems: null", "kind: ThingList\nitems: []"])
def test_an_empty_list_is_fine(text: str) -> None:
    sink: list[Diagnostic] = []
    assert read_documents("a.yaml", text, sink) == []
    assert sink == []


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a:\n  b: {{ .Values.x }}\n", 2, "render it first (`helm template`)"),
        ("a:\n\tb: 1\n", 2, "the line is indented with a tab: YAML wants spaces"),
        ("a:\n  b:\u00a0c\n  d: e\n", 3, "there is an invisible character (U+00A0) here or on the line before"),
    ],
)
def test_where_yaml_gives_up_the_likely_cause_is_said(text: str, line: int, hint: str) -> None:
    sink: list[Diagnostic] = []
    read_documents("a.yaml", text, sink)
    (one,) = sink
    assert one.position.line == line
    assert one.message.endswith(hint)
