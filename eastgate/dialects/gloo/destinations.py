"""The server behind a DestinationReference: a Service of the cluster, or a Gloo ExternalService with its endpoints.

Knows: addresses, ports and whether TLS is spoken. Must not know what is fetched there. The certificate is always
verified, against the name that is sent as SNI; what asks for less is refused. Endpoints are taken from the
ExternalService's own namespace only: another namespace must not be able to answer for it.
Rules: Gloo ``networking/v2`` ExternalService and ExternalEndpoint, ``common/v2`` DestinationReference (2.14).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import SplitResult

from eastgate.dialects.catalogue import Object
from eastgate.dialects.documents import Fields, Reporter, Value, show
from eastgate.dialects.gateway.references import say_missing
from eastgate.dialects.gloo.dialect import Scope, open_spec
from eastgate.dialects.gloo.selection import DESTINATION_KINDS, read_port
from eastgate.dialects.kinds import GLOO_NETWORK_GROUP
from eastgate.dialects.references import read_object_name
from eastgate.model.diagnostics import suggest_name

CLUSTER_DOMAIN = "cluster.local"
"""Kubernetes' default; kubeadm and every managed offering use it."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect. ``server_name`` None: the URL's host."""

    addresses: tuple[tuple[str, int], ...]
    tls: bool = False
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class _Port:
    """A port of an ExternalService: ``target`` on the endpoints, number or name."""

    number: int
    name: str
    target: int | str | None
    tls: bool
    server_name: str | None
    at: Value


def resolve_server(reference: Fields, url: SplitResult | None, scope: Scope, owner: Object) -> Server | None:
    """The server that ``destinationRef`` leads to, or None after saying why not."""
    report = reference.report
    reference.refuse(
        "awsLambda", "a Lambda function serves no JWKS here; accepted: `ref` to a Service or ExternalService"
    )
    reference.note("subset", "no effect: any endpoint of the destination may serve the JWKS")
    reference.ignore("weight")  # means something only among several destinations
    kind = reference.choice("kind", DESTINATION_KINDS, "SERVICE")
    port = read_port(reference)
    with reference.mapping("ref") as ref:
        name = read_object_name(ref, owner.namespace)
    if name is None or url is None:
        return None
    if kind == "SERVICE":
        return _resolve_service(reference, name, port, url, scope)
    if kind == "VIRTUAL_DESTINATION":
        message = "a VirtualDestination is not resolved; accepted: SERVICE, EXTERNAL_SERVICE"
        report.error(reference.at("kind"), "unsupported-value", message)
        return None
    found = scope.catalogue.find(GLOO_NETWORK_GROUP, "ExternalService", *name)
    if found is None:
        say_missing(scope.catalogue, reference.at("ref"), report, GLOO_NETWORK_GROUP, "ExternalService", *name)
        return None
    return _resolve_external(reference, found, port, url, scope)


# --- a Service of this cluster --------------------------------------------------------------------------------------


def _resolve_service(
    reference: Fields, name: tuple[str, str], port: int | str | None, url: SplitResult, scope: Scope
) -> Server | None:
    """By its cluster name, so that the Service need not be among what was read (it may be in any namespace)."""
    number = port if isinstance(port, int) else _find_service_port(reference, name, port, url, scope)
    if number is None:
        return None
    return Server(((f"{name[1]}.{name[0]}.svc.{CLUSTER_DOMAIN}", number),))


def _find_service_port(
    reference: Fields, name: tuple[str, str], port: str | None, url: SplitResult, scope: Scope
) -> int | None:
    found = scope.catalogue.find("", "Service", *name)
    listed = found.document.get("spec", "ports") if found is not None else None
    ports = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    matching = [one for one in ports if port is None or one.get("name") == port]
    if len(matching) == 1 and isinstance(matching[0].get("port"), int):
        return int(matching[0]["port"])
    if found is None and port is None:
        return url.port or (443 if url.scheme == "https" else 80)
    title = f"Service `{name[0]}/{name[1]}`"
    if found is None:
        message = f"port {show(port)} cannot be looked up: {title} is not among what was read; give `port.number`"
    elif port is None:
        message = f"`port` is required: {title} has {len(ports)} ports"
    else:
        names = [str(one.get("name")) for one in ports if one.get("name")]
        message = f"{title} has no port {show(port)}{suggest_name(port, names)}"
    reference.report.error(reference.at("port"), "not-there", message)
    return None


# --- an ExternalService ---------------------------------------------------------------------------------------------


def _resolve_external(
    reference: Fields, found: Object, wanted: int | str | None, url: SplitResult, scope: Scope
) -> Server | None:
    """Mistakes in the ExternalService are reported where they are, once more by each policy that needs it."""
    report = scope.report_on(found)
    with open_spec(found, report) as spec:
        hosts, addresses = spec.texts("hosts"), spec.texts("addresses")
        spec.choose("hosts", "addresses", required=True)
        ports = [port for item in spec.items("ports", least=1) if (port := _read_port(item, report)) is not None]
        selector = spec.labels("selector")
        alternatives = spec.texts("subjectAltNames")
        port = _choose_port(reference, found, ports, wanted)
        if port is not None:
            host = _choose_name(hosts, url)
            port = replace(port, server_name=port.server_name or (host if "*" not in host else None))
            _check_alternatives(spec, alternatives, port.server_name or url.hostname or "")
        endpoints = _read_endpoints(scope, found.namespace, selector, port) if selector and port is not None else ()
        if not endpoints and port is not None:
            endpoints = _addresses_by_name(spec, hosts, addresses, port, url)
    if report.errors or port is None or not endpoints:
        if report.errors:
            message = f"ExternalService `{found.namespace}/{found.name}` cannot be used: {report.errors[0]}"
            reference.report.error(reference.at("ref"), "bad-reference", message)
        return None
    return Server(endpoints, port.tls, port.server_name)


def _read_port(item: Value, report: Reporter) -> _Port | None:
    with Fields(item, report) as port:
        number = port.integer("number", least=1, most=65535)
        if number is None and not port.has("number"):
            report.error(port.at("number"), "missing-field", "`number` is required")
        name = port.text("name") or ""
        protocol = (port.text("protocol") or "").upper()
        port.note("egressGatewayRoutes", "no effect: keys are fetched directly, not through an egress gateway")
        target = read_port(port, "targetPort")
        tls, server_name = _read_tls(port)
    if number is None:
        return None
    return _Port(number, name, target, tls or protocol in ("HTTPS", "TLS"), server_name, item)


def _read_tls(port: Fields) -> tuple[bool, str | None]:
    found = port.fields("clientsideTls")
    if found is None:
        return False, None
    with found as tls:
        mode = tls.choice("mode", ("SIMPLE", "DISABLE", "MUTUAL", "ISTIO_MUTUAL"), "SIMPLE")
        if mode in ("MUTUAL", "ISTIO_MUTUAL"):
            tls.report.error(
                tls.at("mode"), "unsupported-value", f"`{mode}` needs a client certificate, which JWKS fetching has not"
            )
        for field in ("clientCertificate", "privateKey", "credentialName"):
            tls.refuse(field, "client certificates are not supported for fetching a JWKS")
        tls.refuse(
            "caCertificates",
            "a path on a proxy's disk means nothing here; accepted: the system's trust, or `remote.caCertificate` of "
            "a policy.eastgate.dev JWTPolicy",
        )
        if tls.boolean("insecureSkipVerify"):
            tls.refuse("insecureSkipVerify", "keys from a server that nobody verified prove nothing; remove the field")
        return mode != "DISABLE", tls.text("sni") or None


def _choose_port(reference: Fields, found: Object, ports: list[_Port], wanted: int | str | None) -> _Port | None:
    matching = [one for one in ports if wanted is None or wanted in (one.number, one.name)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(f"`{one.number}`" + (f" ({one.name})" if one.name else "") for one in ports) or "none"
    title = f"ExternalService `{found.namespace}/{found.name}`"
    at = reference.at("port")
    if wanted is None:
        reference.report.error(at, "missing-field", f"`port` is required: {title} has these: {listed}")
    else:
        reference.report.error(at, "not-there", f"{title} has no port {show(str(wanted))}; it has: {listed}")
    return None


def _choose_name(hosts: tuple[str, ...], url: SplitResult) -> str:
    """The name to verify: a single host is the SNI (Gloo), otherwise the URL's own."""
    return hosts[0] if len(hosts) == 1 else url.hostname or ""


