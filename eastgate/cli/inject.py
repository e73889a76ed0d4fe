"""``eastgate inject``: what the webhook would do, offline, with the webhook's own code.

Reads objects as kubectl does, and writes them so that kubectl reads the same ones. All or nothing: when one pod is
refused nothing is printed, for a pipe into ``kubectl apply`` would bring the others into force without it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eastgate import __version__
from eastgate.cli.applications import locate
from eastgate.cli.values import refuse, require_paths
from eastgate.model.diagnostics import Diagnostic, Position, Severity, has_errors, suggest_name

if TYPE_CHECKING:
    from eastgate.dialects.values import Value
    from webhook.injections.verdicts import Context, Path
    from webhook.injections.workloads import Injected, Outcome

POD_SECURITY = "pod-security.kubernetes.io/enforce"
"""Label of a namespace: the Pod Security Standard that is enforced there, after mutation."""

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

DEFAULT_IMAGE = f"eastgate-sidecar:{__version__}"


class Label(StrEnum):
    """Values of the namespace label ``eastgate.dev/injection``."""

    ENABLED = "enabled"
    ENFORCED = "enforced"


class Output(StrEnum):
    """``patch``: what the webhook would answer; for several objects one line each, with its object's name."""

    YAML = "yaml"
    JSON = "json"
    PATCH = "patch"


