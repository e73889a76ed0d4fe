"""The lane under frames in any order: whatever a client does, the application gets a conversation that ``h2`` accepts,
of heads that the gate allowed."""

from __future__ import annotations

import contextlib

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hypothesis import given
from hypothesis import strategies as st

from sidecar.lanes.http2.fields import encode_fields
from sidecar.lanes.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    SETTINGS,
    FrameReader,
    encode_frame,
    encode_head,
    encode_reset,
    encode_window_update,
)
from sidecar.options import Limits
from tests.examples import examples
from tests.lanes.http2_peer import Clock, FakeGate, make_lane

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
STREAMS = st.integers(0, 13)
TOKENS = st.sampled_from([b"good", b"bad", b"keys", b"badkeys"])


def _head(stream: int, token: bytes, end: bool, more: list[tuple[bytes, bytes]]) -> bytes:
    return encode_head(stream, encode_fields([*HEAD, (b"authorization", token), *more]), end)


MORE = st.lists(
    st.sampled_from([(b"content-length", b"4"), (b"te", b"trailers"), (b"x", b"y"), (b"cookie", b"a=1")]),
    max_size=2,
    unique=True,
)
NEW = st.tuples(TOKENS, st.booleans(), MORE)
"""The head of the next stream, as a well-behaved client numbers them."""
ON_STREAM = st.one_of(
    st.builds(
        lambda: lambda stream: encode_head(stream, encode_fields([(b"x-trailer", b"1"), (b"x-org", b"evil")]), True)
    ),
    st.builds(
        lambda flags, data: lambda stream: encode_frame(DATA, flags, stream, data),
        st.sampled_from([0, 0, END_STREAM, PADDED]),
        st.sampled_from([b"", b"\x01ab\0", b"data", b"x" * 3000]),
    ),
    st.builds(lambda: lambda stream: encode_reset(stream, 8)),
    st.builds(lambda size: lambda stream: encode_window_update(stream, size), st.integers(1, 5000)),
)
"""A frame for one of the streams so far, the ended ones included."""
PLAIN = st.sampled_from(
    [
        encode_frame(PING, 0, 0, b"12345678"),
        encode_frame(SETTINGS, 0, 0, b"\0\4\0\0\0\x05"),
        encode_window_update(0, 1000),
    ]
)
WRONG = st.one_of(
    st.builds(_head, STREAMS, TOKENS, st.booleans(), st.just([(b"upgrade", b"h2c")])),
    st.builds(
        lambda stream, flags: encode_frame(CONTINUATION, flags, stream, b""), STREAMS, st.sampled_from([0, END_HEADERS])
    ),
    st.builds(lambda stream: encode_frame(HEADERS, 0, stream, encode_fields(HEAD)), STREAMS),
    st.builds(encode_window_update, STREAMS, st.just(0)),
    st.binary(max_size=20),
)
STEP = st.one_of(
    NEW.map(lambda value: ("new", value)),
    NEW.map(lambda value: ("new", value)),
    st.tuples(st.integers(0, 9), ON_STREAM).map(lambda value: ("on", value)),
    st.tuples(st.integers(0, 9), ON_STREAM).map(lambda value: ("on", value)),
    PLAIN.map(lambda value: ("raw", value)),
    st.just(("keys", None)),
    st.just(("pump", None)),
)
STEPS = st.tuples(st.lists(STEP, max_size=25), st.lists(WRONG, max_size=1)).map(
    lambda pair: [*pair[0], *[("raw", frame) for frame in pair[1]]]
)


@examples(400)
@given(steps=STEPS, portion=st.sampled_from([0, 0, 1, 5]))
def test_the_application_is_never_told_nonsense(steps, portion):
    gate = FakeGate()
    lane = make_lane(gate, Limits(streams=5, pending_bytes=4000), Clock())
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    seen: dict[int, list[tuple[bytes, bytes]]] = {}

    def pump() -> None:
        data = lane.take_upstream()
        if data.startswith(PREFACE):
            server.initiate_connection()
        for event in server.receive_data(data) if data else ():  # raises for any violation
            if isinstance(event, h2.events.RequestReceived):
                seen[event.stream_id] = event.headers
                with contextlib.suppress(h2.exceptions.ProtocolError):  # reset in the same breath
                    server.send_headers(event.stream_id, [(b":status", b"200")], end_stream=event.stream_id % 4 == 1)
            elif isinstance(event, h2.events.TrailersReceived):
                assert event.headers == [(b"x-trailer", b"1")]
        if seen and (answer := server.data_to_send()) and not lane.closed:
            lane.from_upstream(answer)

    lane.from_client(PREFACE + encode_frame(SETTINGS, 0, 0, b""))
    last = -1
    for step in steps:
        if lane.closed:
            break
        kind, value = step
        if kind == "keys":
            if lane.fetches:
                lane.keys_fetched()
        elif kind == "pump":
            pump()
        else:
            if kind == "new":
                last += 2
                data = _head(last, *value)
            elif kind == "on":
                data = value[1](max(1, last - 2 * value[0]))
            else:
                data = value
            size = portion or len(data) or 1
            for start in range(0, len(data), size):
                if not lane.closed:
                    lane.from_client(data[start : start + size])
    pump()

    allowed = [r for r in gate.requests if dict(r.headers)[b"authorization"] in (b"good", b"keys")]
    assert len(seen) <= len(allowed)
    for headers in seen.values():
        fields = dict(headers)
        assert fields[b"x-org"] == b"internal"
        assert b"authorization" not in fields
        assert b"upgrade" not in fields
    assert list(seen) == sorted(seen)


@examples(200)
@given(data=st.binary(max_size=200), portion=st.integers(1, 50))
def test_bytes_of_any_kind_never_raise_and_never_pass(data, portion):
    gate = FakeGate()
    lane = make_lane(gate, Limits(), Clock())
    lane.from_client(PREFACE + encode_frame(SETTINGS, 0, 0, b""))
    for start in range(0, len(data), portion):
        lane.from_client(data[start : start + portion])
    assert lane.upstream == b""
    assert list(FrameReader().feed(lane.client))  # what the client hears is whole frames


@examples(200)
@given(data=st.binary(max_size=200), portion=st.integers(1, 50), greeted=st.booleans())
def test_an_application_that_says_anything(data, portion, greeted):
    """The client still gets whole frames, and the lane survives."""
    lane = make_lane(FakeGate(), Limits(), Clock())
    lane.from_client(PREFACE + encode_frame(SETTINGS, 0, 0, b"") + _head(1, b"good", True, []))
    if greeted:
        data = encode_frame(SETTINGS, 0, 0, b"") + data
    for start in range(0, len(data), portion):
        lane.from_upstream(data[start : start + portion])
    reader = FrameReader()
    assert list(reader.feed(lane.client))
    assert not reader.partial
