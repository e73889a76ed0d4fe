"""Policies as one compiled state; policy files as such a state, and when it is time for another.

A *snapshot* is a plan, what it was compiled from and everything there was to say about it. It has errors or it may be
put in force, never something between (``SAID_ONLY`` tells them apart). Watching files is asking for the status of every
one, twice: a change counts when it stood still for one interval, because a file that is just being written may be a
valid, shorter policy.

Knows: files, and the order read, compile, review. Must not know: YAML, policies, or who is served by a plan. Blocking
and slow (hundreds of milliseconds for a large set): call it from a thread.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from eastgate.compile.plan import Plan, compile_plan
from eastgate.compile.review import review
from eastgate.dialects.corpus import Document, read_policy_set
from eastgate.dialects.files import SUFFIXES, SourceError, read_sources, refuse_empty
from eastgate.model.diagnostics import Diagnostic, Position, Severity, has_errors
from eastgate.model.workloads import Workload
from eastgate.pods.authorities import Authorities
from sidecar.loops import pause_collections

POLL_SECONDS = 0.25
"""Between two looks. A change is seen after one, taken after two: half a second."""

SAID_ONLY = frozenset({"selects-nothing", "never-matches"})
"""What the review finds wrong with a policy that is whole and decides as it stands there: it holds on no route of
these files, or has a condition that nobody can meet. ``lint`` fails on them, a pod runs with them, and so does whoever
serves files.
"""

type Sources = tuple[tuple[str, str], ...]
"""(file, text) of every policy file."""


class Material(ABC):
    """What a plan is compiled from, complete: a worker in another process is handed it and compiles the same plan.

    Values that are equal compile to the same.
    """

    __slots__ = ()

    @abstractmethod
    def compile(self, before: Snapshot | None = None) -> Snapshot:
        """Compile. Slow, and never raises for what a policy says. What is the same as in the snapshot ``before`` need
        not be read again; the result does not depend on it.
        """


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``plan`` is None when it must not be put in force. ``digest`` names the policies for those who look from outside.
    ``opaque_ports`` None: those that the process was started with. ``authorities`` are trusted besides the system's for
    fetching keys. ``read`` is what was read of each text, for the next one's sake: it holds what is in this snapshot
    and nothing older.
    """

    material: Material
    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]
    digest: str = ""
    opaque_ports: frozenset[int] | None = None
    authorities: Authorities = ()
    read: Mapping[bytes, Document] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PolicyFiles(Material):
    """Files that were read, for a workload that the command line described. An error in one leaves no plan."""

    sources: Sources
    workload: Workload
    authorities: Authorities = ()

    def compile(self, before: Snapshot | None = None) -> Snapshot:  # noqa: ARG002 (files are read as a whole)
        """Read, review, compile."""
        return compile_snapshot(self.sources, self.workload, self.authorities)


def compile_material(material: Material, before: Snapshot | None = None) -> Snapshot:
    """``material.compile(before)``, as fast as it goes. One at a time in a process."""
    with pause_collections():
        return material.compile(before)


def take_snapshot(
    paths: Sequence[str], stdin: str | None, workload: Workload, authorities: Authorities = ()
) -> Snapshot:
    """Read and compile. Never raises for what the files say, or for files that cannot be read."""
    try:
        sources = tuple(read_sources(paths, stdin))
        refuse_empty(sources)
    except SourceError as error:
        return Snapshot(PolicyFiles((), workload), None, (_complain(error.path, "unreadable", error.why),))
    if not sources:
        why = f"no policy file, {', '.join(f'`*{suffix}`' for suffix in SUFFIXES)} are read"
        complaint = _complain(paths[0] if paths else "-", "no-files", why)
        return Snapshot(PolicyFiles((), workload), None, (complaint,))
    return compile_snapshot(sources, workload, authorities)


def compile_snapshot(sources: Sources, workload: Workload, authorities: Authorities = ()) -> Snapshot:
    """Compile texts that were read already."""
    policy_set = read_policy_set(sources)
    reviewed = tuple(review(policy_set))
    fatal = [*policy_set.diagnostics, *(one for one in reviewed if one.code not in SAID_ONLY)]
    plan = None
    if not has_errors(fatal):
        plan = compile_plan(policy_set, workload)
        fatal += plan.diagnostics
    diagnostics = sort_diagnostics([*fatal, *reviewed])
    if has_errors(fatal):
        plan = None
    digest = plan.digest if plan is not None else ""
    material = PolicyFiles(sources, workload, authorities)
    return Snapshot(material, plan, diagnostics, digest, authorities=authorities)


def demand_plan(snapshot: Snapshot) -> Plan:
    """The plan of a snapshot that somebody already found to be without errors. Raises ``ValueError`` otherwise."""
    if snapshot.plan is None:
        raise ValueError("a snapshot with errors")
    return snapshot.plan


def sort_diagnostics(diagnostics: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """By place, errors first, each once: the order in which ``lint`` says them."""
    unique = dict.fromkeys(diagnostics)
    return tuple(
        sorted(unique, key=lambda one: (one.position, one.severity is not Severity.ERROR, one.field, one.message))
    )


def write_diagnostics(diagnostics: Sequence[Diagnostic], stream: TextIO | None = None) -> None:
    """One line each, ``file:line: severity: message``."""
    stream = sys.stderr if stream is None else stream
    stream.write("".join(f"{diagnostic}\n" for diagnostic in diagnostics))
    stream.flush()


def _complain(path: str, code: str, why: str) -> Diagnostic:
    return Diagnostic(Position("<stdin>" if path == "-" else path, 1), Severity.ERROR, code, why)


type Fingerprint = tuple[tuple[str, int, int, int, int], ...]


class Watcher:
    """Says when the files changed. ``-`` never does. Not for several threads at a time."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(path for path in paths if path != "-")
        self._taken = self._last = take_fingerprint(self._paths)

    def has_changed(self) -> bool:
        """True once for every change, at the second look that finds it unchanged."""
        now = take_fingerprint(self._paths)
        settled = now == self._last
        self._last = now
        if not settled or now == self._taken:
            return False
        self._taken = now
        return True


def take_fingerprint(paths: Sequence[str]) -> Fingerprint:
    """What changes whenever a file does: name, inode, size, times. A file that is not there is left out."""
    found = []
    for file in _walk(paths):
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((str(file), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _walk(paths: Sequence[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        for parent, directories, names in path.walk():
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            # Only what would be read: a log that is written into the folder is no change of policy.
            yield from (
                parent / name for name in sorted(names) if not name.startswith(".") and name.lower().endswith(SUFFIXES)
            )
