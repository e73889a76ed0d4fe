"""What ``eastgate inject`` prints, kubectl reads back as the same objects."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eastgate.cli.manifests import normalise, write_json, write_yaml
from eastgate.dialects.documents import read_documents

ODD = """y n yes No ON off true False null NULL ~ 0777 0o17 0x1F 0b1 1e3 1.0 .5 .inf .nan 1_000 1:30 2026-01-01 - -- --- ... = <<
 - a - : a: b #c a #b 'q' "d" & * ! | > % @ ` {} [] , ? key -1 +1 +.5 00 08 1e 0x""".split()  # noqa: SIM905

texts = st.sampled_from(
    [*ODD, "", " ", "a\n", "\n", "a\n b\n", " a\nb", "a\n\n", "\ta", "a \nb", "---\na", "#\n"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@example([{"y": "n", "0777": "0o17", "on": ["1:30", "=", "<<"], "": ""}])
@example([{"a": "\x85\u2028\ufeff\x7f\x00\U0001f600"}])
@given(st.lists(st.dictionaries(texts, values, min_size=1, max_size=3), min_size=1, max_size=3))
def test_round_trip(objects: list[dict[str, Any]]) -> None:
    text = write_yaml(objects)
    problems: list[Any] = []
    found = [value.plain() for value in read_documents("output", text, problems, open_lists=False)]
    assert problems == []
    assert json.dumps([normalise(one) for one in found]) == json.dumps([normalise(one) for one in objects])
    # JSON is the same for any reader.
    written = json.loads(write_json(objects))  # type: ignore[arg-type]
    assert written == (
        normalise(objects[0])
        if len(objects) == 1
        else {"apiVersion": "v1", "kind": "List", "items": normalise(objects)}
    )


def test_whole_numbers() -> None:
    assert write_yaml([{"a": 1e3, "b": 0.5, "c": -0.0}]) == "a: 1000\nb: 0.5\nc: 0\n"
    assert yaml.safe_load(write_yaml([{"a": "1000"}])) == {"a": "1000"}
