"""Which listeners a route is attached to, and which hosts are left of its own.

Knows ``parentRefs``, the listeners of Gateways and ListenerSets, and how hostnames intersect. A parent of kind Service
(GAMMA: the route is for callers of that Service) is as good as a Gateway.
Must not know: rules, policies.
Rules: Gateway API v1 ``ParentReference``, ``Listener.hostname``, GEP-1426 (mesh), GEP-1713 (ListenerSet).
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.references import CORE_GROUP, GATEWAY_GROUP, LONGEST_NAME
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.routes import Attachment, ObjectName

MOST_PARENTS = 32
MOST_HOSTNAMES = 16
"""Both from the CRDs."""

_PARENT_KINDS = {
    "Gateway": GATEWAY_GROUP,
    "ListenerSet": GATEWAY_GROUP,
    "XListenerSet": "gateway.networking.x-k8s.io",
    "Service": CORE_GROUP,
}
_LISTENING = ("Gateway", "ListenerSet", "XListenerSet")


@dataclass(frozen=True, slots=True)
class Attached:
    """``hosts`` empty: every host."""

    attachments: tuple[Attachment, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Listener:
    name: str
    hostname: str
    port: object


def read_parents(spec: Fields, route: Object, catalogue: Catalogue, report: Reporter) -> Attached:
    """``parentRefs`` and ``hostnames`` of a route."""
    before = len(report.errors)
    own = _read_hostnames(spec, report)
    # A host that cannot be read could have been any.
    unreadable = ("*",) if len(report.errors) > before else ()
    attachments: list[Attachment] = []
    hosts: dict[str, None] = {}
    every_host = False
    parents = spec.items("parentRefs", most=MOST_PARENTS)
    if not parents and next(catalogue.of_kind(GATEWAY_GROUP, "Gateway"), None) is not None:
        message = (
            "attached to no Gateway: no policy of a Gateway holds on this route, and it matches requests all the same"
        )
        report.warning(spec.at("parentRefs"), "no-parent", message)
    for item in parents:
        parent = _read_parent(item, route, report)
        if parent is None:
            # What it is attached to is not known: keep its own hosts whole.
            every_host = every_host or not own
            hosts.update(dict.fromkeys(own))
            continue
        found, section, port = parent
        listeners = _listeners_of(found, catalogue)
        if listeners is None:
            _attach_unread(item, found, section, attachments, catalogue, report)
            names = _service_names(found) if found.kind == "Service" else own
            if own and found.kind == "Service":
                _note_hostnames(spec, found, report)
            every_host = every_host or not names
            hosts.update(dict.fromkeys(names))
            continue
        if found.kind != "Gateway":
            # Policies of the Gateway itself hold as well, those of its own listeners do not: hence no name.
            _add(attachments, Attachment(_gateway_of(found, catalogue), ""))
        chosen = [one for one in listeners if (section is None or one.name == section) and port in (None, one.port)]
        if not chosen:
            near = report.suggest(section or "", [one.name for one in listeners])
            report.error(item, "not-there", f"{found} has no such listener{near}; its listeners: {_list(listeners)}")
            _add(attachments, Attachment(found, section))
            hosts.update(dict.fromkeys(own))
            continue
        for listener in chosen:
            shared = intersect_hosts(own, listener.hostname)
            if shared is None:
                continue
            _add(attachments, Attachment(found, listener.name or None))
            every_host = every_host or not shared
            hosts.update(dict.fromkeys(shared))
        if not any(one.parent == found for one in attachments):
            report.warning(
                item,
                "no-shared-host",
                f"none of the route's hostnames is one that {found} listens for ({_list(chosen)}): through it no "
                "request reaches the route",
            )
            _add(attachments, Attachment(found, section))
    known = () if every_host else tuple(hosts) or own
    return Attached(tuple(attachments), (*known, *unreadable))


def _list(listeners: list[_Listener]) -> str:
    shown = (f"`{one.name}`{f' for {show(one.hostname)}' if one.hostname else ''}" for one in listeners)
    return ", ".join(shown) or "none"


def _add(attachments: list[Attachment], attachment: Attachment) -> None:
    if attachment not in attachments:
        attachments.append(attachment)


def _read_parent(item: Value, route: Object, report: Reporter) -> tuple[ObjectName, str | None, int | None] | None:
    with Fields(item, report) as entry:
        group = entry.text("group")
        group = GATEWAY_GROUP if group is None else group
        kind = entry.text("kind") or "Gateway"
        namespace = entry.text("namespace") or route.namespace
        name = entry.text("name", required=True, longest=LONGEST_NAME)
        section = entry.text("sectionName", longest=LONGEST_NAME) or None
        port = entry.integer("port", least=1, most=65535)
        if kind not in _PARENT_KINDS:
            report.warning(
                entry.at("kind"),
                "unknown-parent",
                f"a parent of kind {show(kind)}{report.suggest(kind, _PARENT_KINDS)} is not known here; known: "
                f"{', '.join(_PARENT_KINDS)}",
            )
        elif group != _PARENT_KINDS[kind]:
            report.error(
                entry.at("group"),
                "unknown-value",
                f"a {kind} is of group `{_PARENT_KINDS[kind]}`, found {show(group)}",
            )
    return None if name is None else (ObjectName(kind, namespace, name), section, port)


def _attach_unread(
    item: Value,
    parent: ObjectName,
    section: str | None,
    attachments: list[Attachment],
    catalogue: Catalogue,
    report: Reporter,
) -> None:
    _add(attachments, Attachment(parent, section))
    if parent.kind in _LISTENING:
        near = report.suggest(parent.name, catalogue.names(_PARENT_KINDS[parent.kind], parent.kind, parent.namespace))
        report.warning(
            item,
            "not-there",
            f"{parent.kind} `{parent.namespace}/{parent.name}` was not read{near}: its listeners' hostnames are not "
            "known here",
        )


def _listeners_of(parent: ObjectName, catalogue: Catalogue) -> list[_Listener] | None:
    """None where the parent was not read, or is no Gateway."""
    if parent.kind not in _LISTENING:
        return None
    found = catalogue.find(_PARENT_KINDS[parent.kind], parent.kind, parent.namespace, parent.name)
    if found is None:
        return None
    entries = found.document.get("spec", "listeners")
    listeners = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("protocol", "HTTP") in ("HTTP", "HTTPS"):
            name, hostname = entry.get("name"), entry.get("hostname")
            listeners.append(
                _Listener(
                    name if isinstance(name, str) else "",
                    hostname.lower() if isinstance(hostname, str) and hostname != "*" else "",
                    entry.get("port"),
                )
            )
    return listeners


def _gateway_of(listener_set: ObjectName, catalogue: Catalogue) -> ObjectName:
    found = catalogue.find(
        _PARENT_KINDS[listener_set.kind], listener_set.kind, listener_set.namespace, listener_set.name
    )
    parent = found.document.get("spec", "parentRef") if found is not None else None
    parent = parent if isinstance(parent, dict) else {}
    return ObjectName("Gateway", str(parent.get("namespace") or listener_set.namespace), str(parent.get("name") or ""))


def _note_hostnames(spec: Fields, service: ObjectName, report: Reporter) -> None:
    report.warning(
        spec.at("hostnames"),
        "no-effect",
        f"no effect for the parent {service}: a mesh ignores them, and only the Service's own names match (GEP-1426)",
    )


def _service_names(service: ObjectName) -> tuple[str, ...]:
    """What callers of a Service write in the Host header; a mesh ignores the route's own hostnames."""
    qualified = f"{service.name}.{service.namespace}"
    return (service.name, qualified, f"{qualified}.svc", f"{qualified}.svc.cluster.local")


