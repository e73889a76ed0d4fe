"""What of an object can matter to a policy: an excerpt, in one canonical form, parsed once.

Two versions of an object whose excerpts are equal differ in nothing that a reader looks at (a status, an annotation, a
resourceVersion), and change no bundle. Knows: which parts of each kind ``eastgate.dialects`` reads. Must not know: what
they mean, or where objects come from. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from eastgate.dialects.catalogue import DEFAULT_NAMESPACE, Reference
from eastgate.dialects.corpus import Document, parse_object
from eastgate.dialects.kinds import ENVOY_GROUP, GATEWAY_GROUP, GLOO_NETWORK_GROUP, GLOO_POLICY_GROUP, OWN_GROUP
from eastgate.dialects.mentions import list_words

type Data = dict[str, Any]

POLICY_KINDS = frozenset({(OWN_GROUP, "JWTPolicy"), (GLOO_POLICY_GROUP, "JWTPolicy"), (ENVOY_GROUP, "SecurityPolicy")})
TABLE_KINDS = frozenset({(OWN_GROUP, "RouteTable"), (GLOO_NETWORK_GROUP, "RouteTable")})
ROUTE_KINDS = TABLE_KINDS | {(GATEWAY_GROUP, "HTTPRoute"), (GATEWAY_GROUP, "GRPCRoute")}
CONTENT_KINDS = frozenset({("", "ConfigMap"), ("", "Secret")})
"""Watched one by one, where a policy asks for them."""

_AGED = POLICY_KINDS | ROUTE_KINDS | {(GATEWAY_GROUP, "BackendTLSPolicy")}
"""Kinds of which the oldest wins."""

_UNLABELLED = POLICY_KINDS | CONTENT_KINDS
"""Kinds whose labels nobody selects."""

_REFERRING = frozenset({"ListenerSet", "XListenerSet", "ReferenceGrant"})
"""Further kinds that lead from one namespace to another."""

EVERYWHERE = "*"
"""In the ``mentions`` of a policy: it selects among the objects of several namespaces."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """Tables that a table delegates to, as far as they can be told without reading it; None selects any."""

    name: str | None
    namespace: str | None
    labels: frozenset[tuple[str, str]]


@dataclass(eq=False)
class Excerpt:
    """``mentions`` are the namespaces in its references; ``words``, of a route, all that a mistake in it could have
    meant as one. ``rooted`` tables cannot be delegated to.
    """

    reference: Reference
    data: Data
    generation: int = 0
    mentions: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    delegates: tuple[Delegate, ...] = ()
    rooted: bool = False
    file: str = field(init=False)

    def __post_init__(self) -> None:
        group, kind, namespace, name, _ = self.reference
        self.file = f"{kind}{f'.{group}' if group else ''} {namespace}/{name}"

    @cached_property
    def document(self) -> Document:
        """Parsed when it is first read, and what readers make of it is kept with it."""
        return parse_object(self.file, self.data)

    @property
    def kind(self) -> tuple[str, str]:
        """Group and kind."""
        return self.reference.group, self.reference.kind

    @property
    def namespace(self) -> str:
        """Where it lives."""
        return self.reference.namespace

    def only(self, keys: Iterable[str]) -> Data:
        """A ConfigMap or Secret with no other values than these."""
        content = self.data.get("data")
        kept = {key: content[key] for key in sorted(keys) if key in content} if isinstance(content, dict) else {}
        return {**self.data, "data": kept}


def rank(excerpt: Excerpt) -> tuple[str, str, str, str]:
    """The order in which objects stand in a bundle and are read: that of no object's arrival."""
    group, kind, namespace, name, _ = excerpt.reference
    return kind, namespace, name, group


def refer(found: Mapping[str, Any]) -> Reference:
    """Which object this is."""
    metadata = found.get("metadata") or {}
    group = str(found.get("apiVersion") or "").rpartition("/")[0]
    namespace = str(metadata.get("namespace") or DEFAULT_NAMESPACE)
    return Reference(group, str(found.get("kind") or ""), namespace, str(metadata.get("name") or ""))


