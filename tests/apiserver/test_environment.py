"""The harness itself: a server answers, and a Service leads to a process of this machine."""

from __future__ import annotations

from tests.apiserver.environment import Environment


def test_is_the_version_that_the_lock_file_names(environment: Environment) -> None:
    assert '"gitVersion": "v1.36' in environment.kubectl("get", "--raw", "/version")


def test_a_namespace_has_its_service_account(environment: Environment) -> None:
    name = environment.create_namespace("harness", "enabled")
    assert environment.get("serviceaccount", "default", "-n", name)["metadata"]["name"] == "default"  # type: ignore[index]
