"""The filters of a route's rule, as far as they decide in which form a request arrives.

The sender's proxy applies filters; the receiver sees their result. Knows which of them answer by themselves, which
change host and path (that is computed), and which change something that cannot be known here (that is said).
Must not know: policies, destinations.
Rules: Gateway API v1 ``HTTPRouteFilter``, ``GRPCRouteFilter``; Envoy Gateway v1alpha1 ``HTTPRouteFilter``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.matches import check_path
from eastgate.dialects.gateway.references import ENVOY_GROUP
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.routes import Comparison, Match, StringMatch

MOST_FILTERS = 16
"""From the CRD."""

_SECTIONS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "ExtensionRef": "extensionRef",
    "CORS": "cors",
    "ExternalAuth": "externalAuth",
}
_GRPC_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef")
_UNKNOWN_FORM = "a request arrives in a form that cannot be computed here; the route also matches it as it was sent"


@dataclass(slots=True)
class Filtered:
    """What the filters of a rule do. ``answers``: the sender's proxy answers by itself."""

    answers: bool = False
    hosts: list[str] = field(default_factory=list)
    full_path: str | None = None
    prefix: str | None = None
    changed_headers: set[str] = field(default_factory=set)

    @property
    def rewrites(self) -> bool:
        """Whether host or path arrive in another form."""
        return bool(self.hosts) or self.full_path is not None or self.prefix is not None

    def rewrite(self, matches: tuple[Match, ...]) -> tuple[Match, ...]:
        """The matches in the form in which requests arrive, where it differs from the form they were sent in."""
        if self.full_path is not None:
            path = StringMatch(Comparison.EXACT, self.full_path)
            return tuple(replace(match, path=path) for match in matches)
        if self.prefix is not None:
            prefix = StringMatch(Comparison.SEGMENTS, "/" + self.prefix.strip("/"))
            return tuple(
                replace(match, path=prefix)
                for match in matches
                if match.path is not None and match.path.comparison is Comparison.SEGMENTS and match.path != prefix
            )
        return ()


def read_filters(
    rule: Fields, matches: tuple[Match, ...], owner: Object, catalogue: Catalogue, report: Reporter
) -> Filtered:
    """``filters`` of a rule (or of one of its backends) whose matches were read."""
    filtered = Filtered()
    accepted = _GRPC_FILTERS if owner.kind == "GRPCRoute" else tuple(_SECTIONS)
    for item in rule.items("filters", most=MOST_FILTERS):
        with Fields(item, report) as entry:
            kind = entry.text("type", required=True)
            if kind is None or kind not in accepted:
                if kind is not None:
                    report.error(
                        entry.at("type"),
                        "unknown-value",
                        f"unknown value {show(kind)}{report.suggest(kind, accepted)}; accepted: {', '.join(accepted)}",
                    )
                entry.ignore(*_SECTIONS.values())
                continue
            name = _SECTIONS[kind]
            if not entry.has(name):
                report.error(item, "missing-field", f"filter.{name} must be specified for {kind} filter.type")
                continue
            if kind == "ExternalAuth":
                entry.refuse(name, "external authorization is not enforced here, so the route would be less protected")
                continue
            _read_filter(kind, entry, name, matches, owner, catalogue, filtered, report)
    changed = sorted({one.name for match in matches for one in match.headers} & filtered.changed_headers)
    if changed:
        report.warning(
            rule.at("filters"),
            "may-not-match",
            f"a filter changes {', '.join(f'`{name}`' for name in changed)}, which the rule matches on: the header may "
            "not arrive as it was sent, and then the rule does not match here",
        )
    return filtered


def _read_filter(
    kind: str,
    entry: Fields,
    name: str,
    matches: tuple[Match, ...],
    owner: Object,
    catalogue: Catalogue,
    filtered: Filtered,
    report: Reporter,
) -> None:
    if kind == "ResponseHeaderModifier":
        # Responses are not looked at.
        entry.ignore(name)
    elif kind == "RequestRedirect":
        filtered.answers = True
        entry.ignore(name)
    elif kind == "RequestMirror":
        entry.note(
            name, "mirrored copies are requests to the mirror's own pods: routes and policies there decide on them"
        )
    elif kind == "CORS":
        entry.note(name, "no effect: CORS is not answered here, and a preflight request needs a token like any other")
    elif kind == "RequestHeaderModifier":
        nested = entry.fields(name)
        if nested is not None:
            with nested:
                _read_header_changes(nested, filtered, report)
    elif kind == "URLRewrite":
        nested = entry.fields(name)
        if nested is not None:
            with nested:
                _read_rewrite(nested, matches, filtered, report)
    else:
        nested = entry.fields(name)
        if nested is not None:
            _read_extension(nested, owner, catalogue, filtered, report)


