"""The table of the app's own probes and hooks: written by the webhook, served by the sidecar on its admin port.

The kubelet asks ``/app-probe/<container>/<readyz|livez|startupz>`` or ``/app-hook/<container>/<poststart|prestop>``;
the table says, under ``<container>/<name>``, what the pod's author had asked for instead. JSON both ways; what does
not read exactly is refused, for a probe that is half understood says that an app is well when it is not.

A hook does something (a shutdown, a migration), and the admin port is open to the pod's network. So a hook's entry has
a token that only the kubelet is told, in the headers of the rewritten hook. It is part of no message and no ``repr``.
Must not know: how a probe is performed, or where the table travels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from eastgate.pods import names

PROBE_NAMES: Mapping[str, str] = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
"""Field of a container -> last part of the path and of the key."""

HOOK_NAMES: Mapping[str, str] = {"postStart": "poststart", "preStop": "prestop"}
"""Field of a container's ``lifecycle`` -> last part of the path and of the key."""

HANDLER_KINDS = ("httpGet", "tcpSocket", "grpc")
"""What the kubelet does over the network; ``exec`` and ``sleep`` need none."""

DEFAULT_TIMEOUT: int = 1
"""Seconds; the API's default for a probe."""

POST_START_TIMEOUT: int = 3600
"""Seconds. The kubelet sets no limit to a ``postStart`` hook; a ``preStop`` hook ends with the pod's grace period."""

MAX_TABLE_BYTES = names.MAX_VARIABLE_BYTES
"""Longest table: it travels in a variable of the sidecar."""

MAX_PROBES = 4096
"""Entries of a table: five for each container, and pods with eight hundred containers do not start."""

TOKEN_ACCEPTED = "16 to 128 letters, digits, `-` and `_`"  # noqa: S105 (a description)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_NAMES = frozenset((*PROBE_NAMES.values(), *HOOK_NAMES.values()))


class ProbeTableError(ValueError):
    """A table that does not read exactly; the message says where."""


@dataclass(frozen=True, slots=True)
class AppProbe:
    """What to ask the app for. ``path``, ``scheme`` and ``headers`` are of ``http``, ``service`` of ``grpc``.

    ``path`` holds the query as well, as in the pod. ``headers`` are in the pod's order and may name ``Host``. ``token``
    is of hooks: what a caller must show. A hook without one was rewritten before there were tokens, and is never run.
    """

    kind: Literal["http", "tcp", "grpc"]
    port: int
    path: str = "/"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    service: str = ""
    timeout_seconds: int = DEFAULT_TIMEOUT
    token: str = field(default="", repr=False)


def is_token(text: str) -> bool:
    """Whether a text may be a hook's token: ``TOKEN_ACCEPTED``."""
    return _TOKEN.fullmatch(text) is not None


def to_json(table: Mapping[str, AppProbe]) -> str:
    """The table as text: sorted, compact, the same for the same table, and without any ``$``.

    It travels in an environment variable, where Kubernetes would take ``$(NAME)`` and ``$$`` for its own. What is as it
    is by default is left out: a variable has its limits.
    """
    entries = {key: _entry(table[key]) for key in sorted(table)}
    return _encode(entries).replace("$", "\\u0024")


_encode = json.JSONEncoder(separators=(",", ":")).encode


def _entry(probe: AppProbe) -> dict[str, object]:
    entry: dict[str, object] = {"kind": probe.kind, "port": probe.port}
    if probe.path != "/":
        entry["path"] = probe.path
    if probe.scheme != "HTTP":
        entry["scheme"] = probe.scheme
    if probe.headers:
        entry["headers"] = [list(pair) for pair in probe.headers]
    if probe.service:
        entry["service"] = probe.service
    if probe.timeout_seconds != DEFAULT_TIMEOUT:
        entry["timeoutSeconds"] = probe.timeout_seconds
    if probe.token:
        entry["token"] = probe.token
    return entry


def from_json(text: str) -> dict[str, AppProbe]:
    """The table that a text means. Raises ``ProbeTableError``."""
    if len(text) > MAX_TABLE_BYTES:
        raise ProbeTableError(f"longer than {MAX_TABLE_BYTES} bytes")
    try:
        data = json.loads(text, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise ProbeTableError(f"not JSON: {error}") from None
    if not isinstance(data, dict) or len(data) > MAX_PROBES:
        raise ProbeTableError(f"expected an object of at most {MAX_PROBES} probes")
    return {_check_key(key): _read_entry(key, entry) for key, entry in data.items()}


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _check_key(key: str) -> str:
    container, _, name = key.partition("/")
    if not container or name not in _NAMES:
        raise ProbeTableError(f"`{key[:120]}`: expected CONTAINER/NAME, NAME one of {', '.join(sorted(_NAMES))}")
    return key


def _read_entry(key: str, entry: object) -> AppProbe:
    if not isinstance(entry, dict):
        raise ProbeTableError(f"`{key}`: expected an object")
    kind = entry.get("kind")
    if kind not in ("http", "tcp", "grpc"):
        raise ProbeTableError(f"`{key}`: kind is http, tcp or grpc, found {json.dumps(kind)[:80]}")
    accepted = {"kind", "port", "timeoutSeconds"}
    if key.rpartition("/")[2] in HOOK_NAMES.values():
        accepted.add("token")
    accepted |= {"http": {"path", "scheme", "headers"}, "tcp": set[str](), "grpc": {"service"}}[kind]
    if unknown := sorted(entry.keys() - accepted):
        raise ProbeTableError(f"`{key}`: unknown `{unknown[0][:80]}`; accepted: {', '.join(sorted(accepted))}")
    path, scheme, service = entry.get("path", "/"), entry.get("scheme", "HTTP"), entry.get("service", "")
    if not isinstance(path, str) or scheme not in ("HTTP", "HTTPS") or not isinstance(service, str):
        raise ProbeTableError(f"`{key}`: path and service are strings, scheme is HTTP or HTTPS")
    token = entry.get("token", "")
    if not isinstance(token, str) or (token and not is_token(token)):
        raise ProbeTableError(f"`{key}`: token is not accepted; accepted: {TOKEN_ACCEPTED}")
    return AppProbe(
        kind=kind,
        port=_read_number(key, "port", entry.get("port"), 65535),
        path=path,
        scheme=scheme,
        headers=_read_headers(key, entry.get("headers", [])),
        service=service,
        timeout_seconds=_read_number(key, "timeoutSeconds", entry.get("timeoutSeconds", DEFAULT_TIMEOUT), 2**31 - 1),
        token=token,
    )


def _read_number(key: str, name: str, value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ProbeTableError(f"`{key}`: {name} is a whole number from 1 to {most}")
    return value


def _read_headers(key: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in value
    ):
        raise ProbeTableError(f"`{key}`: headers are pairs of strings")
    return tuple((name, text) for name, text in value)