def _check_alternatives(spec: Fields, alternatives: tuple[str, ...], name: str) -> None:
    if alternatives and name not in alternatives:
        spec.report.error(
            spec.at("subjectAltNames"),
            "unsupported-value",
            f"the server is verified as {show(name)}, which is not listed; set `clientsideTls.sni` to one of them",
        )


def _addresses_by_name(
    spec: Fields, hosts: tuple[str, ...], addresses: tuple[str, ...], port: _Port, url: SplitResult
) -> tuple[tuple[str, int], ...]:
    """Without endpoints the hosts are looked up by DNS, at ``targetPort``."""
    if isinstance(port.target, str):
        spec.report.error(port.at, "unsupported-value", "`targetPort.name` needs ExternalEndpoints; give its number")
        return ()
    number = port.target or port.number
    wanted = (url.hostname or "").lower()
    names = [host.lower() for host in hosts]
    if wanted in names or any(name.startswith("*.") and wanted.endswith(name[1:]) for name in names):
        return ((wanted, number),)
    found = []
    for host in names:
        if "*" in host:
            spec.report.error(
                spec.at("hosts"), "bad-reference", f"{show(host)} does not cover {show(wanted)} of the URL"
            )
        else:
            found.append((host, number))
    for address in addresses:
        try:
            network = ipaddress.ip_network(address)
        except ValueError:
            spec.report.error(spec.at("addresses"), "bad-value", f"{show(address)} is not an IP address")
            continue
        if network.num_addresses > 1:
            spec.report.error(spec.at("addresses"), "unsupported-value", f"{show(address)} is not a single address")
        else:
            found.append((str(network.network_address), number))
    return tuple(found)