def take_excerpt(found: Mapping[str, Any]) -> Excerpt:
    """What matters of an object as the API server gives it."""
    reference = refer(found)
    kind = reference.group, reference.kind
    metadata = found.get("metadata") or {}
    labels = metadata.get("labels") or {}
    kept: Data = {"name": reference.name}
    if metadata.get("namespace"):
        kept["namespace"] = reference.namespace
    if labels and kind not in _UNLABELLED:
        kept["labels"] = labels
    if kind in _AGED and metadata.get("creationTimestamp"):
        kept["creationTimestamp"] = metadata["creationTimestamp"]
    data = _order(
        {"apiVersion": found.get("apiVersion"), "kind": reference.kind, "metadata": kept, **_body(found, kind)}
    )
    generation = metadata.get("generation")
    excerpt = Excerpt(reference, data, generation if isinstance(generation, int) else 0)
    excerpt.labels = frozenset((key, value) for key, value in labels.items() if isinstance(value, str))
    if kind in POLICY_KINDS or kind in ROUTE_KINDS or kind[1] in _REFERRING:
        mentions = frozenset(_mentions(data.get("spec")))
        excerpt.mentions = mentions if kind in POLICY_KINDS else mentions - {EVERYWHERE}
    if kind in ROUTE_KINDS:
        excerpt.words = frozenset(list_words(data))
    if kind in TABLE_KINDS:
        excerpt.rooted, excerpt.delegates = _read_delegation(data.get("spec"))
    return excerpt


def _body(found: Mapping[str, Any], kind: tuple[str, str]) -> Data:
    if kind == ("", "Namespace"):
        return {}
    if kind in CONTENT_KINDS:
        return {"data": found.get("data") or {}}
    if kind == ("", "Service"):
        return {"spec": _service_spec(found.get("spec"))}
    return {key: value for key, value in found.items() if key not in ("apiVersion", "kind", "metadata", "status")}


def _service_spec(spec: Any) -> Data:
    """What routing needs; node ports, addresses and families are other people's."""
    spec = spec if isinstance(spec, dict) else {}
    ports = [
        {key: port[key] for key in ("name", "port", "protocol", "targetPort") if key in port}
        for port in spec.get("ports") or ()
        if isinstance(port, dict)
    ]
    kept: Data = {"ports": ports, "selector": spec.get("selector") or {}}
    if spec.get("clusterIP") == "None":
        kept["clusterIP"] = "None"
    return kept


def _order(data: Any) -> Any:
    """The same with keys in alphabetical order, as it will be read out of a bundle."""
    if isinstance(data, dict):
        return {key: _order(data[key]) for key in sorted(data)}
    return [_order(item) for item in data] if isinstance(data, list) else data


def _mentions(data: Any) -> Iterator[str]:
    """Texts under ``namespace``, wherever; ``EVERYWHERE`` where namespaces are selected."""
    waiting = [data]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, dict):
            namespace, selected = here.get("namespace"), here.get("namespaces")
            if isinstance(namespace, str) and namespace:
                yield namespace
            if isinstance(selected, dict) and selected.get("from", "Same") != "Same":
                yield EVERYWHERE
            waiting += here.values()


def _read_delegation(spec: Any) -> tuple[bool, tuple[Delegate, ...]]:
    """Whether it has hosts, and whom it delegates to. What cannot be read selects nothing; its reader refuses it."""
    spec = spec if isinstance(spec, dict) else {}
    entries = spec.get("http")
    delegates = []
    for entry in entries if isinstance(entries, list) else ():
        delegate = entry.get("delegate") if isinstance(entry, dict) else None
        selectors = delegate.get("routeTables") if isinstance(delegate, dict) else None
        for one in selectors if isinstance(selectors, list) else ():
            if isinstance(one, dict):
                labels = one.get("labels")
                pairs = labels.items() if isinstance(labels, dict) else ()
                wanted = frozenset((key, value) for key, value in pairs if isinstance(value, str))
                delegates.append(Delegate(_text(one.get("name")), _text(one.get("namespace")), wanted))
    hosts = spec.get("hosts")
    return isinstance(hosts, list) and bool(hosts), tuple(delegates)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
