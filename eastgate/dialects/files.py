"""From paths to texts: the one place where policy files are opened.

Knows: files, directories and ``-`` for standard input (whose text is handed in). Must not know YAML or any kind.
A source that cannot be read whole is an error and never a shorter list: policies that went missing protect nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

STDIN = "<stdin>"
"""How messages name the text behind ``-``."""

SUFFIXES = (".yaml", ".yml", ".json")
"""What is read in a directory, as kubectl does."""

MAX_BYTES = 32 * 1024 * 1024
"""Longest file. The API server takes requests up to 3 MiB and an object up to 1.5 MiB (etcd); this leaves room for the
dump of a large cluster in one file and still bounds memory."""


class SourceError(Exception):
    """A path that cannot be read: ``path`` as it was given, ``why`` for the person who gave it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


def read_sources(paths: Sequence[str], stdin: str | None = None) -> list[tuple[str, str]]:
    """(name, text) of every file, in the order given; the files of a directory recursively and sorted.

    ``-`` is ``stdin``. A file that is named twice, or by two paths, is read once.
    """
    found: dict[Path | str, tuple[str, str]] = {}
    for path in paths:
        if path == "-":
            if stdin is None:
                raise SourceError("-", "there is nothing on standard input")
            found.setdefault(STDIN, (STDIN, _check_size(STDIN, stdin.removeprefix("\ufeff"))))
            continue
        for file in _files_of(path):
            identity = _guard(path, file.resolve)
            if identity not in found:
                found[identity] = (str(file), _read_text(file))
    return list(found.values())


def refuse_empty(sources: Sequence[tuple[str, str]]) -> None:
    """Raise ``SourceError`` for a text with nothing in it: a file that is being written, a pipe whose command failed.
    Whoever means to have no policy can say so in a comment.
    """
    for name, text in sources:
        if not text.strip():
            raise SourceError(name, "empty: was it cut off? Accepted: objects, or a comment where none are meant")


def _files_of(path: str) -> Iterator[Path]:
    given = Path(path)
    if not _guard(path, given.exists):
        raise SourceError(path, "no such file or directory")
    if not given.is_dir():
        yield given
        return
    try:
        yield from sorted(file for file in _walk(given) if file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise SourceError(str(error.filename or path), _reason(error)) from error


def _walk(directory: Path) -> Iterator[Path]:
    """Every file below, without hidden entries: a mounted ConfigMap keeps its earlier version under ``..data``."""

    def fail(error: OSError) -> None:
        raise error

    for parent, directories, names in directory.walk(on_error=fail):
        directories[:] = [name for name in directories if not name.startswith(".")]
        yield from (parent / name for name in names if not name.startswith("."))


def _read_text(file: Path) -> str:
    data = _guard(str(file), lambda: _read_bytes(file))
    if len(data) > MAX_BYTES:
        raise SourceError(str(file), f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(str(file), f"not UTF-8 text: byte 0x{data[error.start]:02x} on line {line}") from error


def _read_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _check_size(name: str, text: str) -> str:
    if len(text) > MAX_BYTES:
        raise SourceError(name, f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    return text


def _guard[T](path: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    """The system's own words, in the style of messages."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]
