"""How a backend that serves keys is reached over TLS: whose certificates are trusted, and for which name.

Knows BackendTLSPolicy and the ``tls`` section of Envoy Gateway's Backend. Whatever in them cannot be honoured closes
the way: a backend whose trust is unresolved is never reached in a weaker way instead (GHSA-qm8v-g4f9-qhjx).
Must not know: what is fetched, or sockets.
Rules: Gateway API v1 BackendTLSPolicy; Envoy Gateway v1alpha1 ``BackendTLSSettings``.
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.references import (
    CORE_GROUP,
    ENVOY_GROUP,
    GATEWAY_GROUP,
    config_values,
    open_spec,
    say_missing,
)
from eastgate.dialects.values import Fields, Reporter, Value, list_names, show
from eastgate.model.diagnostics import Diagnostic

MOST_AUTHORITIES = 8
MOST_TARGETS = 16
"""Of a BackendTLSPolicy; both from its CRD."""

_CA_KEY = "ca.crt"
_BOTH = "must not contain both CACertificateRefs and WellKnownCACertificates"
_NEITHER = "must specify either CACertificateRefs or WellKnownCACertificates"


@dataclass(frozen=True, slots=True)
class Trust:
    """How to verify a backend. ``ca`` None is the system's trust; ``server_name`` None is the URL's host;
    ``unresolved`` says why it cannot be verified at all.
    """

    ca: str | None = None
    server_name: str | None = None
    unresolved: str | None = None


class BackendTrust:
    """Answers which trust holds for a backend; reads a BackendTLSPolicy when a backend that needs it asks."""

    def __init__(self, catalogue: Catalogue, sink: list[Diagnostic]) -> None:
        self.catalogue = catalogue
        self.sink = sink
        self._read: dict[str, Trust] = {}
        self._targeting: dict[tuple[object, ...], list[tuple[dict[str, object], Object]]] | None = None

    def of_target(
        self, group: str, kind: str, namespace: str, name: str, ports: tuple[str, ...], sections: frozenset[str]
    ) -> Trust | None:
        """The trust that the BackendTLSPolicy of a backend asks for, or None where no policy targets it.

        ``ports`` are the section names of the port in question: its name and its number; ``sections`` those of all
        ports. A policy for the port beats one for the whole backend; then the oldest wins, then the first by name. One
        that is meant for the backend and cannot be read, or names a port that is not there, closes the way.
        """
        found: list[tuple[bool, str, str, Object]] = []
        for target, policy in self._policies_of(namespace, kind, name):
            if target.get("group") not in (group, None):
                continue
            section = target.get("sectionName")
            if section is not None and str(section) not in sections:
                known = list_names(sorted(sections))
                why = f"{policy.title} is for its port {show(str(section))}, which is not there; its ports: {known}"
                return Trust(unresolved=why)
            if section is None or str(section) in ports:
                found.append((section is None, policy.created or "9999", policy.name, policy))
        if not found:
            return None
        return self._trust(min(found, key=lambda entry: entry[:3])[3])

    def _policies_of(self, namespace: str, kind: str, name: str) -> list[tuple[dict[str, object], Object]]:
        if self._targeting is None:
            self._targeting = {}
            for policy in self.catalogue.of_kind(GATEWAY_GROUP, "BackendTLSPolicy"):
                for target in _targets_of(policy):
                    plain = target.plain()
                    key = (policy.namespace, str(plain.get("kind")), str(plain.get("name")))
                    self._targeting.setdefault(key, []).append((plain, policy))
        return self._targeting.get((namespace, kind, name), [])

    def _trust(self, policy: Object) -> Trust:
        key = f"{policy.namespace}/{policy.name}"
        if key not in self._read:
            self._read[key] = _read_policy(self.catalogue, policy, Reporter(self.sink, str(policy.title)))
        return self._read[key]


def _targets_of(policy: Object) -> list[Value]:
    """The target references that are mappings; one that is not in a list counts, too: its reader refuses it."""
    spec = policy.spec().data
    written = spec.get("targetRefs") if isinstance(spec, dict) else None
    if written is None:
        return []
    targets = written.data if isinstance(written.data, list) else [written]
    return [target for target in targets if isinstance(target.data, dict)]


def check_targets(catalogue: Catalogue, sink: list[Diagnostic]) -> None:
    """Warn of every BackendTLSPolicy whose target was not read, or is of no kind that can be one.

    Services are looked for only where some of their namespace were read: the application's own are often left out.
    """
    kinds = {"Service": CORE_GROUP, "Backend": ENVOY_GROUP}
    for policy in catalogue.of_kind(GATEWAY_GROUP, "BackendTLSPolicy"):
        report = Reporter(sink, str(policy.title))
        for target in _targets_of(policy):
            group, kind, name = target.get("group"), target.get("kind"), target.get("name")
            if not isinstance(kind, str) or not isinstance(name, str):
                continue
            if kind not in kinds or group not in (None, kinds[kind]):
                said = show(f"{group}/{kind}" if group else kind)
                near = report.suggest(kind, kinds)
                report.warning(
                    target,
                    "unknown-kind",
                    f"{said} is no key server that is known here{near}: the policy has no effect on fetching keys; "
                    f'known: Service (group `""`), Backend (group `{ENVOY_GROUP}`)',
                )
                continue
            # By name, not by ``find``: to look whether it is there is not to need it.
            known = catalogue.names(kinds[kind], kind, policy.namespace)
            if name not in known and (known or kind != "Service"):
                missing = Reporter([], "")
                message = say_missing(catalogue, target, missing, kinds[kind], kind, policy.namespace, name)
                report.warning(target, "not-there", message)


def _read_policy(catalogue: Catalogue, policy: Object, report: Reporter) -> Trust:
    with open_spec(policy, report, ("v1", "v1beta1", "v1alpha3")) as spec:
        for target in spec.items("targetRefs", least=1, most=MOST_TARGETS):
            with Fields(target, report) as reference:
                if reference.text("group") is None and not reference.has("group"):
                    message = '`group` is required, `""` for a Service'
                    report.error(reference.at("group"), "missing-field", message)
                reference.text("kind", required=True)
                reference.text("name", required=True)
                reference.text("sectionName")
        spec.note("options", "`options` belong to the sender's proxy and have no effect on how keys are fetched")
        validation = spec.fields("validation")
        if validation is None:
            report.error(spec.at("validation"), "missing-field", "`validation` is required and must not be empty")
            return _close(policy, report)
        with validation:
            hostname = validation.text("hostname", required=True, longest=253)
            ca = _read_authorities(catalogue, policy.namespace, validation, report, required=True)
            _check_names(validation, hostname, report)
    return _close(policy, report) if report.errors else Trust(ca, hostname)


def _close(policy: Object, report: Reporter) -> Trust:
    return Trust(unresolved=f"{policy.title}: {'; '.join(report.errors)}")


def _check_names(validation: Fields, hostname: str | None, report: Reporter) -> None:
    """``subjectAltNames`` replace the host name in verification; only the host name itself can be verified here."""
    for item in validation.items("subjectAltNames", most=5):
        with Fields(item, report) as entry:
            kind = entry.choice("type", ("Hostname", "URI"), "Hostname")
            name = entry.text("hostname")
            if entry.refuse("uri", "a URI in the certificate is not verified here; accepted: type `Hostname`"):
                continue
            if kind == "Hostname" and name is not None and hostname is not None and name.lower() != hostname.lower():
                report.error(
                    entry.at("hostname"),
                    "unsupported-value",
                    f"{show(name)} differs from `hostname` {show(hostname)}: the certificate is verified for "
                    "`hostname` only; accepted: the same name, or no `subjectAltNames`",
                )


def read_backend_tls(catalogue: Catalogue, backend: Object, tls: Fields, report: Reporter) -> Trust:
    """The ``tls`` section of an Envoy Gateway Backend."""
    before = len(report.errors)
    with tls:
        if tls.boolean("insecureSkipVerify"):
            report.error(
                tls.at("insecureSkipVerify"),
                "unsupported-value",
                "keys are never fetched from a server that is not verified; accepted: false, with `caCertificateRefs` "
                "or `wellKnownCACertificates: System`",
            )
        ca = _read_authorities(catalogue, backend.namespace, tls, report, required=False)
        server_name = tls.text("sni", longest=253)
        tls.refuse("clientCertificateRef", "a client certificate towards the key server is not supported")
        for name in ("minVersion", "maxVersion", "ciphers", "ecdhCurves", "signatureAlgorithms", "alpnProtocols"):
            tls.note(name, f"`{name}` has no effect: keys are fetched with TLS 1.2 or newer and the platform's ciphers")
    if len(report.errors) > before:
        return Trust(unresolved=f"{backend.title}: {'; '.join(report.errors[before:])}")
    return Trust(ca, server_name)


def _read_authorities(
    catalogue: Catalogue, namespace: str, fields: Fields, report: Reporter, *, required: bool
) -> str | None:
    """The PEM text of the trusted authorities, None for the system's. Errors are reported; then the answer is void."""
    references = fields.items("caCertificateRefs", most=MOST_AUTHORITIES)
    # An empty text says nothing (Gateway API), like an absent field.
    written = bool(fields.text("wellKnownCACertificates"))
    system = fields.choice("wellKnownCACertificates", ("System",), "System") if written else ""
    if references and system:
        report.error(fields.at("wellKnownCACertificates"), "conflict", _BOTH)
    if required and not references and not system:
        report.error(fields.at("caCertificateRefs"), "missing-field", _NEITHER)
    texts = [_read_authority(catalogue, namespace, item, report) for item in references]
    return "\n".join(text for text in texts if text) or None


