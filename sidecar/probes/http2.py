"""One request over a new HTTP/2 connection, for gRPC probes and for apps that speak nothing else behind TLS.

Knows: HTTP/2 through ``h2``. Must not know: what is asked. Brought in by the first probe that needs it: most pods have
none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from sidecar.probes.verdict import MAX_BODY, ProbeError

STREAM = 1
"""Of the one request; a client's streams are odd (RFC 9113 section 5.1.1)."""


@dataclass(slots=True)
class Response:
    """``trailers`` are those behind the body; gRPC may also say everything in ``headers``."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)


async def call(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    headers: Sequence[tuple[str, str]],
    body: bytes | None = None,
) -> Response:
    """Send one request and read its answer, at most ``MAX_BODY`` bytes of it. Raises ``ProbeError`` or ``OSError``."""
    engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
    response = Response()
    try:
        engine.initiate_connection()
        engine.send_headers(STREAM, list(headers), end_stream=body is None)
        if body is not None:
            engine.send_data(STREAM, body, end_stream=True)
        writer.write(engine.data_to_send())
        while len(response.body) < MAX_BODY:
            data = await reader.read(65536)
            if not data:
                raise ProbeError("the app closed the connection")
            over = [_take(event, response, engine) for event in engine.receive_data(data)]
            writer.write(engine.data_to_send())
            if any(over):
                break
    except h2.exceptions.H2Error:
        raise ProbeError("what the app answers is not HTTP/2") from None
    return response


def _take(event: h2.events.Event, response: Response, engine: h2.connection.H2Connection) -> bool:
    """Keep what an event says; True when it was the last."""
    match event:
        case h2.events.ResponseReceived():
            response.headers = _read_headers(event.headers)
            status = response.headers.get(":status", "")
            response.status = int(status) if status.isascii() and status.isdigit() else 0
        case h2.events.TrailersReceived():
            response.trailers = _read_headers(event.headers)
        case h2.events.DataReceived():
            response.body += event.data
            engine.acknowledge_received_data(event.flow_controlled_length or 0, STREAM)
        case h2.events.StreamEnded():
            return True
        case h2.events.StreamReset() | h2.events.ConnectionTerminated():
            raise ProbeError("the app broke the request off")
    return False


def _read_headers(pairs: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs if isinstance(pairs, list) else []:
        found.setdefault(str(name), str(value))
    return found
