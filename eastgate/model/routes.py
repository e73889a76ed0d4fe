"""Routes: which requests there are, before anyone asks who may send them.

A ``Route`` is one HTTP entry of a RouteTable, or one rule of an HTTPRoute or GRPCRoute, after every reference in
it was resolved. The compiler orders routes and turns their matches into functions; nothing here matches anything.
Rules: Gateway API v1 (HTTPRouteMatch, GRPCRouteMatch), Gloo ``networking.gloo.solo.io/v2`` RouteTable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from eastgate.model.diagnostics import Position


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """A Kubernetes object as people name it. ``str()`` is ``Kind namespace/name``."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Comparison(StrEnum):
    """How a string is compared. ``SEGMENTS`` is the Gateway API's PathPrefix (whole path elements); ``PREFIX`` is
    a raw string prefix as in Envoy and Gloo; ``REGEX`` is RE2 and must match the whole value; ``PRESENT`` accepts
    any value.
    """

    EXACT = "exact"
    PREFIX = "prefix"
    SEGMENTS = "segments"
    REGEX = "regex"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class StringMatch:
    """One comparison of a request's string with a configured one."""

    comparison: Comparison
    value: str = ""
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """A match on one named header (``name`` in lower case) or query parameter (``name`` as written).

    ``invert`` turns the result round; an inverted ``PRESENT`` means the field must be absent.
    """

    name: str
    value: StringMatch
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """All conditions must hold (AND); an empty one matches every request. ``port`` is the destination port."""

    path: StringMatch | None = None
    method: str | None = None
    headers: tuple[FieldMatch, ...] = ()
    query: tuple[FieldMatch, ...] = ()
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a route leads. ``port`` is a Service port number or name, None for every port of the Service.

    ``kind`` is ``Service`` for what can run in a pod; anything else (``Backend``, ``ExternalService``) leads
    outside the mesh and never selects a pod.
    """

    kind: str
    namespace: str
    name: str
    port: int | str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A Gateway API parent of a route: the Gateway (or ListenerSet) and, if named, the listener section."""

    parent: ObjectName
    section: str | None = None


class Action(StrEnum):
    """What the sender's proxy would have done. Only ``FORWARD`` ever reaches an application; a request that matches
    ``ANSWER`` (redirect, direct response) should have been answered on the way and is refused at the receiver.
    ``NOBODY`` is a route that no sender may use: it binds to its destinations, so that they are not taken for
    unrouted, and matches no request.
    """

    FORWARD = "forward"
    ANSWER = "answer"
    NOBODY = "nobody"


class Order(StrEnum):
    """How routes of one dialect compete: ``LISTED`` by position (Gloo, own), ``PRECEDENCE`` by the Gateway API's
    rules (host, path, method, headers, query, age, name).
    """

    LISTED = "listed"
    PRECEDENCE = "precedence"


ANYBODY = "*"
"""In ``Route.mentions``: every namespace."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route entry or rule.

    ``origin`` is the object it was written in, ``section`` its name there (the http entry's or rule's ``name``),
    ``index`` its position. ``hosts`` are as configured, lower case, without port, possibly ``*`` or with a leading
    wildcard label; empty means every host. The Services' own names (``httpbin``, ``httpbin.ns``, ``.svc``,
    ``.svc.cluster.local``) are added by the compiler from ``destinations``. ``matches`` are alternatives (OR); an
    empty tuple matches everything. ``rewritten`` and ``rewritten_hosts`` are the forms in which a request may
    arrive after the sender rewrote it: what matches one of them could have come this way, and meets this route's
    policies beside those of the route that it matches as it stands. ``labels`` are those of the entry united with
    those of its table. ``created`` is the RFC 3339 creationTimestamp, empty when the file has none; ``weight``
    orders delegated tables (higher first).

    Whose word it is: ``through`` are the namespaces of the tables that delegate to it, the root's first; ``asked`` are
    those of them whose table asked for this one's namespace by name. ``granted`` are the Services, as (namespace,
    name), of other namespaces that agreed to be led to (ReferenceGrant). ``mentions`` are the words of a broken
    route's text, where it leads nowhere readable: it may have been for a workload in one of these namespaces.
    """

    origin: ObjectName
    index: int
    position: Position
    section: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()
    rewritten: tuple[Match, ...] = ()
    rewritten_hosts: tuple[str, ...] = ()
    destinations: tuple[Destination, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    action: Action = Action.FORWARD
    order: Order = Order.LISTED
    weight: int = 0
    created: str = ""
    grpc: bool = False
    through: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    granted: tuple[tuple[str, str], ...] = ()
    mentions: tuple[str, ...] = ()
    invalid: tuple[str, ...] = field(default=())
    """Messages of the errors in it. A route that could not be read whole keeps what could be read; the compiler
    refuses (503) every request that could have been meant for it."""

    def __str__(self) -> str:
        entry = self.section or f"[{self.index}]"
        return f"{self.origin} {entry}"

    @property
    def namespace(self) -> str:
        """The namespace of the object it was written in."""
        return self.origin.namespace
