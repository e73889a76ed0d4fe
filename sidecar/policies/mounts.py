"""The folders that kubelet mounts into a pod, read as what they were at one moment.

Kubelet writes a volume's files into a new folder and swaps one symbolic link, ``..data``, to it (``atomic_writer``):
whoever resolves the link once and reads behind it gets files of one generation. Folders without the link, as people
make them to try things out, are read as they are.

Changes are found by looking. inotify would tell at once, but its instances are counted by user (128), and all sidecars
of a node share one; a look is one ``readlink`` a folder, a few microseconds.

Knows: folders and files. Must not know: what is in them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

LOOK_SECONDS = 0.1
"""Between two looks."""

MAX_FILE_BYTES = 2 * 1024 * 1024
"""Of one file; ConfigMaps and Secrets hold 1 MiB, and a pod's annotations 256 KiB."""

_LINK = "..data"
_ATTEMPTS = 3

type Fingerprint = tuple[object, ...]


class MountError(Exception):
    """What keeps a folder from being read; ``str()`` says it."""


def take_fingerprint(folders: Iterable[str]) -> Fingerprint:
    """What changes whenever one of the folders does, or one of the files that stand among them."""
    return tuple(_take_one(Path(folder)) for folder in folders)


def _take_one(folder: Path) -> object:
    try:
        return str((folder / _LINK).readlink())
    except OSError:
        pass
    found = []
    with contextlib.suppress(OSError):  # it is not there, or is just going
        for path in (folder, *sorted(folder.rglob("*"))):
            status = path.stat()
            found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def read_files(folder: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the files that there are, all of one generation. Raises ``MountError``."""
    for attempt in range(1, _ATTEMPTS + 1):
        root, link = Path(folder), None
        with contextlib.suppress(OSError):
            link = (root / _LINK).readlink()
        root = root / link if link is not None else root
        try:
            if not root.is_dir():
                raise FileNotFoundError
            found = {name: content for name in names if (content := _read(root / name)) is not None}
            if link is None or (Path(folder) / _LINK).readlink() == link:
                return found
        except FileNotFoundError:
            if attempt == _ATTEMPTS:
                raise MountError(f"`{folder}` is not there") from None
        except OSError as error:
            raise MountError(f"`{folder}` cannot be read: {(error.strerror or 'error').lower()}") from None
    raise MountError(f"`{folder}` changes faster than it can be read")


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > MAX_FILE_BYTES:
        raise MountError(f"`{path.name}` has more than {MAX_FILE_BYTES} bytes")
    return content
