"""``eastgate token``: keys, key sets and signed tokens for trying things out. Never needs the network."""

from __future__ import annotations

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.terminal import complain, paint, use_colour, write

token = typer.Typer(no_args_is_help=True, help="Keys and tokens for trying things out.")


class KeyType(StrEnum):
    """``kty`` of RFC 7518: RSA 2048, EC P-256, OKP Ed25519."""

    RSA = "RSA"
    EC = "EC"
    OKP = "OKP"


@token.command()
def keygen(
    kind: Annotated[KeyType, typer.Option("--type", help="RSA (2048), EC (P-256) or OKP (Ed25519).")] = KeyType.RSA,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where to write the files.")] = ".",
    kid: Annotated[str | None, typer.Option(help="The key's name. Default: its thumbprint (RFC 7638).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Make a key: `private.pem` (mode 0600), `public.pem` and `jwks.json`.

    \b
    [bold]Examples[/bold]
    eastgate token keygen --out keys/
    eastgate token keygen --type EC --kid 2026-01 --out keys/
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.demonstrations.signing import generate_key, private_pem, public_key_set, public_pem

    folder = Path(out)
    files = [folder / name for name in ("private.pem", "public.pem", "jwks.json")]
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        complain(f"{', '.join(there)}: there already; --force replaces")
        raise typer.Exit(1)
    key = generate_key(kind, kid)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (private_pem(key), public_pem(key), public_key_set(key)), strict=True):
            _write_private(file, text) if file.name == "private.pem" else file.write_text(text, encoding="utf-8")
    except OSError as error:
        complain(f"cannot write `{error.filename}`: {(error.strerror or 'error').lower()}")
        raise typer.Exit(1) from None
    for file in files:
        write(sys.stdout, str(file))


@token.command()
def mint(
    key: Annotated[str, typer.Option(metavar="FILE", help="Private key, PEM.", show_default=False)],
    issuer: Annotated[str | None, typer.Option(help="`iss`.")] = None,
    subject: Annotated[str | None, typer.Option(help="`sub`.")] = None,
    audience: Annotated[list[str] | None, typer.Option(help="`aud`; may be repeated.")] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any claim; JSON values as such, all else as text. May be repeated."),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="DURATION", help="`exp` from now, or `never`.")] = "1h",
    kid: Annotated[str | None, typer.Option(help="Default: the key's thumbprint, as `keygen` writes it.")] = None,
    alg: Annotated[str | None, typer.Option(help="Default: RS256, ES256/384/512 or EdDSA, by the key.")] = None,
) -> None:
    """Sign a token and print it.

    \b
    [bold]Examples[/bold]
    eastgate token mint --key keys/private.pem --issuer https://localhost --claim org=internal
    eastgate token mint --key keys/private.pem --claim 'roles=["admin","editor"]' --expires 7d
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.demonstrations.signing import SigningError, read_private_key, sign_token

    now = int(time.time())
    claims: dict[str, object] = {"iat": now}
    if expires != "never":
        claims["exp"] = now + int(values.parse_seconds(expires, "--expires"))
    if issuer is not None:
        claims["iss"] = issuer
    if subject is not None:
        claims["sub"] = subject
    if audience:
        claims["aud"] = audience[0] if len(audience) == 1 else audience
    for entry in claim or []:
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise values.refuse("--claim", entry, "NAME=VALUE, as org=internal or 'roles=[\"admin\"]'")
        claims[name] = _read_value(value)
    try:
        write(sys.stdout, sign_token(read_private_key(values.read_file(key, "--key"), kid), claims, algorithm=alg))
    except SigningError as error:
        raise typer.BadParameter(str(error), param_hint="--alg" if "sign with" in str(error) else "--key") from None


@token.command()
def inspect(
    given: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token, or `-` for standard input.", show_default=False)
    ],
    jwks: Annotated[
        str | None, typer.Option(metavar="FILE", help="Verify with this key set (JWKS, JWK or PEM).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a token says, and what is doubtful about it. With --jwks also whether it verifies, as `serve` would.

    Exit code 1 if it is not a token, or does not verify.

    \b
    [bold]Examples[/bold]
    eastgate token inspect "$TOKEN"
    eastgate token mint --key keys/private.pem | eastgate token inspect - --jwks keys/jwks.json
    """  # noqa: D301 (the mark keeps the lines)
    from eastgate.cli.inspection import read_token
    from eastgate.demonstrations.verification import verify_token

    text = sys.stdin.read() if given == "-" else given
    text = text.strip()
    if text[:7].lower() == "bearer ":
        text = text[7:].strip()
    now = time.time()
    reading = read_token(text, now)
    failure = None if jwks is None else verify_token(text, values.read_file(jwks, "--jwks"), now)
    if as_json:
        answer = {
            "header": reading.header,
            "claims": reading.claims,
            "times": reading.times,
            "warnings": reading.warnings,
            "problem": reading.problem,
            "verified": None if jwks is None else failure is None,
            "failure": failure,
        }
        write(sys.stdout, json.dumps(answer))
    else:
        _show(reading.header, reading.claims, reading.times, reading.warnings)
        colour = use_colour(sys.stdout)
        if reading.problem is not None:
            complain(reading.problem)
        if jwks is not None and failure is None:
            write(sys.stdout, paint("✓ ", "good", colour) + f"verifies with {jwks}")
        elif failure is not None:
            write(sys.stdout, paint("✗ ", "bad", colour) + f"does not verify with {jwks}: {failure}")
    if reading.problem is not None or failure is not None:
        raise typer.Exit(1)


def _show(
    header: dict[str, object] | None, claims: dict[str, object] | None, times: dict[str, str], warnings: list[str]
) -> None:
    colour = use_colour(sys.stdout)
    for title, part in (("header", header), ("claims", claims)):
        if part is None:
            continue
        write(sys.stdout, paint(title, "strong", colour))
        width = max((len(name) for name in part), default=0)
        for name, value in part.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
            remark = paint(f"  {times[name]}", "faint", colour) if title == "claims" and name in times else ""
            write(sys.stdout, f"  {paint(f'{name:<{width}}', 'name', colour)}  {shown}{remark}")
    for warning in warnings:
        write(sys.stdout, paint("! ", "warn", colour) + warning)


def _read_value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write_private(file: Path, text: str) -> None:
    """Never readable by others, not even for a moment."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
