"""The API server of a test process: started by the first test that needs one, gone with the process.

Test processes that run side by side (``pytest -n``) have one each, for CRDs, webhook configurations and the Services of
the installation belong to a whole cluster; within one process modules follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.environment import (
    Environment,
    NotAvailableError,
    find_assets,
    launch_environment,
    stop_environment,
)

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A server that starts on a busy machine is no test that hangs."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The running server. Skips, and says why, where there is none to be had."""
    try:
        find_assets()
    except NotAvailableError as missing:
        pytest.skip(f"NOT TESTED AGAINST A REAL API SERVER: {missing}")
    folder = tmp_path_factory.getbasetemp() / "apiserver"
    yield launch_environment(folder)
    stop_environment(folder)
