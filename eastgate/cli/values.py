"""What people write behind a flag, read into what the program means; a wrong value is exit code 2.

Knows: the notations (``HOST:PORT``, ``K=V,...``, ``NAMESPACE/NAME:PORT``, ports and ranges, durations). Must not know:
what the values are for. Every message names the value and what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched, Workload

if TYPE_CHECKING:
    from eastgate.pods.authorities import Authorities

_LABEL_KEY = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Kubernetes' own grammars: label keys and values, DNS-1123 subdomains."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def refuse(flag: str, value: object, accepted: str) -> typer.BadParameter:
    """The error to raise: the flag, what was written and what is accepted."""
    return typer.BadParameter(f"`{value}` is not accepted; accepted: {accepted}", param_hint=flag)


def parse_port(text: str, flag: str, written: str, accepted: str, *, least: int = 1) -> int:
    """A TCP port number."""
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= 65535:
        raise refuse(flag, written, accepted)
    return int(text)


def parse_address(text: str, flag: str, *, least: int = 0) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``; port 0 picks a free one where ``least`` permits it."""
    accepted = "HOST:PORT, as 127.0.0.1:8080 or [::1]:8080"
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise refuse(flag, text, accepted)
    if not colon or not host or re.search(r"[\s/@\[\]]", host):
        raise refuse(flag, text, accepted)
    return host, parse_port(port, flag, text, accepted, least=least)


def parse_peer(text: str, flag: str) -> str:
    """A client's IP address; empty where it is not known."""
    try:
        return text and str(ip_address(text))
    except ValueError:
        raise refuse(flag, text, "an IP address, as 10.0.0.7 or fd00::7") from None


def parse_upstream(text: str, flag: str) -> tuple[str, int]:
    """``http://HOST:PORT``: the application is on this machine or in this pod, so it is spoken to in clear."""
    accepted = "http://HOST:PORT, as http://127.0.0.1:8000"
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() != "http":
        raise refuse(flag, text, accepted)
    try:
        return parse_address(rest.removesuffix("/"), flag, least=1)
    except typer.BadParameter:
        raise refuse(flag, text, accepted) from None


def parse_labels(text: str | None, flag: str) -> tuple[tuple[str, str], ...]:
    """``K=V,...`` as sorted pairs."""
    found: dict[str, str] = {}
    for entry in text.split(",") if text else []:
        key, equals, value = entry.strip().partition("=")
        if not equals or not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise refuse(flag, entry, "KEY=VALUE,KEY=VALUE, as app=httpbin,version=v1")
        if found.setdefault(key, value) != value:
            raise typer.BadParameter(f"label `{key}` is given twice, as `{found[key]}` and `{value}`", param_hint=flag)
    return tuple(sorted(found.items()))


def parse_service(text: str, flag: str) -> tuple[str, str, int | str | None]:
    """``NAMESPACE/NAME[:PORT]``, the port by number or by name."""
    accepted = "NAMESPACE/NAME or NAMESPACE/NAME:PORT, as httpbin/httpbin:8000"
    path, colon, port = text.partition(":")
    namespace, slash, name = path.partition("/")
    if not slash or not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise refuse(flag, text, accepted)
    if not colon:
        return namespace, name, None
    if port.isascii() and port.isdigit():
        return namespace, name, parse_port(port, flag, text, accepted)
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", port):
        raise refuse(flag, text, accepted)
    return namespace, name, port


def parse_policies(text: str | None, flag: str) -> tuple[str, ...] | None:
    """The list of the pod annotation: names, ``namespace/name``, or ``*``. None when the flag is not given."""
    if text is None:
        return None
    names = [entry.strip() for entry in text.split(",") if entry.strip()]
    for name in names:
        parts = name.split("/")
        if name != "*" and (len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts)):
            raise refuse(flag, name, 'NAME or NAMESPACE/NAME, comma-separated, or "*" for all of the namespace')
    if not names:
        raise refuse(flag, text, 'NAME or NAMESPACE/NAME, comma-separated, or "*" for all of the namespace')
    return tuple(names)


def parse_ports(text: str | None, flag: str) -> frozenset[int]:
    """Ports and ranges: ``8080,9000-9010``."""
    accepted = "ports and ranges, as 8080,9000-9010"
    found: set[int] = set()
    for entry in text.split(",") if text else []:
        first, dash, last = entry.strip().partition("-")
        low = parse_port(first, flag, entry, accepted)
        high = parse_port(last, flag, entry, accepted) if dash else low
        if high < low:
            raise refuse(flag, entry, accepted)
        found.update(range(low, high + 1))
    return frozenset(found)


