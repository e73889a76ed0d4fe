"""``eastgate sidecar``: every flag and variable of the injected container, read into what it means."""

from __future__ import annotations

import pytest

import sidecar.pod
from eastgate.cli.main import main
from eastgate.pods.probes import AppProbe, to_json
from sidecar.options import LogOptions, PodOptions


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[PodOptions]:
    """What ``sidecar run`` was asked for, instead of running."""
    kept: list[PodOptions] = []

    def keep(options: PodOptions) -> int:
        kept.append(options)
        return 0

    monkeypatch.setattr(sidecar.pod, "run", keep)
    return kept


def test_as_the_webhook_writes_the_container(given: list[PodOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    probes = {"web/readyz": AppProbe("http", 8080, "/healthz")}
    for name, value in {
        "EASTGATE_POD_NAME": "web-1",
        "EASTGATE_POD_NAMESPACE": "httpbin",
        "EASTGATE_POD_IP": "10.0.0.7",
        "EASTGATE_POD_IPS": "10.0.0.7,fd00::7",
        "EASTGATE_APP_PROBES": to_json(probes),
        "EASTGATE_CONTAINER_PORTS": "http=8080,grpc=9090,http=1",
        "EASTGATE_LOG_LEVEL": "debug",
        "EASTGATE_OPAQUE_PORTS": "9000-9001",
    }.items():
        monkeypatch.setenv(name, value)
    assert main(["sidecar", "run"]) == 0
    (options,) = given
    assert (options.namespace, options.name, options.address) == ("httpbin", "web-1", "10.0.0.7")
    assert options.bundle == "/var/run/eastgate/bundle"
    assert options.shards == "/var/run/eastgate/shards"
    assert options.pod == "/var/run/eastgate/pod"
    assert dict(options.ports) == {"http": 8080, "grpc": 9090}, "the first container that has the name"
    assert options.probes == probes
    assert options.expect_redirection
    engine = options.engine
    assert engine.upstream is None
    assert (engine.listen, engine.admin) == (("", 19006), ("", 19020)), "every address there is"
    assert engine.keys_directory == "/var/lib/eastgate"
    assert engine.opaque_ports == {9000, 9001}
    assert engine.log == LogOptions("debug", 1.0)
    assert (engine.workers, engine.drain_seconds, engine.policies) == (1, 30.0, ())


FLAGS = """\
sidecar run --namespace a --bundle b --shards s --pod p --pod-name n --pod-ip ::1 --keys-directory k
--listen 127.0.0.1:1 --admin [::1]:2 --upstream http://127.0.0.1:80 --workers 2 --log-level error --log-allows 0
--drain-seconds 1m --stale-seconds 2h --keys-unavailable 401 --resolve a:443:127.0.0.1:1
"""


def test_every_flag(given: list[PodOptions]) -> None:
    assert main(FLAGS.split()) == 0
    (options,) = given
    assert (options.bundle, options.shards, options.pod) == ("b", "s", "p")
    assert not options.expect_redirection, "connections lead to the upstream: nothing is redirected"
    assert options.keys_unavailable == "401"
    engine = options.engine
    assert (engine.listen, engine.admin, engine.upstream) == (("127.0.0.1", 1), ("::1", 2), ("127.0.0.1", 80))
    assert (engine.workers, engine.drain_seconds, engine.stale_seconds) == (2, 60.0, 7200.0)
    assert engine.resolve == (("a", 443, "127.0.0.1", 1),)


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("--namespace", "A_b", "a namespace's name"),
        ("--container-ports", "http", "NAME=PORT"),
        ("--container-ports", "http=0", "NAME=PORT"),
        ("--app-probes", '{"web/x":{}}', "CONTAINER/NAME"),
        ("--listen", "19006", "HOST:PORT"),
        ("--workers", "0", "from 1 to 256"),
    ],
)
def test_values_that_are_refused(
    given: list[PodOptions], capsys: pytest.CaptureFixture[str], flag: str, value: str, word: str
) -> None:
    arguments = {"--namespace": "a", flag: value}
    assert main(["sidecar", "run", *(part for pair in arguments.items() for part in pair)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("eastgate sidecar run: error: ")
    assert flag in said
    assert word in said
    assert not given


def test_waiting_for_a_sidecar_that_is_gone() -> None:
    """Nobody is there: not ready, and idle."""
    assert main(["sidecar", "wait", "--admin", "127.0.0.1:1", "--timeout", "0"]) == 1
    assert main(["sidecar", "wait", "--idle", "--least", "0", "--admin", "127.0.0.1:1"]) == 0
