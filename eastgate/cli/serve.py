"""``eastgate serve``: the sidecar as a plain reverse proxy, with the flags read into ``sidecar.options``."""

from __future__ import annotations

from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.cli.engine import (
    KEYS,
    RUNNING,
    TRAFFIC,
    WORKLOAD,
    DrainOption,
    KeysUnavailableOption,
    LogAllowsOption,
    LogLevel,
    LogLevelOption,
    MaxConnectionsOption,
    ResolveOption,
    StaleOption,
    TrustedCaOption,
    WorkersOption,
)
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched


def serve(
    policy: Annotated[
        list[str],
        typer.Option(
            "--policy",
            "-p",
            metavar="PATH",
            envvar="EASTGATE_POLICY",
            show_default=False,
            help="File, folder or `-`; may be repeated. In the variable: separated by white space.",
        ),
    ],
    upstream: Annotated[
        str,
        typer.Option(
            metavar="http://HOST:PORT", envvar="EASTGATE_UPSTREAM", help="The application.", show_default=False
        ),
    ],
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", envvar="EASTGATE_LISTEN", help="Where to accept; port 0 picks one.", show_default=False
        ),
    ],
    service: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMESPACE/NAME[:PORT]",
            envvar="EASTGATE_SERVICE",
            help="The Service in front of the workload; only routes that lead to it count. May be repeated.",
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(envvar="EASTGATE_NAMESPACE", help="That of --service, else `default`.", rich_help_panel=WORKLOAD),
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            envvar="EASTGATE_POLICIES",
            help='Policies that apply: NAME or NAMESPACE/NAME, comma-separated, or "*". Default: all.',
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    pod_labels: Annotated[
        str | None,
        typer.Option(
            metavar="K=V,...",
            envvar="EASTGATE_POD_LABELS",
            help="Labels of the pod: those of the one route where no route is bound.",
            rich_help_panel=WORKLOAD,
        ),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            envvar="EASTGATE_MODE", help="`audit` decides, logs, counts, lets pass.", rich_help_panel=WORKLOAD
        ),
    ] = Mode.ENFORCE,
    unmatched: Annotated[
        Unmatched,
        typer.Option(
            envvar="EASTGATE_UNMATCHED", help="Requests that no bound route matches.", rich_help_panel=WORKLOAD
        ),
    ] = Unmatched.DENY,
    opaque_ports: Annotated[
        str | None,
        typer.Option(
            metavar="PORTS",
            envvar="EASTGATE_OPAQUE_PORTS",
            help="Ports and ranges that are tunnelled, not inspected.",
            rich_help_panel=TRAFFIC,
        ),
    ] = None,
    keys_unavailable: KeysUnavailableOption = KeysUnavailable.UNAVAILABLE,
    stale_seconds: StaleOption = "1h",
    keys_directory: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            envvar="EASTGATE_KEYS_DIRECTORY",
            help="Keep the last good key sets here across restarts.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    resolve: ResolveOption = None,
    trusted_ca: TrustedCaOption = None,
    admin: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EASTGATE_ADMIN",
            help="Health, metrics, /config. Default: none.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    workers: WorkersOption = "1",
    max_connections: MaxConnectionsOption = None,
    drain_seconds: DrainOption = "30s",
    log_level: LogLevelOption = LogLevel.INFO,
    log_allows: LogAllowsOption = "1",
) -> None:
    """Enforce policies in front of one application, without a cluster and without privileges.

    Prints `ready http://HOST:PORT` once it accepts. HTTP/1.1 and HTTP/2 (prior knowledge) on the same port.
    SIGTERM drains; SIGHUP or a changed file reloads, and a bad reload keeps the last good policies.
    Exit code 1 if a policy has errors, 2 on wrong usage.

    \b
    [bold]Examples[/bold]
    eastgate serve --policy policies/ --upstream http://127.0.0.1:8000 --listen 127.0.0.1:9000
    eastgate serve -p policy.yaml -p routes.yaml --service httpbin/httpbin:8000 \\
        --upstream http://127.0.0.1:8000 --listen 0.0.0.0:9000 --admin 127.0.0.1:19020 --mode audit
    """  # noqa: D301 (the mark keeps the lines)
    workload = values.make_workload(
        services=service or (),
        namespace=namespace,
        policies=policies,
        pod_labels=pod_labels,
        mode=mode,
        unmatched=unmatched,
        keys_unavailable=keys_unavailable,
    )
    paths = values.require_paths(policy, "--policy")
    addresses = (values.parse_upstream(upstream, "--upstream"), values.parse_address(listen, "--listen"))
    admin_address = None if admin is None else values.parse_address(admin, "--admin")
    opaque = values.parse_ports(opaque_ports, "--opaque-ports")
    resolved = values.parse_resolve(resolve or (), "--resolve")
    trusted = values.require_authorities(trusted_ca or (), "--trusted-ca")
    drain = values.parse_seconds(drain_seconds, "--drain-seconds")
    stale = values.parse_seconds(stale_seconds, "--stale-seconds")
    count = values.parse_number(workers, "--workers", least=1, most=256)
    most = (
        None
        if max_connections is None
        else values.parse_number(max_connections, "--max-connections", least=1, most=1_000_000)
    )
    share = values.parse_share(log_allows, "--log-allows")

    locate()
    from sidecar.options import LogOptions, ServeOptions
    from sidecar.serve import run

    options = ServeOptions(
        policies=paths,
        upstream=addresses[0],
        listen=addresses[1],
        workload=workload,
        admin=admin_address,
        workers=count,
        max_connections=most,
        log=LogOptions(level=str(log_level), allows=share),
        drain_seconds=drain,
        stale_seconds=stale,
        keys_directory=keys_directory,
        opaque_ports=opaque,
        resolve=resolved,
        trusted_ca=trusted,
    )
    raise typer.Exit(run(options))
