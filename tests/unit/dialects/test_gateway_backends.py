"""Where keys are fetched from: Services, Backends, their TLS, and that what is unresolved is never reached."""

from __future__ import annotations

import base64

import pytest

from eastgate.model.keys import RemoteKeys
from tests.unit.dialects.gateway_reading import Reading
from tests.unit.dialects.test_envoy_gateway_jwt import remote

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: keys}
spec:
  ports: [{name: https, port: 443, targetPort: 8443}]
"""

BACKEND = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: keys}
spec:
  endpoints: [{fqdn: {hostname: keys.example, port: 8443}}]
"""

TO_SERVICE = "backendRefs: [{name: keys, port: 443}]"
TO_BACKEND = "backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: keys, port: 443}]"


def tls_policy(target: str, validation: str, name: str = "t", namespace: str = "default") -> str:
    return (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  targetRefs: [{target}]\n  validation: {validation}\n"
    )


FOR_SERVICE = "{group: '', kind: Service, name: keys%s}"
FOR_BACKEND = "{group: gateway.envoyproxy.io, kind: Backend, name: keys%s}"
WITH_CA = "{hostname: keys.internal, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}"


def config_map(text: str = PEM, key: str = "ca.crt") -> str:
    body = "".join(f"    {line}\n" for line in text.splitlines())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  {key}: |\n{body}"


def keys_of(fields: str, *more: str) -> RemoteKeys:
    keys, found = remote(f"uri: 'https://issuer.example/jwks', {fields}", *more)
    assert found.errors == []
    assert keys.unresolved is None
    assert keys.tls
    return keys


def closed(fields: str, *more: str) -> Reading:
    """The fetch must never happen, neither in plain text nor with the system's trust."""
    keys, found = remote(f"uri: 'https://issuer.example/jwks', {fields}", *more)
    assert keys.unresolved
    assert found.errors
    assert found.policy.invalid
    return found


def test_service_is_reached_by_its_dns_name() -> None:
    keys = keys_of(TO_SERVICE, SERVICE)
    assert keys.addresses == (("keys.default.svc.cluster.local", 443),)
    assert (keys.ca, keys.server_name) == (None, None)


def test_headless_service_is_reached_on_its_target_port() -> None:
    headless = SERVICE.replace("spec:\n", "spec:\n  clusterIP: None\n")
    assert keys_of(TO_SERVICE, headless).addresses == (("keys.default.svc.cluster.local", 8443),)


def test_service_that_is_not_there() -> None:
    closed("backendRefs: [{name: keyz, port: 443}]", SERVICE).error("Service `default/keyz` (did you mean `keys`?)")
    closed("backendRefs: [{name: keys, port: 80}]", SERVICE).error("has no port `80`; its ports: `443`")
    closed("backendRefs: [{name: keys}]", SERVICE).error("`port` is required for a Service")


def test_other_kinds_are_refused() -> None:
    found = closed("backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: keys, port: 1}]")
    found.error("`multicluster.x-k8s.io/ServiceImport` is not supported as a key server")


GRANT = """
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: issuer}
spec:
  from: [{group: gateway.envoyproxy.io, kind: SecurityPolicy, namespace: default}]
  to: [{group: '', kind: Service%s}]
"""


def test_other_namespaces_need_a_grant() -> None:
    there = SERVICE.replace("name: keys}", "name: keys, namespace: issuer}", 1)
    reference = "backendRefs: [{name: keys, namespace: issuer, port: 443}]"
    closed(reference, there).error("no ReferenceGrant there permits it")
    closed(reference, there, GRANT % ", name: other").error("no ReferenceGrant there permits it")
    closed(reference, there, (GRANT % "").replace("SecurityPolicy", "HTTPRoute")).error("no ReferenceGrant")
    for name in ("", ", name: keys"):
        assert keys_of(reference, there, GRANT % name).addresses == (("keys.issuer.svc.cluster.local", 443),)


