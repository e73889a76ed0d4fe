"""Policy files, from the paths behind ``--policy`` to a policy set with everything there is to say about it.

Shared by ``lint`` and ``explain`` (``serve`` does the same in the sidecar, where it also reloads).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from eastgate.cli.values import require_paths
from eastgate.model.diagnostics import Diagnostic, Position, Severity
from eastgate.model.sets import PolicySet


@dataclass(frozen=True, slots=True)
class Corpus:
    """``sources`` are (file, text); ``diagnostics`` those of reading, in no order."""

    sources: tuple[tuple[str, str], ...]
    policy_set: PolicySet
    diagnostics: tuple[Diagnostic, ...]


def read_corpus(paths: Sequence[str], flag: str, *, deciding: bool = False) -> Corpus:
    """Read them all. A path that is not there is wrong usage; a folder without policy files, a file that cannot be
    read as text, or an empty standard input is an error about that path, as in ``serve``; an empty file is one where
    requests are decided.
    """
    from eastgate.dialects.corpus import read_policy_set
    from eastgate.dialects.files import STDIN, SUFFIXES, SourceError, read_sources, refuse_empty

    require_paths(paths, flag)
    try:
        sources = tuple(read_sources(paths, sys.stdin.read() if "-" in paths else None))
        refuse_empty([one for one in sources if deciding or one[0] == STDIN])
    except SourceError as error:
        problem = Diagnostic(Position(error.path, 1), Severity.ERROR, "unreadable", error.why)
        return Corpus((), PolicySet(), (problem,))
    except UnicodeDecodeError as error:
        problem = Diagnostic(Position("<stdin>", 1), Severity.ERROR, "unreadable", f"not UTF-8 text: {error.reason}")
        return Corpus((), PolicySet(), (problem,))
    if not sources:
        why = f"no policy file, {', '.join(f'`*{suffix}`' for suffix in SUFFIXES)} are read"
        return Corpus((), PolicySet(), (Diagnostic(Position(paths[0], 1), Severity.ERROR, "no-files", why),))
    policy_set = read_policy_set(sources)
    return Corpus(sources, policy_set, policy_set.diagnostics)