def _read_authority(catalogue: Catalogue, namespace: str, item: Value, report: Reporter) -> str | None:
    with Fields(item, report) as reference:
        group = reference.text("group") or CORE_GROUP
        kind = reference.text("kind", required=True)
        name = reference.text("name", required=True)
    if kind is None or name is None:
        return None
    if group != CORE_GROUP or kind not in ("ConfigMap", "Secret"):
        report.error(
            item,
            "unsupported-reference",
            f"{show(f'{group}/{kind}' if group else kind)} is not supported as a certificate authority; accepted: "
            'ConfigMap, Secret (group `""`)',
        )
        return None
    found = catalogue.find(CORE_GROUP, kind, namespace, name)
    if found is None:
        say_missing(catalogue, item, report, CORE_GROUP, kind, namespace, name)
        return None
    values = config_values(found)
    catalogue.note_key(found, _CA_KEY)
    text = values.get(_CA_KEY)
    if text is None:
        keys = list_names(values)
        report.error(item, "not-there", f"{kind} `{namespace}/{name}` has no key `{_CA_KEY}`; its keys: {keys}")
        return None
    if "-----BEGIN CERTIFICATE-----" not in text:
        report.error(
            item,
            "bad-certificate",
            f"key `{_CA_KEY}` of {kind} `{namespace}/{name}` holds no PEM certificate; accepted: one or more "
            "`-----BEGIN CERTIFICATE-----` blocks",
        )
        return None
    return text.strip() + "\n"
