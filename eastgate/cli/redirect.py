"""``eastgate sidecar redirect``: the init container ``eastgate-init``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.pods import names
from eastgate.pods.ports import PortSet

EVERYTHING = "*"


class Backend(StrEnum):
    """What writes the rules; ``auto`` is the first that works here."""

    AUTO = "auto"
    NFT = "nft"
    IPTABLES = "iptables"
    IPTABLES_LEGACY = "iptables-legacy"


def redirect(
    proxy_port: Annotated[
        str, typer.Option(metavar="PORT", envvar="EASTGATE_PROXY_PORT", help="Where the sidecar listens.")
    ] = str(names.INBOUND_PORT),
    admin_port: Annotated[
        str, typer.Option(metavar="PORT", envvar="EASTGATE_ADMIN_PORT", help="Its admin port: never redirected.")
    ] = str(names.ADMIN_PORT),
    include_inbound_ports: Annotated[
        str,
        typer.Option(metavar="*|PORTS", envvar="EASTGATE_INCLUDE_INBOUND_PORTS", help="What is redirected."),
    ] = EVERYTHING,
    exclude_inbound_ports: Annotated[
        str | None,
        typer.Option(
            metavar="PORTS", envvar="EASTGATE_EXCLUDE_INBOUND_PORTS", help="What is not, whatever is included."
        ),
    ] = None,
    exempt_id: Annotated[
        str, typer.Option(metavar="UID", envvar="EASTGATE_EXEMPT_ID", help="The sidecar's own user.")
    ] = str(names.PROXY_ID),
    backend: Annotated[
        Backend, typer.Option(envvar="EASTGATE_REDIRECT_BACKEND", help="What writes the rules.")
    ] = Backend.AUTO,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the rules for nft and change nothing.")] = False,
) -> None:
    """Send the pod's inbound TCP to the sidecar: rules in the pod's own network namespace, of IPv4 and IPv6.

    Applied in one transaction, read back, and the same when run again. Exit code 1, and why, where the kernel or the
    rights are missing: the pod does not start.

    \b
    [bold]Examples[/bold]
    eastgate sidecar redirect --exclude-inbound-ports 22,9000-9010
    eastgate sidecar redirect --dry-run
    """  # noqa: D301 (the mark keeps the lines)
    included = None
    if include_inbound_ports.strip() != EVERYTHING:
        included = values.parse_ports(include_inbound_ports, "--include-inbound-ports")
    excluded = values.parse_ports(exclude_inbound_ports, "--exclude-inbound-ports")
    port = values.parse_number(proxy_port, "--proxy-port", least=1, most=65535)
    admin = values.parse_number(admin_port, "--admin-port", least=1, most=65535)
    user = values.parse_number(exempt_id, "--exempt-id", least=1, most=2**31 - 1)

    locate()
    from sidecar.redirections.kernel import RedirectionError, apply_redirection
    from sidecar.redirections.rules import Redirection, render_nft

    redirection = Redirection(
        proxy_port=port,
        admin_port=admin,
        include=None if included is None else PortSet.of(included),
        exclude=PortSet.of(excluded),
        exempt_id=user,
    )
    if dry_run:
        typer.echo(render_nft(redirection), nl=False)
        return
    try:
        used = apply_redirection(redirection, str(backend))
    except RedirectionError as error:
        typer.echo(f"error: cannot redirect the pod's traffic: {error}", err=True)
        raise typer.Exit(1) from None
    what = "every TCP port" if included is None else f"TCP ports {include_inbound_ports}"
    typer.echo(f"redirecting {what} to {port} (rules by {used}, IPv4 and IPv6)")
