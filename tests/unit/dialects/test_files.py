"""From paths to texts: files, directories, standard input, and everything that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eastgate.dialects import files
from eastgate.dialects.files import SourceError, read_sources


def test_a_directory_is_read_recursively_and_sorted(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "sub/c.json", "sub/d.YAML", "notes.md", ".hidden.yaml", ".git/e.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    found = read_sources([str(tmp_path)])
    assert [text for _, text in found] == ["a.yaml", "b.yml", "sub/c.json", "sub/d.YAML"]
    assert found[0][0] == str(tmp_path / "a.yaml")


def test_a_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "policy.txt"
    path.write_text("\ufeffa: ü\n")
    assert read_sources([str(path)]) == [(str(path), "a: ü\n")]


def test_order_is_kept_and_a_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(name)
    found = read_sources([str(tmp_path / "b.yaml"), str(tmp_path), "-", str(tmp_path / "sub/../b.yaml")], "text")
    assert [name for name, _ in found] == [str(tmp_path / "b.yaml"), str(tmp_path / "a.yaml"), "<stdin>"]


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "p.yaml").write_text("x")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    assert read_sources([str(tmp_path)]) == [(str(tmp_path / "p.yaml"), "x")]


def test_a_directory_without_policies_is_an_empty_list(tmp_path: Path) -> None:
    assert read_sources([str(tmp_path)]) == []


def problem(*paths: str, stdin: str | None = None) -> SourceError:
    with pytest.raises(SourceError) as raised:
        read_sources(paths, stdin)
    return raised.value


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    error = problem(str(tmp_path / "none.yaml"))
    assert (error.path, error.why) == (str(tmp_path / "none.yaml"), "no such file or directory")
    assert error.args == (error.path, error.why)


def test_a_dangling_link_in_a_directory_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").symlink_to("nowhere")
    assert problem(str(tmp_path)).why == "no such file or directory"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    assert problem(str(path)).why == "permission denied"


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert str(problem(str(path))) == f"{path}: not UTF-8 text: byte 0xff on line 2"


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1024 * 1024)
    path = tmp_path / "p.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert problem(str(path)).why == "larger than 1 MiB"
    assert problem("-", stdin="#" * (1024 * 1024 + 1)).path == "<stdin>"


def test_standard_input_that_is_not_there() -> None:
    assert problem("-").why == "there is nothing on standard input"


def test_a_path_with_a_null_byte() -> None:
    assert problem("a\0b").path == "a\0b"
