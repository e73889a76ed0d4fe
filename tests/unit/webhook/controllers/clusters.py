"""Small clusters for tests: objects as the API server gives them, and random ones that refer to each other."""

from __future__ import annotations

import base64
import random
from typing import Any

type Data = dict[str, Any]

PEM = (
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAS0YVyv2F0UZCQNXMUhe+953Jrnd\n"
    "u8PjnHzDZxOwBl3m1nLHu8uCI+rHqwf2ojqwyqX2gERF/3uOHhnZNAK/dg==\n"
    "-----END PUBLIC KEY-----\n"
)
"""A P-256 public key, whose other half nobody kept."""
OWN = "policy.eastgate.dev/v1alpha1"
GLOO_POLICY = "security.policy.gloo.solo.io/v2"
GLOO_NETWORK = "networking.gloo.solo.io/v2"
GATEWAY = "gateway.networking.k8s.io/v1"
ENVOY = "gateway.envoyproxy.io/v1alpha1"
INLINE = {"local": {"inline": PEM}}


def make(api: str, kind: str, namespace: str, name: str, spec: Data | None = None, **metadata: Any) -> Data:
    """An object with what the API server adds to it."""
    found: Data = {
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "generation": 1,
            "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            **metadata,
        },
    }
    return found if spec is None else found | {"spec": spec}


def policy(
    namespace: str,
    name: str,
    *routes: Data,
    keys: Data = INLINE,
    api: str = OWN,
    config: Data | None = None,
    **more: Any,
) -> Data:
    """A JWTPolicy; ``routes`` is its ``applyToRoutes``, ``more`` goes into the spec, metadata as ``metadata_…``."""
    metadata = {key.removeprefix("metadata_"): more.pop(key) for key in list(more) if key.startswith("metadata_")}
    spec = {"config": {"providers": {"dev": keys}, **(config or {})}, **more}
    if routes:
        spec["applyToRoutes"] = list(routes)
    return make(api, "JWTPolicy", namespace, name, spec, **metadata)


def labelled(namespace: str | None = None, **labels: str) -> Data:
    """A route selector."""
    return {"route": {"labels": labels} | ({"namespace": namespace} if namespace else {})}


def entry(name: str, namespace: str | None = None, prefix: str = "/", **labels: str) -> Data:
    """An entry of a table that leads to a Service."""
    reference = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "matchers": [{"uri": {"prefix": prefix}}],
        "labels": labels,
        "forwardTo": {"destinations": [{"ref": reference, "port": {"number": 80}}]},
    }


def delegating(**selector: Any) -> Data:
    """An entry of a table that delegates."""
    return {"delegate": {"routeTables": [selector]}}


def table(
    namespace: str,
    name: str,
    *http: Data,
    hosts: tuple[str, ...] = ("www.example.com",),
    api: str = OWN,
    **metadata: Any,
) -> Data:
    """A RouteTable; without ``hosts`` it is one to delegate to."""
    spec = {"http": list(http)} | ({"hosts": list(hosts)} if hosts else {})
    return make(api, "RouteTable", namespace, name, spec, **metadata)


def service(namespace: str, name: str, **metadata: Any) -> Data:
    """A Service on port 80."""
    spec = {
        "selector": {"app": name},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
        "clusterIP": "10.0.0.1",
    }
    return make("v1", "Service", namespace, name, spec, **metadata)


def config_map(namespace: str, name: str, **data: str) -> Data:
    """A ConfigMap."""
    return make("v1", "ConfigMap", namespace, name) | {"data": data}


