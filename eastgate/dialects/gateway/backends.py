"""Where keys are fetched from when a policy names a backend instead of a URL's own host.

Knows Services and Envoy Gateway's Backend as addresses, the ReferenceGrant they need across namespaces, and the TLS
that a BackendTLSPolicy asks for. Must not know: URLs, retries, routes.
Rules: Gateway API v1 BackendObjectReference; Envoy Gateway v1alpha1 ``BackendSpec`` with its CEL messages.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.references import (
    CORE_GROUP,
    ENVOY_GROUP,
    is_granted,
    open_spec,
    say_missing,
    say_not_granted,
)
from eastgate.dialects.gateway.tls import BackendTrust, Trust, read_backend_tls
from eastgate.dialects.values import Fields, Reporter, Value, list_names, show
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.routes import ObjectName

MOST_ENDPOINTS = 64
"""Of a Backend; from its CRD."""

CLUSTER_DOMAIN = "svc.cluster.local"
_ONE_ADDRESS = "one of fqdn, ip or unix must be specified"
_ONLY_ONE = "only one of fqdn, ip or unix can be specified"
_MIXED = "fqdn addresses cannot be mixed with other address types"


@dataclass(frozen=True, slots=True)
class Reached:
    """What a backend reference leads to. No ``addresses`` and no ``unresolved``: the URL's own host.
    ``trust`` None: no TLS is asked for beyond what the URL says.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    trust: Trust | None = None
    unresolved: str | None = None


