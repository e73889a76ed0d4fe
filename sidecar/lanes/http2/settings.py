"""SETTINGS: what each side may tell the other through the lane.

Knows: the parameters of RFC 9113 section 6.5.2 and who may hear them. Must not know: when they are sent. Both ways only
what is listed passes; an extension that the lane does not understand (RFC 8441's CONNECT, gRPC's true binary metadata)
cannot be agreed on behind its back. HEADER_TABLE_SIZE: the client's governs the application's encoder, whose blocks
pass undecoded; the application's would govern the client's encoder, which the lane decodes: it is not passed on, so
the default holds. MAX_FRAME_SIZE goes neither way, so the default holds for both (``frames.MAX_FRAME_BYTES``).
"""

from __future__ import annotations

import struct

from sidecar.lanes.http2.frames import (
    ACK,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PROTOCOL_ERROR,
    SETTINGS,
    Frame,
    Http2Error,
    encode_frame,
)
from sidecar.options import Limits

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

DEFAULT_WINDOW = 65_535
MAX_OUTSTANDING = 16
"""SETTINGS of one side that the other has not acknowledged yet. Real peers have one or two."""

ACKNOWLEDGEMENT = encode_frame(SETTINGS, ACK, 0, b"")

_PARAMETER = struct.Struct(">HL")
_TO_UPSTREAM = (HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE)

type Settings = dict[int, int]


def read_settings(frame: Frame) -> Settings:
    """The parameters of a SETTINGS frame that is not an acknowledgement; the last of equal ones counts."""
    payload = frame.payload
    if len(payload) % _PARAMETER.size:
        raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    values: Settings = dict(_PARAMETER.iter_unpack(payload))
    if values.get(ENABLE_PUSH, 0) > 1:
        raise Http2Error(PROTOCOL_ERROR, "ENABLE_PUSH neither 0 nor 1")
    if values.get(INITIAL_WINDOW_SIZE, 0) > MAX_WINDOW:
        raise Http2Error(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large")
    if not MAX_FRAME_BYTES <= values.get(MAX_FRAME_SIZE, MAX_FRAME_BYTES) < 2**24:
        raise Http2Error(PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
    return values


def encode_settings(values: Settings) -> bytes:
    """A SETTINGS frame."""
    return encode_frame(SETTINGS, 0, 0, b"".join([_PARAMETER.pack(*pair) for pair in values.items()]))


def own_settings(limits: Limits) -> Settings:
    """What the client hears first, before the application is known."""
    return {MAX_CONCURRENT_STREAMS: limits.streams, MAX_HEADER_LIST_SIZE: limits.head_bytes}


def settings_for_upstream(values: Settings, *, first: bool) -> Settings:
    """The client's parameters for the application. Push is forbidden from the start."""
    passed: Settings = {ENABLE_PUSH: 0} if first else {}
    passed.update((name, values[name]) for name in _TO_UPSTREAM if name in values)
    return passed


def settings_for_client(values: Settings, limits: Limits) -> Settings:
    """The application's parameters for the client, none weaker than the lane's own."""
    passed: Settings = {}
    for name, most in own_settings(limits).items():
        if name in values:
            passed[name] = min(values[name], most)
    if INITIAL_WINDOW_SIZE in values:
        passed[INITIAL_WINDOW_SIZE] = values[INITIAL_WINDOW_SIZE]
    return passed