def secret(namespace: str, name: str, **data: str) -> Data:
    """A Secret."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return make("v1", "Secret", namespace, name) | {"data": encoded}


def grant(namespace: str, origin: tuple[str, str, str], target: tuple[str, str], name: str = "grant") -> Data:
    """A ReferenceGrant of ``namespace``; origin is group, kind, namespace."""
    spec = {
        "from": [dict(zip(("group", "kind", "namespace"), origin, strict=True))],
        "to": [dict(zip(("group", "kind"), target, strict=True))],
    }
    return make("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", namespace, name, spec)


def http_route(namespace: str, name: str, service_name: str, *parents: Data, **metadata: Any) -> Data:
    """An HTTPRoute with one rule."""
    rule = {"name": "rule", "backendRefs": [{"name": service_name, "port": 80}]}
    return make(GATEWAY, "HTTPRoute", namespace, name, {"parentRefs": list(parents), "rules": [rule]}, **metadata)


def gateway(namespace: str, name: str, **metadata: Any) -> Data:
    """A Gateway with one listener."""
    listeners = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    return make(GATEWAY, "Gateway", namespace, name, {"gatewayClassName": "eg", "listeners": listeners}, **metadata)


def security_policy(namespace: str, name: str, *targets: Data, keys: Data | None = None, **spec: Any) -> Data:
    """A SecurityPolicy with one provider; ``keys`` is the provider's source."""
    provider = {"name": "dev", **(keys or {"localJWKS": {"type": "Inline", "inline": PEM}})}
    references = [{"group": "gateway.networking.k8s.io", **one} for one in targets]
    return make(
        ENVOY, "SecurityPolicy", namespace, name, {"targetRefs": references, "jwt": {"providers": [provider]}} | spec
    )


