"""The door: identities, kinds that are read and that are not, references between dialects, totality."""

from __future__ import annotations

import pytest

from eastgate.dialects import corpus
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import Severity
from eastgate.model.workloads import Service, ServicePort
from tests.unit.dialects.reading import errors, policy_text, read, table_text, the_error, warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: JWTPolicy", "a.yaml:1: error: apiVersion: `apiVersion` is missing: every Kubernetes object has one"),
        ("apiVersion: v1\nkind: ''", "a.yaml:2: error: kind: `kind` is missing: every Kubernetes object has one"),
        ("apiVersion: 1\nkind: X", "a.yaml:1: error: apiVersion: expected a string (quote it), found an integer `1`"),
        ("- a\n- b", "a.yaml:1: error: expected a Kubernetes object, found a list"),
        ("hello", "a.yaml:1: error: expected a Kubernetes object, found a string"),
        (
            "apiVersion: security.policy.gloo.solo.io/v2\nkind: JWTPolicy\nmetadata: {namespace: x}",
            "a.yaml:3: error: JWTPolicy metadata.name: `name` is required and must not be empty",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: 5}",
            "a.yaml:3: error: Secret metadata.name: expected a string (quote it), found an integer `5`",
        ),
    ],
)
def test_identity(text: str, message: str) -> None:
    assert errors(read(text)) == [message]


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dash-", "a..b", "a b", "x" * 254])
def test_names_are_dns_names(name: str) -> None:
    error = the_error(read(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: '{name}'}}"))
    assert error.code == "bad-name"
    assert error.field == "metadata.name"


@pytest.mark.parametrize("label", ["a b: c", "a: b c", "'': x", "a/b/c: x", "A/b: x", "a: '-x'"])
def test_labels_are_labels(label: str) -> None:
    error = the_error(read(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x, labels: {{{label}}}}}"))
    assert error.code == "bad-label"


def test_a_label_must_be_quoted() -> None:
    error = the_error(read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {a: true}}"))
    assert error.message == "expected a string (quote it), found a boolean `true`"


def test_kinds_that_are_not_policy_are_left_alone() -> None:
    found = read(
        """\
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: x}
        spec: {anything: [goes]}
        ---
        apiVersion: batch/v1
        kind: Job
        metadata: {generateName: x-}
        ---
        apiVersion: kustomize.config.k8s.io/v1beta1
        kind: Kustomization
        """
    )
    assert found.diagnostics == ()


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ("security.policy.gloo.solo.io/v2", "AccessPolicy"),
        ("security.policy.gloo.solo.io/v2", "ExtAuthPolicy"),
        ("trafficcontrol.policy.gloo.solo.io/v2", "RateLimitPolicy"),
        ("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy"),
        ("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy"),
        ("security.istio.io/v1", "RequestAuthentication"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("gateway.networking.k8s.io/v1alpha2", "TCPRoute"),
        ("gateway.kgateway.dev/v1alpha1", "TrafficPolicy"),
        ("example.com/v1", "JWTPolicy"),
    ],
)
def test_policy_that_nobody_reads_is_talked_about(api: str, kind: str) -> None:
    found = read(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x, namespace: ns}}\nspec: {{}}")
    (warning,) = found.diagnostics
    assert warning.severity is Severity.WARNING
    assert warning.subject == f"{kind} ns/x"
    assert "nothing of it is enforced" in warning.message


