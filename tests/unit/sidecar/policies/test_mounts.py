"""Folders as kubelet mounts them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sidecar.policies.mounts import MAX_FILE_BYTES, MountError, read_files, take_fingerprint
from tests.live.pod_running import Mount

NAMES = ("a", "1/b", "missing")


def test_files_of_a_mount(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    mount.write({"a": b"1", "1/b": b"2"})
    assert read_files(str(tmp_path), NAMES) == {"a": b"1", "1/b": b"2"}
    before = take_fingerprint([str(tmp_path)])
    mount.write({"a": b"3"})
    assert read_files(str(tmp_path), NAMES) == {"a": b"3"}
    after = take_fingerprint([str(tmp_path)])
    assert before != after == take_fingerprint([str(tmp_path)])


def test_a_plain_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert read_files(str(tmp_path), NAMES) == {"a": b"1"}
    before = take_fingerprint([str(tmp_path)])
    (tmp_path / "a").write_bytes(b"22")
    assert take_fingerprint([str(tmp_path)]) != before


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="is not there"):
        read_files(str(tmp_path / "none"), NAMES)
    assert take_fingerprint([str(tmp_path / "none")]) == ((),)
    (tmp_path / "..data").symlink_to("..gone")
    with pytest.raises(MountError, match="is not there"):
        read_files(str(tmp_path), NAMES)
    (tmp_path / "..data").unlink()
    (tmp_path / "a").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(MountError, match="`a` has more than"):
        read_files(str(tmp_path), NAMES)
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(MountError, match="cannot be read: is a directory"):
        read_files(str(tmp_path), NAMES)


def test_files_of_two_generations_are_never_mixed(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    names = [f"f{number}" for number in range(5)]
    mount.write(dict.fromkeys(names, b"0"))
    over = threading.Event()

    def swap() -> None:
        generation = 0
        while not over.is_set():
            generation += 1
            mount.write(dict.fromkeys(names, b"%d" % generation))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(200):
            try:
                found = read_files(str(tmp_path), names)
            except MountError:  # too fast for us, and said so
                continue
            assert len(found) == 5
            assert len(set(found.values())) == 1
    finally:
        over.set()
        thread.join()