def parse_resolve(entries: Sequence[str], flag: str) -> tuple[tuple[str, int, str, int], ...]:
    """``HOST:PORT:ADDRESS:PORT``, as curl's ``--connect-to``."""
    accepted = "HOST:PORT:ADDRESS:PORT, as keys.example.com:443:127.0.0.1:8443"
    found = []
    for entry in entries:
        match = re.fullmatch(r"([^\s:/\[\]]+):(\d+):(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(\d+)", entry)
        if match is None:
            raise refuse(flag, entry, accepted)
        host, port, address, to = match.groups()
        numbers = (parse_port(port, flag, entry, accepted), parse_port(to, flag, entry, accepted))
        found.append((host.lower(), numbers[0], address.strip("[]"), numbers[1]))
    return tuple(found)


def parse_seconds(text: str, flag: str) -> float:
    """A duration: seconds, or numbers with units (``90``, ``1h30m``, ``250ms``, ``7d``)."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise refuse(flag, text, "seconds or a duration, as 90, 1h30m, 250ms or 7d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def parse_number(text: str, flag: str, *, least: int, most: int) -> int:
    """A whole number within bounds."""
    if not (text.isascii() and text.isdigit()) or not least <= int(text[:10]) <= most:
        raise refuse(flag, text, f"a whole number from {least} to {most}")
    return int(text)


def parse_share(text: str, flag: str) -> float:
    """A share from 0 to 1."""
    if not re.fullmatch(r"[01]|[01]?\.\d+", text) or float(text) > 1:
        raise refuse(flag, text, "a share from 0 (none) to 1 (all)")
    return float(text)


def parse_assignment(text: str, flag: str, accepted: str) -> tuple[str, str]:
    """``NAME=VALUE``, split at the last ``=``: a URL may hold one."""
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise refuse(flag, text, accepted)
    return name, value


def parse_url(text: str, flag: str) -> str:
    """An http or https URL with a host."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refuse(flag, text, "an http:// or https:// URL")
    return text


def read_file(path: str, flag: str, *, errors: str = "strict") -> str:
    """The text of a file that has to be there; ``errors`` as of ``open``."""
    try:
        return Path(path).read_text(encoding="utf-8", errors=errors)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot read `{path}`: {(error.strerror or 'error').lower()}", param_hint=flag
        ) from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"cannot read `{path}`: not UTF-8 text", param_hint=flag) from None


def read_authorities(paths: Sequence[str], flag: str) -> Authorities:
    """The certificates of PEM files, each of which has to be there and hold nothing but what may be in it."""
    from eastgate.pods.authorities import AuthoritiesError
    from eastgate.pods.authorities import read_authorities as read
    from eastgate.pods.authorities import unite_authorities as unite

    found = []
    for path in paths:
        try:
            found.append(read(read_file(path, flag, errors="replace")))
        except AuthoritiesError as error:
            raise typer.BadParameter(f"`{path}` {error}", param_hint=flag) from None
    try:
        return unite(*found)
    except AuthoritiesError as error:
        raise typer.BadParameter(f"{', '.join(paths)} together: {error}", param_hint=flag) from None


def require_authorities(paths: Sequence[str], flag: str) -> tuple[str, ...]:
    """The paths as given, all of them files as ``read_authorities`` wants them; whoever runs on reads them anew."""
    read_authorities(paths, flag)
    return tuple(paths)


def require_paths(paths: Sequence[str], flag: str) -> tuple[str, ...]:
    """The paths as given, all of which exist; ``-`` at most once."""
    for path in paths:
        if path != "-" and not Path(path).exists():
            raise typer.BadParameter(f"`{path}` does not exist", param_hint=flag)
    if list(paths).count("-") > 1:
        raise typer.BadParameter("`-` (standard input) can be given only once", param_hint=flag)
    return tuple(paths)


def make_workload(
    *,
    services: Sequence[str],
    namespace: str | None,
    policies: str | None,
    pod_labels: str | None,
    mode: Mode,
    unmatched: Unmatched,
    keys_unavailable: KeysUnavailable,
    one_port: bool = True,
) -> Workload:
    """The workload that the flags common to ``serve`` and ``explain`` describe."""
    parsed = tuple(parse_service(service, "--service") for service in services)
    namespaces = dict.fromkeys(service[0] for service in parsed)
    if namespace is not None:
        if not _NAME.fullmatch(namespace):
            raise refuse("--namespace", namespace, "a namespace's name")
        namespaces[namespace] = None
    if len(namespaces) > 1:
        raise typer.BadParameter(
            f"a workload is in one namespace, found {', '.join(namespaces)}", param_hint="--service"
        )
    return Workload(
        namespace=next(iter(namespaces), "default"),
        labels=parse_labels(pod_labels, "--pod-labels"),
        services=parsed or None,
        policies=parse_policies(policies, "--policies"),
        mode=mode,
        unmatched=unmatched,
        keys_unavailable=keys_unavailable,
        one_port=one_port,
    )
