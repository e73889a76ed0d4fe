"""The workload that a plan is compiled for: the pod, or the upstream of ``eastgate serve``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """``audit`` decides, logs and counts, and lets pass."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Unmatched(StrEnum):
    """What happens to a request that no bound route matches: 404, or pass."""

    DENY = "deny"
    ALLOW = "allow"


class KeysUnavailable(StrEnum):
    """How to answer when a provider's keys cannot be had: 503 with retry-after, or Envoy's 401."""

    UNAVAILABLE = "503"
    UNAUTHORIZED = "401"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service: its number, its name, and the container port it leads to (number; None when named)."""

    number: int
    name: str = ""
    target: int | str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service as far as routing needs it."""

    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...] = ()
    selector: tuple[tuple[str, str], ...] = ()
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """``services`` are those that select it, as (namespace, name, port or None); None means that every route of the
    policy set is for it (``serve`` without ``--service``). ``policies`` None: all of them apply; otherwise the
    annotation's list, each ``namespace/name`` or ``name`` in ``namespace``, or ``*``. ``one_port``: everything comes in
    by one door whose number says nothing (``serve``): routes bind whatever port they lead to, and ``Match.port`` holds.
    """

    namespace: str = "default"
    labels: tuple[tuple[str, str], ...] = ()
    services: tuple[tuple[str, str, int | str | None], ...] | None = None
    policies: tuple[str, ...] | None = None
    mode: Mode = Mode.ENFORCE
    unmatched: Unmatched = Unmatched.DENY
    keys_unavailable: KeysUnavailable = KeysUnavailable.UNAVAILABLE
    one_port: bool = False
