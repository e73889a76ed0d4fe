"""A pod's ``eastgate.dev/*`` annotations, read into what they mean, or into everything that is wrong with them.

The webhook refuses a pod with any fault; the sidecar reads the same annotations from the downward API as it runs.
Knows: keys, grammars, defaults, and which values contradict each other. Must not know: pods, or who asks.
Names follow Kubernetes (DNS-1123 labels and subdomains), images the distribution reference grammar.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from eastgate.model.diagnostics import suggest_name
from eastgate.model.workloads import Mode, Unmatched
from eastgate.pods import names, quantities
from eastgate.pods.ports import ACCEPTED as PORTS_ACCEPTED
from eastgate.pods.ports import NO_PORTS, PortSet, read_ports

POLICIES_ACCEPTED = 'NAME or NAMESPACE/NAME of JWTPolicies, comma-separated, or "*" for all of the namespace'
IMAGE_ACCEPTED = "an image reference, as registry.example.com/eastgate-sidecar:1.0.0"

SETTINGS_KEYS = (
    names.POLICIES,
    names.MODE,
    names.UNMATCHED,
    names.INCLUDE_INBOUND_PORTS,
    names.EXCLUDE_INBOUND_PORTS,
    names.OPAQUE_PORTS,
    names.REWRITE_PROBES,
    names.NATIVE_SIDECAR,
    names.CPU_REQUEST,
    names.CPU_LIMIT,
    names.MEMORY_REQUEST,
    names.MEMORY_LIMIT,
    names.PROXY_IMAGE,
    names.LOG_LEVEL,
)
"""What people write. ``eastgate.dev/status`` and ``eastgate.dev/bundle`` are written by us and not read here."""

DEFAULT_RESOURCES: Mapping[str, str] = {
    names.CPU_REQUEST: "100m",
    names.CPU_LIMIT: "2",
    names.MEMORY_REQUEST: "128Mi",
    names.MEMORY_LIMIT: "1Gi",
}
"""Istio's defaults for its sidecar. Each annotation replaces one of them and leaves the others."""

MAX_POLICIES = 64
"""Names in one list. Nobody has so many policies on one workload; annotations of a pod may have 256 KiB."""

MAX_UNKNOWN = 16
"""Unknown keys that get a word each. Looking for what was meant takes time, and a pod can have thousands of them."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_POLICY = re.compile(
    rf"(?:(?P<namespace>{_LABEL})/)?(?P<name>\*|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)"
)
_IMAGE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?"
)
_LONGEST_IMAGE = 512


class LogLevel(StrEnum):
    """How much the sidecar logs besides decisions; the words of ``eastgate serve --log-level``."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. ``str()`` names key, value, and what is accepted."""

    key: str
    value: object
    accepted: str
    problem: str = "is not accepted"

    def __str__(self) -> str:
        return f"{self.key}: {quote(self.value)} {self.problem}; accepted: {self.accepted}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the annotations ask for. ``policies`` is None where they do not ask for injection at all."""

    policies: tuple[str, ...] | None = None
    mode: Mode = Mode.ENFORCE
    unmatched: Unmatched = Unmatched.DENY
    include_ports: PortSet | None = None
    exclude_ports: PortSet = NO_PORTS
    opaque_ports: PortSet = NO_PORTS
    rewrite_probes: bool = True
    native: bool | None = None
    cpu_request: str | None = None
    cpu_limit: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None
    image: str | None = None
    log_level: str | None = None

    def intercepts(self, port: int) -> bool:
        """True when connections to a TCP port of the pod reach the sidecar first."""
        if port in names.OWN_PORTS or port in self.exclude_ports:
            return False
        return self.include_ports is None or port in self.include_ports

    def resources(self) -> dict[str, dict[str, str]]:
        """Requests and limits of the injected containers: what was asked for over the defaults, field by field."""
        default = DEFAULT_RESOURCES
        return {
            "requests": {
                "cpu": self.cpu_request or default[names.CPU_REQUEST],
                "memory": self.memory_request or default[names.MEMORY_REQUEST],
            },
            "limits": {
                "cpu": self.cpu_limit or default[names.CPU_LIMIT],
                "memory": self.memory_limit or default[names.MEMORY_LIMIT],
            },
        }


