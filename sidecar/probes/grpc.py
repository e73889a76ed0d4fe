"""A gRPC probe: the health checking protocol's ``Check``, in clear, as the kubelet asks.

The two messages have one field each, so they are read and written here; grpcio would cost every sidecar 40 MB for it.
Rules: grpc.health.v1, Kubernetes' pkg/probe/grpc, gRPC over HTTP/2.

Knows: one call. Must not know: who asked, or time; the caller bounds that.
"""

from __future__ import annotations

import struct

from eastgate.pods.probes import AppProbe
from sidecar.probes.http import connect
from sidecar.probes.http2 import Response, call
from sidecar.probes.verdict import ProbeError, Verdict

_PATH = "/grpc.health.v1.Health/Check"
_SERVING = 1
_HEALTH = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OK, _NOT_FOUND, _UNIMPLEMENTED = "0", "5", "12"
_MEANINGS = {
    _NOT_FOUND: "the app does not know this service",
    _UNIMPLEMENTED: "the app has no health checking service",
}
_PREFIX = struct.Struct("!BI")


async def ask_grpc(probe: AppProbe, host: str, agent: str) -> Verdict:
    """Ask. Raises ``ProbeError`` or ``OSError``."""
    shown = f"[{host}]" if ":" in host else host
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", f"{shown}:{probe.port}"),
        (":path", _PATH),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", agent),
    ]
    message = write_request(probe.service)
    async with connect(host, probe.port, secure=False) as (reader, writer):
        response = await call(reader, writer, headers, _PREFIX.pack(0, len(message)) + message)
    return _judge(response)


def _judge(response: Response) -> Verdict:
    if response.status != 200:
        raise ProbeError(f"the app answers {response.status} and not as gRPC", 503)
    status = response.trailers.get("grpc-status") or response.headers.get("grpc-status", "")
    if status != _OK:
        raise ProbeError(_MEANINGS.get(status, f"the app answers gRPC status `{status[:8]}`"), 503)
    if len(response.body) < _PREFIX.size:
        raise ProbeError("the app answers without a message", 503)
    compressed, size = _PREFIX.unpack_from(response.body)
    message = response.body[_PREFIX.size :]
    if compressed or len(message) != size:
        raise ProbeError("the app answers with a message that cannot be read", 503)
    health = read_status(message)
    return Verdict(200 if health == _SERVING else 503, f"says {_HEALTH.get(health, health)}")


def write_request(service: str) -> bytes:
    """``HealthCheckRequest``: field 1 is the service's name, absent when empty."""
    name = service.encode()
    return b"\x0a" + _write_varint(len(name)) + name if name else b""


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))


def read_status(message: bytes) -> int:
    """``HealthCheckResponse``: field 1 is the status, 0 when absent; other fields are skipped."""
    place, status = 0, 0
    try:
        while place < len(message):
            tag, place = _read_varint(message, place)
            match tag & 7:
                case 0:
                    value, place = _read_varint(message, place)
                    status = value if tag >> 3 == 1 else status
                case 1:
                    place += 8
                case 2:
                    size, place = _read_varint(message, place)
                    place += size
                case 5:
                    place += 4
                case _:
                    raise IndexError
    except IndexError:
        raise ProbeError("the app answers with a message that cannot be read", 503) from None
    return status


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """The number and the place behind it. Raises ``IndexError`` where it has no end."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise IndexError
