"""``eastgate demo``: the seeds' scenarios on this machine, end to end, as a table."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from eastgate.cli.terminal import complain, count, use_colour, write

if TYPE_CHECKING:
    from eastgate.demonstrations.scenes import Result, Scene
    from eastgate.demonstrations.stage import Stage

_WIDTH_OFF_TERMINAL = 180
"""Wide enough that no cell wraps: a log is read with less -S or grep."""


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running, and print commands to try.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a request.")] = False,
) -> None:
    """Run the four scenarios end to end on this machine: real applications, a real identity provider, real sidecars.

    Starts an HTTP and a gRPC application, key servers behind TLS with their own authorities, and `eastgate serve` for
    each scenario, all on loopback, without privileges. Sends every request and compares what happened with what the
    documents say must happen. Exit code 1 if anything differs.

    \b
    [bold]Examples[/bold]
    eastgate demo
    eastgate demo --keep
    eastgate demo --json | jq -r 'select(.passed|not)'
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.demonstrations.stage import Stage

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    started = time.monotonic()
    results: list[Result] = []
    try:
        with Stage() as stage:
            for result in stage.play():
                results.append(result)
                if as_json:
                    write(sys.stdout, json.dumps(_object(result)))
                else:
                    _tell_progress(result, len(results), sum(len(scene.steps) for scene in stage.scenes))
            if not as_json:
                _clear_progress()
                _print_table(results)
                _print_summary(results, time.monotonic() - started)
            for failure in stage.failures:
                complain(failure)
            if keep:
                _wait(stage)
    except FileNotFoundError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    if not results or not all(result.passed for result in results):
        raise typer.Exit(1)


def _object(result: Result) -> dict[str, object]:
    return {
        "seed": result.scene.seed,
        "scenario": result.scene.title,
        "request": result.step.says,
        "expected": _expectation(result),
        "got": result.got,
        "upstream": result.seen,
        "why": result.why,
        "passed": result.passed,
        "problems": list(result.problems),
    }


def _expectation(result: Result) -> str:
    expected = result.step.expected
    return f"{expected.status} {expected.body or ''}".rstrip()


def _tell_progress(result: Result, done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{done}/{total}  seed {result.scene.seed}: {result.step.says}")
        sys.stderr.flush()


def _clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _print_table(results: list[Result]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(
        width=None if terminal else _WIDTH_OFF_TERMINAL, no_color=not use_colour(sys.stdout), highlight=False
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for name in ("seed", "request", "expected", "got", "the application saw", "why"):
        table.add_column(name, no_wrap=name == "seed", overflow="fold")
    scene: Scene | None = None
    for result in results:
        if result.scene is not scene:
            if scene is not None:
                table.add_section()
            scene = result.scene
            table.add_row("", Text(scene.seed, "bold"), Text(scene.title, "bold"), "", "", "", "")
        passed = result.passed
        mark = Text("✓", "green") if passed else Text("✗", "bold red")
        cells = (_expectation(result), result.got, result.seen, result.why)
        table.add_row(mark, scene.seed, Text(result.step.says), *(Text(cell) for cell in cells))
        for problem in result.problems:
            table.add_row("", "", Text(f"  {problem}", "red"), "", "", "", "")
    console.print(table)


def _print_summary(results: list[Result], seconds: float) -> None:
    failed = sum(not result.passed for result in results)
    seeds = len({result.scene.seed for result in results})
    verdict = f"{count(failed, 'difference')} in" if failed else "all as the documents say:"
    write(sys.stdout, f"{verdict} {count(len(results), 'request')}, {count(seeds, 'seed')}, {seconds:.1f} s")


def _wait(stage: Stage) -> None:
    """Say where everything is and wait for Ctrl-C."""
    write(sys.stdout, "\nrunning until Ctrl-C; for example:")
    for scene, address in stage.addresses():
        refused = [step for step in scene.steps if not step.expected.passes]
        passing = [step for step in scene.steps if step.expected.passes]
        for step in (*refused[:1], *passing[:1]):
            write(sys.stdout, f"  # seed {scene.seed}, {scene.title}: {step.says} -> {step.expected.status}")
            write(sys.stdout, "  " + _command(step.call, f"{address[0]}:{address[1]}"))
    sys.stdout.flush()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        write(sys.stdout, "")


def _command(call: object, address: str) -> str:
    from eastgate.demonstrations.scenes import GRPCCall, HTTPCall

    if isinstance(call, GRPCCall):
        headers = "".join(f"-H '{name}: {value}' " for name, value in call.metadata)
        return f"grpcurl -plaintext -authority={call.authority} {headers}{address} {call.method.lstrip('/')}"
    assert isinstance(call, HTTPCall)  # noqa: S101 (the only other kind)
    words = ["curl", "-i", f"-H 'Host: {call.host}'"]
    words += [f"-H '{name}: {value}'" for name, value in call.headers]
    return " ".join([*words, f"'http://{address}{call.target}'"])
