"""kubectl as a program: how it is run, and what its failure says. Must not know whose cluster it asks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

SECONDS = 120.0


class KubectlError(AssertionError):
    """It said no, or nothing in time; the text has the command and its words. Who waits for something asks again."""


class Kubectl(Protocol):
    """``Node.kubectl``, or the same of a cluster that was given."""

    def __call__(
        self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = SECONDS  # noqa: A002
    ) -> str: ...  # fmt: skip


def run_kubectl(
    program: Sequence[str | Path], arguments: Sequence[str], given: str | None, check: bool, timeout: float,
    environment: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """Run it; returns what it printed, errors included where it may fail. ``timeout`` is in seconds.

    ``program`` is what stands before its arguments, ``given`` its standard input. Raises ``KubectlError``.
    """
    what = f"kubectl {' '.join(arguments)}"
    try:
        done = subprocess.run(
            [*program, *arguments], input=given, capture_output=True, text=True, timeout=timeout, check=False,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise KubectlError(f"{what}: not done after {timeout:g} s") from None
    if check and done.returncode:
        raise KubectlError(f"{what}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout if check else done.stdout + done.stderr