def inject(
    filename: Annotated[
        list[str],
        typer.Option(
            "--filename", "-f", metavar="FILE", show_default=False, help="File, folder or `-`; may be repeated."
        ),
    ],
    output: Annotated[Output, typer.Option("--output", "-o", help="`patch`: JSON Patch (RFC 6902).")] = Output.YAML,
    namespace_label: Annotated[
        Label | None,
        typer.Option(
            help="What the namespace is labelled. Default: as a Namespace in the files says, else `enabled`.",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of objects that do not say.")] = "default",
    image: Annotated[str, typer.Option(help="Image of the injected containers.")] = DEFAULT_IMAGE,
    native: Annotated[
        bool,
        typer.Option("--native/--no-native", help="Native sidecar, or the classic form for a Kubernetes before 1.29."),
    ] = True,
    hook_token: Annotated[
        str | None,
        typer.Option(
            envvar="EASTGATE_HOOK_TOKEN",
            metavar="TOKEN",
            help="What the kubelet shows the sidecar to run `httpGet` hooks; a secret. Give one for an output that is "
            "the same each time. Default: a new one for each pod that has such hooks and no token.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Inject the sidecar into manifests, as the webhook would do with their pods.

    Reads Pods and whatever has a pod template (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob,
    ReplicationController, PodTemplate, DeploymentConfig, List); other kinds pass through. Pods without
    `eastgate.dev/policies` are left as they are, with a warning. Exit code 1 if a pod is refused: nothing is printed
    then.

    \b
    [bold]Examples[/bold]
    eastgate inject -f deployment.yaml | kubectl apply -f -
    kubectl get deployment httpbin -o yaml | eastgate inject -f - -o patch
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.cli.manifests import normalise
    from eastgate.cli.terminal import write_diagnostics
    from eastgate.pods.annotations import IMAGE_ACCEPTED, read_image
    from eastgate.pods.probes import TOKEN_ACCEPTED, is_token

    require_paths(filename, "--filename")
    if _NAMESPACE.fullmatch(namespace) is None:
        raise refuse("--namespace", namespace, "a namespace's name")
    try:
        read_image(image)
    except ValueError:
        raise refuse("--image", image, IMAGE_ACCEPTED) from None
    if hook_token is not None and not is_token(hook_token):
        # Not shown: it is a secret, if a bad one.
        raise typer.BadParameter(f"is not accepted; accepted: {TOKEN_ACCEPTED}", param_hint="--hook-token")
    locate()
    sources, values, diagnostics = _read(filename)
    # Numbers as they will be written: what is `1.9006e4` here is a user of 19006 in the cluster.
    documents = [normalise(value.plain()) for value in values]
    results: list[Injected] = []
    if not has_errors(diagnostics):
        from webhook.admissions.tokens import make_token
        from webhook.injections.workloads import inject_documents

        namespaces = _list_namespaces(documents)
        diagnostics += _check_labels(namespaces, values)
        choose = _make_chooser(namespaces, namespace_label, namespace, image, native=native)
        results, outcomes = inject_documents(documents, choose, lambda: hook_token or make_token())
        strict = _find_strict_namespaces(namespaces)
        for outcome in outcomes:
            diagnostics += _report(outcome, values[outcome.document], strict)
    write_diagnostics(diagnostics, sources)
    if has_errors(diagnostics):
        raise typer.Exit(1)
    sys.stdout.write(_render(results, output))


def _read(paths: list[str]) -> tuple[list[tuple[str, str]], list[Value], list[Diagnostic]]:
    """Files with their texts, objects, and what is wrong with them."""
    from eastgate.dialects.documents import read_documents
    from eastgate.dialects.files import SourceError, read_sources

    found: list[Diagnostic] = []
    try:
        sources = read_sources(paths, sys.stdin.read() if "-" in paths else None)
    except SourceError as error:
        return [], [], [Diagnostic(Position(error.path, 1), Severity.ERROR, "unreadable", error.why)]
    except UnicodeDecodeError as error:
        why = f"not UTF-8 text: {error.reason}"
        return [], [], [Diagnostic(Position("<stdin>", 1), Severity.ERROR, "unreadable", why)]
    values = [value for name, text in sources for value in read_documents(name, text, found, open_lists=False)]
    found += [fault for value in values for fault in _check_shape(value)]
    if not values and not found:
        where = sources[0][0] if sources else paths[0]
        found.append(Diagnostic(Position(where, 1), Severity.ERROR, "no-objects", "there is no object here"))
    return sources, values, found


def _check_shape(value: Value) -> Iterator[Diagnostic]:
    """Whatever is not read as an object, and so not injected, must not look as if it were."""
    kind = value.get("kind")
    if not isinstance(kind, str) or not isinstance(value.get("apiVersion"), str):
        message = "not a Kubernetes object; accepted: a mapping with `apiVersion` and `kind`"
        yield Diagnostic(value.position, Severity.ERROR, "no-object", message)
        return
    items = value.data.get("items")
    if items is None or items.data is None or not _holds_pods(kind):
        return
    if not isinstance(items.data, list):
        message = f"expected a list of objects, found {items.kind}: nothing in it is read"
        yield Diagnostic(items.position, Severity.ERROR, "no-object", message, kind, "items")
        return
    for item in items.data:
        if kind == "List":
            yield from _check_shape(item)
        elif not isinstance(item.data, dict):
            message = f"expected an object, found {item.kind}"
            yield Diagnostic(item.position, Severity.ERROR, "no-object", message, kind, item.path)


def _holds_pods(kind: str) -> bool:
    """Whether it is a list of objects: anybody's kind may be called a ``ShoppingList``."""
    from webhook.injections.workloads import TEMPLATES

    return kind == "List" or any(kind == f"{one}List" for _, one in TEMPLATES)


@dataclass(frozen=True, slots=True)
class _Namespace:
    """A Namespace in the files: which document it is in, and where its labels are there."""

    document: int
    path: Path
    name: str
    labels: Mapping[str, Any]


def _list_namespaces(documents: list[Mapping[str, Any]]) -> list[_Namespace]:
    """Every Namespace that has a name and labels, those in Lists too."""
    return [one for index, document in enumerate(documents) for one in _find_namespaces(index, document, ())]


def _find_namespaces(index: int, document: Mapping[str, Any], path: Path) -> Iterator[_Namespace]:
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        for place, item in enumerate(document["items"]):
            if isinstance(item, dict):
                yield from _find_namespaces(index, item, (*path, "items", place))
    metadata = document.get("metadata")
    if document.get("kind") != "Namespace" or not isinstance(metadata, dict):
        return
    name, labels = metadata.get("name"), metadata.get("labels")
    if isinstance(name, str) and isinstance(labels, dict):
        yield _Namespace(index, (*path, "metadata", "labels"), name, labels)


def _check_labels(namespaces: list[_Namespace], values: list[Value]) -> Iterator[Diagnostic]:
    """A namespace whose label is misspelt is one in which nothing is ever injected, and nobody says so."""
    from eastgate.pods.annotations import quote
    from eastgate.pods.names import INJECTION_LABEL

    for one in namespaces:
        value = one.labels.get(INJECTION_LABEL)
        if INJECTION_LABEL not in one.labels or value in tuple(Label):
            continue
        near = suggest_name(str(value), Label)
        message = f"label {INJECTION_LABEL}: {quote(value)} is not accepted{near}; accepted: {', '.join(Label)}"
        place = _locate(values[one.document], (*one.path, INJECTION_LABEL))
        yield Diagnostic(place, Severity.ERROR, "bad-label", message, f"Namespace {one.name}")


def _make_chooser(
    namespaces: list[_Namespace], label: Label | None, default: str, image: str, *, native: bool
) -> Callable[[str | None], Context]:
    """The circumstances of an object, by the namespace that it says."""
    from eastgate.pods import names
    from webhook.injections.verdicts import Context

    labels = {one.name: one.labels.get(names.INJECTION_LABEL) for one in namespaces}

    def choose(namespace: str | None) -> Context:
        place = namespace or default
        enforced = (label or labels.get(place)) == Label.ENFORCED
        return Context(place, enforced, image, None, (), native, __version__)

    return choose


def _find_strict_namespaces(namespaces: list[_Namespace]) -> Mapping[str, str]:
    """Those that admit no container with ``NET_ADMIN``: name and what they enforce."""
    found = ((one.name, one.labels.get(POD_SECURITY)) for one in namespaces)
    return {name: level for name, level in found if level in ("baseline", "restricted")}


def _report(outcome: Outcome, document: Value, strict: Mapping[str, str]) -> Iterator[Diagnostic]:
    """What there is to say about one pod, each where it stands in the file."""
    from eastgate.pods.names import INIT_CONTAINER
    from webhook.injections.verdicts import Injection, Refusal, Skip

    verdict = outcome.verdict
    if isinstance(verdict, Refusal):
        for message, path in zip(verdict.messages, verdict.paths, strict=True):
            place = _locate(document, (*outcome.path, *path))
            yield Diagnostic(place, Severity.ERROR, verdict.reason, message, outcome.subject)
        return
    warnings = verdict.warnings
    if isinstance(verdict, Skip) and not warnings:
        warnings = (f"not injected: {verdict.message}",)
    if isinstance(verdict, Injection) and outcome.namespace in strict:
        level = f"`{POD_SECURITY}` of `{outcome.namespace}` is `{strict[outcome.namespace]}`"
        warnings = (*warnings, f"{level}: no pod with `{INIT_CONTAINER}`, which has NET_ADMIN, is admitted there")
    for message in warnings:
        place = _locate(document, outcome.path)
        yield Diagnostic(place, Severity.WARNING, "injection", message, outcome.subject)


def _locate(document: Value, path: Path) -> Position:
    """Where a place in an object stands in its file; of what is not there, the nearest thing around it."""
    value, position = document, document.position
    for part in path:
        if isinstance(part, str) and isinstance(value.data, dict) and part in value.data:
            position = value.keys.get(part, value.position)
            value = value.data[part]
        elif isinstance(part, int) and isinstance(value.data, list) and part < len(value.data):
            value = value.data[part]
            position = value.position
        else:
            break
    return position


def _render(results: list[Injected], output: Output) -> str:
    from eastgate.cli.manifests import write_json, write_yaml

    documents = [result.document for result in results]
    if output is Output.YAML:
        return write_yaml(documents)
    if output is Output.JSON:
        return write_json(documents)
    if len(results) == 1:
        return json.dumps(results[0].patch, indent=2, ensure_ascii=False) + "\n"
    lines = ({"object": _identify(result.document), "patch": result.patch} for result in results)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _identify(document: Mapping[str, Any]) -> dict[str, object]:
    metadata = document.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    who = {"apiVersion": document.get("apiVersion"), "kind": document.get("kind")}
    return {**who, "namespace": found.get("namespace"), "name": found.get("name")}
