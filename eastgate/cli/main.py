"""The command ``eastgate``: its subcommands, its exit codes, and how a wrong usage is said.

Exit codes are an interface: 0 fine, 1 the thing checked is not fine, 2 wrong usage. Usage errors are one plain line on
stderr (a framed one would break file names and values apart, which scripts and people copy).
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from eastgate import __version__
from eastgate.cli.controller import controller
from eastgate.cli.convert import convert
from eastgate.cli.demo import demo
from eastgate.cli.explain import explain
from eastgate.cli.inject import inject
from eastgate.cli.lint import lint
from eastgate.cli.redirect import redirect
from eastgate.cli.serve import serve
from eastgate.cli.sidecar import sidecar
from eastgate.cli.token import token
from eastgate.cli.webhook import webhook

IMAGES = "In the images"

app = typer.Typer(
    name="eastgate",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Enforce policies in front of one application.")(serve)
app.command(short_help="Decide a request and say why.")(explain)
app.command(short_help="Check policy files.")(lint)
app.command(short_help="Inject the sidecar into manifests.")(inject)
app.command(short_help="Say foreign policies in our own kinds.")(convert)
app.add_typer(token, name="token")
sidecar.command(short_help="Send the pod's inbound traffic to the sidecar.")(redirect)
app.add_typer(sidecar, name="sidecar", rich_help_panel=IMAGES)
app.command(short_help="Inject pods and validate policies at admission.", rich_help_panel=IMAGES)(webhook)
app.command(short_help="Bring policies to the pods.", rich_help_panel=IMAGES)(controller)
app.command(short_help="See the four scenarios work on this machine.")(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eastgate {__version__}")
        raise typer.Exit()


@app.callback()
def eastgate(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """East-west JWT policy for Kubernetes: who may call whom, decided at the receiver.

    \b
    [bold]Examples[/bold]
    eastgate demo                       see it work on this machine
    eastgate lint policies/             check what you have
    eastgate explain -p policies/ --request 'GET http://www.example.com/foo'
    eastgate serve -p policies/ --upstream http://127.0.0.1:8000 --listen 127.0.0.1:9000
    """  # noqa: D301 (the mark keeps the lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and say its exit code. The program's entry point."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(
            args=None if arguments is None else list(arguments), prog_name="eastgate", standalone_mode=False
        )
        sys.stdout.flush()
    except typer.TyperException as error:
        return _refuse(error)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # the reader (``head``) has gone
        _abandon_output()
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _abandon_output()
        typer.echo(f"eastgate: error: cannot write: {error.strerror}", err=True)
        return 1
    return code if isinstance(code, int) else 0


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _abandon_output() -> None:
    """Python would complain once more while closing a standard output that takes nothing: give it another one."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_NOT_A_CHOICE = re.compile(r"""Value error, ['"](.*)['"] is not one of (.*)\.""", re.DOTALL)
"""How Typer says that a value is none of several: in pydantic's words, unlike every other message."""


def _name_choices(match: re.Match[str]) -> str:
    return f"`{match[1]}` is not accepted; accepted: {match[2].replace("'", '')}"


def _refuse(error: Any) -> int:
    """One line that says what is wrong, one that says where help is; no arguments at all print the help instead."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    code = getattr(error, "exit_code", 2)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
        return int(code)
    message = _NOT_A_CHOICE.sub(_name_choices, message)
    path = context.command_path if context is not None else "eastgate"
    typer.echo(f"{path}: error: {message}\nTry '{path} --help'.", err=True)
    return int(code)
