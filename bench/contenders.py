"""The proxies that are compared, each as a context manager that yields a running process and its port."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.differential.envoy import ENVOY, free_port
from tests.live.serving import serve
from tests.tokens import key_set

HERE = Path(__file__).parent
ISSUER = "https://issuer.example"
MITMDUMP = Path(sys.executable).parent / "mitmdump"


@dataclass(frozen=True)
class Contender:
    """A proxy under load: its name, port, and the process whose CPU (with children) is counted."""

    name: str
    port: int
    pid: int


def read_cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its living descendants, in seconds (proc(5))."""
    total = 0.0
    for one in [pid, *_descendants(pid)]:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def read_resident_bytes(pid: int) -> int:
    """Resident set of a process and its descendants."""
    total = 0
    for one in [pid, *_descendants(pid)]:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found


POLICY = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: bench}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: bench}]
  jwt:
    providers:
    - name: p
      issuer: %(issuer)s
      localJWKS: {inline: '%(jwks)s'}
      claimToHeaders: [{header: x-org, claim: org}, {header: x-email, claim: email}]
  authorization:
    defaultAction: Deny
    rules: [{name: internal, action: Allow, principal: {jwt: {provider: p, claims: [{name: org, values: [internal]}]}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bench}
spec:
  rules: [{backendRefs: [{name: bench, port: 80}]}]
"""


@contextlib.contextmanager
def run_eastgate(upstream: int, *flags: str, name: str = "eastgate") -> Iterator[Contender]:
    """``eastgate serve`` with the policy that Envoy gets too. Allowed requests are not logged, as Envoy does not."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY % {"issuer": ISSUER, "jwks": key_set("main")})
        with serve([policy], upstream, "--log-allows", "0", *flags) as served:
            yield Contender(name, served.port, served.process.pid)


@contextlib.contextmanager
def run_envoy(upstream: int, *, cache: bool = False, http2: bool = False) -> Iterator[Contender]:
    """Envoy with jwt_authn and rbac; ``cache`` turns its token cache on."""
    from eastgate.dialects.corpus import read_policy_set
    from tests.differential.envoy import build_bootstrap

    port, admin = free_port(), free_port()
    policy_set = read_policy_set([("bench.yaml", POLICY % {"issuer": ISSUER, "jwks": key_set("main")})])
    bootstrap = build_bootstrap(policy_set, {}, port, admin, upstream)
    manager = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    if cache:
        for provider in manager["http_filters"][0]["typed_config"]["providers"].values():
            provider["jwt_cache_config"] = {"jwt_cache_size": 5000}
    if http2:
        bootstrap["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    with _configured(bootstrap, "envoy.json") as path:
        command = [str(ENVOY), "-c", path, "--disable-hot-restart", "--concurrency", "1", "-l", "critical"]
        with _running(command, port) as process:
            yield Contender("envoy, token cache" if cache else "envoy", port, process.pid)


@contextlib.contextmanager
def run_mitmdump(upstream: int) -> Iterator[Contender]:
    """Stock mitmdump as a reverse proxy, with an addon that verifies the token, remembers it and adds the headers."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "jwks.json"
        keys.write_text(key_set("main"))
        command = [
            str(MITMDUMP),
            "-q",
            "--mode",
            f"reverse:http://127.0.0.1:{upstream}",
            "--listen-port",
            str(port),
            "-s",
            str(HERE / "mitmdump_addon.py"),
            "--set",
            f"confdir={folder}",
        ]
        with _running(command, port, {"JWKS": str(keys), "ISSUER": ISSUER}) as process:
            yield Contender("mitmdump with an addon", port, process.pid)


@contextlib.contextmanager
def run_nginx() -> Iterator[Contender]:
    """The application: one nginx worker, 29 bytes, HTTP/1.1 on ``port`` and cleartext HTTP/2 on ``port + 1``."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        http2 = free_port()
        Path(folder, "nginx.conf").write_text(
            f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; http2_max_requests 100000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello from the application\\n"; }} }}
  server {{ listen 127.0.0.1:{http2} http2; location / {{ return 200 "hello from the application\\n"; }} }}
}}"""
        )
        with _running(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder], port) as process:
            yield Contender(f"{http2}", port, process.pid)


@contextlib.contextmanager
def _configured(content: dict[str, Any], name: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(json.dumps(content))
        yield str(path)


@contextlib.contextmanager
def _running(
    command: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    import socket

    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)
