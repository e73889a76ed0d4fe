"""``eastgate lint``: every error and warning in policy files, before a cluster sees them."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from eastgate.cli.corpora import read_corpus
from eastgate.cli.terminal import count, paint, sort_diagnostics, use_colour, write, write_diagnostics
from eastgate.model.diagnostics import Diagnostic, Severity, has_errors


def lint(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, folders, or `-` for standard input.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a finding, on stdout.")] = False,
) -> None:
    """Check policy files: what does not parse, is unknown, leads nowhere, or can never match.

    Findings go to stderr as `file:line: severity: message`. Exit code 1 on an error, 0 on warnings only.

    \b
    [bold]Examples[/bold]
    eastgate lint policies/
    eastgate lint --json policy.yaml routes.yaml
    kubectl get securitypolicies,httproutes,services -A -o yaml | eastgate lint -
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.compile.review import review

    corpus = read_corpus(paths, "PATH")
    found = sort_diagnostics((*corpus.diagnostics, *review(corpus.policy_set)))
    if as_json:
        for diagnostic in found:
            write(sys.stdout, json.dumps(_object(diagnostic)))
    else:
        write_diagnostics(found, corpus.sources)
        write(sys.stdout, _summary(found, corpus.policy_set.policies, corpus.policy_set.routes, corpus.sources))
    if has_errors(found):
        raise typer.Exit(1)


def _object(diagnostic: Diagnostic) -> dict[str, object]:
    return {
        "file": diagnostic.position.file,
        "line": diagnostic.position.line,
        "severity": str(diagnostic.severity),
        "code": diagnostic.code,
        "object": diagnostic.subject,
        "field": diagnostic.field,
        "message": diagnostic.message,
    }


def _summary(
    found: list[Diagnostic],
    policies: tuple[object, ...],
    routes: tuple[object, ...],
    sources: tuple[tuple[str, str], ...],
) -> str:
    errors = sum(one.severity is Severity.ERROR for one in found)
    warnings = len(found) - errors
    colour = use_colour(sys.stdout)
    verdict = paint("ok", "good", colour)
    if warnings:
        verdict = paint(count(warnings, "warning"), "warn", colour)
    if errors:
        verdict = paint(count(errors, "error"), "bad", colour) + (f", {verdict}" if warnings else "")
    read = (count(len(policies), "policy", "policies"), count(len(routes), "route"), count(len(sources), "file"))
    return f"{verdict}: {read[0]} and {read[1]} in {read[2]}"
