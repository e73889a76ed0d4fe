"""``eastgate webhook``: what the webhook's container runs, with the flags read into ``webhook.options``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eastgate.cli import values
from eastgate.cli.applications import locate
from eastgate.cli.control_plane import HealthListenOption, KubeconfigOption, parse_health_listen
from eastgate.cli.engine import RUNNING, LogLevel, LogLevelOption

INJECTION, CERTIFICATES = "What is injected", "Certificates"


class PullPolicy(StrEnum):
    """Kubernetes' own words."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


def webhook(
    sidecar_image: Annotated[
        str,
        typer.Option(
            metavar="IMAGE",
            envvar="EASTGATE_SIDECAR_IMAGE",
            help="Image of the injected containers.",
            show_default=False,
            rich_help_panel=INJECTION,
        ),
    ],
    image_pull_policy: Annotated[
        PullPolicy | None,
        typer.Option(
            envvar="EASTGATE_IMAGE_PULL_POLICY",
            help="Of the injected containers. Default: Kubernetes' own.",
            rich_help_panel=INJECTION,
        ),
    ] = None,
    image_pull_secrets: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            envvar="EASTGATE_IMAGE_PULL_SECRETS",
            help="Added to those that a pod has.",
            rich_help_panel=INJECTION,
        ),
    ] = None,
    native_sidecars: Annotated[
        bool,
        typer.Option(
            "--native-sidecars/--no-native-sidecars",
            envvar="EASTGATE_NATIVE_SIDECARS",
            help="Restartable init containers (Kubernetes 1.29 and later), or ordinary containers.",
            rich_help_panel=INJECTION,
        ),
    ] = True,
    tls_cert_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="EASTGATE_TLS_CERT_FILE",
            help="Certificate that somebody else renews, as cert-manager; taken up when it changes. The API server is "
            "then not asked for anything.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = None,
    tls_key_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", envvar="EASTGATE_TLS_KEY_FILE", help="Its key.", rich_help_panel=CERTIFICATES),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/NAME",
            envvar="EASTGATE_WEBHOOK_SERVICE",
            help="The Service in front; own certificates are for its names.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = "eastgate-system/eastgate-webhook",
    secret: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="EASTGATE_WEBHOOK_SECRET",
            help="Secret beside the Service, in which the own authority is kept.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = "eastgate-webhook-ca",  # noqa: S107 (a name)
    mutating_webhook_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            envvar="EASTGATE_MUTATING_WEBHOOK_NAME",
            help="MutatingWebhookConfiguration whose caBundle is kept; may be repeated. Default: eastgate.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = None,
    validating_webhook_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            envvar="EASTGATE_VALIDATING_WEBHOOK_NAME",
            help="The same for a ValidatingWebhookConfiguration. Default: eastgate.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = None,
    cluster_domain: Annotated[
        str,
        typer.Option(
            metavar="DOMAIN",
            envvar="EASTGATE_CLUSTER_DOMAIN",
            help="For the Service's full name.",
            rich_help_panel=CERTIFICATES,
        ),
    ] = "cluster.local",
    kubeconfig: KubeconfigOption = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EASTGATE_LISTEN",
            help="Reviews, health and metrics over TLS; port 0 picks one, `[::]` is every address, IPv4 too.",
            rich_help_panel=RUNNING,
        ),
    ] = "[::]:9443",
    health_listen: HealthListenOption = "[::]:9444",
    drain_seconds: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar="EASTGATE_DRAIN_SECONDS",
            help="From SIGTERM, when /readyz begins to say no, until nothing new is accepted.",
            rich_help_panel=RUNNING,
        ),
    ] = "5s",
    log_level: LogLevelOption = LogLevel.INFO,
) -> None:
    """Answer the API server: inject pods, check policies and routes.

    Prints `ready https://HOST:PORT` once it accepts. SIGTERM: not ready, then drained, exit code 0. SIGHUP: reads the
    certificate's files again. Exit code 1 if it cannot serve, 2 on wrong usage.

    \b
    [bold]Examples[/bold]
    eastgate webhook --sidecar-image registry.example.com/eastgate-sidecar:1.0.0
    eastgate webhook --sidecar-image eastgate-sidecar --tls-cert-file tls.crt --tls-key-file tls.key \\
        --listen 127.0.0.1:0 --health-listen none
    """  # noqa: D301 (the mark keeps the lines)
    if (tls_cert_file is None) != (tls_key_file is None):
        raise typer.BadParameter("certificate and key go together", param_hint="--tls-cert-file, --tls-key-file")
    address = values.parse_address(listen, "--listen")
    health = parse_health_listen(health_listen)
    where = values.parse_service(service, "--service")
    if where[2] is not None:
        raise values.refuse("--service", service, "NAMESPACE/NAME, as eastgate-system/eastgate-webhook")
    drain = values.parse_seconds(drain_seconds, "--drain-seconds")
    image = _read_image(sidecar_image)

    locate()
    from webhook.options import WebhookOptions
    from webhook.server import run

    options = WebhookOptions(
        listen=address,
        health_listen=health,
        sidecar_image=image,
        image_pull_policy=None if image_pull_policy is None else str(image_pull_policy),
        image_pull_secrets=tuple(one.strip() for one in (image_pull_secrets or "").split(",") if one.strip()),
        native_sidecars=native_sidecars,
        tls_files=None if tls_cert_file is None or tls_key_file is None else (tls_cert_file, tls_key_file),
        kubeconfig=kubeconfig,
        service=where[:2],
        secret=secret,
        mutating=tuple(mutating_webhook_name or ("eastgate",)),
        validating=tuple(validating_webhook_name or ("eastgate",)),
        cluster_domain=cluster_domain,
        log_level=str(log_level),
        drain_seconds=drain,
    )
    raise typer.Exit(run(options))


def _read_image(text: str) -> str:
    from eastgate.pods.annotations import IMAGE_ACCEPTED, read_image

    try:
        return read_image(text)
    except ValueError:
        raise values.refuse("--sidecar-image", text, IMAGE_ACCEPTED) from None