@pytest.mark.parametrize(
    ("api", "kind", "message"),
    [
        ("security.policy.gloo.solo.io/v2", "JwtPolicy",
         "unknown kind `JwtPolicy` (did you mean `JWTPolicy`?); accepted in security.policy.gloo.solo.io: JWTPolicy"),
        ("policy.eastgate.dev/v1alpha1", "Policy",
         "unknown kind `Policy` (did you mean `JWTPolicy`?); accepted in policy.eastgate.dev: JWTPolicy, RouteTable"),
        ("security.policy.gloo.solo.io/v1", "JWTPolicy",
         "unsupported version `security.policy.gloo.solo.io/v1` of JWTPolicy; accepted: `security.policy.gloo.solo.io/v2`"),
        ("v2", "Service", "unsupported version `v2` of Service; accepted: `v1`"),
        ("v2", "JWTPolicy", "unknown API group `` for JWTPolicy; accepted: `policy.eastgate.dev`, `security.policy.gloo.solo.io`"),
        ("security.policies.gloo.solo.io/v2", "JWTPolicy",
         "unknown API group `security.policies.gloo.solo.io` for JWTPolicy (did you mean `security.policy.gloo.solo.io`?); "
         "accepted: `policy.eastgate.dev`, `security.policy.gloo.solo.io`"),
    ],
)  # fmt: skip
def test_slips_of_the_pen_are_errors(api: str, kind: str, message: str) -> None:
    found = read(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}")
    assert message in [one.message for one in found.diagnostics if one.severity is Severity.ERROR]


def test_a_policy_of_an_unknown_version_is_read_and_refuses() -> None:
    found = read(policy_text(api="security.policy.gloo.solo.io/v3"))
    (policy,) = found.policies
    assert "unsupported version" in policy.invalid[0]


def test_the_same_object_twice_names_both_places() -> None:
    found = read(policy_text(), "# again\n" + policy_text())
    assert errors(found) == ["b.yaml:2: error: JWTPolicy shop/p: already defined at a.yaml:1; only one may be"]
    (policy,) = found.policies
    assert policy.invalid
    twice = read(table_text("- forwardTo: {destinations: [{ref: {name: x}}]}"), table_text("- redirect: {}"))
    assert twice.routes[0].invalid


def test_same_name_in_another_namespace_or_group_is_another_object() -> None:
    found = read(policy_text(), policy_text().replace("shop", "other"), policy_text(api="policy.eastgate.dev/v1alpha1"))
    assert errors(found) == []
    assert [str(policy) for policy in found.policies] == ["JWTPolicy shop/p", "JWTPolicy shop/p", "JWTPolicy other/p"]
    assert {policy.dialect for policy in found.policies} == {"gloo", "eastgate"}


def test_services() -> None:
    found = read(
        """\
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop, labels: {app: web}}
        spec:
          type: ClusterIP
          selector: {app: web, tier: front}
          ports:
          - {name: http, port: 80, targetPort: 8080}
          - {name: grpc, port: 9090, targetPort: grpc}
          - {port: 7000}
          - {name: dns, port: 53, protocol: UDP}
        """
    )
    assert found.diagnostics == ()
    assert found.services == (
        Service(
            "shop",
            "web",
            (("app", "web"),),
            (("app", "web"), ("tier", "front")),
            (ServicePort(80, "http", 8080), ServicePort(9090, "grpc", "grpc"), ServicePort(7000, "", 7000)),
        ),
    )


def test_a_syntax_error_keeps_the_rest_and_is_an_error() -> None:
    found = read(policy_text() + "\n---\na: [", policy_text().replace("shop", "other"))
    assert len(found.policies) == 2
    assert len(errors(found)) == 1


def test_a_reader_that_raises_is_an_error_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(catalogue: object, sink: object) -> object:
        raise RuntimeError("secret")

    monkeypatch.setattr(corpus, "READERS", (broken, *corpus.READERS))
    found = read_policy_set([("a.yaml", policy_text())])
    (problem,) = found.diagnostics
    assert problem.code == "internal-error"
    assert "secret" not in problem.message
    assert len(found.policies) == 1


