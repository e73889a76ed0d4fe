"""``eastgate sidecar``: what the injected containers run. People meet it when they try the sidecar out by hand."""

from __future__ import annotations

import http.client
import re
import time
from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.cli.engine import (
    KEYS,
    RUNNING,
    TRAFFIC,
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
from eastgate.model.workloads import KeysUnavailable
from eastgate.pods import names
from eastgate.pods.probes import ProbeTableError, from_json

POD = "The pod"

sidecar = typer.Typer(
    name="sidecar", help="What the injected containers run.", no_args_is_help=True, rich_markup_mode="rich"
)

LISTEN = f"[::]:{names.INBOUND_PORT}"
ADMIN = f"[::]:{names.ADMIN_PORT}"
HERE = f"127.0.0.1:{names.ADMIN_PORT}"

WAIT_SECONDS = 0.1
"""Between two questions of ``wait``."""


@sidecar.command(short_help="Enforce the mounted bundle on the pod's inbound traffic.")
def run(
    namespace: Annotated[
        str,
        typer.Option(envvar="EASTGATE_POD_NAMESPACE", help="Of the pod.", show_default=False, rich_help_panel=POD),
    ],
    bundle: Annotated[
        str,
        typer.Option(metavar="FOLDER", envvar="EASTGATE_BUNDLE", help="The bundle's ConfigMap.", rich_help_panel=POD),
    ] = names.BUNDLE_MOUNT,
    shards: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", envvar="EASTGATE_SHARDS", help="Its further parts and its Secret.", rich_help_panel=POD
        ),
    ] = names.SHARDS_MOUNT,
    pod: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            envvar="EASTGATE_POD",
            help="The downward API's labels and annotations.",
            rich_help_panel=POD,
        ),
    ] = names.POD_MOUNT,
    pod_name: Annotated[
        str, typer.Option(envvar="EASTGATE_POD_NAME", help="For /config.", show_default=False, rich_help_panel=POD)
    ] = "",
    pod_ip: Annotated[
        str,
        typer.Option(
            envvar="EASTGATE_POD_IP",
            help="Where the app is asked for its health. Default: 127.0.0.1.",
            show_default=False,
            rich_help_panel=POD,
        ),
    ] = "",
    container_ports: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=PORT,...",
            envvar=names.CONTAINER_PORTS_VARIABLE,
            help="The app's named ports, for Services that lead to a name.",
            rich_help_panel=POD,
        ),
    ] = None,
    app_probes: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            envvar=names.APP_PROBES_VARIABLE,
            help="The app's own probes and hooks, served on the admin port.",
            rich_help_panel=POD,
        ),
    ] = None,
    expect_redirection: Annotated[
        bool | None,
        typer.Option(
            "--expect-redirection/--no-expect-redirection",
            envvar="EASTGATE_EXPECT_REDIRECTION",
            help="Ready only where the kernel's rules are proven to be there. Default: yes, without --upstream.",
            show_default=False,
            rich_help_panel=POD,
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EASTGATE_LISTEN",
            help="Where redirected connections arrive; [::] is all addresses, also of IPv4.",
            rich_help_panel=TRAFFIC,
        ),
    ] = LISTEN,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="http://HOST:PORT",
            envvar="EASTGATE_UPSTREAM",
            help="Where every connection leads, to try it out without redirection. Default: where it was dialled.",
            rich_help_panel=TRAFFIC,
        ),
    ] = None,
    opaque_ports: Annotated[
        str | None,
        typer.Option(
            metavar="PORTS",
            envvar="EASTGATE_OPAQUE_PORTS",
            help="Tunnelled until the pod's annotations have been read, which say it from then on.",
            rich_help_panel=TRAFFIC,
        ),
    ] = None,
    keys_unavailable: KeysUnavailableOption = KeysUnavailable.UNAVAILABLE,
    stale_seconds: StaleOption = "1h",
    keys_directory: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            envvar="EASTGATE_KEYS_DIRECTORY",
            help="Keep the last good key sets here across restarts.",
            rich_help_panel=KEYS,
        ),
    ] = names.STATE_MOUNT,
    resolve: ResolveOption = None,
    trusted_ca: TrustedCaOption = None,
    admin: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EASTGATE_ADMIN",
            help="Health, readiness, metrics, /config, the app's probes.",
            rich_help_panel=RUNNING,
        ),
    ] = ADMIN,
    workers: WorkersOption = "1",
    max_connections: MaxConnectionsOption = None,
    drain_seconds: DrainOption = "30s",
    log_level: LogLevelOption = LogLevel.INFO,
    log_allows: LogAllowsOption = "1",
) -> None:
    """Enforce the mounted policy bundle on the pod's inbound traffic: the container `eastgate-sidecar`.

    Which policies apply, in which mode and to which Services comes from the pod's own labels and annotations.
    Without a bundle that can be read nothing is accepted; a later one that cannot be read leaves the last good one in
    force. SIGTERM drains.

    \b
    [bold]Examples[/bold]
    eastgate sidecar run --namespace httpbin --bundle b/ --shards s/ --pod p/ --keys-directory /tmp \\
        --listen 127.0.0.1:9000 --admin 127.0.0.1:19020 --upstream http://127.0.0.1:8000
    """  # noqa: D301 (the mark keeps the lines)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise values.refuse("--namespace", namespace, "a namespace's name")
    try:
        probes = from_json(app_probes) if app_probes else {}
    except ProbeTableError as error:
        raise typer.BadParameter(str(error), param_hint="--app-probes") from None
    named = _parse_container_ports(container_ports, "--container-ports")
    addresses = (_parse_address(listen, "--listen"), _parse_address(admin, "--admin"))
    led = None if upstream is None else values.parse_upstream(upstream, "--upstream")
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
    from sidecar.options import LogOptions, PodOptions, ServeOptions
    from sidecar.pod import run as run_pod

    engine = ServeOptions(
        policies=(),
        upstream=led,
        listen=addresses[0],
        admin=addresses[1],
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
    options = PodOptions(
        engine=engine,
        namespace=namespace,
        name=pod_name,
        address=pod_ip,
        bundle=bundle,
        shards=shards,
        pod=pod,
        ports=named,
        probes=probes,
        keys_unavailable=keys_unavailable,
        expect_redirection=led is None if expect_redirection is None else expect_redirection,
    )
    raise typer.Exit(run_pod(options))


@sidecar.command(short_help="Wait until the sidecar of this pod is ready, or idle.")
def wait(
    idle: Annotated[bool, typer.Option("--idle", help="Wait until no connection is open, and a little.")] = False,
    admin: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="EASTGATE_WAIT_ADMIN", help="The sidecar's admin port.")
    ] = HERE,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Then give up. Default: 120s; with --idle 25s.", show_default=False),
    ] = None,
    least: Annotated[
        str,
        typer.Option(metavar="DURATION", help="With --idle: wait at least this long, while endpoints still change."),
    ] = "5s",
) -> None:
    """Wait for the sidecar: the hooks of a pod whose sidecar is an ordinary container.

    Exit code 0 once `/readyz` says yes (with `--idle`: once no connection is open), 1 after the timeout.
    """
    address = values.parse_address(admin, "--admin", least=1)
    seconds = values.parse_seconds(timeout or ("25s" if idle else "120s"), "--timeout")
    began = time.monotonic()
    earliest = began + (values.parse_seconds(least, "--least") if idle else 0.0)
    said = ""
    while True:
        answer, said = _ask_idle(address) if idle else _ask_ready(address)
        now = time.monotonic()
        if answer and now >= earliest:
            raise typer.Exit(0)
        if now - began >= seconds:
            typer.echo(f"eastgate sidecar wait: gave up after {seconds:g} s: {said or 'too early'}", err=True)
            raise typer.Exit(1)
        time.sleep(WAIT_SECONDS)


