"""Where conditions are written, and when not."""

from __future__ import annotations

from typing import Any

from eastgate.dialects.kinds import ENVOY_GROUP, GATEWAY_GROUP, OWN_GROUP
from webhook.controllers.statuses import CONTROLLER, render_status

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
ROUTE = {"group": GATEWAY_GROUP, "kind": "HTTPRoute", "name": "route"}


def say(status: str = "True", message: str = "", generation: int = 1) -> dict[str, Any]:
    return {
        "type": "Accepted",
        "status": status,
        "reason": "Accepted",
        "message": message,
        "observedGeneration": generation,
    }


def found(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "JWTPolicy",
        "metadata": {"name": "a"},
        "spec": spec,
        **({} if status is None else {"status": status}),
    }


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = render_status(OWN_GROUP, "JWTPolicy", found(), [say()], NOW)
    assert first == {"conditions": [{**say(), "lastTransitionTime": NOW}]}
    assert render_status(OWN_GROUP, "JWTPolicy", found(first), [say()], LATER) is None
    worded = render_status(OWN_GROUP, "JWTPolicy", found(first), [say(message="more", generation=2)], LATER)
    assert worded == {"conditions": [{**say(message="more", generation=2), "lastTransitionTime": NOW}]}
    changed = render_status(OWN_GROUP, "JWTPolicy", found(first), [say("False")], LATER)
    assert changed == {"conditions": [{**say("False"), "lastTransitionTime": LATER}]}


def test_conditions_of_others_stay_where_they_are() -> None:
    other = {"type": "Theirs", "status": "True", "reason": "x", "message": "", "lastTransitionTime": NOW}
    own = {**say(), "lastTransitionTime": NOW}
    for before in ([other, own], [own, other]):
        assert render_status(OWN_GROUP, "JWTPolicy", found({"conditions": before}), [say()], LATER) is None
        after = render_status(OWN_GROUP, "JWTPolicy", found({"conditions": before}), [say("False")], LATER)
        assert after is not None
        assert [one["type"] for one in after["conditions"]] == [one["type"] for one in before]
        assert other in after["conditions"]


def test_a_security_policy_says_it_under_its_ancestors() -> None:
    theirs = {"ancestorRef": ROUTE, "controllerName": "example.com/other", "conditions": [say()]}
    policy = found({"ancestors": [theirs]}, targetRefs=[ROUTE])
    status = render_status(ENVOY_GROUP, "SecurityPolicy", policy, [say()], NOW)
    assert status is not None
    assert status["ancestors"][0] == theirs
    assert status["ancestors"][1]["ancestorRef"] == ROUTE
    assert status["ancestors"][1]["controllerName"] == CONTROLLER
    assert render_status(ENVOY_GROUP, "SecurityPolicy", {**policy, "status": status}, [say()], LATER) is None
    # It is about something else now: what was said about the other target goes.
    moved = {**policy, "spec": {"targetRef": {**ROUTE, "name": "else"}}, "status": status}
    after = render_status(ENVOY_GROUP, "SecurityPolicy", moved, [say()], LATER)
    assert after is not None
    assert [one["ancestorRef"]["name"] for one in after["ancestors"]] == ["route", "else"]
    assert after["ancestors"][0] == theirs


def test_a_route_says_it_under_its_parents_and_a_full_list_is_left_alone() -> None:
    parents = [{"name": f"gateway-{number}", "sectionName": "http"} for number in range(3)]
    status = render_status(GATEWAY_GROUP, "HTTPRoute", found(parentRefs=parents), [say()], NOW)
    assert status is not None
    assert [one["parentRef"] for one in status["parents"]] == parents
    full = [{"parentRef": {"name": str(n)}, "controllerName": "x", "conditions": []} for n in range(32)]
    assert render_status(GATEWAY_GROUP, "HTTPRoute", found({"parents": full}, parentRefs=parents), [say()], NOW) is None


def test_what_cannot_be_read_is_overwritten() -> None:
    for broken in ("text", {"conditions": "text"}, {"conditions": ["text"]}, {"conditions": None}):
        status = render_status(OWN_GROUP, "JWTPolicy", found() | {"status": broken}, [say()], NOW)
        assert status == {"conditions": [{**say(), "lastTransitionTime": NOW}]}
