"""The garbage collector, set up for a proxy."""

from __future__ import annotations

import gc

import pytest

from sidecar.loops import pause_collections


def test_collections_pause_and_go_on_whatever_happens() -> None:
    with pause_collections():
        assert not gc.isenabled()
        with pause_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="compiling"), pause_collections():
        raise ValueError("compiling")
    assert gc.isenabled()
