"""What the sender's proxy does with a matched request: ``forwardTo``, or an answer of its own.

Knows: where a route leads, and in which form a request arrives after the sender rewrote it. Must not know which pods
are behind a destination. Where that form cannot be computed the condition on the path is dropped, so that the route's
policies hold for everything that could have come from it.
Rules: Gloo ForwardToAction, RedirectAction, DirectResponseAction, ``common/v2`` DestinationReference; Envoy
``prefix_rewrite`` (only the matched prefix is replaced) and ``regex_rewrite``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import re2

from eastgate.dialects.catalogue import Catalogue
from eastgate.dialects.documents import Fields, Value, show
from eastgate.dialects.gateway.references import check_service
from eastgate.dialects.gateway.values import check_regex
from eastgate.dialects.gloo.selection import read_port
from eastgate.dialects.references import read_object_name
from eastgate.model.routes import Comparison, Destination, Match, StringMatch

KINDS = {"SERVICE": "Service", "EXTERNAL_SERVICE": "ExternalService", "VIRTUAL_DESTINATION": "VirtualDestination"}

REDIRECT_CODES = ("MOVED_PERMANENTLY", "FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT")

MAX_DESTINATIONS = 99
"""Of one route, as the CRD has it."""

MAX_BODY = 1024 * 1024
"""Of a direct response, as the CRD has it."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What the sender changes. ``prefix`` takes the place of what matched; ``pattern`` is replaced by ``substitution``
    wherever it is found; ``host`` is the new Host.
    """

    prefix: str | None = None
    pattern: str | None = None
    substitution: str = ""
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Where matched requests go and how they look there. ``fields`` is where it is written."""

    destinations: tuple[Destination, ...] = ()
    rewrite: Rewrite = Rewrite()
    fields: Fields | None = None


def read_forwarding(fields: Fields, namespace: str, default: Destination | None, catalogue: Catalogue) -> Forwarding:
    """``forwardTo``; ``default`` is the table's, for entries that name none."""
    items = fields.items("destinations", most=MAX_DESTINATIONS)
    destinations = tuple(
        found for item in items if (found := read_destination(item, namespace, fields, catalogue)) is not None
    )
    if not items:
        if default is None:
            message = "at least one destination is required, here or as the table's `defaultDestination`"
            fields.report.error(fields.at("destinations"), "missing-field", message)
        else:
            destinations = (default,)
    fields.choose("pathRewrite", "regexRewrite")
    fields.choose("hostRewrite", "autoHostRewrite")
    fields.boolean("autoHostRewrite")  # the Services' own names always match
    host = fields.text("hostRewrite") or None
    pattern, substitution = _read_pattern(fields)
    return Forwarding(
        destinations,
        Rewrite(fields.text("pathRewrite") or None, pattern, substitution, host.lower() if host is not None else None),
        fields,
    )


def read_destination(item: Value, namespace: str, fields: Fields, catalogue: Catalogue) -> Destination | None:
    """One DestinationReference."""
    with Fields(item, fields.report) as destination:
        # A share of the traffic: the policies hold for all of it.
        destination.ignore("weight")
        destination.note("subset", "no effect: the route holds for every pod of the Service")
        if destination.choose("ref", "awsLambda") == "awsLambda":
            return Destination("CloudProvider", namespace, "awsLambda")  # leads out of the mesh
        kind = destination.choice("kind", KINDS, "SERVICE")
        if kind == "VIRTUAL_DESTINATION":
            destination.report.error(
                destination.at("kind"),
                "unsupported-value",
                "a VirtualDestination is not resolved, so nothing would be enforced in the pods behind it; "
                "accepted: SERVICE, with the name of a Service, or EXTERNAL_SERVICE",
            )
        port = read_port(destination)
        with destination.mapping("ref") as reference:
            name = read_object_name(reference, namespace)
    if name is None:
        return None
    if kind == "SERVICE":
        check_service(item, *name, port, catalogue, fields.report)
    return Destination(KINDS[kind], name[0], name[1], port)


def _read_pattern(fields: Fields) -> tuple[str | None, str]:
    found = fields.fields("regexRewrite")
    if found is None:
        return None, ""
    with found:
        substitution = found.text("substitution") or ""
        with found.mapping("pattern") as pattern:
            pattern.ignore("googleRe2")  # the engine, of which there is one
            regex = pattern.text("regex", required=True)
            if regex is not None and check_regex(regex, pattern.at("regex"), pattern.report):
                return regex, substitution
    return None, substitution


def read_answer(entry: Fields, action: str) -> None:
    """Check an action that answers on the way; of it only counts that such a request should never arrive."""
    with entry.mapping(action) as fields:
        if action == "redirect":
            for name in ("hostRedirect", "pathRedirect"):
                fields.text(name)
            fields.choice("responseCode", REDIRECT_CODES, REDIRECT_CODES[0])
        elif action == "directResponse":
            if fields.integer("status", least=100, most=599) is None and not fields.has("status"):
                fields.report.error(fields.at("status"), "missing-field", "`status` is required")
            fields.text("body", longest=MAX_BODY)
        else:
            fields.ignore("schema", "stitchedSchema", "options")
            fields.report.warning(
                fields.value, "no-effect", "GraphQL is answered by Gloo's gateway; such a request is refused here"
            )


def rewrite_matches(matches: tuple[Match, ...], rewrite: Rewrite, fields: Fields) -> tuple[Match, ...]:
    """How matched requests arrive; empty where the path stays as it is."""
    if rewrite.prefix is None and rewrite.pattern is None:
        return ()
    rewritten = []
    for match in matches or (Match(),):
        path = _rewrite_path(match.path, rewrite, fields)
        if path is None:
            fields.report.warning(
                fields.value,
                "rewrite-not-computed",
                "how a request's path looks after this rewrite cannot be computed: "
                "the route's policies hold for every path",
            )
        rewritten.append(replace(match, path=path))
    return tuple(dict.fromkeys(rewritten))


def _rewrite_path(path: StringMatch | None, rewrite: Rewrite, fields: Fields) -> StringMatch | None:
    if rewrite.prefix is not None:
        if path is not None and path.comparison is Comparison.REGEX:
            at = fields.at("pathRewrite")
            fields.report.error(at, "unsupported-value", "`pathRewrite` has no meaning on a regular expression")
            return None
        if "?" in rewrite.prefix or "#" in rewrite.prefix:
            return None
        comparison = Comparison.PREFIX if path is None else path.comparison
        return StringMatch(comparison, rewrite.prefix)
    if path is None or path.comparison is not Comparison.EXACT or path.ignore_case or rewrite.pattern is None:
        return None
    try:
        arrived = re2.sub(rewrite.pattern, rewrite.substitution, path.value)
    except (re2.error, ValueError, IndexError):
        fields.report.error(
            fields.at("regexRewrite"), "bad-value", f"{show(rewrite.substitution)} does not fit the pattern"
        )
        return None
    return StringMatch(Comparison.EXACT, arrived) if "?" not in arrived else None
