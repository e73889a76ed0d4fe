"""The app's probes and hooks, led to the sidecar's admin port, and the table of what they were.

The kubelet has no token, so its own requests would be refused like anybody's; and a TCP probe of a redirected port
would always succeed. So it asks the sidecar, which asks the app as the pod's author had said. Rewritten are
``httpGet``, ``tcpSocket`` and ``grpc``; ``exec`` and ``sleep`` need no network. Everything else of a probe (timings,
thresholds, its own grace period) stays, with fields that this version does not know. A rewritten handler sets no
``host``: Pod Security ``baseline`` forbids it.

A hook does something, and whoever reaches the admin port could have it done. So a rewritten hook has a token among its
``httpHeaders``, the same for all hooks of a pod, and the sidecar runs none without it. The kubelet sends the headers of
hooks since Kubernetes 1.26 (kubernetes/kubernetes#86139). A token that is there already is kept.

Left alone, with a warning: a named port that the container does not have; a handler with a ``host`` of its own, which
the kubelet would dial from the node; what has to succeed before the sidecar starts. Precedent: Istio's probe rewriting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eastgate.pods import names, probes
from eastgate.pods.annotations import Settings, quote
from eastgate.pods.probes import HANDLER_KINDS, AppProbe
from webhook.injections.patches import Operation, add
from webhook.injections.verdicts import Path, Problem
from webhook.injections.views import INIT_CONTAINERS, Container, PodView, is_tcp, map_of, maps_of, show_path

_EARLY = ("startupProbe", "postStart")
"""What has to succeed before the next container starts."""

_GRACE_SECONDS = 30
"""The API's default for ``terminationGracePeriodSeconds``."""


@dataclass(slots=True)
class Rewriting:
    """What came of it. ``table`` has the entries that were known before, too."""

    operations: list[Operation] = field(default_factory=list)
    table: dict[str, AppProbe] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    token: str = field(default="", repr=False)

    def choose_token(self, make_token: Callable[[], str]) -> str:
        """That of the pod's hooks; a new one where none of them has one yet."""
        if not self.token:
            self.token = next((one.token for one in self.table.values() if one.token), "") or make_token()
        return self.token


@dataclass(frozen=True, slots=True)
class Handler:
    """One probe or hook: ``name`` is its field, ``data`` holds one of the kinds."""

    container: Container
    name: str
    path: Path
    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its entry in the table."""
        known = probes.PROBE_NAMES.get(self.name) or probes.HOOK_NAMES[self.name]
        return f"{self.container.name}/{known}"

    @property
    def target(self) -> str:
        """The path that stands for it on the admin port."""
        return (names.APP_HOOK_PATH if self.is_hook else names.APP_PROBE_PATH) + self.key

    @property
    def is_hook(self) -> bool:
        """Whether it does something, and does not only ask how the app is."""
        return self.name in probes.HOOK_NAMES


class LeftAloneError(Exception):
    """Why a handler cannot be rewritten."""


def rewrite_handlers(
    view: PodView,
    containers: list[Container],
    settings: Settings,
    known: Mapping[str, AppProbe],
    is_early: Callable[[Container], bool],
    make_token: Callable[[], str],
) -> Rewriting:
    """Lead the handlers of these containers to the sidecar. ``known`` is the table of an earlier call; ``is_early``
    says which containers start before the sidecar does; ``make_token`` is asked where there is a hook and no token.
    """
    result = Rewriting(table=dict(known))
    exposed = []
    for container in containers:
        for handler in list_handlers(container):
            if leads_to_sidecar(handler):
                _keep(handler, result, make_token)
            elif settings.rewrite_probes:
                _rewrite(view, handler, settings, result, make_token, early=is_early(container))
            elif _is_intercepted(handler, settings):
                exposed.append(show_path(handler.path))
    if exposed:
        more = f" and {len(exposed) - 3} more" if len(exposed) > 3 else ""
        result.warnings.append(
            f"`{names.REWRITE_PROBES}` is false: {', '.join(exposed[:3])}{more} will be held to the policies "
            "like any request"
        )
    return result


def list_ports(containers: list[Container]) -> str:
    """``http=8080,grpc=9090``: what the named TCP ports are. Of two with one name the first counts, as for Services."""
    found: dict[str, int] = {}
    for container in sorted(containers, key=lambda one: one.group == INIT_CONTAINERS):
        if container.group == INIT_CONTAINERS and not container.restartable:
            continue
        for port in maps_of(container.data.get("ports")):
            name, number = port.get("name"), port.get("containerPort")
            if isinstance(name, str) and name and isinstance(number, int) and is_tcp(port):
                found.setdefault(name, number)
    return ",".join(f"{name}={number}" for name, number in found.items())


def list_handlers(container: Container) -> Iterator[Handler]:
    """The probes and hooks of a container that need the network."""
    if container.group == INIT_CONTAINERS and not container.restartable:
        return
    data = container.data
    for name in probes.PROBE_NAMES:
        probe = data.get(name)
        if isinstance(probe, dict) and _list_kinds(probe):
            yield Handler(container, name, (*container.path, name), probe)
    lifecycle = data.get("lifecycle")
    if not isinstance(lifecycle, dict):
        return
    for name in probes.HOOK_NAMES:
        hook = lifecycle.get(name)
        if isinstance(hook, dict) and _list_kinds(hook):
            yield Handler(container, name, (*container.path, "lifecycle", name), hook)


def _list_kinds(data: Mapping[str, Any]) -> list[str]:
    return [kind for kind in HANDLER_KINDS if data.get(kind) is not None]


def _keep(handler: Handler, result: Rewriting, make_token: Callable[[], str]) -> None:
    """One that was rewritten by an earlier call. A hook that has no token, or not the table's, is given it."""
    request = map_of(handler.data["httpGet"])
    path = request.get("path")
    if path != handler.target or handler.key not in result.table:
        message = (
            f"{show_path(handler.path)}: {quote(path)} on port {names.ADMIN_PORT} is what Eastgate makes of a probe, "
            "and what it was before is not known; accepted: the app's own probe"
        )
        result.problems.append(Problem("name-clash", message, handler.path))
        return
    if not handler.is_hook:
        return
    app_probe = result.table[handler.key]
    token = app_probe.token or result.choose_token(make_token)
    result.table[handler.key] = replace(app_probe, token=token)
    headers = _make_headers(token)
    if request.get("httpHeaders") != headers:
        result.operations.append(add((*handler.path, "httpGet", "httpHeaders"), headers))