def pod(namespace: str, name: str, policies: str) -> Data:
    """An annotated pod, as the controller keeps it."""
    metadata = {"name": name, "namespace": namespace, "annotations": {"eastgate.dev/policies": policies}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


class RandomCluster:
    """Objects of three namespaces that refer to each other as often as not, drawn again and again."""

    namespaces = ("alpha", "beta", "gamma")
    names = ("one", "two")
    labels = ({}, {"app": "one"}, {"app": "two"}, {"app": "one", "env": "prod"})

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def draw(self) -> Data:
        """An object of some kind."""
        choices = (
            (6, self._policy), (6, self._table), (2, self._http_route), (2, self._security_policy), (1, self._gateway),
            (2, self._service), (2, self._content), (1, self._grant), (2, self._pod), (1, self._backend),
        )  # fmt: skip
        (maker,) = self.random.choices([one for _, one in choices], [weight for weight, _ in choices])
        return maker()

    def _some(self, *options: Any) -> Any:
        return self.random.choice(options)

    def _place(self) -> tuple[str, str]:
        return self._some(*self.namespaces), self._some(*self.names)

    def _metadata(self) -> Data:
        found: Data = {"labels": dict(self._some(*self.labels))}
        if self.random.random() < 0.7:
            found["creationTimestamp"] = self._some("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
        return found

    def _reference(self) -> Data:
        found = {"name": self._some(*self.names)}
        return found | self._some({}, {"namespace": self._some(*self.namespaces)})

    def _policy(self) -> Data:
        own = self.random.random() < 0.7
        routes = [
            {
                "route": {"labels": dict(self._some(*self.labels))}
                | self._some({}, {}, {"namespace": self._some(*self.namespaces)})
            }
            for _ in range(self._some(0, 1, 1, 2))
        ]
        more: Data = {}
        if self.random.random() < 0.2:
            more["applyToDestinations"] = [{"selector": self._reference()}]
        if self.random.random() < 0.2:
            routes.append({"withDestinations": {"selector": self._reference()}})
        keys = INLINE
        if own and self.random.random() < 0.6:
            kind = self._some("configMapRef", "secretRef")
            keys = {"local": {kind: {**self._reference(), "key": self._some("a", "b")}}}
        if self.random.random() < 0.1:
            more["mistake"] = True
        metadata = {f"metadata_{key}": value for key, value in self._metadata().items()}
        namespace, name = self._place()
        # Two kinds of one name would share their messages.
        name = name if own else f"gloo-{name}"
        return policy(namespace, name, *routes, keys=keys, api=OWN if own else GLOO_POLICY, **more, **metadata)

    def _table(self) -> Data:
        http: list[Data] = []
        own = self.random.random() < 0.7
        for index in range(self._some(1, 2)):
            labels = dict(self._some(*self.labels))
            if self.random.random() < 0.3:
                http.append(delegating(**self._some(self._table_reference(own), {"labels": labels})))
            else:
                reference = self._reference()
                http.append(entry(reference["name"], reference.get("namespace"), f"/{index}", **labels))
        hosts = self._some(("www.example.com",), ("one.beta",), ())
        name = self._table_reference(own)["name"]
        api = OWN if own else GLOO_NETWORK
        found = table(self._some(*self.namespaces), name, *http, hosts=hosts, api=api, **self._metadata())
        if self.random.random() < 0.1:
            found["spec"]["http"][0]["mistake"] = True
        return found

    def _table_reference(self, own: bool) -> Data:
        found = self._reference()
        return found if own else {**found, "name": f"gloo-{found['name']}"}

    def _http_route(self) -> Data:
        parent = {"name": self._some(*self.names)} | self._some({}, {"namespace": self._some(*self.namespaces)})
        found = http_route(*self._place(), self._some(*self.names), parent, **self._metadata())
        if self.random.random() < 0.3:
            found["spec"]["rules"][0]["backendRefs"][0]["namespace"] = self._some(*self.namespaces)
        return found

    def _security_policy(self) -> Data:
        targets = [
            {"kind": self._some("Gateway", "HTTPRoute"), "name": self._some(*self.names)}
            for _ in range(self._some(1, 2))
        ]
        keys = self._some(
            None,
            {"localJWKS": {"type": "ValueRef", "valueRef": {"kind": "ConfigMap", "name": self._some(*self.names)}}},
            {
                "remoteJWKS": {
                    "uri": "https://login.example.com/keys",
                    "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", **self._reference()}],
                }
            },
        )
        return security_policy(*self._place(), *targets, keys=keys)

    def _backend(self) -> Data:
        if self.random.random() < 0.5:
            endpoints = [{"fqdn": {"hostname": "login.example.com", "port": 443}}]
            return make(ENVOY, "Backend", *self._place(), {"endpoints": endpoints})
        target = {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": self._some(*self.names)}
        authority = {"group": "", "kind": "ConfigMap", "name": self._some(*self.names)}
        validation = {"hostname": "login.example.com", "caCertificateRefs": [authority]}
        return make(GATEWAY, "BackendTLSPolicy", *self._place(), {"targetRefs": [target], "validation": validation})

    def _gateway(self) -> Data:
        return gateway(*self._place(), **self._metadata())

    def _service(self) -> Data:
        return service(*self._place(), labels=dict(self._some(*self.labels)))

    def _content(self) -> Data:
        data = {key: self._some(PEM, "not public") for key in self._some(("a",), ("a", "b"), ("jwks", "a"))}
        return self._some(config_map, secret)(*self._place(), **data)

    def _grant(self) -> Data:
        origin = self._some(
            ("policy.eastgate.dev", "JWTPolicy"), ("policy.eastgate.dev", "RouteTable"),
            ("gateway.networking.k8s.io", "HTTPRoute"), ("gateway.envoyproxy.io", "SecurityPolicy"),
        )  # fmt: skip
        target = self._some(
            ("", "Secret"), ("", "ConfigMap"), ("", "Service"), ("policy.eastgate.dev", "RouteTable"),
            ("gateway.envoyproxy.io", "Backend"),
        )  # fmt: skip
        return grant(
            self._some(*self.namespaces), (*origin, self._some(*self.namespaces)), target, self._some(*self.names)
        )

    def _pod(self) -> Data:
        entries = [self._some("", f"{self._some(*self.namespaces)}/") + self._some("one", "two", "*") for _ in range(2)]
        return pod(*self._place(), ",".join(entries))
