"""Answers that go astray: to streams that the application has not been sent, or after their end. And headers that end at a proxy."""

from __future__ import annotations

import pytest

from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    encode_frame,
    encode_head,
    encode_window_update,
)
from tests.lanes.test_http2_hostile import GOOD, OPEN, Wire, request

ANSWER = encode_fields([(b":status", b"200")])


def begin() -> Wire:
    """Stream 1 is at the application, stream 3 waits for keys."""
    wire = Wire().send(request(1, end=False), request(3, [*OPEN, (b"authorization", b"keys")]))
    wire.lane.from_upstream(encode_frame(SETTINGS, 0, 0, b""))
    wire.frames()
    wire.lane.take_upstream()
    return wire


@pytest.mark.parametrize(
    "said",
    [
        encode_head(3, ANSWER, False),
        encode_head(3, ANSWER, True),
        encode_frame(DATA, END_STREAM, 3, b"for nobody"),
        encode_frame(DATA, 0, 3, b""),
    ],
    ids=["head", "whole", "data", "empty"],
)
def test_an_answer_to_a_stream_that_still_waits_is_no_answer(said: bytes) -> None:
    """Passed on, it would be the answer to a request that nobody decided; and the stream would block all later ones."""
    wire = begin()
    wire.lane.from_upstream(said)
    got = wire.frames()
    assert not [frame for frame in got if frame[2] == 3 and frame[0] in (HEADERS, DATA)]
    assert [frame[3] for frame in got if frame[2] == 3 and frame[0] == RST_STREAM] == [b"\0\0\0\7"]  # REFUSED_STREAM
    assert got[-1][0] == GOAWAY
    assert wire.lane.closed == ["upstream", "client-half"]
    wire.lane.keys_fetched()
    assert wire.lane.upstream == b""


def test_credit_for_a_stream_that_still_waits_is_not_passed_on() -> None:
    wire = begin()
    wire.lane.from_upstream(encode_window_update(3, 5) + encode_window_update(1, 5))
    assert [frame[2] for frame in wire.frames()] == [1]


@pytest.mark.parametrize(
    "more", [encode_head(1, ANSWER, True), encode_frame(DATA, END_STREAM, 1, b"x"), encode_frame(DATA, 0, 1, b"x")]
)
def test_nothing_follows_the_end_of_an_answer(more: bytes) -> None:
    wire = begin()
    wire.lane.from_upstream(encode_head(1, ANSWER, True))
    assert [frame[:3] for frame in wire.frames()] == [(HEADERS, 5, 1)]
    wire.lane.from_upstream(more)
    assert not [frame for frame in wire.frames() if frame[0] in (HEADERS, DATA)]
    assert wire.lane.closed == ["upstream", "client-half"]


@pytest.mark.parametrize("name", [b"proxy", b"proxy-authorization", b"proxy-authenticate"])
def test_headers_for_a_proxy_end_here(name: bytes) -> None:
    wire = Wire().send(request(1, [*GOOD, (name, b"http://evil/"), (b"x-other", b"stays")]))
    assert wire.gate.requests[0].headers == ((b"authorization", b"good"), (b"x-other", b"stays"))
    assert name not in wire.lane.upstream
    assert b"x-other" in wire.lane.upstream
