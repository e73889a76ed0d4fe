from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.unit.webhook.admissions.reviews import POLICY, as_bytes, make_review
from webhook.admissions.review import NotAReviewError, Verdict, parse_review
from webhook.admissions.validate import MAX_FAULTS, judge_object


@dataclass(frozen=True)
class Case:
    """``faults`` and ``warnings`` are parts of what is said; there is nothing else to say."""

    name: str
    text: str
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


OWN = "{apiVersion: policy.eastgate.dev/v1alpha1, kind: JWTPolicy, metadata: {name: p, namespace: shop}, spec: %s}"
PROVIDER = "{dev: {issuer: https://i.example.com, remote: {url: https://i.example.com/keys}}}"
TABLE = "{apiVersion: policy.eastgate.dev/v1alpha1, kind: RouteTable, metadata: {name: t, namespace: shop}, spec: %s}"
SECURITY = (
    "{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: SecurityPolicy, metadata: {name: s, namespace: shop}, spec: %s}"
)
ROUTE = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: %s}"
EG_JWT = "jwt: {providers: [{name: dev, issuer: https://i, remoteJWKS: {uri: 'https://i/keys'}}]}"

CASES = [
    Case("a policy", OWN % f"{{applyToRoutes: [{{}}], config: {{providers: {PROVIDER}}}}}"),
    Case(
        "a misspelt field",
        OWN % f"{{applyToRoutes: [{{}}], config: {{provider: {PROVIDER}}}}}",
        ("spec.config.provider: unknown field `provider` (did you mean `providers`?)", "spec.config.providers"),
    ),
    Case(
        "a wrong type",
        OWN % "{applyToRoutes: [{}], config: {providers: {dev: {issuer: 7, remote: {url: 'https://i/keys'}}}}}",
        ("spec.config.providers.dev.issuer: expected a string",),
    ),
    Case(
        "a rule about a provider that the policy has not is no reference to another object",
        OWN
        % (
            f"{{applyToRoutes: [{{}}], config: {{providers: {PROVIDER}, "
            "authorization: {rules: [{action: ALLOW, provider: dve}]}}}"
        ),
        ("spec.config.authorization.rules[0].provider: no provider `dve` (did you mean `dev`?)",),
    ),
    Case(
        "a Secret that is not there",
        OWN
        % (
            "{applyToRoutes: [{}], config: {providers: {dev: {issuer: https://i, "
            "local: {secretRef: {name: keys, key: public}}}}}}"
        ),
        (),
        ("local.secretRef refers to Secret `shop/keys`: not looked up here",),
    ),
    Case(
        "a Secret that is not there does not hide what is wrong besides",
        OWN
        % (
            "{applyToRoutes: [{}], config: {phase: {preAuthz: {}}, claims: [{key: org, values: [x]}], providers: "
            "{dev: {issuer: https://i, local: {secretRef: {name: keys, key: public}}}}, nonsense: 1}}"
        ),
        ("spec.config.nonsense: unknown field",),
        ("refers to Secret `shop/keys`",),
    ),
    Case("a table", TABLE % "{http: [{forwardTo: {destinations: [{ref: {name: web}, port: {number: 80}}]}}]}"),
    Case(
        "a table that leads to another",
        TABLE % "{hosts: [a.example.com], http: [{delegate: {routeTables: [{name: other, namespace: shop}]}}]}",
        (),
        ("delegate.routeTables[0] refers to RouteTable",),
    ),
    Case("an empty table", TABLE % "{}", ("spec.http: one of `http`, `tcp`, `tls` is required",)),
    Case(
        "a path that no request has",
        TABLE
        % "{http: [{matchers: [{uri: {prefix: foo}}], forwardTo: {destinations: [{ref: {name: w}, port: {number: 80}}]}}]}",
        ("RouteTable shop/t [0]: path `foo` never matches: a path starts with a slash",),
        ("spec.http[0].matchers[0].uri.prefix: `foo` never matches",),
    ),
    Case(
        "keys that are none, beside a Secret that is not there",
        OWN
        % (
            "{applyToRoutes: [{}], config: {providers: {"
            "one: {issuer: https://one, local: {secretRef: {name: keys, key: public}}}, "
            "two: {issuer: https://two, local: {inline: nonsense}}}}}"
        ),
        ("spec.config.providers.two.local.inline: no usable key in",),
        ("providers.one.local.secretRef refers to Secret `shop/keys`",),
    ),
    Case(
        "a SecurityPolicy for a route that may come later",
        SECURITY % f"{{targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}}], {EG_JWT}}}",
        (),
        ("spec.targetRefs[0].name refers to HTTPRoute `shop/web`: not looked up here",),
    ),
    Case(
        "a SecurityPolicy for something else",
        SECURITY % f"{{targetRefs: [{{group: apps, kind: Deployment, name: web}}], {EG_JWT}}}",
        ("spec.targetRefs[0].group",),
    ),
    Case("an HTTPRoute", ROUTE % "{parentRefs: [{name: eg}], rules: [{backendRefs: [{name: web, port: 80}]}]}"),
    Case(
        "a backend of another namespace",
        ROUTE % "{parentRefs: [{name: eg}], rules: [{backendRefs: [{name: web, namespace: other, port: 80}]}]}",
        (),
        ("not looked up here",),
    ),
    Case(
        "a regular expression that is none",
        ROUTE
        % (
            "{parentRefs: [{name: eg}], rules: [{matches: [{path: {type: RegularExpression, value: '/('}}], "
            "backendRefs: [{name: web, port: 80}]}]}"
        ),
        ("spec.rules[0].matches[0].path",),
    ),
    Case(
        "a version that is not read",
        "{apiVersion: security.policy.gloo.solo.io/v3, kind: JWTPolicy, metadata: {name: p}, spec: {}}",
        ("unsupported version",),
        ("spec.applyToRoutes",),
    ),
]