def _read_hostnames(spec: Fields, report: Reporter) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for item in spec.items("hostnames", most=MOST_HOSTNAMES):
        text = item.data
        if not isinstance(text, str) or not _is_hostname(text):
            report.error(
                item,
                "bad-hostname",
                f"{show(item.plain())} is not a host name; accepted: a DNS name in lower case, without port, not an IP "
                "address, possibly with a first label `*`",
            )
        else:
            found[text] = None
    return tuple(found)


def _is_hostname(text: str) -> bool:
    labels = text.removeprefix("*.").split(".")
    if len(text) > LONGEST_NAME or all(label.isdigit() for label in labels):
        return False
    return all(
        0 < len(label) <= 63
        and label.isascii()
        and label == label.lower()
        and label.replace("-", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )


def intersect_hosts(own: tuple[str, ...], listener: str) -> tuple[str, ...] | None:
    """The hosts that both want; empty for every host, None for no host at all."""
    if not listener:
        return own
    if not own:
        return (listener,)
    shared = []
    for host in own:
        if host == listener or _covers(listener, host):
            shared.append(host)
        elif _covers(host, listener):
            shared.append(listener)
    return tuple(shared) or None


def _covers(wildcard: str, host: str) -> bool:
    return wildcard.startswith("*.") and host != wildcard and host.removeprefix("*").endswith(wildcard[1:])
