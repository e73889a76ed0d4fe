"""The vocabulary of a demonstration: a scene is a sidecar with policies; its steps are requests with what must happen.

Values only. ``scenarios`` writes them, ``stage`` plays them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HTTPCall:
    """A request over HTTP/1.1. ``target`` holds the query; ``host`` goes into Host as it is."""

    host: str
    target: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class GRPCCall:
    """A call by a real gRPC client. ``streaming``: bidirectional, as server reflection is."""

    authority: str
    method: str
    metadata: tuple[tuple[str, str], ...] = ()
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What must happen. ``status`` is an HTTP status, or a gRPC code by name (``UNAUTHENTICATED``).

    ``body`` is the exact text of a refusal (gRPC: its details). ``answer`` are headers of the answer; for ``seen``, the
    headers the application must have seen, None stands for absent. ``path`` is the target it must have seen. Where
    ``status`` is a refusal the application must have seen nothing at all. ``reason`` is the log's word, if it matters.
    ``key_answers`` are the statuses that the scene's key server must have given until then.
    """

    status: int | str
    body: str | None = None
    answer: tuple[tuple[str, str], ...] = ()
    seen: tuple[tuple[str, str | None], ...] = ()
    path: str | None = None
    reason: str | None = None
    key_answers: tuple[int, ...] | None = None

    @property
    def passes(self) -> bool:
        """Whether the application is to be reached."""
        return self.status in (200, "OK")


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table. ``says`` is the request in words."""

    says: str
    call: HTTPCall | GRPCCall
    expected: Expected


@dataclass(frozen=True, slots=True)
class Scene:
    """``files`` are (name, text) of the policy files; ``service`` is what the sidecar stands in front of.

    ``keys`` names the key server that its policies' URLs lead to: ``public`` (its authority is trusted as the system's
    are), ``private`` (only the policy's own CA can vouch for it; fails twice first), ``distrusted`` (nobody's CA does).
    """

    seed: str
    title: str
    files: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    service: str
    grpc: bool = False
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What happened. ``why`` is the reason in the sidecar's own log; ``problems`` are the differences."""

    scene: Scene
    step: Step
    got: str
    seen: str
    why: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Exactly as the seed says."""
        return not self.problems
