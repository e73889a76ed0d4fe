"""A decision as metric labels."""

from eastgate.model.decisions import Decision, Reason
from eastgate.render.labels import Labels, name_decision, render_labels


def test_the_three_verdicts() -> None:
    assert name_decision(Decision(True, 200, Reason.ALLOWED)) == "allow"
    assert name_decision(Decision(False, 401, "jwt_missing", denied_by_policy=True)) == "deny"
    assert name_decision(Decision(True, 401, "jwt_missing", denied_by_policy=True)) == "would-deny"
    assert name_decision(Decision(False, 404, Reason.ROUTE_NOT_FOUND)) == "deny"


def test_labels_hold_configuration_and_nothing_of_the_request() -> None:
    decision = Decision(
        False,
        403,
        Reason.ACCESS_DENIED,
        b"RBAC: access denied",
        route="HTTPRoute default/foo [0]",
        policies=("a/b", "c/d"),
    )
    assert render_labels(decision) == Labels("deny", "a/b,c/d", "HTTPRoute default/foo [0]", "rbac_access_denied")
    assert all(type(label) is str for label in render_labels(decision))
