"""The pod as a workload, and the bundle compiled for it.

In a pod nobody is there to correct a policy, so a policy that is no good is no reason not to start: it compiles to a
refusal of what it could have applied to. Only a bundle that cannot be understood as a whole gives no plan.

Knows: which Services lead to the pod and to which of its ports, and what of the annotations a plan depends on. Must not
know: files, time, or the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from eastgate.compile.plan import compile_plan
from eastgate.dialects.corpus import Document, parse_object, read_parsed
from eastgate.model.diagnostics import Severity
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import KeysUnavailable, Mode, Service, Unmatched, Workload
from eastgate.pods.annotations import Settings
from eastgate.pods.authorities import Authorities, AuthoritiesError, unite_authorities
from eastgate.pods.bundles import BundleError, read_line, unpack_lines
from sidecar.policies.snapshot import Material, Snapshot, sort_diagnostics

_ORIGIN = "bundle"
"""What positions call it. Objects out of a bundle have no lines; messages name the object and the field."""

type Pairs = tuple[tuple[str, str], ...]
type Ports = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PodFacts:
    """All that a plan depends on besides the bundle. ``ports`` are the named ones of the app's containers."""

    namespace: str
    labels: Pairs = ()
    ports: Ports = ()
    policies: tuple[str, ...] | None = None
    mode: Mode = Mode.ENFORCE
    unmatched: Unmatched = Unmatched.DENY
    keys_unavailable: KeysUnavailable = KeysUnavailable.UNAVAILABLE
    opaque_ports: frozenset[int] = frozenset()


def gather_facts(
    namespace: str, labels: Mapping[str, str], settings: Settings, ports: Ports, keys_unavailable: KeysUnavailable
) -> PodFacts:
    """The facts of a pod from its labels and from what its annotations ask for."""
    return PodFacts(
        namespace=namespace,
        labels=tuple(sorted(labels.items())),
        ports=ports,
        policies=settings.policies,
        mode=settings.mode,
        unmatched=settings.unmatched,
        keys_unavailable=keys_unavailable,
        opaque_ports=frozenset(settings.opaque_ports),
    )


@dataclass(frozen=True, slots=True)
class PodMaterial(Material):
    """A bundle's files and the facts of the pod. The files stay compressed: they are kept as long as the plan is.
    ``authorities`` are those that the command line names, besides the bundle's.
    """

    files: Mapping[str, bytes] = field(repr=False)
    facts: PodFacts
    authorities: Authorities = ()

    def compile(self, before: Snapshot | None = None) -> Snapshot:
        """Unpack, read, compile. Raises ``BundleError`` where that gives nothing that may be put in force.

        Most of a bundle is as it was: a document that is read is kept with its line, and a change costs a third.
        """
        bundle = unpack_lines(self.files, self.facts.namespace)
        known = before.read if before is not None else {}
        read: dict[bytes, Document] = {}
        for lines in (bundle.documents, bundle.secrets):
            for number, line in enumerate(lines, 1):
                read[line] = known.get(line) or parse_object(_ORIGIN, read_line(line, number))
        policy_set = read_parsed(read[line] for line in (*bundle.documents, *bundle.secrets))
        for found in policy_set.diagnostics:
            # What is said of no object may be about any: perhaps a policy that is missing now.
            if found.severity is Severity.ERROR and not found.subject:
                raise BundleError(f"a part of it cannot be read: {found.message}")
        plan = compile_plan(*place_workload(policy_set, self.facts))
        diagnostics = sort_diagnostics(plan.diagnostics)
        try:
            authorities = unite_authorities(bundle.authorities, self.authorities)
        except AuthoritiesError as error:
            raise BundleError(f"the list of trusted authorities, with those of --trusted-ca, {error}") from None
        return Snapshot(self, plan, diagnostics, bundle.digest, self.facts.opaque_ports, authorities, read)


def place_workload(policy_set: PolicySet, facts: PodFacts) -> tuple[PolicySet, Workload]:
    """The workload that the pod is, and the policy set in which its Services lead to the pod's own ports."""
    own = find_services(policy_set.services, facts.namespace, dict(facts.labels))
    ports = dict(facts.ports)
    services = tuple(_resolve_ports(one, ports) if one in own else one for one in policy_set.services)
    workload = Workload(
        namespace=facts.namespace,
        labels=facts.labels,
        services=tuple((one.namespace, one.name, None) for one in own),
        policies=facts.policies,
        mode=facts.mode,
        unmatched=facts.unmatched,
        keys_unavailable=facts.keys_unavailable,
    )
    return replace(policy_set, services=services), workload


def find_services(services: Iterable[Service], namespace: str, labels: Mapping[str, str]) -> list[Service]:
    """The Services whose selector matches the pod. One without a selector selects nothing: its endpoints are made by
    hand.
    """
    return [
        one
        for one in services
        if one.namespace == namespace and one.selector and all(labels.get(key) == value for key, value in one.selector)
    ]


def _resolve_ports(service: Service, ports: Mapping[str, int]) -> Service:
    """Named target ports as numbers. A name that the pod has not stays one: what is unknown binds to every port."""
    return replace(
        service,
        ports=tuple(
            replace(one, target=ports[one.target]) if isinstance(one.target, str) and one.target in ports else one
            for one in service.ports
        ),
    )
