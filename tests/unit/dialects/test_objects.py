"""Objects that are JSON values already, and what a reading asks for and keeps."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from eastgate.dialects.catalogue import Reference
from eastgate.dialects.corpus import Document, parse_object, read_objects, read_parsed, read_policy_set
from eastgate.dialects.documents import MAX_DEPTH
from eastgate.model.diagnostics import Diagnostic

from .reading import PEM

Data = dict[str, Any]


def policy(name: str = "p", **provider: Any) -> Data:
    config = {"providers": {"dev": provider or {"local": {"inline": PEM}}}}
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "policy.eastgate.dev/v1alpha1",
        "kind": "JWTPolicy",
        "metadata": metadata,
        "spec": {"config": config},
    }


def table(*destinations: Data, **spec: Any) -> Data:
    http = [{"forwardTo": {"destinations": [{"ref": one, "port": {"number": 80}} for one in destinations]}}]
    metadata = {"name": "t", "namespace": "shop"}
    body = {"hosts": ["a.example"], "http": http, **spec}
    return {"apiVersion": "policy.eastgate.dev/v1alpha1", "kind": "RouteTable", "metadata": metadata, "spec": body}


def config_map(name: str = "keys", **data: str) -> Data:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}


def service(name: str) -> Data:
    metadata, spec = {"name": name, "namespace": "shop"}, {"ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def from_config_map(key: str = "k", **reference: str) -> Data:
    return {"local": {"configMapRef": {"name": "keys", "key": key, **reference}}}


def parse(*objects: object) -> list[Document]:
    return [parse_object(f"object {index}", one) for index, one in enumerate(objects)]


def messages(found: tuple[Diagnostic, ...]) -> list[str]:
    return [str(one) for one in found]


class TestReading:
    @pytest.mark.parametrize(
        "found",
        [
            policy(),
            policy(local={"inline": 7}),
            policy(mistake=[1, {"a": None}]),
            table({"name": "web"}),
            table({"name": "web"}, weight="ten"),
            config_map(k="v"),
            {"apiVersion": "v1", "kind": "Job", "metadata": {"generateName": "x"}},
            {"apiVersion": "policy.eastgate.dev/v1alpha1", "kind": "JWTPolcy", "metadata": {"name": "p"}},
            {
                "apiVersion": "policy.eastgate.dev/v2",
                "kind": "JWTPolicy",
                "metadata": {"name": "P", "labels": {"a b": "c"}},
            },
            {"metadata": {}},
            [],
            "text",
        ],
    )
    def test_says_what_reading_the_text_says(self, found: object) -> None:
        assert read_objects([("file", found)]) == read_policy_set([("file", json.dumps(found))])

    def test_positions_are_the_object_and_the_field_path(self) -> None:
        (one,) = read_objects([("JWTPolicy shop/p", policy(isuer="x", local={"inline": PEM}))]).diagnostics
        assert str(one.position) == "JWTPolicy shop/p:1"
        assert one.field == "spec.config.providers.dev.isuer"

    def test_twice_the_same_object(self) -> None:
        found = read_objects([("a", policy()), ("b", policy())])
        assert messages(found.diagnostics) == ["b:1: error: JWTPolicy shop/p: already defined at a:1; only one may be"]
        assert [one.invalid != () for one in found.policies] == [True]

    def test_twice_on_one_line_of_a_text(self) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy(), policy()]})
        assert len(read_policy_set([("a", text)]).policies) == 1

    def test_a_list_is_not_an_object(self) -> None:
        found = read_objects([("a", {"apiVersion": "v1", "kind": "List", "items": [policy()]})])
        assert found.policies == ()
        assert "expected one object" in messages(found.diagnostics)[0]

    @pytest.mark.parametrize("wrong", [{1: "x"}, {"a": {"b", "c"}}, {"a": b"bytes"}, {"a": "\ud800"}, {"\udfff": 1}])
    def test_what_is_no_json_is_refused(self, wrong: object) -> None:
        (one,) = read_objects([("a", wrong)]).diagnostics
        assert one.code == "not-json"

    def test_nesting_has_a_limit(self) -> None:
        deep: Any = "x"
        for _ in range(MAX_DEPTH + 1):
            deep = [deep]
        (one,) = read_objects([("a", deep)]).diagnostics
        assert "nested deeper" in one.message

    @pytest.mark.parametrize("number", [10**39, -(10**39), 10**400, float("inf")])
    def test_huge_numbers_are_survived(self, number: float) -> None:
        found = read_objects([("a", table({"name": "web"}, weight=number))])
        assert [one.code for one in found.diagnostics] == ["wrong-type"]


class TestAsked:
    def ask(self, *objects: Data) -> set[Reference]:
        asked = set[Reference]()
        read_parsed(parse(*objects), asked)
        return asked

    def test_what_is_there_and_what_is_not(self) -> None:
        assert self.ask(policy(**from_config_map())) == {Reference("", "ConfigMap", "shop", "keys")}
        found = self.ask(policy(**from_config_map()), config_map(k=PEM, other="x"))
        assert found == {Reference("", "ConfigMap", "shop", "keys"), Reference("", "ConfigMap", "shop", "keys", "k")}

    def test_no_value_that_may_not_be_read(self) -> None:
        elsewhere = config_map(k="a secret")
        elsewhere["metadata"]["namespace"] = "far"
        found = self.ask(policy(**from_config_map(namespace="far")), elsewhere)
        assert found == {Reference("", "ConfigMap", "far", "keys")}

    def test_again_when_nothing_changed(self) -> None:
        documents = parse(policy(**from_config_map()), config_map(k=PEM), table({"name": "web"}))
        found = []
        for _ in range(2):
            asked = set[Reference]()
            read_parsed(documents, asked)
            found.append(asked)
        assert found[0] == found[1]
        assert Reference("", "Service", "shop", "web") in found[1]


class TestKept:
    """What readers made of an object is kept with it, and only as long as it is what they would make again."""

    def test_equal_to_a_reading_from_scratch_whatever_comes_and_goes(self) -> None:
        fixed = [policy(**from_config_map()), table({"name": "web"}), policy("q", **from_config_map("other"))]
        documents = parse(*fixed)
        additions: list[list[Data]] = [
            [], [config_map(k=PEM)], [config_map(k="changed")], [config_map(other=PEM)], [service("web")],
            [service("wep")], [config_map("keyz", k=PEM)], [service("web"), config_map(k=PEM)], [],
        ]  # fmt: skip
        for added in additions:
            kept = read_parsed([*documents, *parse(*added)])
            assert kept == read_parsed([*parse(*fixed), *parse(*added)])

    def test_the_same_policy_is_not_read_again(self) -> None:
        documents = parse(policy(), policy("q"))
        first, second = read_parsed(documents), read_parsed([*documents, *parse(policy("r"))])
        assert second.policies[0] is first.policies[0]

    def test_a_table_is_not_marked_by_an_earlier_delegation(self) -> None:
        child = table({"name": "web"})
        del child["spec"]["hosts"]
        root = table()
        root["metadata"] = {"name": "root", "namespace": "shop"}
        root["spec"]["http"] = [{"delegate": {"routeTables": [{"name": "t", "namespace": "shop"}]}}]
        documents = parse(child)
        broken = copy.deepcopy(root)
        broken["spec"]["http"][0]["matchers"] = [{"method": "GET"}]
        documents_of_child = read_parsed(documents)
        child["spec"]["http"][0]["matchers"] = [{"method": "PUT"}]
        documents = parse(child)
        assert any(one.invalid for one in read_parsed([*documents, *parse(broken)]).routes)
        assert not any(one.invalid for one in read_parsed([*documents, *parse(root)]).routes)
        assert not any(one.invalid for one in documents_of_child.routes)

    def test_suggestions_end_at_the_same_finding(self) -> None:
        wrong = [policy(f"p{index}", isuer="x", local={"inline": PEM}) for index in range(120)]
        documents = parse(*wrong)
        for start in (0, 30, 0):
            assert read_parsed(documents[start:]) == read_parsed(parse(*([None] * start), *wrong[start:])[start:])
