"""Bodies end where RFC 9112 says, however the bytes are cut."""

import pytest

from sidecar.lanes.framing import (
    ChunkedBody,
    EndlessBody,
    FramingError,
    LengthBody,
    write_chunk,
    write_last_chunk,
)

WIRE = b'5\r\nhello\r\n6;a="b"\r\n world\r\n0\r\nX-Sum: 1\r\nhost: evil\r\n\r\nNEXT'


def test_a_length_ends_the_body_and_keeps_the_rest() -> None:
    body = LengthBody(5)
    assert body.feed(b"he") == b"he"
    assert not body.done
    assert body.feed(b"lloNEXT") == b"llo"
    assert body.done
    assert body.rest == b"NEXT"


def test_an_empty_body_is_done_at_once() -> None:
    body = LengthBody(0)
    assert body.done
    assert body.feed(b"x") == b""
    assert body.rest == b"x"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_chunks_however_they_are_cut(step: int) -> None:
    body, found = ChunkedBody(), b""
    for at in range(0, len(WIRE), step):
        found += body.feed(WIRE[at : at + step])
        if body.done:
            break
    assert found == b"hello world"
    assert body.trailers == [(b"x-sum", b"1"), (b"host", b"evil")]
    assert b"NEXT".startswith(body.rest)


@pytest.mark.parametrize(
    "wire",
    [
        b"5\nhello\r\n", b"5\r\nhelloX", b"5\r\nhello\n\n", b"0x5\r\n", b"+5\r\n", b" 5\r\n", b"5 \r\n", b"\r\n", b"g\r\n",
        b"1" * 16 + b"\r\n", b"5;" + b"a" * 300 + b"\r\n", b"5;a=\x00\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n",
        b"0\r\nA: b\nC: d\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 5000, b"5;a",
    ],
)  # fmt: skip
def test_bad_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(FramingError):
        body = ChunkedBody()
        body.feed(wire)
        body.feed(b"\n" + b"z" * 300)


def test_an_endless_body_never_ends() -> None:
    assert EndlessBody().feed(b"x") == b"x"
    assert not EndlessBody().done


def test_chunks_are_written() -> None:
    assert write_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_trailers_that_could_matter_are_dropped() -> None:
    trailers = [
        (b"grpc-status", b"0"), (b"content-length", b"5"), (b"transfer-encoding", b"chunked"), (b"authorization", b"Bearer x"),
        (b"x_org", b"admin"), (b"x-org", b"admin"), (b"host", b"evil"), (b"cookie", b"a"),
    ]  # fmt: skip
    assert write_last_chunk(trailers, frozenset([b"x-org"])) == b"0\r\ngrpc-status: 0\r\n\r\n"