def test_backend_endpoints() -> None:
    assert keys_of(TO_BACKEND, BACKEND).addresses == (("keys.example", 8443),)
    two = BACKEND.replace(
        "[{fqdn: {hostname: keys.example, port: 8443}}]",
        "[{ip: {address: 10.0.0.1, port: 1}}, {ip: {address: '::1', port: 2}}]",
    )
    assert keys_of(TO_BACKEND, two).addresses == (("10.0.0.1", 1), ("::1", 2))


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ("endpoints: []", "`endpoints` is required"),
        ("endpoints: [{}]", "one of fqdn, ip or unix must be specified"),
        (
            "endpoints: [{fqdn: {hostname: a, port: 1}, ip: {address: 1.1.1.1, port: 1}}]",
            "only one of fqdn, ip or unix",
        ),
        (
            "endpoints: [{fqdn: {hostname: a, port: 1}}, {ip: {address: 1.1.1.1, port: 1}}]",
            "fqdn addresses cannot be mixed",
        ),
        ("endpoints: [{unix: {path: /x}}]", "not fetched over a Unix socket"),
        ("endpoints: [{ip: {address: host, port: 1}}]", "`host` is not an IP address"),
        ("endpoints: [{fqdn: {hostname: a}}]", "`port` is required"),
        (
            "type: DynamicResolver\n  endpoints: [{fqdn: {hostname: a, port: 1}}]",
            "DynamicResolver type cannot have endpoints",
        ),
        (
            "endpoints: [{fqdn: {hostname: a, port: 1}}]\n  tls: {insecureSkipVerify: true}",
            "never fetched from a server that is not",
        ),
        ("endpoints: [{fqdn: {hostname: a, port: 1}}]\n  tls: {clientCertificateRef: {name: c}}", "client certificate"),
    ],
)
def test_bad_backends_close_the_way(endpoints: str, message: str) -> None:
    head = BACKEND.partition("  endpoints")[0]
    found = closed(TO_BACKEND, f"{head}  {endpoints}\n")
    assert any(message in one and "Backend default/keys" in one for one in found.errors), found.errors
    found.error(
        "SecurityPolicy default/p spec.jwt.providers[0].remoteJWKS.backendRefs[0]: keys are never fetched from it, nor in a weaker way"
    )


def test_dynamic_resolver_leaves_the_urls_own_host() -> None:
    head = BACKEND.partition("  endpoints")[0]
    assert keys_of(TO_BACKEND, f"{head}  type: DynamicResolver\n").addresses == ()


# --- BackendTLSPolicy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["", ", sectionName: https", ", sectionName: '443'"])
def test_tls_policy_of_a_service(section: str) -> None:
    keys = keys_of(TO_SERVICE, SERVICE, tls_policy(FOR_SERVICE % section, WITH_CA), config_map())
    assert (keys.ca, keys.server_name) == (PEM, "keys.internal")


def test_tls_policy_of_another_port_or_namespace_is_not_ours() -> None:
    two_ports = SERVICE.replace("ports: [", "ports: [{name: http, port: 80}, ")
    assert two_ports != SERVICE
    for service, policy in (
        (two_ports, tls_policy(FOR_SERVICE % ", sectionName: http", WITH_CA)),
        (SERVICE, tls_policy(FOR_SERVICE % "", WITH_CA, namespace="other")),
        (SERVICE, tls_policy(FOR_BACKEND % "", WITH_CA)),
    ):
        keys, found = remote(f"uri: 'https://issuer.example/jwks', {TO_SERVICE}", service, policy, config_map())
        assert found.errors == []
        assert (keys.ca, keys.server_name) == (None, None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (FOR_SERVICE % ", sectionName: htps", "is for its port `htps`, which is not there; its ports: `443`, `https`"),
        ("{kind: Service, name: keys}", '`group` is required, `""` for a Service'),
    ],
)
def test_tls_policy_that_was_meant_for_it_closes_the_way(target: str, message: str) -> None:
    """Passing it over would fetch the keys from whoever the system trusts."""
    found = closed(
        f"uri: 'https://issuer.example/jwks', {TO_SERVICE}", SERVICE, tls_policy(target, WITH_CA), config_map()
    )
    assert any(message in one for one in found.errors)


def test_tls_policy_whose_targets_are_no_list_closes_the_way() -> None:
    policy = tls_policy(FOR_SERVICE % "", WITH_CA).replace(f"[{FOR_SERVICE % ''}]", FOR_SERVICE % "")
    found = closed(f"uri: 'https://issuer.example/jwks', {TO_SERVICE}", SERVICE, policy, config_map())
    assert any("expected a list, found a mapping" in one for one in found.errors)


def test_tls_policy_for_no_kind_of_key_server_is_said() -> None:
    policy = tls_policy("{group: gateway.envoyproxy.io, kind: Backends, name: keys}", WITH_CA)
    _, found = remote(f"uri: 'https://issuer.example/jwks', {TO_BACKEND}", BACKEND, policy, config_map())
    assert "(did you mean `Backend`?)" in found.warning("is no key server that is known here")


def test_tls_policy_makes_plain_urls_tls() -> None:
    keys, found = remote(
        f"uri: 'http://issuer.example/jwks', {TO_BACKEND}", BACKEND, tls_policy(FOR_BACKEND % "", WITH_CA), config_map()
    )
    assert found.diagnostics == []
    assert keys.tls
    assert keys.ca == PEM


def test_port_beats_whole_backend_and_older_beats_newer() -> None:
    whole = tls_policy(FOR_SERVICE % "", "{hostname: whole, wellKnownCACertificates: System}", "a")
    port = tls_policy(FOR_SERVICE % ", sectionName: https", "{hostname: port, wellKnownCACertificates: System}", "b")
    assert keys_of(TO_SERVICE, SERVICE, whole, port).server_name == "port"
    older = whole.replace("name: a,", "name: z, creationTimestamp: '2020-01-01T00:00:00Z',").replace("whole", "older")
    assert keys_of(TO_SERVICE, SERVICE, whole, older).server_name == "older"


