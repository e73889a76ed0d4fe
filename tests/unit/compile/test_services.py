"""Services and their ports."""

from __future__ import annotations

from eastgate.compile.services import ServiceDirectory
from eastgate.model.workloads import Service, ServicePort

WEB = Service(
    "ns",
    "web",
    labels=(("app", "web"),),
    ports=(ServicePort(80, "http", 8080), ServicePort(81, "grpc", 9090), ServicePort(82, "named", "admin")),
)
DIRECTORY = ServiceDirectory([WEB])


def test_targets() -> None:
    assert DIRECTORY.targets("ns", "web", 80) == frozenset({8080})
    assert DIRECTORY.targets("ns", "web", "grpc") == frozenset({9090})
    assert DIRECTORY.targets("ns", "web", 82) is None
    assert DIRECTORY.targets("ns", "web", None) is None
    assert DIRECTORY.targets("ns", "web", 99) is None
    assert DIRECTORY.targets("ns", "other", 80) is None


def test_same_port() -> None:
    assert DIRECTORY.may_be_same_port("ns", "web", None, 80)
    assert DIRECTORY.may_be_same_port("ns", "web", 80, "http")
    assert not DIRECTORY.may_be_same_port("ns", "web", 80, "grpc")
    assert not DIRECTORY.may_be_same_port("ns", "web", 80, 81)
    # Without the Service a name may be any number, and a number only itself.
    assert DIRECTORY.may_be_same_port("ns", "other", 80, "http")
    assert not DIRECTORY.may_be_same_port("ns", "other", 80, 81)


def test_labels() -> None:
    assert DIRECTORY.labels("ns", "web") == {("app", "web")}
    assert DIRECTORY.labels("ns", "other") is None, "what was not read is not known"


def test_ports_to_a_container_port() -> None:
    assert DIRECTORY.ports_to("ns", "web", None, 8080) == (80, 82)
    assert DIRECTORY.ports_to("ns", "web", None, 0) == (80, 81, 82)
    assert DIRECTORY.ports_to("ns", "web", 81, 8080) == ()
    assert DIRECTORY.ports_to("ns", "other", None, 8080) == (None,)