def quote(value: object, limit: int = 80) -> str:
    """A value for a message: in backticks, short, on one line, nothing in it that a terminal would act upon. What is no
    string is shown as JSON has it.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: limit + 1])
    return f"`{shown if len(shown) <= limit else shown[: limit - 1] + '…'}`"


def read_settings(annotations: Mapping[str, object]) -> tuple[Settings, tuple[Fault, ...]]:
    """The settings, and every fault. A value that is at fault counts as not written: whoever goes on with settings in
    spite of faults (the sidecar, when a running pod's annotations were broken) keeps the last good ones instead.
    """
    ours = {key: value for key, value in annotations.items() if key.startswith(names.PREFIX) and key not in _WRITTEN}
    size = 0
    for key, value in ours.items():
        if not isinstance(value, str):
            return _read_settings(ours)
        size += len(key) + len(value)
    return _read_once(tuple(ours.items())) if size <= _LONGEST_KEPT else _read_settings(ours)


_WRITTEN = frozenset({names.STATUS, names.BUNDLE})
_LONGEST_KEPT = 1024
"""Characters of annotations whose meaning is kept: pods come in replicas, and people write few and short ones."""


@functools.lru_cache(maxsize=512)
def _read_once(items: tuple[tuple[str, object], ...]) -> tuple[Settings, tuple[Fault, ...]]:
    return _read_settings(dict(items))


def _read_settings(annotations: Mapping[str, object]) -> tuple[Settings, tuple[Fault, ...]]:
    reader = _Reader(annotations)
    reader.refuse_unknown()
    cpu = (quantities.read_cpu, quantities.CPU_ACCEPTED)
    memory = (quantities.read_memory, quantities.MEMORY_ACCEPTED)
    settings = Settings(
        policies=reader.read(names.POLICIES, read_policies, POLICIES_ACCEPTED),
        mode=Mode(reader.choose(names.MODE, Mode) or Mode.ENFORCE),
        unmatched=Unmatched(reader.choose(names.UNMATCHED, Unmatched) or Unmatched.DENY),
        include_ports=reader.read_ports(names.INCLUDE_INBOUND_PORTS, own=False),
        exclude_ports=reader.read_ports(names.EXCLUDE_INBOUND_PORTS, own=True) or NO_PORTS,
        opaque_ports=reader.read_ports(names.OPAQUE_PORTS, own=False) or NO_PORTS,
        rewrite_probes=reader.switch(names.REWRITE_PROBES) is not False,
        native=reader.switch(names.NATIVE_SIDECAR),
        cpu_request=reader.keep(names.CPU_REQUEST, *cpu),
        cpu_limit=reader.keep(names.CPU_LIMIT, *cpu),
        memory_request=reader.keep(names.MEMORY_REQUEST, *memory),
        memory_limit=reader.keep(names.MEMORY_LIMIT, *memory),
        image=reader.keep(names.PROXY_IMAGE, read_image, IMAGE_ACCEPTED),
        log_level=reader.choose(names.LOG_LEVEL, LogLevel),
    )
    reader.compare_ports(settings)
    reader.compare_amounts(names.CPU_REQUEST, names.CPU_LIMIT, quantities.read_cpu)
    reader.compare_amounts(names.MEMORY_REQUEST, names.MEMORY_LIMIT, quantities.read_memory)
    return settings, tuple(reader.faults)


def read_policies(text: str) -> tuple[str, ...]:
    """The names of a list, each once, in the order written. Raises ``ValueError`` with the entry that is at fault."""
    entries = [entry.strip() for entry in text.split(",")]
    if entries == [""]:
        raise ValueError("is an empty list")
    if len(entries) > MAX_POLICIES:
        raise ValueError(f"has more than {MAX_POLICIES} entries")
    for entry in entries:
        match = _POLICY.fullmatch(entry)
        if match is None or len(match["name"]) > 253:
            raise ValueError(f"has {quote(entry)} in it, which is no name" if entry else "has an empty entry")
    return tuple(dict.fromkeys(entries))


def read_image(text: str) -> str:
    """The reference as it was written. Raises ``ValueError``."""
    if len(text) > _LONGEST_IMAGE or _IMAGE.fullmatch(text) is None:
        raise ValueError("is no image reference")
    return text


class _Reader:
    """Takes annotations one by one and collects what is wrong."""

    def __init__(self, annotations: Mapping[str, object]) -> None:
        self.annotations = annotations
        self.faults: list[Fault] = []
        self._bad: set[str] = set()

    def blame(self, key: str, accepted: str, problem: str = "is not accepted") -> None:
        """Add a fault about a key that is written."""
        self.faults.append(Fault(key, self.annotations[key], accepted, problem))
        self._bad.add(key)

    def refuse_unknown(self) -> None:
        """Keys under our prefix that are none of ours: what is misspelt would otherwise protect nothing."""
        unknown = [key for key in self.annotations if key not in SETTINGS_KEYS]
        for key in unknown[:MAX_UNKNOWN]:
            if key == names.INJECT_LABEL:
                self.blame(key, f"a label `{key}` of the pod", "stands among the annotations")
            elif key == names.INJECTION_LABEL:
                self.blame(key, f"a label `{key}` of the namespace", "stands among the annotations of a pod")
            else:
                near = suggest_name(key, SETTINGS_KEYS)
                self.blame(key, ", ".join(SETTINGS_KEYS), f"stands under an unknown key{near}")
        if more := unknown[MAX_UNKNOWN:]:
            self.blame(more[0], ", ".join(SETTINGS_KEYS), f"stands under an unknown key, as {len(more) - 1} more do")

    def text(self, key: str, accepted: str) -> str | None:
        """The value where it is a string; in a cluster it always is, in a file an unquoted one is something else."""
        value = self.annotations.get(key)
        if value is None and key not in self.annotations:
            return None
        if not isinstance(value, str):
            self.blame(key, f"a string (quote it): {accepted}", "is not a string")
            return None
        return value

    def read[T](self, key: str, parse: Callable[[str], T], accepted: str) -> T | None:
        """What ``parse`` makes of the value, or None after a fault."""
        text = self.text(key, accepted)
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.blame(key, accepted, str(error))
            return None

    def keep(self, key: str, parse: Callable[[str], object], accepted: str) -> str | None:
        """The value as it was written, where ``parse`` accepts it."""
        return None if self.read(key, parse, accepted) is None else str(self.annotations[key])

    def choose(self, key: str, accepted: Iterable[str]) -> str | None:
        """One of a few words."""
        words = [str(word) for word in accepted]
        text = self.text(key, ", ".join(words))
        if text is None or text in words:
            return text
        self.blame(key, ", ".join(words), f"is not accepted{suggest_name(text.strip().lower(), words)}")
        return None

    def switch(self, key: str) -> bool | None:
        """``"true"`` or ``"false"``, as Kubernetes' own annotations have it."""
        chosen = self.choose(key, ("true", "false"))
        return None if chosen is None else chosen == "true"

    def read_ports(self, key: str, *, own: bool) -> PortSet | None:
        """Ports; ``own``: ours may be among them."""
        ports = self.read(key, _name_problem(read_ports), PORTS_ACCEPTED)
        taken = PortSet() if ports is None or own else ports & _OWN_PORTS
        if taken:
            self.blame(
                key, f"{PORTS_ACCEPTED}, without {_OWN_PORTS}", f"has ports of the sidecar itself in it ({taken})"
            )
            return None
        return ports

    def compare_ports(self, settings: Settings) -> None:
        """A port cannot be intercepted and not intercepted."""
        if not settings.exclude_ports:
            return
        for key, ports in (
            (names.INCLUDE_INBOUND_PORTS, settings.include_ports or PortSet()),
            (names.OPAQUE_PORTS, settings.opaque_ports),
        ):
            both = ports & settings.exclude_ports
            if both:
                problem = f"contradicts {names.EXCLUDE_INBOUND_PORTS}, which has {both}, too"
                self.blame(key, "ports that are not excluded", problem)

    def compare_amounts(self, request: str, limit: str, parse: Callable[[str], Fraction]) -> None:
        """A request above its limit is a pod that the API server refuses; either may come from the defaults."""
        if {request, limit} & self._bad or not {request, limit} & set(self.annotations):
            return
        asked = str(self.annotations.get(request, DEFAULT_RESOURCES[request]))
        most = str(self.annotations.get(limit, DEFAULT_RESOURCES[limit]))
        if parse(asked) <= parse(most):
            return
        if request in self.annotations:
            origin = f"`{most}` of {limit}" if limit in self.annotations else f"the default limit `{most}`"
            self.blame(request, f"at most {most}, or a higher {limit}", f"is more than {origin}")
        else:
            problem = f"is less than the default request `{asked}`"
            self.blame(limit, f"at least {asked}, or a lower {request}", problem)


_OWN_PORTS = PortSet.of(names.OWN_PORTS)


def _name_problem[T](parse: Callable[[str], T]) -> Callable[[str], T]:
    """Turn a problem that is a phrase of its own into the end of a message."""

    def parse_or_say(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"is not accepted ({error})") from None

    return parse_or_say
