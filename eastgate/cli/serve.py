"""``eastgate serve``: the sidecar as a plain reverse proxy, with the flags read into ``sidecar.options``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched

WORKLOAD, TRAFFIC, KEYS, RUNNING = "The workload", "Traffic", "Keys", "Running"


class LogLevel(StrEnum):
    """How much is logged besides decisions."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


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
    keys_unavailable: Annotated[
        KeysUnavailable,
        typer.Option(
            envvar="EASTGATE_KEYS_UNAVAILABLE",
            help="The answer while a provider's keys cannot be had; 401 as Envoy.",
            rich_help_panel=KEYS,
        ),
    ] = KeysUnavailable.UNAVAILABLE,
    stale_seconds: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar="EASTGATE_STALE_SECONDS",
            help="How long old keys are used while fetching fails.",
            rich_help_panel=KEYS,
        ),
    ] = "1h",
    keys_directory: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            envvar="EASTGATE_KEYS_DIRECTORY",
            help="Keep the last good key sets here across restarts.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    resolve: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT:ADDRESS:PORT",
            envvar="EASTGATE_RESOLVE",
            help="Fetch keys of HOST:PORT from ADDRESS:PORT; the name and its certificate stay. May be repeated.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    trust_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="EASTGATE_TRUST_CA",
            help="PEM certificates trusted for fetching keys, besides the system's.",
            rich_help_panel=KEYS,
        ),
    ] = None,
    admin: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EASTGATE_ADMIN",
            help="Health, metrics, /config. Default: none.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    workers: Annotated[
        str, typer.Option(metavar="N", envvar="EASTGATE_WORKERS", help="Processes.", rich_help_panel=RUNNING)
    ] = "1",
    drain_seconds: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar="EASTGATE_DRAIN_SECONDS",
            help="How long SIGTERM waits for requests in flight.",
            rich_help_panel=RUNNING,
        ),
    ] = "30s",
    log_level: Annotated[
        LogLevel, typer.Option(envvar="EASTGATE_LOG_LEVEL", help="Least severity.", rich_help_panel=RUNNING)
    ] = LogLevel.INFO,
    log_allows: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            envvar="EASTGATE_LOG_ALLOWS",
            help="Share of allowed requests that are logged, 0 to 1. Refusals always are.",
            rich_help_panel=RUNNING,
        ),
    ] = "1",
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
    trusted = None if trust_ca is None else values.read_certificates(trust_ca, "--trust-ca")
    drain = values.parse_seconds(drain_seconds, "--drain-seconds")
    stale = values.parse_seconds(stale_seconds, "--stale-seconds")
    count = values.parse_number(workers, "--workers", least=1, most=256)
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
        log=LogOptions(level=str(log_level), allows=share),
        drain_seconds=drain,
        stale_seconds=stale,
        keys_directory=keys_directory,
        opaque_ports=opaque,
        resolve=resolved,
        trusted_ca=trusted,
    )
    raise typer.Exit(run(options))
