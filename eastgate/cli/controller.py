"""``eastgate controller``: what the controller's container runs, with the flags read into its options."""

from __future__ import annotations

from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.cli.control_plane import HealthListenOption, KubeconfigOption, parse_health_listen
from eastgate.cli.engine import RUNNING, LogLevel, LogLevelOption

ELECTION, BUNDLES = "Leader election", "Bundles"


def controller(
    leader_elect: Annotated[
        bool,
        typer.Option(
            "--leader-elect/--no-leader-elect",
            envvar="EASTGATE_LEADER_ELECT",
            help="One of several replicas writes, or this one is known to be alone.",
            rich_help_panel=ELECTION,
        ),
    ] = True,
    namespace: Annotated[
        str,
        typer.Option(
            envvar="EASTGATE_NAMESPACE",
            help="Its own namespace: where the Lease is.",
            rich_help_panel=ELECTION,
        ),
    ] = "eastgate-system",
    lease: Annotated[
        str, typer.Option(metavar="NAME", envvar="EASTGATE_LEASE", help="Of the Lease.", rich_help_panel=ELECTION)
    ] = "eastgate-controller",
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="EASTGATE_IDENTITY",
            help="Of this replica; no other may have it. Default: the host's name and something random.",
            rich_help_panel=ELECTION,
        ),
    ] = None,
    lease_duration: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar="EASTGATE_LEASE_DURATION",
            help="How long a leader is missed before another takes over.",
            rich_help_panel=ELECTION,
        ),
    ] = "15s",
    trusted_ca: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            envvar="EASTGATE_TRUSTED_CA",
            help="PEM certificates that sidecars trust besides their system's where a policy names no CA. "
            "May be repeated.",
            rich_help_panel=BUNDLES,
        ),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    health_listen: HealthListenOption = "0.0.0.0:9444",
    workers: Annotated[
        str,
        typer.Option(metavar="N", envvar="EASTGATE_WORKERS", help="Namespaces at a time.", rich_help_panel=RUNNING),
    ] = "2",
    nudges: Annotated[
        str,
        typer.Option(
            metavar="N",
            envvar="EASTGATE_NUDGES",
            help="Pods told of a new bundle at a time.",
            rich_help_panel=RUNNING,
        ),
    ] = "8",
    resync: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar="EASTGATE_RESYNC",
            help="Every namespace is looked at again so often, whatever happens.",
            rich_help_panel=RUNNING,
        ),
    ] = "30m",
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Bring policies and routes to the pods: one bundle a namespace, and word of it to each pod.

    Prints `ready` once it has seen everything there is. SIGTERM finishes what was begun, hands over to another replica
    and exits 0. Exit code 1 if it cannot run, 2 on wrong usage.

    \b
    [bold]Examples[/bold]
    eastgate controller
    eastgate controller --trusted-ca /var/run/eastgate/trusted-ca/ca.crt
    eastgate controller --kubeconfig ~/.kube/config --no-leader-elect --health-listen 127.0.0.1:9444
    """  # noqa: D301 (the mark keeps the lines)
    health = parse_health_listen(health_listen)
    count = values.parse_number(workers, "--workers", least=1, most=32)
    threads = values.parse_number(nudges, "--nudges", least=1, most=64)
    seconds = values.parse_seconds(resync, "--resync")
    if seconds < 10:
        raise values.refuse("--resync", resync, "10s or more")

    lasts = values.parse_seconds(lease_duration, "--lease-duration")
    if not 3 <= lasts <= 300:
        raise values.refuse("--lease-duration", lease_duration, "3s to 5m")

    trusted = values.require_authorities(trusted_ca or (), "--trusted-ca")

    locate()
    from webhook.controllers.options import ControllerOptions
    from webhook.controllers.runner import run

    options = ControllerOptions(
        kubeconfig=kubeconfig,
        namespace=namespace,
        leader_elect=leader_elect,
        lease=lease,
        identity=identity,
        health_listen=health,
        log_level=str(log_level),
        workers=count,
        nudge_threads=threads,
        resync_seconds=seconds,
        lease_seconds=lasts,
        trusted_ca=trusted,
    )
    raise typer.Exit(run(options))