def test_complaints_about_a_shared_object_are_said_once() -> None:
    provider = "remote: {url: https://idp.example.com/keys, destinationRef: {kind: EXTERNAL_SERVICE, ref: {name: idp}}}"
    external = """\
        apiVersion: networking.gloo.solo.io/v2
        kind: ExternalService
        metadata: {name: idp, namespace: shop}
        spec: {hosts: [idp.example.com], ports: [{number: 443, portocol: HTTPS}]}
        """
    two = policy_text(provider=provider) + "\n---\n" + policy_text(provider=provider).replace("name: p,", "name: q,")
    found = read(two, external)
    assert len([one for one in errors(found) if "portocol" in one and one.startswith("b.yaml")]) == 1
    assert all(policy.invalid for policy in found.policies)


def test_nothing_at_all() -> None:
    assert read_policy_set([]).diagnostics == ()
    assert warnings(read("")) == []


# --- slips that would leave something out --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "kind", "message"),
    [
        ("gateway.envoyproxy.io/v1alpha1", "SecurityPolcy", "(did you mean `SecurityPolicy`?)"),
        ("gateway.networking.k8s.io/v1", "HTTPRoutes", "(did you mean `HTTPRoute`?)"),
        ("security.policy.gloo.solo.io/v2", "JWTPolcy", "(did you mean `JWTPolicy`?)"),
        ("gateway.network.k8s.io/v1", "HTTPRoute", "(did you mean `gateway.networking.k8s.io`?)"),
        ("gateway.networking.k8s.io", "GRPCRoute", "accepted: `gateway.networking.k8s.io`"),
    ],
)
def test_a_slip_in_kind_or_group_is_an_error(api: str, kind: str, message: str) -> None:
    (one,) = errors(read(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}"))
    assert message in one


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ("networking.istio.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1", "GatewayClass"),
        ("gateway.networking.k8s.io/v1alpha2", "BackendLBPolicy"),
        ("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy"),
        ("apps/v1", "Deployment"),
    ],
)
def test_kinds_of_others_are_left_alone(api: str, kind: str) -> None:
    found = read(f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}")
    assert found.diagnostics == ()


def test_a_security_policy_in_a_list_of_the_api_counts() -> None:
    found = read(
        """
        apiVersion: gateway.envoyproxy.io/v1alpha1
        kind: SecurityPolicyList
        items:
        - metadata: {name: p}
          spec:
            targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}]
            authorization: {}
        """
    )
    assert [str(policy) for policy in found.policies] == ["SecurityPolicy default/p"]


def test_a_key_that_is_set_twice_names_the_object_and_makes_it_invalid() -> None:
    found = read(
        policy_text() + "\n---\n" + policy_text("requiredScopes: [a]\nrequiredScopes: []").replace(": p,", ": q,")
    )
    (one,) = errors(found)
    assert one.startswith(
        "a.yaml:18: error: JWTPolicy shop/q spec.config.requiredScopes: key `requiredScopes` is already"
    )
    assert {str(policy): bool(policy.invalid) for policy in found.policies} == {
        "JWTPolicy shop/p": False,
        "JWTPolicy shop/q": True,
    }


def test_a_label_that_cannot_be_read_makes_the_route_invalid() -> None:
    """Dropped silently it would take the route out of a policy's selection."""
    found = read(table_text("- forwardTo: {destinations: [{ref: {name: web}}]}").replace("{table: t}", "{table: 1}"))
    assert "metadata.labels.table: expected a string (quote it), found an integer `1`" in errors(found)[0]
    assert found.routes[0].invalid


@pytest.mark.parametrize(
    ("issuer", "code"), [("'{{ .Values.issuer }}'", "not-rendered"), ("“https://login”", "odd-quotes")]
)
def test_leftovers_are_said(issuer: str, code: str) -> None:
    found = read(policy_text(provider=f"issuer: {issuer}\nlocal: {{inline: key}}"))
    assert [(one.code, one.field) for one in found.diagnostics] == [(code, "spec.config.providers.dev.issuer")]


def test_content_is_not_looked_at_for_leftovers() -> None:
    assert read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: '{{ x }}'}").diagnostics == ()
