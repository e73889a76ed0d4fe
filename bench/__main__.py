"""``make bench``: run every contender under the same loads and print one table.

``python -m bench [--seconds N]``. Results go to ``bench/results/`` as JSON, with the machine they were measured on.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contenders import (
    ISSUER,
    Contender,
    read_cpu_seconds,
    read_resident_bytes,
    run_eastgate,
    run_envoy,
    run_mitmdump,
    run_nginx,
)
from tests.tokens import mint

RESULTS = Path(__file__).parent / "results"
MANY = 2000
Factory = Callable[[], AbstractContextManager[Contender]]


def make_token(subject: str = "ann") -> str:
    """A valid RS256 token of the bench's issuer."""
    claims = {
        "iss": ISSUER,
        "sub": subject,
        "exp": "+1d",
        "org": "internal",
        "email": f"{subject}@example.com",
        "scope": "read write",
    }
    return mint(claims)


def run_wrk(port: int, seconds: int, header: str | None, script: str | None = None) -> int:
    """Load with wrk: one thread, 32 connections. Returns the number of completed requests."""
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s"]
    if header:
        command += ["-H", header]
    if script:
        command += ["-s", script]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}/get"], capture_output=True, text=True, check=True)
    match = re.search(r"(\d+) requests in", done.stdout)
    assert match, done.stdout
    return int(match[1])


def run_h2load(port: int, seconds: int, header: str | None) -> int:
    """Load with h2load: 8 connections of 4 streams, prior knowledge."""
    command = ["h2load", "-t1", "-c8", "-m4", f"-D{seconds}", "--warm-up-time=1"]
    if header:
        command += ["-H", header]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}/get"], capture_output=True, text=True, check=True)
    match = re.search(r"requests: (\d+) total, \d+ started, (\d+) done", done.stdout)
    assert match, done.stdout
    return int(match[2])


def measure(load: Callable[[int, int], int], factory: Factory, seconds: int) -> dict[str, Any]:
    """Start a contender, warm it, load it; requests a second and CPU per request."""
    with factory() as contender:
        load(contender.port, 2)
        before, started = read_cpu_seconds(contender.pid), time.monotonic()
        requests = load(contender.port, seconds)
        elapsed, cpu = time.monotonic() - started, read_cpu_seconds(contender.pid) - before
        return {
            "contender": contender.name,
            "requests": requests,
            "per_second": round(requests / elapsed),
            "cpu_us": round(cpu / max(requests, 1) * 1e6, 1),
            "per_cpu_second": round(requests / max(cpu, 1e-9)),
            "resident_mb": round(read_resident_bytes(contender.pid) / 1e6),
        }


def main() -> None:
    """Run the loads and print the table."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--seconds", type=int, default=6, help="length of each measurement")
    options = parser.parse_args()
    bearer = f"Authorization: Bearer {make_token()}"
    with tempfile.TemporaryDirectory() as folder, run_nginx() as application:
        tokens = Path(folder) / "tokens"
        tokens.write_text("".join(make_token(str(i)) + "\n" for i in range(MANY)))
        script = Path(folder) / "many.lua"
        script.write_text(
            f'local t={{}} for l in io.lines("{tokens}") do t[#t+1]=l end local i=0\n'
            'request=function() i=i%#t+1 return wrk.format("GET","/get",{["Authorization"]="Bearer "..t[i]}) end\n'
        )
        up, up2 = application.port, int(application.name)
        loads: list[tuple[str, Callable[[int, int], int], list[Factory]]] = [
            (
                "HTTP/1.1, one valid token",
                lambda p, s: run_wrk(p, s, bearer),
                [
                    lambda: run_eastgate(up),
                    lambda: run_envoy(up),
                    lambda: run_envoy(up, cache=True),
                    lambda: run_mitmdump(up),
                ],
            ),
            (
                "HTTP/1.1, no token: denied",
                lambda p, s: run_wrk(p, s, None),
                [lambda: run_eastgate(up), lambda: run_envoy(up), lambda: run_mitmdump(up)],
            ),
            (
                f"HTTP/1.1, {MANY} tokens",
                lambda p, s: run_wrk(p, s, None, str(script)),
                [lambda: run_eastgate(up), lambda: run_envoy(up), lambda: run_envoy(up, cache=True)],
            ),
            (
                "HTTP/2, one valid token",
                lambda p, s: run_h2load(p, s, bearer),
                [
                    lambda: run_eastgate(up2),
                    lambda: run_envoy(up2, http2=True),
                    lambda: run_envoy(up2, cache=True, http2=True),
                ],
            ),
            (
                "HTTP/2, no token: denied",
                lambda p, s: run_h2load(p, s, None),
                [lambda: run_eastgate(up2), lambda: run_envoy(up2, http2=True)],
            ),
        ]
        console = Console()
        rows = []
        for load_name, load, factories in loads:
            for factory in factories:
                with console.status(load_name):
                    row = {"load": load_name, **measure(load, factory, options.seconds)}
                rows.append(row)
    print_table(console, rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    path.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=2))
    console.print(f"written to {path.relative_to(RESULTS.parent.parent)}")


def print_table(console: Console, rows: list[dict[str, Any]]) -> None:
    """The table: one line a contender, ratio of CPU per request to Eastgate's."""
    table = Table(title="CPU per request is the figure to trust; requests/s depend on what else the machine does")
    for name in ("load", "contender", "CPU us/request", "x eastgate", "requests/s", "RSS MB"):
        table.add_column(name, justify="left" if name in ("load", "contender") else "right")
    ours = {row["load"]: row["cpu_us"] for row in rows if row["contender"].startswith("eastgate")}
    for row in rows:
        ratio = row["cpu_us"] / ours[row["load"]] if row["load"] in ours else 0
        table.add_row(
            row["load"],
            row["contender"],
            str(row["cpu_us"]),
            f"{ratio:.2f}",
            str(row["per_second"]),
            str(row["resident_mb"]),
        )
    console.print(table)


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


if __name__ == "__main__":
    main()