def _make_headers(token: str) -> list[dict[str, str]]:
    return [{"name": names.HOOK_TOKEN_HEADER, "value": token}]


def _rewrite(
    view: PodView,
    handler: Handler,
    settings: Settings,
    result: Rewriting,
    make_token: Callable[[], str],
    *,
    early: bool,
) -> None:
    try:
        app_probe = read_handler(view, handler)
        if not settings.intercepts(app_probe.port):
            return
        if early and handler.name in _EARLY:
            raise LeftAloneError("it has to succeed before the sidecar starts")
    except LeftAloneError as error:
        result.warnings.append(f"{show_path(handler.path)} is left as it is: {error}")
        return
    rest = {key: value for key, value in handler.data.items() if key not in HANDLER_KINDS}
    request: dict[str, Any] = {"path": handler.target, "port": names.ADMIN_PORT, "scheme": "HTTP"}
    if handler.is_hook:
        token = result.choose_token(make_token)
        app_probe = replace(app_probe, token=token)
        request["httpHeaders"] = _make_headers(token)
    result.table[handler.key] = app_probe
    result.operations.append(add(handler.path, {"httpGet": request, **rest}))


def leads_to_sidecar(handler: Handler) -> bool:
    """Whether it is one that was rewritten already."""
    request = map_of(handler.data.get("httpGet"))
    path = request.get("path")
    return (
        request.get("port") in (names.ADMIN_PORT, str(names.ADMIN_PORT))
        and isinstance(path, str)
        and path.startswith((names.APP_PROBE_PATH, names.APP_HOOK_PATH))
    )


def _is_intercepted(handler: Handler, settings: Settings) -> bool:
    kind = _list_kinds(handler.data)[0]
    try:
        return settings.intercepts(_read_port(handler, map_of(handler.data[kind]).get("port")))
    except LeftAloneError:
        return False


def read_handler(view: PodView, handler: Handler) -> AppProbe:
    """What the author asked for. Raises ``LeftAloneError``."""
    present = _list_kinds(handler.data)
    action = handler.data[present[0]]
    if len(present) > 1 or "exec" in handler.data or not isinstance(action, dict):
        raise LeftAloneError("it is not one handler")
    host = action.get("host")
    if host:
        raise LeftAloneError(f"the kubelet asks host {quote(host)} and not the pod")
    port = _read_port(handler, action.get("port"))
    timeout = _read_timeout(view, handler)
    if present[0] == "tcpSocket":
        return AppProbe("tcp", port, timeout_seconds=timeout)
    if present[0] == "grpc":
        service = action.get("service")
        return AppProbe("grpc", port, service=service if isinstance(service, str) else "", timeout_seconds=timeout)
    scheme, path = action.get("scheme") or "HTTP", action.get("path") or "/"
    if scheme not in ("HTTP", "HTTPS") or not isinstance(path, str):
        raise LeftAloneError("its scheme or path is none")
    headers = tuple([(str(one.get("name")), str(one.get("value") or "")) for one in maps_of(action.get("httpHeaders"))])
    return AppProbe("http", port, path, "HTTPS" if scheme == "HTTPS" else "HTTP", headers, timeout_seconds=timeout)


def _read_port(handler: Handler, port: object) -> int:
    """The number; a name is looked up among the ports of the same container, as the kubelet does."""
    number = port
    if isinstance(port, str):
        named = (one for one in maps_of(handler.container.data.get("ports")) if one.get("name") == port)
        number = next((one.get("containerPort") for one in named), None)
        if number is None and port.isascii() and port.isdigit():
            number = int(port[:6])
        elif number is None:
            raise LeftAloneError(f"container `{handler.container.name}` has no port named {quote(port)}")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
        raise LeftAloneError(f"{quote(port)} is no port")
    return number


def _read_timeout(view: PodView, handler: Handler) -> int:
    if handler.name == "postStart":
        return probes.POST_START_TIMEOUT
    if handler.name == "preStop":
        return _positive(view.spec.get("terminationGracePeriodSeconds"), _GRACE_SECONDS)
    return _positive(handler.data.get("timeoutSeconds"), probes.DEFAULT_TIMEOUT)


def _positive(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else default
