"""``eastgate sidecar run`` as a process: what the injected container does from its start to its end."""

from __future__ import annotations

import base64
import random
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from eastgate.cli.main import main
from eastgate.pods.bundles import pack
from eastgate.pods.names import BUNDLE
from eastgate.pods.probes import AppProbe, to_json
from tests.live.client import connect
from tests.live.pod_running import Pod, Volumes, make_policy, make_service, run_pod, until
from tests.live.upstream import Upstream, run_upstream
from tests.tokens import mint


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with run_upstream() as up:
        yield up


def live_at_once(pod: Pod, status: int) -> None:
    """The bar is one second, on a machine that does nothing else; a crowded one may stop any process for longer."""
    assert until(lambda: pod.status() == status) < 5.0


def test_the_life_of_a_pod(volumes: Volumes, upstream: Upstream) -> None:
    with run_pod(volumes, upstream.port) as pod:
        # No bundle: alive, not ready, accepts nothing.
        assert pod.ask("/healthz")[0] == 200
        until(lambda: pod.missing.get("bundle") == "there is no `manifest.json`")
        assert pod.status() == 0
        # The first bundle.
        first = volumes.write_bundle(make_policy(), make_service())
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert pod.status() == 401
        token = mint({"iss": "https://dev.example.com", "exp": "+1h"})
        assert pod.status("/get", ("Authorization", f"Bearer {token}")) == 200
        assert f'eastgate_bundle_info{{digest="{first.digest}"}} 1.0' in pod.ask("/metrics")[1]
        assert pod.config["bundle"] == {"digest": first.digest, "expected": first.digest, "current": True}
        # Another policy, another mode, other labels: each live at once.
        second = volumes.write_bundle(make_policy(label="other"), make_service())
        live_at_once(pod, 200)
        volumes.labels["app"] = "other"
        volumes.write_pod()
        live_at_once(pod, 401)
        volumes.annotations["eastgate.dev/mode"] = "audit"
        volumes.write_pod()
        live_at_once(pod, 200)
        until(lambda: '"mode":"audit"' in pod.log)
        volumes.annotations["eastgate.dev/mode"] = "enforce"
        volumes.write_pod()
        live_at_once(pod, 401)
        # A policy that is no good refuses; the rest of the bundle holds.
        broken = make_policy(label="other")
        broken["spec"]["config"]["providers"]["dev"] = {"isuer": "x"}
        volumes.write_bundle(broken, make_service())
        live_at_once(pod, 503)
        until(lambda: "isuer" in pod.log)
        assert any("isuer" in one for one in pod.config["plan"]["diagnostics"])
        # A bundle that cannot be read keeps what is in force.
        volumes.bundle.write({"manifest.json": b"{", "policies.jsonl.gz": b""})
        until(lambda: "eastgate_bundle_unusable 1.0" in pod.ask("/metrics")[1])
        assert 'eastgate_reloads_total{result="failed"} 1.0' in pod.ask("/metrics")[1]
        assert pod.config["error"] == "`manifest.json` is not JSON"
        assert (pod.status(), pod.ask("/readyz")[0]) == (503, 200)
        volumes.mount(second)
        live_at_once(pod, 401)
        assert pod.config["error"] is None
        assert pod.config["bundle"]["current"] is False, "the annotation is still that of the broken one"
        # The announcement alone changes nothing.
        reloads = [line for line in pod.log.splitlines() if "policies reloaded" in line]
        volumes.annotations[BUNDLE] = second.digest
        volumes.write_pod()
        until(lambda: pod.config["bundle"]["current"] is True)
        assert [line for line in pod.log.splitlines() if "policies reloaded" in line] == reloads
        # SIGTERM finishes what is in flight, and then goes at once.
        volumes.annotations["eastgate.dev/mode"] = "audit"
        volumes.write_pod()
        live_at_once(pod, 200)
        with connect(pod.port) as client:
            client.sendall(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
            time.sleep(0.2)
            pod.process.send_signal(signal.SIGTERM)
            until(lambda: pod.missing.get("listener") == "draining")
            assert pod.status() == 0
            client.sendall(b"cd")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert pod.process.wait(10) == 0, "nothing is left to wait for: not the 30 s that a drain may take"
        assert "redirection is not checked" in pod.log
        assert "BEGIN" not in pod.log


def test_workers_follow(volumes: Volumes, upstream: Upstream) -> None:
    volumes.write_bundle(make_policy(), make_service())
    with run_pod(volumes, upstream.port, "--workers", "2") as pod:
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert {pod.status() for _ in range(10)} == {401}
        bundle = volumes.write_bundle(make_policy(label="other"), make_service())
        until(lambda: "policies reloaded" in pod.log)
        assert {pod.status() for _ in range(10)} == {200}
        page = pod.ask("/metrics")[1]
        assert f'eastgate_bundle_info{{digest="{bundle.digest}"}} 1.0' in page
        assert page.count("eastgate_bundle_info{") == 1
        assert "eastgate_workers 2.0" in page
        assert pod.ask("/quit", "POST")[0] == 200
        assert pod.process.wait(10) == 0


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.headers["x-probe"] == "mine" else 500)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def wait(pod: Pod, *flags: str) -> int:
    return main(["sidecar", "wait", "--admin", f"127.0.0.1:{pod.admin}", *flags])


def test_probes_and_waiting(volumes: Volumes, upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), Healthy) as app:
        threading.Thread(target=app.serve_forever, daemon=True).start()
        table = {
            "web/readyz": AppProbe("http", app.server_address[1], "/health", headers=(("X-Probe", "mine"),)),
            "web/livez": AppProbe("tcp", 1),
        }
        environment = {"EASTGATE_APP_PROBES": to_json(table), "EASTGATE_POD_IP": "127.0.0.1"}
        with run_pod(volumes, upstream.port, environment=environment) as pod:
            # The app's probes are answered whatever becomes of the bundle.
            assert pod.ask("/app-probe/web/readyz") == (200, "answers 200\n")
            assert pod.ask("/app-probe/web/livez")[0] == 502
            assert pod.ask("/app-probe/web/startupz")[0] == 404
            assert pod.config["app_probes"] == ["web/livez", "web/readyz"]
            assert wait(pod, "--timeout", "300ms") == 1
            said = capsys.readouterr().err
            assert said.startswith("eastgate sidecar wait: gave up after 0.3 s: ")
            assert "manifest.json" in said
            volumes.write_bundle(make_policy(label="other"))
            assert wait(pod) == 0
            with connect(pod.port):
                until(lambda: "eastgate_connections 1.0" in pod.ask("/metrics")[1])
                assert wait(pod, "--idle", "--least", "0", "--timeout", "300ms") == 1
                assert "connections open: 1" in capsys.readouterr().err
            assert wait(pod, "--idle", "--least", "0") == 0
        app.shutdown()


def test_an_oversize_policy_in_many_parts(volumes: Volumes, upstream: Upstream) -> None:
    """What fills several ConfigMaps is mounted in several folders."""
    filler = make_service("filler", app="filler")
    noise = base64.b64encode(random.Random(1).randbytes(2_000_000)).decode()
    filler["metadata"]["annotations"] = {"noise": noise}
    bundle = pack("httpbin", [make_policy(), filler])
    assert len(bundle.parts) == 3
    volumes.mount(bundle)
    with run_pod(volumes, upstream.port) as pod:
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert pod.status() == 401
        assert pod.config["digest"] == bundle.digest