def _read_header_changes(modifier: Fields, filtered: Filtered, report: Reporter) -> None:
    for name in ("set", "add"):
        for item in modifier.items(name, most=MOST_FILTERS):
            with Fields(item, report) as entry:
                header = entry.text("name", required=True, longest=256)
                entry.text("value")
                if header is not None:
                    filtered.changed_headers.add(header.lower())
                    if header.lower() == "host":
                        report.warning(entry.at("name"), "unknown-form", f"changes the Host: {_UNKNOWN_FORM}")
    filtered.changed_headers.update(header.lower() for header in modifier.texts("remove", most=MOST_FILTERS))


def _read_rewrite(rewrite: Fields, matches: tuple[Match, ...], filtered: Filtered, report: Reporter) -> None:
    hostname = rewrite.text("hostname", longest=253)
    if hostname:
        filtered.hosts.append(hostname.lower())
    path = rewrite.fields("path")
    if path is None:
        return
    with path:
        kind = path.choice("type", ("ReplaceFullPath", "ReplacePrefixMatch"), "")
        if not path.has("type"):
            report.error(
                path.at("type"), "missing-field", "`type` is required; accepted: ReplaceFullPath, ReplacePrefixMatch"
            )
        full, prefix = path.text("replaceFullPath", longest=1024), path.text("replacePrefixMatch", longest=1024)
        for wanted, key, value in (
            ("ReplaceFullPath", "replaceFullPath", full),
            ("ReplacePrefixMatch", "replacePrefixMatch", prefix),
        ):
            if kind == wanted and value is None:
                report.error(path.value, "missing-field", f"{key} must be specified when type is set to '{wanted}'")
            elif kind and kind != wanted and value is not None:
                report.error(path.at(key), "conflict", f"type must be '{wanted}' when {key} is set")
    if kind == "ReplaceFullPath" and full is not None and check_path(full or "/", path.at("replaceFullPath"), report):
        filtered.full_path = full or "/"
    if kind == "ReplacePrefixMatch" and prefix is not None:
        if any(match.path is None or match.path.comparison is not Comparison.SEGMENTS for match in matches):
            report.error(
                path.at("replacePrefixMatch"),
                "conflict",
                "When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be "
                "specified",
            )
        elif check_path("/" + prefix.lstrip("/"), path.at("replacePrefixMatch"), report):
            filtered.prefix = prefix


def _read_extension(
    reference: Fields, owner: Object, catalogue: Catalogue, filtered: Filtered, report: Reporter
) -> None:
    with reference:
        group = reference.text("group", required=True)
        kind = reference.text("kind", required=True)
        name = reference.text("name", required=True)
    if group is None or kind is None or name is None:
        return
    found = catalogue.find(group, kind, owner.namespace, name)
    if (group, kind) != (ENVOY_GROUP, "HTTPRouteFilter") or found is None:
        known = catalogue.names(group, kind, owner.namespace)
        report.warning(
            reference.value,
            "unknown-filter",
            f"what {kind} `{owner.namespace}/{name}`{report.suggest(name, known)} does is not known here: "
            "if it changes host or path, requests may not match this rule",
        )
        return
    _read_route_filter(found, reference.value, filtered, report)


def _read_route_filter(found: Object, at: Value, filtered: Filtered, report: Reporter) -> None:
    """Envoy Gateway's own filter. It is read for what it does to this rule; findings stand at the reference."""
    spec = found.document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    if spec.get("directResponse") is not None:
        filtered.answers = True
    rewrite = spec.get("urlRewrite")
    if isinstance(rewrite, dict):
        host = rewrite.get("hostname")
        # ``Backend`` rewrites the Host to the backend's own name, which always matches; any other way is unknown.
        if isinstance(host, dict) and host.get("type") != "Backend":
            report.warning(at, "unknown-form", f"{found.title} changes the Host: {_UNKNOWN_FORM}")
        if rewrite.get("path") is not None:
            report.warning(at, "unknown-form", f"{found.title} changes the path: {_UNKNOWN_FORM}")
    if spec.get("matches"):
        report.warning(
            at,
            "wider-match",
            f"{found.title} narrows the rule by cookies, which is not done here: the rule matches without",
        )
    credential = spec.get("credentialInjection")
    if isinstance(credential, dict):
        header = str(credential.get("header") or "Authorization")
        filtered.changed_headers.add(header.lower())
        report.warning(
            at, "changes-header", f"{found.title} sets `{header}`: a token that the client sends there may not arrive"
        )
    if spec.get("requestMirror") is not None:
        report.warning(
            at, "no-effect", f"{found.title} mirrors requests: policies of the mirror's own pods decide there"
        )