class KeyServers:
    """Resolves backend references. A Backend is read once, whoever refers to it."""

    def __init__(self, catalogue: Catalogue, sink: list[Diagnostic]) -> None:
        self.catalogue = catalogue
        self.trusts = BackendTrust(catalogue, sink)
        self._sink = sink
        self._backends: dict[ObjectName, Reached] = {}

    def reach(self, item: Value, source: tuple[str, str, str], report: Reporter) -> Reached:
        """One ``backendRefs[]`` entry of ``source`` (group, kind, namespace). Errors are reported and close the way."""
        # What is found is shared by all that refer to it, so nobody can keep it for himself.
        self.catalogue.forget()
        before = len(report.errors)
        with Fields(item, report) as reference:
            group = reference.text("group") or CORE_GROUP
            kind = reference.text("kind") or "Service"
            name = reference.text("name", required=True)
            namespace = reference.text("namespace") or source[2]
            port = reference.integer("port", least=1, most=65535)
            reference.note("fallback", "no effect: all backends are tried in the order they are written")
            reference.note("weight", "no effect: all backends are tried in the order they are written")
        reached = Reached()
        if name is not None and len(report.errors) == before:
            reached = self._resolve(item, source, report, (group, kind, namespace, name), port)
            trust = reached.trust
            why = reached.unresolved or (trust.unresolved if trust is not None else None)
            if why is not None and len(report.errors) == before:
                report.error(item, "not-there", f"keys are never fetched from it, nor in a weaker way: {why}")
        if len(report.errors) > before:
            return Reached(unresolved="; ".join(report.errors[before:]))
        return reached

    def _resolve(
        self,
        item: Value,
        source: tuple[str, str, str],
        report: Reporter,
        target: tuple[str, str, str, str],
        port: int | None,
    ) -> Reached:
        group, kind = target[:2]
        if (group, kind) not in ((CORE_GROUP, "Service"), (ENVOY_GROUP, "Backend")):
            report.error(
                item,
                "unsupported-reference",
                f"{show(f'{group}/{kind}' if group else kind)} is not supported as a key server; accepted: Service "
                f'(group `""`), Backend (group `{ENVOY_GROUP}`)',
            )
            return Reached()
        if not is_granted(self.catalogue, source, *target):
            say_not_granted(item, report, source, *target)
            return Reached()
        found = self.catalogue.find(*target)
        if found is None:
            say_missing(self.catalogue, item, report, *target)
            return Reached()
        if kind == "Service":
            return self._reach_service(found, port, item, report)
        if found.title not in self._backends:
            self._backends[found.title] = self._reach_backend(found)
        return self._backends[found.title]

    def _reach_service(self, service: Object, port: int | None, item: Value, report: Reporter) -> Reached:
        if port is None:
            report.error(item, "missing-field", "`port` is required for a Service")
            return Reached()
        ports = service.document.get("spec", "ports")
        entries = [one for one in ports if isinstance(one, dict)] if isinstance(ports, list) else []
        entry = next((one for one in entries if one.get("port") == port), None)
        if entry is None:
            known = list_names(str(one.get("port")) for one in entries)
            report.error(item, "not-there", f"{service.title} has no port `{port}`; its ports: {known}")
            return Reached()
        # The DNS name of a headless Service leads to the pods themselves, where the target port is open.
        dialled, target_port = port, entry.get("targetPort")
        if service.document.get("spec", "clusterIP") == "None" and isinstance(target_port, int):
            dialled = target_port
        sections = (str(entry["name"]), str(port)) if entry.get("name") else (str(port),)
        every = frozenset(str(one[key]) for one in entries for key in ("name", "port") if one.get(key))
        trust = self.trusts.of_target(CORE_GROUP, "Service", service.namespace, service.name, sections, every)
        return Reached(((f"{service.name}.{service.namespace}.{CLUSTER_DOMAIN}", dialled),), trust)

    def _reach_backend(self, backend: Object) -> Reached:
        report = Reporter(self._sink, str(backend.title))
        trust: Trust | None = None
        with open_spec(backend, report, ("v1alpha1",)) as spec:
            kind = spec.choice("type", ("Endpoints", "DynamicResolver"), "Endpoints")
            items = spec.items("endpoints", most=MOST_ENDPOINTS)
            if kind == "DynamicResolver" and items:
                report.error(spec.at("endpoints"), "conflict", "DynamicResolver type cannot have endpoints specified")
            if kind == "Endpoints" and not items:
                report.error(spec.at("endpoints"), "missing-field", "`endpoints` is required and must not be empty")
            endpoints = [endpoint for endpoint in (_read_endpoint(item, report) for item in items) if endpoint]
            if len({endpoint.named for endpoint in endpoints}) > 1:
                report.error(spec.at("endpoints"), "conflict", _MIXED)
            # Which protocol the application speaks, and who is tried last, does not matter for fetching keys.
            spec.ignore("appProtocols", "fallback")
            tls = spec.fields("tls")
            if tls is not None:
                trust = read_backend_tls(self.catalogue, backend, tls, report)
        # Where both say something the BackendTLSPolicy wins (Envoy Gateway, ``BackendSpec.TLS``). One answer has to
        # hold for all endpoints: one set of keys is fetched in one way.
        sections: list[tuple[str, ...]] = [(str(endpoint.port),) for endpoint in endpoints] or [()]
        every = frozenset(str(endpoint.port) for endpoint in endpoints)
        asked = {
            self.trusts.of_target(ENVOY_GROUP, "Backend", backend.namespace, backend.name, one, every)
            for one in sections
        }
        if len(asked) > 1:
            report.error(
                backend.document, "conflict", "its endpoints have different TLS settings; accepted: the same for all"
            )
        policy_trust = next(iter(asked))
        if report.errors:
            return Reached(unresolved=f"{backend.title}: {'; '.join(report.errors)}")
        addresses = tuple((endpoint.host, endpoint.port) for endpoint in endpoints)
        return Reached(addresses, policy_trust if policy_trust is not None else trust)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    host: str
    port: int
    named: bool


def _read_endpoint(item: Value, report: Reporter) -> _Endpoint | None:
    """The address, or None after an error was reported."""
    with Fields(item, report) as endpoint:
        # ``hostname`` rewrites the Host of forwarded requests, ``zone`` guides load balancing: neither matters here.
        endpoint.ignore("hostname", "zone")
        written = [name for name in ("fqdn", "ip", "unix") if endpoint.has(name)]
        if len(written) != 1:
            report.error(item, "conflict" if written else "missing-field", _ONLY_ONE if written else _ONE_ADDRESS)
            endpoint.ignore(*written)
            return None
        if endpoint.refuse("unix", "keys are not fetched over a Unix socket; accepted: `fqdn`, `ip`"):
            return None
        key = "hostname" if written[0] == "fqdn" else "address"
        nested = endpoint.fields(written[0])
        if nested is None:
            return None
        with nested:
            host = nested.text(key, required=True, longest=253)
            if not nested.has("port"):
                report.error(nested.at("port"), "missing-field", "`port` is required and must not be empty")
            port = nested.integer("port", least=1, most=65535)
            if host is not None and key == "address" and not _is_address(host):
                report.error(nested.at(key), "bad-address", f"{show(host)} is not an IP address")
                return None
            if host is None or port is None:
                return None
            return _Endpoint(host, port, named=key == "hostname")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
