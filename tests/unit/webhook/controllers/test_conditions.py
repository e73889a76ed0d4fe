"""What authors are told in the status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from webhook.controllers.conditions import LONGEST_MESSAGE, Judgement, Progress, judge
from webhook.controllers.state import ClusterState

from .clusters import Data, config_map, entry, http_route, labelled, policy, security_policy, service, table

DONE = {"shop": Progress("digest", announced=2, pods=3)}
OLD, NEW = "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"


def judge_all(*objects: Data, progress: Mapping[str, Progress] = DONE, namespace: str = "shop") -> dict[str, Judgement]:
    state = ClusterState()
    for one in objects:
        state.put(one)
    found = judge(state.build(namespace), progress)
    return {f"{one.kind}/{one.name}": judgement for one, judgement in found.items()}


def say(judgement: Judgement) -> dict[str, tuple[str, str, str]]:
    return {
        str(one["type"]): (str(one["status"]), str(one["reason"]), str(one["message"])) for one in judgement.conditions
    }


class TestFine:
    def test_a_policy(self) -> None:
        found = judge_all(
            policy("shop", "p", metadata_generation=3),
            table("shop", "t", entry("web"), entry("web", prefix="/b")),
            service("shop", "web"),
        )["JWTPolicy/p"]
        assert say(found) == {
            "Accepted": ("True", "Accepted", ""),
            "ResolvedRefs": ("True", "ResolvedRefs", ""),
            "Conflicted": ("False", "NoConflicts", ""),
            "Programmed": ("True", "Programmed", "announced to 2 of 3 pods"),
        }
        assert found.routes == 2
        assert {one["observedGeneration"] for one in found.conditions} == {3}
        assert all("lastTransitionTime" not in one for one in found.conditions)

    def test_a_table(self) -> None:
        found = judge_all(table("shop", "t", entry("web")), service("shop", "web"))["RouteTable/t"]
        assert list(say(found)) == ["Accepted", "ResolvedRefs", "Programmed"]
        assert found.routes == 1

    def test_objects_of_other_namespaces_are_judged_there(self) -> None:
        assert list(judge_all(policy("edge", "p"), table("edge", "t", entry("web", "shop")), policy("shop", "q"))) == [
            "JWTPolicy/q"
        ]

    def test_a_policy_that_comes_before_its_routes_is_accepted_with_a_warning(self) -> None:
        status, reason, message = say(
            judge_all(policy("shop", "p", labelled(app="x")), table("shop", "t", entry("web")))["JWTPolicy/p"]
        )["Accepted"]
        assert (status, reason) == ("True", "Accepted")
        assert message == "with a warning: spec.applyToRoutes: selects none of the routes in shop: none has app=x"


class TestAccepted:
    def test_the_field_and_what_is_wrong_with_it(self) -> None:
        found = say(judge_all(policy("shop", "p", applyToRutes=[]))["JWTPolicy/p"])
        assert found["Accepted"] == (
            "False",
            "Invalid",
            "spec.applyToRutes: unknown field `applyToRutes` (did you mean `applyToRoutes`?); accepted: "
            "applyToDestinations, applyToRoutes, config",
        )
        assert found["ResolvedRefs"][0] == "True"
        assert found["Programmed"] == (
            "False",
            "Invalid",
            "requests that it could apply to are refused (503); announced to 2 of 3 pods",
        )

    def test_what_review_finds(self) -> None:
        keys = {"local": {"inline": "no key"}}
        accepted = say(judge_all(policy("shop", "p", keys=keys))["JWTPolicy/p"])["Accepted"]
        assert accepted[:2] == ("False", "Invalid")
        assert accepted[2].startswith("spec.config.providers.dev.local.inline: no usable key in inline")

    def test_a_route_by_its_entry(self) -> None:
        broken = entry("web") | {"mistake": 1, "name": "first"}
        message = say(judge_all(table("shop", "t", broken))["RouteTable/t"])["Accepted"][2]
        assert message.startswith("spec.http[0].mistake: unknown field `mistake`")

    def test_many_errors_are_counted(self) -> None:
        message = say(judge_all(policy("shop", "p", a=1, b=1, c=1, d=1, e=1))["JWTPolicy/p"])["Accepted"][2]
        assert message.count("unknown field") == 3
        assert message.endswith("; and 2 more")

    def test_a_message_has_a_bound_and_no_line_of_its_own(self) -> None:
        message = say(judge_all(policy("shop", "p", **{"x\n" * 2000: 1, "y" * 1500: 2}))["JWTPolicy/p"])["Accepted"][2]
        assert len(message) <= LONGEST_MESSAGE
        assert message.isprintable()

    def test_an_unknown_provider_of_the_policy_itself_is_no_reference(self) -> None:
        config = {"authorization": {"rules": [{"action": "Allow", "provider": "nobody"}]}}
        found = say(judge_all(policy("shop", "p", config=config))["JWTPolicy/p"])
        assert (found["Accepted"][0], found["ResolvedRefs"][0]) == ("False", "True")


class TestReferences:
    keys: ClassVar[Data] = {"local": {"configMapRef": {"name": "keys", "key": "k"}}}

    def test_what_is_not_there(self) -> None:
        found = say(judge_all(policy("shop", "p", keys=self.keys))["JWTPolicy/p"])
        assert found["Accepted"][0] == "True"
        assert found["ResolvedRefs"] == (
            "False",
            "RefNotFound",
            "spec.config.providers.dev.local.configMapRef: refers to what is not there: ConfigMap `shop/keys`",
        )
        assert found["Programmed"][1] == "Invalid"

    def test_a_key_that_is_not_there(self) -> None:
        message = say(judge_all(policy("shop", "p", keys=self.keys), config_map("shop", "keys", j="x"))["JWTPolicy/p"])[
            "ResolvedRefs"
        ][2]
        assert message.endswith("ConfigMap `shop/keys` has no key `k`; it has: `j`")

    def test_what_is_not_granted(self) -> None:
        keys = {"local": {"configMapRef": {"name": "keys", "namespace": "far", "key": "k"}}}
        found = say(judge_all(policy("shop", "p", keys=keys), config_map("far", "keys", k="x"))["JWTPolicy/p"])
        assert found["ResolvedRefs"][:2] == ("False", "RefNotPermitted")

    def test_a_target_that_is_not_there(self) -> None:
        found = say(judge_all(security_policy("shop", "p", {"kind": "HTTPRoute", "name": "r"}))["SecurityPolicy/p"])
        assert found["ResolvedRefs"][2] == "spec.targetRefs[0].name: refers to what is not there: HTTPRoute `shop/r`"


class TestConflicts:
    def test_the_winner_and_the_routes(self) -> None:
        found = judge_all(
            policy("shop", "old", metadata_creationTimestamp=OLD), policy("shop", "new", metadata_creationTimestamp=NEW),
            table("shop", "t", *(entry("web", prefix=f"/{index}") for index in range(5))), service("shop", "web"),
        )  # fmt: skip
        assert say(found["JWTPolicy/old"])["Conflicted"][0] == "False"
        assert say(found["JWTPolicy/new"])["Conflicted"] == (
            "True",
            "Conflicted",
            "conflicts with existing policy applied to route RouteTable shop/t [0], RouteTable shop/t [1], RouteTable shop/t [2] "
            "and 2 more: skipping JWTPolicy shop/new, JWTPolicy shop/old is older",
        )
        assert (found["JWTPolicy/old"].routes, found["JWTPolicy/new"].routes) == (5, 0)

    def test_a_policy_of_another_namespace_on_the_own_routes(self) -> None:
        found = judge_all(
            policy("shop", "p"),
            policy("edge", "p", labelled("shop"), metadata_creationTimestamp=OLD),
            table("shop", "t", entry("web")),
        )["JWTPolicy/p"]
        assert "JWTPolicy edge/p is older" in say(found)["Conflicted"][2]

    def test_routes_elsewhere_count(self) -> None:
        found = judge_all(
            policy("shop", "p", labelled("far", app="a")), table("far", "t", entry("web", app="a")), progress={}
        )
        assert found["JWTPolicy/p"].routes == 1

    def test_two_attached_to_one_route(self) -> None:
        targets = {"kind": "HTTPRoute", "name": "r"}
        found = judge_all(
            security_policy("shop", "a", targets), security_policy("shop", "b", targets), http_route("shop", "r", "web")
        )
        assert say(found["SecurityPolicy/b"])["Conflicted"][2].startswith("unable to target HTTPRoute shop/r rule")


class TestProgrammed:
    @pytest.mark.parametrize(
        ("progress", "expected"),
        [
            ({}, ("False", "NotInjected", "no namespace that it acts in is labelled `eastgate.dev/injection`")),
            ({"shop": Progress(None)}, ("False", "Pending", "the bundle of namespace `shop` is not written yet")),
            (
                {"shop": Progress(None, trouble="too large: 9 MiB, at most 6 MiB")},
                ("False", "BundleNotWritten", "namespace `shop`: too large: 9 MiB, at most 6 MiB"),
            ),
            (
                {"shop": Progress("d", 1, 2, "too large: 9 MiB, at most 6 MiB")},
                (
                    "False",
                    "BundleNotWritten",
                    "namespace `shop`: too large: 9 MiB, at most 6 MiB; the bundle before it stays in force",
                ),
            ),
            ({"shop": Progress("d")}, ("True", "Programmed", "announced to 0 of 0 pods")),
            (
                {"shop": Progress("d", 1, 2), "far": Progress("d", 5, 5)},
                ("True", "Programmed", "announced to 1 of 2 pods"),
            ),
        ],
    )
    def test_of_the_bundle(self, progress: Mapping[str, Progress], expected: tuple[str, str, str]) -> None:
        assert say(judge_all(policy("shop", "p"), progress=progress)["JWTPolicy/p"])["Programmed"] == expected

    def test_a_policy_acts_where_its_routes_lead(self) -> None:
        progress = {"shop": Progress("d", 1, 2), "far": Progress("d", 5, 5)}
        found = judge_all(
            policy("edge", "p"), table("edge", "t", entry("web", "far")), progress=progress, namespace="edge"
        )
        assert say(found["JWTPolicy/p"])["Programmed"][2] == "announced to 5 of 5 pods"

    def test_a_central_policy(self) -> None:
        found = judge_all(policy("edge", "p", labelled("shop")), namespace="edge")
        assert say(found["JWTPolicy/p"])["Programmed"][2] == "announced to 2 of 3 pods"
