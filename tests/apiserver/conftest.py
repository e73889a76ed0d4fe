"""The API server of a test session: started by the first test that needs one, shared, gone with the session."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.environment import Environment, NotAvailableError, find_assets, share_environment

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules take turns at the one server: what waits for another module's end is no test that hangs."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The session's API server. Skips, and says why, where there is none to be had."""
    try:
        find_assets()
    except NotAvailableError as missing:
        pytest.skip(f"NOT TESTED AGAINST A REAL API SERVER: {missing}")
    folder = tmp_path_factory.getbasetemp()
    owner = os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the session is the parent, and the folder beside ours everybody's
        folder, owner = folder.parent, os.getppid()
    return share_environment(folder / "apiserver", owner)


@pytest.fixture(scope="module")
def environment(server: Environment) -> Iterator[Environment]:
    """The same, for one module at a time: CRDs, webhook configurations and Services belong to the whole cluster."""
    with (server.folder / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield server
