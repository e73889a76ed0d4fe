"""Messages between the parent and its workers: a length, then that many bytes, over a socket pair.

Commands are pickled: they are the parent's own values, for its own child. Answers are JSON: a worker is what the
network talks to, and must not be able to make the parent run anything.

Knows: framing. Must not know: what is said.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import struct

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of one message: eight policy files of the longest kind."""

_LENGTH = struct.Struct("!I")


def write_command(writer: asyncio.StreamWriter, number: int, command: str, arguments: tuple[object, ...]) -> None:
    """Parent to worker."""
    _write(writer, pickle.dumps((number, command, arguments)))


async def read_command(reader: asyncio.StreamReader) -> tuple[int, str, tuple[object, ...]]:
    """The next command. Raises ``EOFError`` when the parent is gone."""
    number, command, arguments = pickle.loads(await _read(reader))  # noqa: S301
    return number, command, arguments


def write_answer(writer: asyncio.StreamWriter, number: int, answer: dict[str, object]) -> None:
    """Worker to parent."""
    _write(writer, json.dumps({**answer, "number": number}).encode())


async def read_answer(reader: asyncio.StreamReader) -> dict[str, object]:
    """The next answer. Raises ``EOFError`` when the worker is gone, ``ValueError`` when it speaks nonsense."""
    answer = json.loads(await _read(reader))
    if not isinstance(answer, dict):
        raise ValueError("not an answer")
    return answer


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(_LENGTH.pack(len(data)) + data)


async def _read(reader: asyncio.StreamReader) -> bytes:
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > MAX_FRAME:
        raise EOFError
    return await reader.readexactly(size)
