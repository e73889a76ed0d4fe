"""The protected application: says over HTTP what it saw, echoes on one port and speaks first on another.

Runs as a process of its own inside the pod's network namespace: ``python -m e2e.netns.app HTTP ECHO GREETING``.
"""

from __future__ import annotations

import asyncio
import json
import sys

GREETING = b"220 ready when you are\r\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One JSON document a request: peer, request line, headers. Keeps connections open."""
    peer = writer.get_extra_info("peername")[0]
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            headers = [line.split(": ", 1) for line in lines]
            length = int({name.lower(): value for name, value in headers}.get("content-length", "0"))
            await reader.readexactly(length)
            body = json.dumps({"peer": peer, "request": first, "headers": headers}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (EOFError, OSError):
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes goes back."""
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As SMTP and MySQL do: the server says the first word."""
    writer.write(GREETING)
    await echo(reader, writer)


async def main(http: int, echoing: int, greeting: int) -> None:
    """Listen on every address of both families until ended."""
    for handler, port in ((answer, http), (echo, echoing), (greet, greeting)):
        await asyncio.start_server(handler, ["0.0.0.0", "::"], port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
