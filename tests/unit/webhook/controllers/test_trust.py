"""The controller's own authorities: watched, kept, and never begun without."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from tests.unit.sidecar.key_server import make_authority
from webhook.controllers import trust
from webhook.controllers.trust import TrustError, TrustWatch

ONE, OTHER = (make_authority(name).pem for name in ("One", "Other"))


def subjects(watch: TrustWatch) -> list[str]:
    return sorted(one.subject for one in watch.authorities)


def test_a_change_is_noticed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trust, "LOOK_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    file = tmp_path / "ca.crt"
    file.write_text(ONE)
    changed = threading.Semaphore(0)
    watch = TrustWatch([str(file)], changed.release)
    assert subjects(watch) == ["CN=One"]
    assert not watch.is_alive
    watch.start()
    file.write_text(ONE + OTHER)
    assert changed.acquire(timeout=30)
    assert subjects(watch) == ["CN=One", "CN=Other"]
    assert "trusted authorities: " in caplog.text
    assert not changed.acquire(timeout=0.1)
    file.write_text("nothing")
    assert not changed.acquire(timeout=0.1)
    assert watch.is_behind
    assert subjects(watch) == ["CN=One", "CN=Other"]
    assert caplog.text.count("trusted authorities stay as they were: ") == 1
    file.write_text(OTHER)
    assert changed.acquire(timeout=30)
    assert not watch.is_behind
    assert watch.is_alive
    watch.stop()


def test_it_does_not_begin_with_a_bad_file(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="cannot be read: no such file or directory"):
        TrustWatch([str(tmp_path / "none")], lambda: None)


def test_without_files_there_is_nothing_to_watch() -> None:
    watch = TrustWatch((), lambda: None)
    watch.start()
    assert watch.is_alive
    assert watch.authorities == ()
