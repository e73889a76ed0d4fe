"""``eastgate inject``: what the webhook would do, offline, with the webhook's own code.

Reads objects as kubectl does, and writes them so that kubectl reads the same ones. All or nothing: when one pod is
refused nothing is printed, for a pipe into ``kubectl apply`` would bring the others into force without it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eastgate import __version__
from eastgate.cli.applications import locate
from eastgate.cli.values import refuse, require_paths
from eastgate.model.diagnostics import Diagnostic, Position, Severity, has_errors

if TYPE_CHECKING:
    from eastgate.dialects.values import Value
    from webhook.injections.verdicts import Context, Path
    from webhook.injections.workloads import Injected, Outcome

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
) -> None:
    """Inject the sidecar into manifests, as the webhook would do with their pods.

    Reads Pods and whatever has a pod template (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob,
    ReplicationController, PodTemplate, List); other kinds pass through. Pods without `eastgate.dev/policies` are left
    as they are, with a warning. Exit code 1 if a pod is refused: nothing is printed then.

    \b
    [bold]Examples[/bold]
    eastgate inject -f deployment.yaml | kubectl apply -f -
    kubectl get deployment httpbin -o yaml | eastgate inject -f - -o patch
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.cli.terminal import write_diagnostics
    from eastgate.pods.annotations import IMAGE_ACCEPTED, read_image

    require_paths(filename, "--filename")
    try:
        read_image(image)
    except ValueError:
        raise refuse("--image", image, IMAGE_ACCEPTED) from None
    sources, values, diagnostics = _read(filename)
    documents = [value.plain() for value in values]
    results: list[Injected] = []
    if not has_errors(diagnostics):
        locate()
        from webhook.injections.workloads import inject_documents

        choose = _make_chooser(documents, namespace_label, namespace, image, native=native)
        results, outcomes = inject_documents(documents, choose)
        for outcome in outcomes:
            diagnostics += _report(outcome, values[outcome.document])
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
    for value in values:
        if not isinstance(value.get("kind"), str) or not isinstance(value.get("apiVersion"), str):
            message = "not a Kubernetes object; accepted: a mapping with `apiVersion` and `kind`"
            found.append(Diagnostic(value.position, Severity.ERROR, "no-object", message))
    if not values and not found:
        where = sources[0][0] if sources else paths[0]
        found.append(Diagnostic(Position(where, 1), Severity.ERROR, "no-objects", "there is no object here"))
    return sources, values, found


def _make_chooser(
    documents: list[Mapping[str, Any]], label: Label | None, default: str, image: str, *, native: bool
) -> Callable[[str | None], Context]:
    """The circumstances of an object, by the namespace that it says."""
    from eastgate.pods import names
    from webhook.injections.verdicts import Context

    labels = {
        metadata["name"]: metadata["labels"].get(names.INJECTION_LABEL) for metadata in _find_namespaces(documents)
    }

    def choose(namespace: str | None) -> Context:
        place = namespace or default
        enforced = (label or labels.get(place)) == Label.ENFORCED
        return Context(place, enforced, image, None, (), native, __version__)

    return choose


def _find_namespaces(documents: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Metadata of every Namespace that has a name and labels."""
    for document in documents:
        if document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from _find_namespaces([item for item in document["items"] if isinstance(item, dict)])
        metadata = document.get("metadata")
        if document.get("kind") != "Namespace" or not isinstance(metadata, dict):
            continue
        if isinstance(metadata.get("name"), str) and isinstance(metadata.get("labels"), dict):
            yield metadata


def _report(outcome: Outcome, document: Value) -> Iterator[Diagnostic]:
    """What there is to say about one pod, each where it stands in the file."""
    from webhook.injections.verdicts import Refusal, Skip

    verdict = outcome.verdict
    if isinstance(verdict, Refusal):
        for message, path in zip(verdict.messages, verdict.paths, strict=True):
            place = _locate(document, (*outcome.path, *path))
            yield Diagnostic(place, Severity.ERROR, verdict.reason, message, outcome.subject)
        return
    warnings = verdict.warnings
    if isinstance(verdict, Skip) and not warnings:
        warnings = (f"not injected: {verdict.message}",)
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
