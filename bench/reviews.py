"""``python -m bench.reviews``: reviews of a pod with 2,000 variables over TLS, 50 in flight, one webhook process.

Closed loop over kept-alive connections (wrk), as an API server under a burst of pods would. The pods are replicas of
one template, as in a rollout: each has a uid and a token volume of its own. ``--distinct`` sends pods that all differ.
Prints latencies, the CPU time a review of the server and of wrk, how busy the machine was with other things, and the
size of the patch; ``--json`` prints the same as one object. Exit code 1 where the bounds that the project sets itself
are not met in the best round: patch under 20 kB, p99 under 25 ms, no call to the API server.

wrk needs a core of its own: on a machine whose cores are busy with something else the latencies say nothing, and the
CPU time a review is the figure to look at (two cores that are one with two threads count as one and a half).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.contenders import read_cpu_seconds, read_resident_bytes

VARIABLES = 2000
PATCH_BYTES = 20_000
P99_MILLISECONDS = 25.0


@dataclass(frozen=True, slots=True)
class Round:
    """One run of wrk. Latencies in milliseconds, CPU in microseconds a review; ``others`` is the part of the machine
    that neither the webhook nor wrk used.
    """

    reviews: int
    per_second: float
    p50: float
    p99: float
    cpu: float
    client_cpu: float
    others: float
    failed: int


def make_review(number: int = 0, template: str = "7d4b9c") -> bytes:
    """What the API server sends for a pod of a ReplicaSet: of its replicas the one with this number."""
    token = f"kube-api-access-{number:05d}"
    metadata = {
        "generateName": f"web-{template}-",
        "namespace": "shop",
        "creationTimestamp": None,
        "labels": {"app": "web", "pod-template-hash": template},
        "annotations": {"eastgate.dev/policies": "login"},
    }
    probe = {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10}
    container = {
        "name": "app",
        "image": "registry.example.com/web:1",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"VARIABLE_NUMBER_{number:05d}", "value": f"value-{number}"} for number in range(VARIABLES)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": token, "readOnly": True, "mountPath": "/var/run/secrets/x"}],
        "readinessProbe": probe,
        "livenessProbe": probe,
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }
    spec = {
        "volumes": [{"name": token, "projected": {"defaultMode": 420, "sources": []}}],
        "containers": [container],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}}
    request = {
        "uid": f"705ab4f5-6393-11e8-b7cc-{number:012d}",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(review, separators=(",", ":")).encode()


def write_certificate(folder: Path) -> tuple[str, str]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    return str(folder / "tls.crt"), str(folder / "tls.key")


@contextlib.contextmanager
def run_webhook(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The webhook as its container runs it, and its port."""
    certificate, key = write_certificate(folder)
    command = [
        *(sys.executable, "-m", "eastgate", "webhook", "--sidecar-image", "eastgate-sidecar"),
        *("--tls-cert-file", certificate, "--tls-key-file", key),
        *("--listen", "127.0.0.1:0", "--health-listen", "none", "--drain-seconds", "0"),
    ]
    with (
        # A pipe that somebody empties, as the log of a container is: writing to a file waits for the disk.
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=reader.stdin, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline().strip().rpartition(":")[2])
        finally:
            process.terminate()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """One request over a connection of its own."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().read()


def run_wrk(
    process: subprocess.Popen[str], port: int, folder: Path, reviews_file: Path, seconds: int, connections: int
) -> Round:
    """One round. The file has a review a line, which are sent in turn."""
    script = folder / "post.lua"
    script.write_text(_SCRIPT.format(file=reviews_file))
    (folder / "openssl.cnf").write_text(_OPENSSL)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    environment = {**os.environ, "OPENSSL_CONF": str(folder / "openssl.cnf")}
    before, client, busy = read_cpu_seconds(process.pid), _read_children_seconds(), _read_busy_seconds()
    done = subprocess.run(
        [*command, f"https://127.0.0.1:{port}"], capture_output=True, text=True, check=True, env=environment
    )
    cpu, client = read_cpu_seconds(process.pid) - before, _read_children_seconds() - client
    others = (_read_busy_seconds() - busy - cpu - client) / seconds / (os.cpu_count() or 1)
    found = re.search(r"(\d+) requests in", done.stdout)
    reviews = int(found[1]) if found else 0
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout)
    return Round(
        reviews=reviews,
        per_second=_number(done.stdout, r"Requests/sec:\s+([\d.]+)()"),
        p50=_number(done.stdout, r"50%\s+([\d.]+)(us|ms|s)"),
        p99=_number(done.stdout, r"99%\s+([\d.]+)(us|ms|s)"),
        cpu=cpu / max(reviews, 1) * 1e6,
        client_cpu=client / max(reviews, 1) * 1e6,
        others=max(others, 0.0),
        failed=(int(bad[1]) if bad else 0) + sum(map(int, errors)),
    )


_SCRIPT = """
local requests, last = {{}}, 0
function init()
    for line in io.lines("{file}") do
        requests[#requests + 1] = wrk.format("POST", "/mutate", {{["Content-Type"] = "application/json"}}, line)
    end
end
function request()
    last = last % #requests + 1
    return requests[last]
end
"""

# The ciphers in the order in which Go offers them, and so the API server.
_OPENSSL = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = go
[go]
Ciphersuites = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
"""


def _read_children_seconds() -> float:
    """CPU time of the processes that were run and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _read_busy_seconds() -> float:
    """CPU time that the whole machine has spent on something."""
    user, nice, system, _, _, interrupts, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "": 1.0}[found[2]] if found else float("nan")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--pin", action="store_true", help="the webhook to the first core and wrk to the second")
    parser.add_argument("--distinct", action="store_true", help="pods of 600 templates in turn, none like the last 256")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eastgate-bench-") as name:
        folder = Path(name)
        body = make_review()
        sent = folder / "reviews.jsonl"
        sent.write_bytes(
            b"\n".join(
                make_review(number, f"{number:06x}") if arguments.distinct else make_review(number)
                for number in range(600 if arguments.distinct else 20)
            )
        )
        with run_webhook(folder) as (process, port):
            if arguments.pin:
                first, second, *_ = sorted(os.sched_getaffinity(0))
                os.sched_setaffinity(process.pid, {first})
                os.sched_setaffinity(0, {second})
            answer = json.loads(ask(port, "POST", "/mutate", body))["response"]
            patch = len(base64.b64decode(answer["patch"]))
            run_wrk(process, port, folder, sent, 1, arguments.connections)  # warm
            rounds = [
                run_wrk(process, port, folder, sent, arguments.seconds, arguments.connections)
                for _ in range(arguments.rounds)
            ]
            calls = re.search(rb"^eastgate_webhook_api_calls_total (\S+)", ask(port, "GET", "/metrics"), re.MULTILINE)
            resident = read_resident_bytes(process.pid)
    best = min(rounds, key=lambda one: one.p99)
    result: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "review_bytes": len(body),
        "patch_bytes": patch,
        "api_calls": float(calls[1]) if calls else None,
        "resident_mb": round(resident / 1e6, 1),
        "rounds": [asdict(one) for one in rounds],
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"review {len(body)} bytes, patch {patch} bytes, {result['api_calls']} API calls, {resident / 1e6:.0f} MB"
        )
        for one in rounds:
            print(
                f"{one.per_second:8.0f} reviews/s   p50 {one.p50:6.1f} ms   p99 {one.p99:6.1f} ms   "
                f"CPU a review {one.cpu:4.0f} us, wrk {one.client_cpu:4.0f} us   machine else busy {one.others:4.0%}   "
                f"{one.failed} failed"
            )
    met = patch < PATCH_BYTES and best.p99 < P99_MILLISECONDS and result["api_calls"] == 0
    return 0 if met and not any(one.failed for one in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