def _ask_ready(address: tuple[str, int]) -> tuple[bool, str]:
    status, text = _get(address, "/readyz")
    return status == 200, " ".join(text.split())[:512]


def _ask_idle(address: tuple[str, int]) -> tuple[bool, str]:
    """Whether nobody is connected. A sidecar that is not there any more has nobody."""
    status, text = _get(address, "/metrics")
    if not status:
        return True, text
    found = re.search(r"^eastgate_connections ([0-9.e+]+)$", text, re.MULTILINE)
    count = float(found[1]) if found else 0.0
    return not count, f"connections open: {count:g}"


def _get(address: tuple[str, int], path: str) -> tuple[int, str]:
    """Status and text, or 0 and why there is none."""
    connection = http.client.HTTPConnection(*address, timeout=2.0)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(1 << 20).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(getattr(error, "strerror", None) or type(error).__name__).lower()
    finally:
        connection.close()


def _parse_address(text: str, flag: str) -> tuple[str, int]:
    """``[::]`` is every address there is, also where the machine has no IPv6."""
    host, port = values.parse_address(text, flag)
    return "" if host == "::" else host, port


def _parse_container_ports(text: str | None, flag: str) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    accepted = "NAME=PORT, comma-separated, as http=8080,grpc=9090"
    for entry in text.split(",") if text else []:
        name, equals, number = entry.strip().partition("=")
        if not equals or not re.fullmatch(r"[a-z0-9-]{1,15}", name):
            raise values.refuse(flag, entry, accepted)
        # The first container that has the name has it, as for the endpoints of a Service.
        found.setdefault(name, values.parse_port(number, flag, entry, accepted))
    return tuple(found.items())
