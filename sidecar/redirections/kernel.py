"""Puts the rules into the kernel, and reads them back.

Order of preference: ``nft`` (one transaction for both families), ``iptables`` (whichever of its two variants the name
means here), ``iptables-legacy`` (old kernels and images without nf_tables). A variant counts only when it can list its
tables: programs are often there without the kernel's side. Must not know: which ports.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.redirections.rules import (
    GUARD,
    INBOUND,
    PROOF,
    TABLE,
    Redirection,
    list_jumps,
    render_iptables,
    render_nft,
)

WAIT_SECONDS = 5
"""For the lock that iptables-legacy takes; Istio waits as long."""

TIMEOUT_SECONDS = 20

BACKENDS = ("nft", "iptables", "iptables-legacy")

IPV6_STATE = Path("/proc/net/if_inet6")
"""Empty or absent where the kernel, or this namespace, has no IPv6."""


class RedirectionError(Exception):
    """The rules are not in force; the text says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a program said."""

    code: int
    output: str
    errors: str


type Run = Callable[[tuple[str, ...], str], Done]


def run_program(command: tuple[str, ...], text: str) -> Done:
    """Run to the end; a program that is not there has code 127."""
    if shutil.which(command[0]) is None:
        return Done(127, "", f"{command[0]}: not in this image")
    try:
        done = subprocess.run(  # noqa: S603 (fixed programs, arguments of our own)
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Done(124, "", f"{command[0]}: no answer in {TIMEOUT_SECONDS} s")
    return Done(done.returncode, done.stdout, done.stderr.strip())


def apply_redirection(redirection: Redirection, backend: str = "auto", run: Run = run_program) -> str:
    """Bring the rules into force and verify them; returns the backend that did it. Raises ``RedirectionError``."""
    tried: list[str] = []
    for one in BACKENDS if backend == "auto" else (backend,):
        problem = _probe(one, run)
        if problem:
            tried.append(f"{one}: {problem}")
            continue
        try:
            (_apply_nft if one == "nft" else _apply_iptables)(redirection, one, run)
        except RedirectionError as error:
            tried.append(f"{one}: {error}")
            continue
        return one
    raise RedirectionError("; ".join(tried) + _advise(tried))


def _advise(tried: list[str]) -> str:
    said = " ".join(tried).lower()
    if "permission denied" in said or "not permitted" in said or "you must be root" in said:
        return ". The container needs uid 0 and the capability NET_ADMIN (Pod Security: privileged)"
    return ". The kernel needs nf_tables with NAT, or the iptables modules nat and REDIRECT"


def _probe(backend: str, run: Run) -> str:
    """Why a backend cannot be used, or an empty string."""
    command = ("nft", "list", "tables") if backend == "nft" else (backend, "-w", str(WAIT_SECONDS), "-t", "nat", "-S")
    done = run(command, "")
    return "" if done.code == 0 else _first_line(done)


def _apply_nft(redirection: Redirection, _backend: str, run: Run) -> None:
    done = run(("nft", "-f", "-"), render_nft(redirection))
    if done.code:
        raise RedirectionError(_first_line(done))
    listed = run(("nft", "--json", "list", "table", "inet", TABLE), "")
    counts = _count_rules(listed.output) if listed.code == 0 else {}
    missing = [name for name in (INBOUND, GUARD, PROOF) if not counts.get(name)]
    if missing:
        raise RedirectionError(f"applied, and not to be found again: {', '.join(missing)}")


def _count_rules(text: str) -> dict[str, int]:
    try:
        entries = json.loads(text)["nftables"]
        chains = [entry["rule"]["chain"] for entry in entries if "rule" in entry]
    except (ValueError, KeyError, TypeError):
        return {}
    return {chain: chains.count(chain) for chain in chains}


def _apply_iptables(redirection: Redirection, backend: str, run: Run) -> None:
    """Both families, or an error: a family without rules is a way around the policy."""
    _apply_family(redirection, backend, run, ipv6=False)
    six = backend.replace("iptables", "ip6tables", 1)
    problem = _probe(six, run)
    if not problem:
        _apply_family(redirection, six, run, ipv6=True)
    elif _has_ipv6():
        raise RedirectionError(f"this pod has IPv6 and its rules cannot be set: {six}: {problem}")


def _apply_family(redirection: Redirection, program: str, run: Run, *, ipv6: bool) -> None:
    restore = (f"{program}-restore", "--noflush", "-w", str(WAIT_SECONDS))
    done = run(restore, render_iptables(redirection, ipv6=ipv6))
    if done.code:
        raise RedirectionError(_first_line(done))
    for table, chain, own in list_jumps():
        # First in its chain, whatever else is there: what comes before it could accept or redirect.
        place = (program, "-w", str(WAIT_SECONDS), "-t", table)
        if run((*place, "-C", chain, "-p", "tcp", "-j", own), "").code:
            done = run((*place, "-I", chain, "1", "-p", "tcp", "-j", own), "")
            if done.code:
                raise RedirectionError(_first_line(done))
        if run((*place, "-C", chain, "-p", "tcp", "-j", own), "").code:
            raise RedirectionError(f"applied, and not to be found again: {own} in {chain}")


def _has_ipv6() -> bool:
    try:
        return bool(IPV6_STATE.read_text().strip())
    except OSError:
        return False


def _first_line(done: Done) -> str:
    text = done.errors or done.output or f"exit code {done.code}"
    return text.splitlines()[0]