def _judge(found: object, before: object = None, **changes: Any) -> Verdict:
    group, _, version = (found if isinstance(found, dict) else POLICY)["apiVersion"].rpartition("/")
    kind = (found if isinstance(found, dict) else POLICY)["kind"]
    review = make_review(found, group=group, version=version, kind=kind, before=before, **changes)
    return judge_object(parse_review(as_bytes(review)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_object_by_itself(case: Case) -> None:
    verdict = _judge(yaml.safe_load(case.text))
    said = verdict.message.splitlines()
    said = [line.removeprefix("- ") for line in (said[1:] if len(said) > 1 else said)]
    for part in case.faults:
        assert any(part in line for line in said), said
    assert verdict.allowed is not bool(case.faults)
    if not case.faults:
        assert said == []
    for part in case.warnings:
        assert any(part in line for line in verdict.warnings), verdict.warnings
    if not case.warnings:
        assert verdict.warnings == ()


BAD = deepcopy(POLICY)
BAD["spec"]["config"]["nonsense"] = 1


def test_a_bad_object_is_refused_when_it_is_new_and_when_it_becomes_so() -> None:
    assert not _judge(BAD).allowed
    assert not _judge(BAD, POLICY, operation="UPDATE").allowed


def test_deleting_is_always_allowed() -> None:
    assert _judge(None, BAD, operation="DELETE").allowed


@pytest.mark.parametrize(
    "change",
    [
        lambda new: new["metadata"].update(labels={"a": "b"}),
        lambda new: new["metadata"].update(finalizers=[]),
        lambda new: new.update(status={"conditions": []}),
        lambda new: new.update(apiVersion="policy.eastgate.dev/v1"),
    ],
)
def test_a_bad_object_whose_spec_stays_is_let_pass(change) -> None:
    new = deepcopy(BAD)
    change(new)
    assert _judge(new, BAD, operation="UPDATE").allowed


def test_a_bad_object_that_is_being_deleted_is_let_pass() -> None:
    new = deepcopy(BAD)
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    new["spec"]["config"]["more"] = 2
    assert _judge(new, BAD, operation="UPDATE").allowed


def test_a_status_is_none_of_this_business() -> None:
    assert _judge(BAD, POLICY, operation="UPDATE", subresource="status").allowed


def test_only_new_faults_are_refused() -> None:
    better = deepcopy(BAD)
    better["spec"]["config"]["providers"]["dev"]["issuer"] = "https://other.example.com"
    verdict = _judge(better, BAD, operation="UPDATE")
    assert (verdict.allowed, verdict.reason) == (True, "no-worse-than-before")
    assert "spec.config.nonsense: unknown field" in verdict.warnings[0]
    worse = deepcopy(better)
    worse["spec"]["config"]["rubbish"] = 2
    verdict = _judge(worse, BAD, operation="UPDATE")
    assert not verdict.allowed
    assert "rubbish" in verdict.message
    assert "nonsense" not in verdict.message


def test_the_namespace_is_that_of_the_request() -> None:
    found = yaml.safe_load(CASES[4].text)
    del found["metadata"]["namespace"]
    assert "Secret `kitchen/keys`" in _judge(found, namespace="kitchen").warnings[0]


def test_a_name_that_is_made_later() -> None:
    found = deepcopy(POLICY)
    found["metadata"] = {"generateName": "login-", "managedFields": [{"manager": "kubectl"}]}
    assert _judge(found).allowed


@pytest.mark.parametrize(("group", "kind"), [("", "Service"), ("", "ConfigMap"), ("apps", "Deployment")])
def test_other_kinds_are_let_pass(group: str, kind: str) -> None:
    review = make_review({"spec": 3}, group=group, kind=kind)
    assert judge_object(parse_review(as_bytes(review))).allowed


@pytest.mark.parametrize("found", [{}, {"metadata": 3}, {"spec": []}, {**POLICY, "spec": None}, {**POLICY, "spec": 3}])
def test_objects_of_odd_shapes_are_refused(found: dict[str, Any]) -> None:
    review = make_review(found, group="policy.eastgate.dev", version="v1alpha1", kind="JWTPolicy")
    assert not judge_object(parse_review(as_bytes(review))).allowed


def test_many_faults_are_counted() -> None:
    found = deepcopy(POLICY)
    found["spec"]["config"]["providers"] = {f"p{number}": {"isuer": "x"} for number in range(60)}
    verdict = _judge(found)
    assert len(verdict.message.splitlines()) == MAX_FAULTS + 2
    assert "more; `eastgate lint` shows all of them" in verdict.message


def test_what_is_nested_without_end_is_no_object() -> None:
    body = as_bytes(make_review("DEEP", group="policy.eastgate.dev", version="v1alpha1", kind="JWTPolicy"))
    deep = b'{"spec":' * 800 + b"1" + b"}" * 800
    assert not judge_object(parse_review(body.replace(b'"DEEP"', deep))).allowed
    for depth in (20_000, 200_000):
        deep = b'{"spec":' * depth + b"1" + b"}" * depth
        with pytest.raises(NotAReviewError, match="nested"):
            judge_object(parse_review(body.replace(b'"DEEP"', deep)))
