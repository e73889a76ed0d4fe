"""The words of this room: the circumstances of a pod, and the three things that can become of it."""

from __future__ import annotations

from dataclasses import dataclass

type Path = tuple[str | int, ...]
"""A place in a pod: keys and indices from its root."""


@dataclass(frozen=True, slots=True)
class Context:
    """What is known besides the pod. ``enforced``: its namespace admits no pod without a sidecar. ``native``: sidecars
    are restartable init containers unless the pod says otherwise. ``version`` goes into the status annotation.
    """

    namespace: str
    enforced: bool
    image: str
    pull_policy: str | None
    pull_secrets: tuple[str, ...]
    native: bool
    version: str


@dataclass(frozen=True, slots=True)
class Added:
    """Names of what a pod was given, as the status annotation lists them."""

    init_containers: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Injection:
    """The pod is to be patched; with an empty patch it has everything already. ``warnings`` are for its author."""

    patch: tuple[dict[str, object], ...]
    warnings: tuple[str, ...] = ()
    added: Added = Added()


@dataclass(frozen=True, slots=True)
class Skip:
    """The pod stays as it is. ``warnings`` where its author may have expected otherwise."""

    reason: str
    message: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a pod is refused: one thing, and where in the pod it stands. ``reason`` is a short stable word."""

    reason: str
    message: str
    path: Path = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The pod is not admitted. ``reason`` is that of the first problem; ``paths`` lie beside ``messages``."""

    reason: str
    messages: tuple[str, ...]
    paths: tuple[Path, ...] = ()

    @classmethod
    def of(cls, problems: list[Problem]) -> Refusal:
        """The refusal that says all of them, each once."""
        distinct = list(dict.fromkeys(problems))
        return cls(
            distinct[0].reason,
            tuple(problem.message for problem in distinct),
            tuple(problem.path for problem in distinct),
        )
