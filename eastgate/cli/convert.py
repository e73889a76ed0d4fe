"""``eastgate convert``: foreign policies and routes in our own kinds, proven to decide the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eastgate.cli import values
from eastgate.cli.corpora import read_corpus
from eastgate.cli.terminal import complain, count, sort_diagnostics, warn, write, write_diagnostics
from eastgate.model.diagnostics import has_errors

if TYPE_CHECKING:
    from eastgate.conversions.drafts import Draft


def convert(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders, or `-` for standard input.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="One file an object, in this folder.", show_default=False),
    ] = None,
) -> None:
    """Say foreign policies in the kinds of `policy.eastgate.dev`.

    Reads Gloo's JWTPolicy and RouteTable, Envoy Gateway's SecurityPolicy, and HTTPRoute and GRPCRoute, and whatever
    they refer to. The result is read again and compared: what would decide otherwise is an error that names object
    and field, exit code 1, and nothing is written. Labels and annotations are kept, comments are not.

    \b
    [bold]Examples[/bold]
    eastgate convert policies/ > own.yaml
    eastgate convert policies/ -o own/
    kubectl get securitypolicies,httproutes,services -A -o yaml | eastgate convert -
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.conversions.conversion import convert as convert_sources

    corpus = read_corpus(paths, "PATH")
    diagnostics = list(corpus.diagnostics)
    drafts: tuple[Draft, ...] = ()
    if not has_errors(diagnostics):
        conversion = convert_sources(corpus.sources)
        drafts, diagnostics = conversion.drafts, list(conversion.diagnostics)
    write_diagnostics(sort_diagnostics(diagnostics), corpus.sources)
    if has_errors(diagnostics):
        complain("nothing was converted")
        raise typer.Exit(1)
    if not drafts:
        complain("nothing to convert: no policy or route of Gloo, Envoy Gateway or the Gateway API is here")
        raise typer.Exit(1)
    if conversion.kept:
        kept = ", ".join(str(found.title) for found in conversion.kept)
        warn(f"left as {'it is' if len(conversion.kept) == 1 else 'they are'}: {kept}")
    if output is None:
        sys.stdout.write("---\n".join(_render(draft) for draft in drafts))
        return
    _write_files(output, drafts)


def _render(draft: Draft) -> str:
    from eastgate.cli.manifests import write_yaml

    sources = "".join(f"# Converted from {one.title}, {one.document.position}.\n" for one in draft.sources)
    return f"{sources}# Comments could not be kept.\n{write_yaml([draft.document])}"


def _write_files(folder: Path, drafts: tuple[Draft, ...]) -> None:
    """In an order that reading the folder, and ``kubectl apply -f``, keeps: tables are tried by age."""
    if folder.exists() and not folder.is_dir():
        raise values.refuse("--output", folder, "a folder, which is made where there is none")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draft in zip(_name_files(drafts), drafts, strict=True):
            (folder / name).write_text(_render(draft), encoding="utf-8")
    except OSError as error:
        complain(f"{error.filename or folder}: {error.strerror}")
        raise typer.Exit(1) from None
    write(sys.stderr, f"{count(len(drafts), 'object')} written to {folder}")


def _name_files(drafts: tuple[Draft, ...]) -> Iterator[str]:
    width = len(str(len(drafts)))
    for index, draft in enumerate(drafts, 1):
        metadata: Mapping[str, Any] = draft.document["metadata"]
        parts = (draft.document["kind"].lower(), metadata.get("namespace"), metadata["name"])
        yield f"{index:0{width}}-{'-'.join(part for part in parts if part)}.yaml"
