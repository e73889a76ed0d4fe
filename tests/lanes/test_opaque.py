"""The opaque lane: bytes both ways, ends both ways, nothing read before there is somebody to write to."""

from __future__ import annotations

from sidecar._mitmproxy import events
from sidecar.lanes.opaque import OpaqueLane
from tests.lanes.transcript import Transcript


def test_both_directions() -> None:
    transcript = Transcript(OpaqueLane).from_client(b"\x00a").from_upstream(b"\x00b")
    assert transcript.upstream == b"\x00a"
    assert transcript.client == b"\x00b"
    assert not transcript.held["client"]


def test_each_direction_ends_by_itself() -> None:
    transcript = Transcript(OpaqueLane).client_closes()
    assert transcript.closed == ["upstream-half"]
    transcript.from_upstream(b"still here")
    assert transcript.client == b"still here"
    transcript.upstream_closes()
    assert transcript.closed[1:] == ["upstream", "client"]


def test_an_upstream_that_ends_first() -> None:
    transcript = Transcript(OpaqueLane).upstream_closes()
    assert transcript.closed == ["client-half"]
    transcript.from_client(b"last words")
    assert transcript.upstream == b"last words"


def test_an_upstream_out_of_reach_closes_the_client() -> None:
    transcript = Transcript(OpaqueLane, refuse_upstream="refused")
    assert transcript.closed == ["client"]
    assert transcript.held["client"]


def test_a_reset_ends_both() -> None:
    transcript = Transcript(OpaqueLane)
    transcript.context.client.state = transcript.context.client.state.CLOSED
    transcript.feed(events.ConnectionClosed(transcript.context.client))
    assert transcript.closed == ["upstream", "client"]
