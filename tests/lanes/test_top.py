"""The port chooses the lane; bytes only choose between HTTP/1 and HTTP/2; nothing chooses a tunnel."""

from __future__ import annotations

import pytest

from sidecar._mitmproxy import Drain, events
from sidecar.lanes.top import PREFACE, TopLane
from sidecar.options import Limits
from tests.lanes.stub_gate import StubGate
from tests.lanes.transcript import Transcript

DENIED = b"HTTP/1.1 401 "


def top(*opaque: int) -> Transcript:
    return Transcript(lambda context: TopLane(context, StubGate(), Limits(), frozenset(opaque)))  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [b"G", b"GE", b"GET", b"P", b"PR", b"\r\n", b"GET /secret HTTP/1.1\r"])
def test_a_short_first_segment_is_no_way_round(first: bytes) -> None:
    method = b"PROPFIND" if first.startswith(b"P") else b"GET"
    whole = (b"\r\n" if first == b"\r\n" else b"") + method + b" /secret HTTP/1.1\r\nHost: a\r\n\r\n"
    transcript = top().from_client(first)
    assert transcript.client == transcript.upstream == b""
    transcript.from_client(whole[len(first) :])
    assert transcript.client.startswith(DENIED)
    assert transcript.opened == 0


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03", b"\x16"],
)
def test_tls_is_refused_without_a_word(data: bytes) -> None:
    transcript = top().from_client(data)
    assert transcript.closed == ["client"]
    assert transcript.client == b""
    assert transcript.opened == 0
    transcript.from_client(b"more")
    assert transcript.opened == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02",
        b"!GET / HTTP/1.1\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"EHLO x\r\n",
        b"\x80\x2e\x01\x00",
    ],
)
def test_anything_else_gets_400(data: bytes) -> None:
    transcript = top().from_client(data)
    assert transcript.client.startswith(b"HTTP/1.1 400 ")
    assert transcript.opened == 0


def test_server_bytes_first_change_nothing() -> None:
    transcript = top().from_upstream(b"220 smtp\r\n")
    assert transcript.client == b""
    assert transcript.closed == ["client"]


def test_a_preface_in_pieces_becomes_http2() -> None:
    transcript = top()
    for byte in PREFACE[:-1]:
        transcript.from_client(bytes([byte]))
    assert type(transcript.layer).__name__ == "TopLane"
    assert [wakeup.delay for wakeup in transcript.wakeups] == [60.0, 10.0], "silence, then the rest of the head"
    transcript.from_client(PREFACE[-1:])
    assert "Http2Lane" in repr(transcript.layer.handle_event)


def test_half_a_preface_does_not_wait_for_ever() -> None:
    transcript = top().from_client(b"PRI * HTT")
    assert transcript.time_passes().closed == [], "the wait for the first byte is over"
    assert transcript.time_passes().closed == ["client"]


def test_silence_does_not_last_for_ever() -> None:
    """nginx and Go give a first request a minute or less."""
    assert top().time_passes().closed == ["client"]


def test_the_wait_for_the_first_byte_does_not_end_a_request() -> None:
    transcript = top().from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transcript.time_passes().closed == []


def test_an_almost_preface_is_http1_and_refused() -> None:
    transcript = top().from_client(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
    assert transcript.client.startswith(b"HTTP/1.1 505 ")
    assert transcript.opened == 0


def test_an_opaque_port_is_dialled_at_once_by_declaration() -> None:
    transcript = top(8080)
    assert transcript.opened == 1
    transcript.from_upstream(b"220 smtp\r\n")
    assert transcript.client == b"220 smtp\r\n"


def test_a_client_that_leaves_silently() -> None:
    assert top().client_closes().closed == ["client"]


def test_draining_before_the_first_byte() -> None:
    transcript = top().feed(Drain())
    transcript.from_client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"connection: close\r\n" in transcript.client
    silent = top().feed(Drain())
    silent.feed(events.Wakeup(silent.wakeups[-1]))
    assert silent.closed == ["client"]
