"""``serve`` as a process: start, refusal to start, reload, drain, workers, admin port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eastgate.model.workloads import Workload
from sidecar.metrics import Metrics
from sidecar.options import ServeOptions
from sidecar.policies.snapshot import take_snapshot
from sidecar.workers import supervisor
from sidecar.workers.supervisor import ProcessFleet
from tests.live.client import connect, request_http1
from tests.live.forking import run_forked
from tests.live.serving import ROOT, Served, serve
from tests.live.upstream import Upstream, run_upstream
from tests.ports import free_port
from tests.tokens import key_set

OPEN = """\
apiVersion: security.policy.gloo.solo.io/v2
kind: JWTPolicy
metadata: {name: jwt, namespace: httpbin}
spec:
  applyToRoutes:
  - route: {labels: {app: %s}}
  config:
    providers:
      dev:
        issuer: https://dev.example.com
        local: {inline: '%s'}
"""
FLAGS = ("--pod-labels", "app=httpbin", "--namespace", "httpbin")


def policy(label: str = "httpbin") -> str:
    """Selects the workload when ``label`` is ``httpbin``."""
    return OPEN % (label, key_set("main"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(policy())
    return path


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with run_upstream() as up:
        yield up


def status(served: Served) -> int:
    return request_http1(served.port, "GET", "/get", "a").status


def admin(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Wait; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not happen"
        time.sleep(0.02)
    return time.monotonic() - began


def run_to_end(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["serve", "--upstream", "http://127.0.0.1:1", *arguments]
    if stdin is None:
        return run_forked(command, ROOT)
    command = [sys.executable, "-m", "eastgate", *command]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=30)


def test_the_whole_life(file: Path, upstream: Upstream) -> None:
    port = free_port()
    with serve([file], upstream.port, *FLAGS, "--admin", f"127.0.0.1:{port}", fresh=True) as served:
        assert status(served) == 401
        assert admin(port, "/healthz")[0] == 200
        assert admin(port, "/readyz")[0] == 200
        page = admin(port, "/metrics")[1]
        labels = 'decision="deny",policy="httpbin/jwt",reason="jwt_missing"'
        assert f"eastgate_requests_total{{{labels}" in page
        config = json.loads(admin(port, "/config")[1])
        assert config["digest"] in page
        assert "BEGIN" not in json.dumps(config)
        assert admin(port, "/quit")[0] == 405
        assert admin(port, "/quit", "POST")[0] == 200
        assert served.process.wait(10) == 0
        records = [json.loads(line) for line in served.log.splitlines() if line.startswith("{")]
        assert [one["reason"] for one in records if one["event"] == "decision"] == ["jwt_missing"]


def test_sigterm_finishes_what_is_in_flight(file: Path, upstream: Upstream) -> None:
    file.write_text(policy("other"))
    port = free_port()
    with (
        serve([file], upstream.port, *FLAGS, "--admin", f"127.0.0.1:{port}", fresh=True) as served,
        connect(served.port) as client,
    ):
        client.sendall(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        time.sleep(0.3)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: admin(port, "/readyz")[0] == 503)
        with pytest.raises(OSError), connect(served.port, 1.0):
            pass
        client.sendall(b"cd")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert served.process.wait(10) == 0


def test_a_second_signal_ends_at_once(file: Path, upstream: Upstream) -> None:
    file.write_text(policy("other"))
    with serve([file], upstream.port, *FLAGS) as served, connect(served.port) as client:
        client.sendall(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        time.sleep(0.3)
        served.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(30) == 128 + signal.SIGINT


def test_a_changed_file_is_live_within_a_second(file: Path, upstream: Upstream) -> None:
    with serve([file], upstream.port, *FLAGS) as served:
        assert status(served) == 401
        file.write_text(policy("other"))
        assert until(lambda: status(served) == 200) < 1.5
        file.write_text(policy())
        assert until(lambda: status(served) == 401) < 1.5


def test_a_bad_reload_keeps_the_last_good_policies(file: Path, upstream: Upstream) -> None:
    port = free_port()
    with serve([file], upstream.port, *FLAGS, "--admin", f"127.0.0.1:{port}") as served:
        file.write_text(policy().replace("issuer", "isuer"))
        until(lambda: "policies not reloaded" in served.log)
        assert f"{file}:" in served.log
        assert ": error: " in served.log
        assert status(served) == 401
        assert admin(port, "/readyz")[0] == 200
        assert 'eastgate_reloads_total{result="failed"} 1.0' in admin(port, "/metrics")[1]
        file.unlink()
        until(lambda: served.log.count("policies not reloaded") == 2)
        assert status(served) == 401
        file.write_text(policy("other"))
        until(lambda: status(served) == 200)
        assert 'eastgate_reloads_total{result="success"} 1.0' in admin(port, "/metrics")[1]


def test_a_file_that_was_cut_off_keeps_the_last_good_policies(file: Path, upstream: Upstream) -> None:
    with serve([file], upstream.port, *FLAGS) as served:
        file.write_text("")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "policies not reloaded" in served.log)
        until(lambda: f"{file}:1: error: empty: was it cut off?" in served.log)
        assert status(served) == 401


def test_it_is_said_where_nothing_or_everything_is_refused(file: Path, upstream: Upstream) -> None:
    with serve([file], upstream.port, *FLAGS) as served:
        assert status(served) == 401
        assert "no policy holds" not in served.log
        assert "every request is refused" not in served.log
    with serve([file], upstream.port, "--service", "httpbin/other") as served:
        until(lambda: "no policy holds here: no request needs a token" in served.log)
        assert status(served) == 200
    with serve([file], upstream.port, "--namespace", "httpbin", "--policies", "jwtt") as served:
        until(lambda: "every request is refused: the workload asks for `jwtt`, and there is no" in served.log)
        assert status(served) == 503


def test_sighup_reloads(file: Path, upstream: Upstream) -> None:
    with serve([file], upstream.port, *FLAGS) as served:
        served.process.send_signal(signal.SIGHUP)
        until(lambda: "policies reloaded" in served.log)
        assert status(served) == 401


def test_errors_keep_it_from_starting(file: Path) -> None:
    file.write_text(policy().replace("issuer", "isuer"))
    ended = run_to_end("--policy", str(file), "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"{file}:")
    assert "isuer" in ended.stderr


def test_policies_from_standard_input_with_an_error() -> None:
    ended = run_to_end("--policy", "-", "--listen", "127.0.0.1:0", stdin="kind: [")
    assert ended.returncode == 1
    assert ended.stderr.startswith("<stdin>:1: error: ")


def test_a_port_in_use(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        ended = run_to_end("--policy", str(file), "--listen", f"127.0.0.1:{port}", *FLAGS)
        assert ended.returncode == 1
        assert ended.stderr.endswith(f"\nerror: cannot listen on 127.0.0.1:{port}: address already in use\n")
        ended = run_to_end("--policy", str(file), "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{port}", *FLAGS)
        assert ended.returncode == 1
        assert f"error: cannot listen on 127.0.0.1:{port} (admin): " in ended.stderr
        assert ended.stdout == ""


def test_a_host_that_is_not_there(file: Path) -> None:
    ended = run_to_end("--policy", str(file), "--listen", "192.0.2.1:0", *FLAGS)
    assert ended.returncode == 1
    assert "\nerror: cannot listen on 192.0.2.1:0: " in ended.stderr


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def counted(port: int) -> float:
    lines = [line for line in admin(port, "/metrics")[1].splitlines() if line.startswith("eastgate_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_workers(file: Path, upstream: Upstream) -> None:
    port = free_port()
    with serve([file], upstream.port, *FLAGS, "--workers", "2", "--admin", f"127.0.0.1:{port}", fresh=True) as served:
        pids = children(served.process.pid)
        assert len(pids) == 2
        for _ in range(20):
            assert status(served) == 401
        assert counted(port) == 20
        assert "eastgate_workers 2.0" in admin(port, "/metrics")[1]
        # A reload reaches all of them.
        file.write_text(policy("other"))
        until(lambda: "policies reloaded" in served.log)
        assert {status(served) for _ in range(20)} == {200}
        # One that dies is replaced, and takes up the policies of now; what it had counted is kept.
        before = counted(port)
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: "accepts again" in served.log)
        assert {status(served) for _ in range(20)} == {200}
        assert counted(port) == before + 20
        assert "eastgate_worker_restarts_total 1.0" in admin(port, "/metrics")[1]
        assert admin(port, "/readyz")[0] == 200
        pids = children(served.process.pid)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) == 0
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_worker_that_is_stuck_is_replaced(file: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel goes on giving it its share of the connections; nobody would answer them."""
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.1)
    # More than a busy machine keeps one that is well from answering.
    monkeypatch.setattr(supervisor, "STUCK_SECONDS", 3.0)
    snapshot = take_snapshot([str(file)], None, Workload())
    options = ServeOptions((str(file),), ("127.0.0.1", upstream.port), ("127.0.0.1", free_port()), workers=2)

    others = set(children(os.getpid()))

    def working() -> list[int]:
        return [pid for pid in children(os.getpid()) if pid not in others]

    async def scenario() -> None:
        fleet = ProcessFleet(options, Metrics())
        _, port = await fleet.start(snapshot)
        try:
            [first, second] = working()
            os.kill(first, signal.SIGSTOP)
            async with asyncio.timeout(60):
                while first in (now := working()) or len(now) < 2:
                    await asyncio.sleep(0.05)
                while not all(process.accepting for process in fleet._processes):
                    await asyncio.sleep(0.05)
            assert second in now, "a worker that answers is left alone"
            for _ in range(10):
                answer = await asyncio.to_thread(request_http1, port, "GET", "/get", "a")
                assert answer.status in (200, 401)
        finally:
            await fleet.stop()

    asyncio.run(scenario())


def test_workers_end_with_their_parent(file: Path, upstream: Upstream) -> None:
    with serve([file], upstream.port, *FLAGS, "--workers", "2", fresh=True) as served:
        pids = children(served.process.pid)
        served.process.kill()
        served.process.wait()
        until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])
