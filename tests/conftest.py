"""What holds for every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import settings

from tests.examples import examples

# Hundreds of tests start a process. Where bytecode must not be written (container images like to say so), each of
# them would compile the whole product again, and pytest its tests: a quarter of the suite's time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("eastgate", examples())
settings.load_profile("eastgate")


@pytest.fixture(scope="session", autouse=True)
def one_parser() -> Iterator[None]:
    """The command line's parser is made once, as in a process of its own; hundreds of tests call ``main``."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield
