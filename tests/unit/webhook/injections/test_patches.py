"""Applying ``add``, against RFC 6902's own examples and what must fail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.webhook.injections.scenes import apply_independently
from webhook.injections.patches import PatchError, add, apply, prefix, to_pointer


@pytest.mark.parametrize(
    ("document", "path", "value", "expected"),
    [
        ({"foo": "bar"}, ("baz",), "qux", {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, ("foo", 1), "qux", {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, ("foo", "-"), ["abc", "def"], {"foo": ["bar", ["abc", "def"]]}),
        ({"foo": ["bar"]}, ("foo", 1), 2, {"foo": ["bar", 2]}),
        ({"foo": 1}, ("foo",), 2, {"foo": 2}),
        ({"foo": None}, ("foo",), {}, {"foo": {}}),
        ({}, ("a/b~c",), 1, {"a/b~c": 1}),
        ({"a": {"/": [{}]}}, ("a", "/", 0, "x"), None, {"a": {"/": [{"x": None}]}}),
        ({"0": {}}, ("0", "1"), 1, {"0": {"1": 1}}),
    ],
)
def test_apply(document: dict[str, Any], path: tuple[str | int, ...], value: Any, expected: Any) -> None:
    patch = [add(path, value)]
    assert apply(document, patch) == expected
    assert apply_independently(document, patch) == expected
    assert apply({"in": [0, document]}, prefix(patch, ("in", 1))) == {"in": [0, expected]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "add", "path": "/list/3", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": "/list/-/x", "value": 1},
        {"op": "add", "path": "/list/2/x", "value": 1},
        {"op": "add", "path": "/text/x", "value": 1},
        {"op": "add", "path": "list", "value": 1},
        {"op": "add", "path": "", "value": 1},
        {"op": "add", "path": "/x"},
        {"op": "replace", "path": "/text", "value": 1},
        {"op": "remove", "path": "/text"},
        {"op": "add", "path": "/text", "value": 1, "from": "/x"},
    ],
)
def test_what_does_not_fit(operation: dict[str, Any]) -> None:
    with pytest.raises(PatchError):
        apply({"list": [1, 2], "text": "x"}, [operation])


def test_the_document_given_stays() -> None:
    document = {"a": {"b": [1]}}
    assert apply(document, [add(("a", "b", 0), 0), add(("a", "c"), 2)]) == {"a": {"b": [0, 1], "c": 2}}
    assert document == {"a": {"b": [1]}}
    assert to_pointer(()) == ""