def test_system_trust_has_to_be_asked_for() -> None:
    system = tls_policy(FOR_BACKEND % "", "{hostname: keys.example, wellKnownCACertificates: System}")
    keys = keys_of(TO_BACKEND, BACKEND, system)
    assert (keys.ca, keys.server_name) == (None, "keys.example")


def test_secret_as_authority() -> None:
    validation = WITH_CA.replace("ConfigMap", "Secret")
    encoded = base64.b64encode(PEM.encode()).decode()
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: ca}}\ndata: {{ca.crt: {encoded}}}\n"
    assert keys_of(TO_BACKEND, BACKEND, tls_policy(FOR_BACKEND % "", validation), secret).ca == PEM


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (WITH_CA, "refers to what is not there: ConfigMap `default/ca`"),
        ("{hostname: a}", "must specify either CACertificateRefs or WellKnownCACertificates"),
        ("{hostname: a, wellKnownCACertificates: ''}", "must specify either"),
        ("{hostname: a, caCertificateRefs: []}", "must specify either"),
        (WITH_CA.replace("{hostname", "{wellKnownCACertificates: System, hostname"), "must not contain both"),
        ("{wellKnownCACertificates: System}", "`hostname` is required"),
        ("{hostname: a, wellKnownCACertificates: system}", "unknown value `system` (did you mean `System`?)"),
        (
            "{hostname: a, caCertificateRefs: [{group: x.io, kind: ClusterTrustBundle, name: a}]}",
            "is not supported as a cert",
        ),
        (
            "{hostname: a, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, hostname: b}]}",
            "`b` differs",
        ),
        (
            "{hostname: a, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: spiffe://x}]}",
            "a URI in the cert",
        ),
        ("{hostname: a, wellKnownCACertificates: System, insecure: true}", "unknown field `insecure`"),
    ],
)
def test_unresolved_trust_fails_closed(validation: str, message: str) -> None:
    """GHSA-qm8v-g4f9-qhjx: an unresolved CA reference must not fall back to plain text or to the system's trust."""
    found = closed(TO_BACKEND, BACKEND, tls_policy(FOR_BACKEND % "", validation))
    assert any(message in one and "BackendTLSPolicy default/t" in one for one in found.errors), found.errors
    found.error(
        "SecurityPolicy default/p spec.jwt.providers[0].remoteJWKS.backendRefs[0]: keys are never fetched from it, nor in a weaker way"
    )


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [(PEM, "ca.pem", "has no key `ca.crt`; its keys: `ca.pem`"), ("nonsense", "ca.crt", "holds no PEM certificate")],
)
def test_authority_without_certificate_fails_closed(text: str, key: str, message: str) -> None:
    found = closed(TO_BACKEND, BACKEND, tls_policy(FOR_BACKEND % "", WITH_CA), config_map(text, key))
    assert any(message in one for one in found.errors), found.errors


def test_missing_validation_fails_closed() -> None:
    policy = tls_policy(FOR_BACKEND % "", WITH_CA).partition("  validation")[0]
    closed(TO_BACKEND, BACKEND, policy)


def test_same_name_in_subject_alt_names_is_fine() -> None:
    validation = "{hostname: a, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, hostname: A}]}"
    assert keys_of(TO_BACKEND, BACKEND, tls_policy(FOR_BACKEND % "", validation)).server_name == "a"


def test_backends_with_different_trust_are_refused() -> None:
    both = f"{TO_BACKEND[:-1]}, {{name: keys, port: 443}}]"
    found = closed(both, BACKEND, SERVICE, tls_policy(FOR_BACKEND % "", WITH_CA), config_map())
    found.error("its backends have different TLS settings")
    same = keys_of(both, BACKEND, SERVICE)
    assert same.addresses == (("keys.example", 8443), ("keys.default.svc.cluster.local", 443))


def test_tls_of_the_backend_itself_and_of_a_policy() -> None:
    own = BACKEND + "  tls: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}], sni: own.example}\n"
    keys = keys_of(TO_BACKEND, own, config_map())
    assert (keys.ca, keys.server_name) == (PEM, "own.example")
    system = tls_policy(FOR_BACKEND % "", "{hostname: policy, wellKnownCACertificates: System}")
    keys = keys_of(TO_BACKEND, own, config_map(), system)
    assert (keys.ca, keys.server_name) == (None, "policy")


def test_tls_policy_of_a_backend_that_is_not_there_is_said() -> None:
    _, found = remote("uri: 'https://a/b'", BACKEND, tls_policy(FOR_BACKEND.replace("keys", "keyz") % "", WITH_CA))
    found.warning("Backend `default/keyz` (did you mean `keys`?)")


def test_a_backend_is_read_once() -> None:
    broken = BACKEND.replace("fqdn", "fqdm")
    _, found = remote(f"uri: 'https://a/b', {TO_BACKEND[:-1]}, {TO_BACKEND[len('backendRefs: [') :]}", broken)
    assert len([one for one in found.errors if "Backend default/keys spec" in one and "SecurityPolicy" not in one]) == 2