# --- ExternalEndpoints ----------------------------------------------------------------------------------------------


def _read_endpoints(
    scope: Scope, namespace: str, selector: tuple[tuple[str, str], ...], port: _Port
) -> tuple[tuple[str, int], ...]:
    found = []
    for endpoint in scope.catalogue.of_kind(GLOO_NETWORK_GROUP, "ExternalEndpoint"):
        if endpoint.namespace != namespace or not set(selector) <= set(endpoint.labels):
            continue
        report = scope.report_on(endpoint)
        with open_spec(endpoint, report) as spec:
            spec.ignore("locality")  # a preference among endpoints; they are tried in order
            address = spec.text("address", required=True)
            number = _endpoint_port(spec, port)
            if address is not None and address.startswith("unix:"):
                spec.report.error(spec.at("address"), "unsupported-value", "a Unix socket is not reached from a pod")
                continue
        if address is not None and number is not None:
            found.append((address, number))
    return tuple(found)


def _endpoint_port(spec: Fields, port: _Port) -> int | None:
    ports: list[tuple[int, str]] = []
    for item in spec.items("ports"):
        with Fields(item, spec.report) as fields:
            number = fields.integer("number", least=1, most=65535)
            name = fields.text("name") or ""
            if number is not None:
                ports.append((number, name))
    target = port.target if port.target is not None else port.name or port.number
    for number, name in ports:
        if target in (number, name) or (port.target is None and number == port.number):
            return number
    if isinstance(port.target, int) or (port.target is None and not ports):
        return port.target or port.number
    spec.report.error(spec.at("ports"), "not-there", f"no port matches {show(str(target))} of the ExternalService")
    return None
