"""``eastgate explain``: decide without serving, and say why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eastgate.cli import values
from eastgate.cli.corpora import read_corpus
from eastgate.cli.questions import Question, QuestionError, ask, read_header, read_questions, read_request_line
from eastgate.cli.terminal import write, write_diagnostics, write_lines
from eastgate.model.decisions import Reason
from eastgate.model.diagnostics import Diagnostic, Severity, has_errors
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched
from eastgate.render.text import render_text
from eastgate.render.trace import Explanation, render_trace

if TYPE_CHECKING:
    from eastgate.cli.rings import Ring
    from eastgate.compile.plan import Plan

WORKLOAD, REQUEST, KEYS = "The workload", "The request", "Keys and time"


def explain(
    policy: Annotated[
        list[str],
        typer.Option(
            "--policy", "-p", metavar="PATH", show_default=False, help="File, folder or `-`; may be repeated."
        ),
    ],
    request: Annotated[
        str | None,
        typer.Option(metavar="'METHOD URL'", help="The request to decide.", rich_help_panel=REQUEST),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", metavar="'Name: value'", help="May be repeated.", rich_help_panel=REQUEST),
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.jsonl",
            help='One request a line: {"id", "method", "url", "headers": [[name, value]]}; `-` reads stdin.',
            rich_help_panel=REQUEST,
        ),
    ] = None,
    port: Annotated[
        str, typer.Option(metavar="PORT", help="The port that was dialled; 0 for any.", rich_help_panel=REQUEST)
    ] = "0",
    peer: Annotated[str, typer.Option(metavar="ADDRESS", help="The client's address.", rich_help_panel=REQUEST)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a request, for programs.")] = False,
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE/NAME[:PORT]",
            help="The Service in front of the workload. May be repeated.",
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="That of --service, else `default`.", rich_help_panel=WORKLOAD)
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Policies that apply. Default: all.", rich_help_panel=WORKLOAD),
    ] = None,
    pod_labels: Annotated[
        str | None, typer.Option(metavar="K=V,...", help="Labels of the pod.", rich_help_panel=WORKLOAD)
    ] = None,
    mode: Annotated[Mode, typer.Option(help="As of `serve`.", rich_help_panel=WORKLOAD)] = Mode.ENFORCE,
    unmatched: Annotated[
        Unmatched, typer.Option(help="Requests that no bound route matches.", rich_help_panel=WORKLOAD)
    ] = Unmatched.DENY,
    keys_unavailable: Annotated[
        KeysUnavailable, typer.Option(help="The answer without a provider's keys.", rich_help_panel=KEYS)
    ] = KeysUnavailable.UNAVAILABLE,
    jwks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL=FILE", help="The key set behind a URL, from a file. May be repeated.", rich_help_panel=KEYS
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch no keys.", rich_help_panel=KEYS)] = False,
    resolve: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT:ADDRESS:PORT", help="As of `serve`.", rich_help_panel=KEYS),
    ] = None,
    trusted_ca: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="As of `serve`.", rich_help_panel=KEYS)
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Decide as of then: seconds since 1970 or RFC 3339.", rich_help_panel=KEYS),
    ] = None,
) -> None:
    """Decide a request without serving it, and say why: route, policies, tokens, checks, what goes upstream.

    Keys of remote key sets are fetched as `serve` would, unless given with --jwks or left out with --offline.
    Exit code 0 whatever the decision is; 1 if a policy file has errors (decisions are still made: they fail closed).

    \b
    [bold]Examples[/bold]
    eastgate explain -p policies/ --request 'GET http://www.example.com/foo' -H "Authorization: Bearer $TOKEN"
    eastgate explain -p policies/ --requests requests.jsonl --json
    eastgate explain -p policy.yaml --request 'GET /get?auth_token=abc' -H 'Host: www.example.com' \\
        --jwks https://idp.example.com/jwks.json=jwks.json --now 2026-01-01T00:00:00Z
    """  # noqa: D301 (the mark keeps the lines)
    if (request is None) == (requests is None):
        raise typer.BadParameter("give one of --request and --requests", param_hint="--request")
    if requests is not None and header:
        raise typer.BadParameter("belongs to --request; in a file, headers stand in each line", param_hint="-H")
    if requests == "-" and "-" in policy:
        raise typer.BadParameter("`-` (standard input) can be given only once", param_hint="--requests")
    dialled = values.parse_number(port, "--port", least=0, most=65535)
    workload = values.make_workload(
        services=service or (),
        namespace=namespace,
        policies=policies,
        pod_labels=pod_labels,
        mode=mode,
        unmatched=unmatched,
        keys_unavailable=keys_unavailable,
        one_port=not dialled,
    )
    moment = None if now is None else _read_moment(now)
    ring = _make_ring(jwks or (), offline, resolve or (), trusted_ca or ())
    questions = _read_questions(request, header or (), requests, dialled, values.parse_peer(peer, "--peer"))
    corpus = read_corpus(policy, "--policy", deciding=True)

    from eastgate.compile.plan import compile_plan

    plan = _refuse_unread(compile_plan(corpus.policy_set, workload), corpus.diagnostics)
    diagnostics = (*corpus.diagnostics, *plan.diagnostics)
    write_diagnostics(diagnostics, corpus.sources)
    try:
        for index, question in enumerate(questions):
            explanation = explain_question(plan, question, ring, time.time() if moment is None else moment)
            if as_json:
                write(sys.stdout, json.dumps(render_trace(explanation)))
            else:
                write_lines(sys.stdout, [*([()] if index else []), *render_text(explanation)])
    except QuestionError as error:
        raise typer.BadParameter(str(error), param_hint="--requests") from None
    if has_errors(diagnostics):
        raise typer.Exit(1)


def _refuse_unread(plan: Plan, diagnostics: Iterable[Diagnostic]) -> Plan:
    """What could not be read at all may have been a policy: then nothing may be said to pass, as in a pod."""
    from eastgate.compile.guards import Refusal
    from eastgate.dialects.kinds import Standing

    for found in diagnostics:
        if found.severity is Severity.ERROR and (not found.subject or found.code == Standing.UNKNOWN_KIND):
            return replace(plan, refusal=Refusal(Reason.POLICY_UNAVAILABLE, f"not all could be read: {found.message}"))
    return plan


def explain_question(plan: Plan, question: Question, ring: Ring, now: float) -> Explanation:
    """Decide one question, fetching keys at most once, and keep every reason."""
    from eastgate.decide.decision import decide
    from eastgate.decide.memory import TokenMemory
    from eastgate.model.decisions import KeysNeeded

    decision = question.refusal
    if decision is None:
        # A fresh memory each: a remembered token would leave the checks of its verification out.
        answer = decide(plan, question.request, ring, now, TokenMemory(), explain=True)
        if isinstance(answer, KeysNeeded):
            ring.fetch(answer.sources)
            answer = decide(plan, question.request, ring, now, TokenMemory(), last_try=True, explain=True)
        if isinstance(answer, KeysNeeded):
            raise RuntimeError("keys asked for twice")
        decision = answer
    return Explanation(question.id, question.request, decision, question.notes)


def _read_questions(
    request: str | None, headers: Sequence[str], requests: str | None, port: int, peer: str
) -> Iterator[Question]:
    """The one request at once, so that a mistake in it is said before anything else; a file line by line."""
    if request is not None:
        try:
            fields = [read_header(line) for line in headers]
        except QuestionError as error:
            raise typer.BadParameter(str(error), param_hint="--header") from None
        try:
            return iter([ask(1, *read_request_line(request), fields, port=port, peer=peer)])
        except QuestionError as error:
            raise typer.BadParameter(str(error), param_hint="--request") from None
    if requests is None or requests == "-":
        return read_questions(sys.stdin, "<stdin>", port=port, peer=peer)
    return read_questions(_open_lines(requests), requests, port=port, peer=peer)


def _open_lines(path: str) -> Iterable[str]:
    if not Path(path).exists():
        raise typer.BadParameter(f"`{path}` does not exist", param_hint="--requests")
    return values.read_file(path, "--requests").split("\n")


def _read_moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise values.refuse("--now", text, "seconds since 1970 or RFC 3339, as 2026-01-01T00:00:00Z") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _make_ring(jwks: Sequence[str], offline: bool, resolve: Sequence[str], trusted_ca: Sequence[str]) -> Ring:
    from eastgate.cli.rings import Ring
    from eastgate.keys.keyset import KeySetError, parse_key_set

    given = {}
    for entry in jwks:
        url, path = values.parse_assignment(entry, "--jwks", "URL=FILE")
        try:
            given[values.parse_url(url, "--jwks")] = parse_key_set(values.read_file(path, "--jwks"), remote=True)
        except KeySetError as error:
            raise typer.BadParameter(f"`{path}` is not a key set: {error}", param_hint="--jwks") from None
    return Ring(
        given,
        offline=offline,
        resolve=values.parse_resolve(resolve, "--resolve"),
        trusted=values.read_authorities(trusted_ca, "--trusted-ca"),
    )
