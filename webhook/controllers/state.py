"""Every watched object, in memory, and the bundles that follow from them.

``put`` and ``remove`` say which namespaces' bundles may have changed; ``build`` makes one. The order in which objects
came does not matter, and neither does what was built before: a controller that starts anew makes the same bundles.

Knows: what is there, and who asked for what when it was last built. Must not know: the API, threads, time, how a bundle
is packed, written or mounted. Pure; not for several threads at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from eastgate.compile.selection import Selected, Selection, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.dialects.catalogue import Reference
from eastgate.dialects.corpus import read_parsed
from eastgate.dialects.kinds import ENVOY_GROUP, GATEWAY_GROUP, GLOO_NETWORK_GROUP
from eastgate.model.sets import PolicySet
from eastgate.pods.annotations import read_policies
from eastgate.pods.names import POLICIES
from webhook.controllers.excerpts import (
    CONTENT_KINDS,
    EVERYWHERE,
    POLICY_KINDS,
    ROUTE_KINDS,
    TABLE_KINDS,
    Data,
    Excerpt,
    rank,
    refer,
    take_excerpt,
)
from webhook.controllers.relevance import Delegations, Gathered, entries_for, gather, narrow

MAX_ROUNDS = 8
"""Readings until nothing new is asked for. Policy, backend, TLS policy, authority: the longest way has four steps."""

_LISTENING = (
    (GATEWAY_GROUP, "Gateway"),
    (GATEWAY_GROUP, "ListenerSet"),
    ("gateway.networking.x-k8s.io", "XListenerSet"),
)
_NAMESPACE = ("", "Namespace")
_POD = ("", "Pod")
_SERVICE = ("", "Service")


@dataclass(frozen=True, eq=False)
class BuiltBundle:
    """What the pods of a namespace are to have, and what there is to say to the authors of its policies and routes.

    ``documents`` and ``secrets`` are to be packed, in this order. ``wanted`` are the ConfigMaps and Secrets to watch,
    there or not. ``named`` are the policies of other namespaces that its pods name, there or not (``namespace/name``,
    ``namespace/*``). ``policy_set`` holds more than the bundle: all that the namespace's own policies may hold on, and
    all that may hold there instead; ``selection`` and ``selected`` (by ``id(route)``) say what does. ``own`` are the
    objects to judge. Objects that are the same as before are the same dicts: not to be changed.
    """

    namespace: str
    documents: tuple[Data, ...]
    secrets: tuple[Data, ...]
    wanted: tuple[Reference, ...]
    named: tuple[str, ...]
    policy_set: PolicySet
    selection: Selection
    selected: Mapping[int, Selected]
    own: tuple[Excerpt, ...]


@dataclass(slots=True)
class _Last:
    """What the last build of a namespace depended on. ``followed`` are the objects that it found by asking."""

    gathered: Gathered
    asked: set[Reference]
    followed: frozenset[Excerpt]
    around: frozenset[str]

    def depends_on(self, excerpt: Excerpt, spoken_of: Set[str]) -> bool:
        """Whether an object that lives in, or speaks of, these namespaces may matter."""
        namespaces = self.around
        if excerpt.kind in ROUTE_KINDS:
            namespaces, spoken_of = self.gathered.concerned, excerpt.words
        elif excerpt.kind in POLICY_KINDS:
            namespaces = self.gathered.homes
        return EVERYWHERE in namespaces or not namespaces.isdisjoint(spoken_of)


class ClusterState:
    """All policies, routes and what they refer to; of pods, whom they name."""

    def __init__(self) -> None:
        self._objects: dict[Reference, Excerpt] = {}
        self._kinds: defaultdict[tuple[str, str], dict[Excerpt, None]] = defaultdict(dict)
        self._policies: dict[Excerpt, None] = {}
        self._routes: dict[Excerpt, None] = {}
        self._delegations = Delegations()
        self._naming: defaultdict[str, tuple[dict[str, frozenset[str]], Counter[str]]]
        self._naming = defaultdict(lambda: ({}, Counter()))
        """The policies of other namespaces that pods name: by pod, and by how many."""
        self._last: dict[str, _Last] = {}

    def get(self, reference: Reference) -> Excerpt | None:
        """What is kept of an object."""
        return self._objects.get(reference)

    # --- what is there ----------------------------------------------------------------------------------------------

    def put(self, found: Mapping[str, Any]) -> frozenset[str]:
        """An object as it is now. The answer: namespaces whose bundle, or whose conditions, may be others."""
        reference = refer(found)
        if (reference.group, reference.kind) == _POD:
            return self._name_policies(reference, _named_by(found, reference.namespace))
        excerpt = take_excerpt(found)
        before = self._objects.get(reference)
        if before is not None and before.data == excerpt.data:
            before.generation = excerpt.generation
            return frozenset()
        if before is not None:
            self._drop(before)
        self._objects[reference] = excerpt
        self._kinds[excerpt.kind][excerpt] = None
        if excerpt.kind in POLICY_KINDS:
            self._policies[excerpt] = None
        if excerpt.kind in ROUTE_KINDS:
            self._routes[excerpt] = None
        if excerpt.kind in TABLE_KINDS:
            self._delegations.add(excerpt)
        return self._affected(excerpt) | (self._affected(before) if before is not None else frozenset())

    def remove(self, found: Mapping[str, Any]) -> frozenset[str]:
        """An object that is no more, of which only the identity is looked at."""
        reference = refer(found)
        if (reference.group, reference.kind) == _POD:
            return self._name_policies(reference, frozenset())
        excerpt = self._objects.get(reference)
        if excerpt is None:
            return frozenset()
        self._drop(excerpt)
        return self._affected(excerpt)

    def forget(self, namespace: str) -> None:
        """The namespace is built no more: what it depended on is nobody's concern."""
        self._last.pop(namespace, None)

    def _drop(self, excerpt: Excerpt) -> None:
        del self._objects[excerpt.reference]
        del self._kinds[excerpt.kind][excerpt]
        self._policies.pop(excerpt, None)
        self._routes.pop(excerpt, None)
        if excerpt.kind in TABLE_KINDS:
            self._delegations.remove(excerpt)

    def _name_policies(self, pod: Reference, names: frozenset[str]) -> frozenset[str]:
        naming, count = self._naming[pod.namespace]
        before = naming.pop(pod.name, frozenset())
        if names:
            naming[pod.name] = names
        known = count.keys() & (names ^ before)
        count.update(names - before)
        count.subtract(before - names)
        for name in [name for name in before - names if not count[name]]:
            del count[name]
        return frozenset({pod.namespace}) if known != count.keys() & (names ^ before) else frozenset()

    def _named(self, namespace: str) -> tuple[str, ...]:
        return tuple(sorted(self._naming[namespace][1])) if namespace in self._naming else ()

    def _affected(self, excerpt: Excerpt) -> frozenset[str]:
        """Never too few: whom the object speaks of, and who depends on its namespace or asked for it."""
        reference, namespace = excerpt.reference, excerpt.namespace
        asking = {one for one, last in self._last.items() if reference in last.asked}
        if excerpt.kind in CONTENT_KINDS:
            return frozenset(asking)
        if excerpt.kind == _SERVICE:
            return frozenset({namespace, *asking})
        if excerpt.kind == _NAMESPACE:
            namespace = reference.name
        if EVERYWHERE in excerpt.mentions:
            return frozenset({namespace, *self._last})
        spoken_of = {namespace, *excerpt.mentions}
        if excerpt.kind in TABLE_KINDS:
            near = {*self._delegations.children(excerpt), *self._delegations.naming(excerpt)}
            asking |= {one for one, last in self._last.items() if not near.isdisjoint(last.gathered.objects)}
        depending = {one for one, last in self._last.items() if last.depends_on(excerpt, spoken_of)}
        return frozenset({*spoken_of, *asking, *depending, *(excerpt.words & self._last.keys())})

    # --- bundles ----------------------------------------------------------------------------------------------------

    def build(self, namespace: str) -> BuiltBundle:
        """The bundle of a namespace. Never raises for what an object says."""
        named = self._named(namespace)
        gathered = gather(namespace, self._policies, self._routes, self._delegations, named)
        services = {one: None for one in self._kinds[_SERVICE] if one.namespace == namespace}
        policy_set, asked, followed = self._read(namespace, gathered, services)
        around = gathered.around.union(one.namespace for one in asked)
        self._last[namespace] = _Last(gathered, asked, followed, around)
        selection = Selection(policy_set.policies, ServiceDirectory(policy_set.services))
        selected = {id(route): selection.select(subject_of(route)) for route in policy_set.routes}
        kept = self._keep(namespace, gathered, narrow(namespace, policy_set, selected))
        documents, secrets = self._assemble(kept, services, gathered, followed, asked)
        only_named = (
            one for one in gathered.objects if one not in kept and not set(named).isdisjoint(entries_for(one))
        )
        documents |= {one: one.data for one in only_named if one.kind in POLICY_KINDS}
        return BuiltBundle(
            namespace=namespace,
            documents=tuple(documents[one] for one in sorted(documents, key=rank)),
            secrets=tuple(secrets[one] for one in sorted(secrets, key=rank)),
            wanted=tuple(sorted({one._replace(key="") for one in asked if one[:2] in CONTENT_KINDS})),
            named=named,
            policy_set=policy_set,
            selection=selection,
            selected=selected,
            own=tuple(
                sorted((one for one in (*self._policies, *self._routes) if one.namespace == namespace), key=rank)
            ),
        )

    def _read(
        self, namespace: str, gathered: Gathered, services: Mapping[Excerpt, None]
    ) -> tuple[PolicySet, set[Reference], frozenset[Excerpt]]:
        """Read, with everything that is asked for. What was asked for last time is tried first; most often it is the
        same, and one reading is enough.
        """
        last = self._last.get(namespace)
        if last is not None:
            followed = frozenset(one for one in last.followed if self._objects.get(one.reference) is one)
        else:
            followed = frozenset(one for kind in CONTENT_KINDS for one in self._living_in(*kind, gathered.around))
        for _ in range(MAX_ROUNDS):
            asked: set[Reference] = set()
            policy_set = read_parsed(_documents((*gathered.objects, *services, *followed)), asked)
            needed = frozenset(self._follow(asked, gathered.objects)) - gathered.objects.keys() - services.keys()
            if needed == followed:
                break
            followed = needed
        return policy_set, asked, followed

    def _follow(self, asked: Iterable[Reference], objects: Mapping[Excerpt, None]) -> Iterable[Excerpt]:
        """The objects behind references, and those that say something about them without being referred to."""
        names = {one._replace(key="") if one.key else one for one in asked}
        namespaces = {one.namespace for one in names}.union(*({one.namespace, *one.mentions} for one in objects))
        for reference in names:
            found = self._objects.get(reference)
            if found is not None:
                yield found
        kinds = {one[:2] for one in names}
        yield from self._living_in(GATEWAY_GROUP, "ReferenceGrant", namespaces)
        if (GLOO_NETWORK_GROUP, "ExternalService") in kinds:
            yield from self._living_in(GLOO_NETWORK_GROUP, "ExternalEndpoint", namespaces)
        selecting = [one for one in objects if one.kind == (ENVOY_GROUP, "SecurityPolicy")]
        if not selecting:
            return
        yield from self._living_in(GATEWAY_GROUP, "BackendTLSPolicy", namespaces)
        if any(EVERYWHERE in one.mentions for one in selecting):
            namespaces |= {one.namespace for kind in _LISTENING for one in self._kinds[kind]}
        for kind in _LISTENING:
            yield from self._living_in(*kind, namespaces)
        yield from (one for one in self._kinds[_NAMESPACE] if one.reference.name in namespaces)

    def _living_in(self, group: str, kind: str, namespaces: Container[str]) -> Iterable[Excerpt]:
        return (one for one in self._kinds[group, kind] if one.namespace in namespaces)

    def _keep(self, namespace: str, gathered: Gathered, narrowed: tuple[set[str], set[str]]) -> dict[Excerpt, None]:
        """The namespace's own objects, the routes that lead to it with their whole delegation, the policies that could
        hold.
        """
        leading, holding = narrowed
        kept = {
            one: None
            for one in gathered.objects
            if one.namespace == namespace or one.file in (leading if one.kind in ROUTE_KINDS else holding)
        }
        return kept | self._delegations.close([one for one in kept if one.kind in TABLE_KINDS])

    def _assemble(
        self,
        kept: Mapping[Excerpt, None],
        services: Mapping[Excerpt, None],
        gathered: Gathered,
        followed: frozenset[Excerpt],
        asked: set[Reference],
    ) -> tuple[dict[Excerpt, Data], dict[Excerpt, Data]]:
        """Documents and Secrets: what is kept, and what it asks for itself. Of a ConfigMap or Secret only the values
        that were looked at: what a policy refers to without leave is not.
        """
        if kept.keys() != gathered.objects.keys():
            asked = set()
            read_parsed(_documents((*kept, *services, *followed)), asked)
        documents = {one: one.data for one in (*kept, *services)}
        secrets: dict[Excerpt, Data] = {}
        keys: defaultdict[Reference, set[str]] = defaultdict(set)
        for reference in asked:
            if reference.key:
                keys[reference._replace(key="")].add(reference.key)
        for one in self._follow(asked, kept):
            if one.kind in CONTENT_KINDS:
                content = one.only(keys[one.reference])
                if content["data"]:
                    (secrets if one.reference.kind == "Secret" else documents)[one] = content
            elif one.kind not in POLICY_KINDS and one.kind not in TABLE_KINDS:
                documents[one] = one.data
        return documents, secrets


def _named_by(pod: Mapping[str, Any], namespace: str) -> frozenset[str]:
    """The policies of other namespaces that a pod asks for; of a list that cannot be read, none: the sidecar has its
    last good one.
    """
    annotations = (pod.get("metadata") or {}).get("annotations")
    text = annotations.get(POLICIES) if isinstance(annotations, dict) else None
    try:
        entries = read_policies(text) if isinstance(text, str) else ()
    except ValueError:
        return frozenset()
    return frozenset(one for one in entries if "/" in one and not one.startswith(f"{namespace}/"))


def _documents(excerpts: Iterable[Excerpt]) -> Iterable[Any]:
    return [one.document for one in sorted(dict.fromkeys(excerpts), key=rank)]
