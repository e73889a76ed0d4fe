"""The HPACK decoder, the Huffman automaton, the literals and the frame reader against other people's (``hpack``)."""

from __future__ import annotations

import hpack
import hpack.huffman
import hpack.huffman_table
import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from sidecar.lanes.http2.fields import (
    FieldDecoder,
    FieldsError,
    FieldsTooLargeError,
    encode_fields,
    encode_table_size,
)
from sidecar.lanes.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    FrameReader,
    encode_frame,
    encode_head,
)
from sidecar.lanes.http2.heads import MalformedHeadError, read_head
from sidecar.lanes.http2.huffman import HuffmanError, decode_huffman
from sidecar.lanes.http2.memo import RecentMemo
from tests.examples import examples

NAMES = st.one_of(
    st.sampled_from([b":path", b":status", b"authorization", b"cookie", b"x-a", b"x-b", b"x-c", b"te"]),
    st.binary(min_size=1, max_size=40),
)
FIELDS = st.tuples(NAMES, st.one_of(st.sampled_from([b"", b"1", b"/", b"x" * 200]), st.binary(max_size=300)))
LISTS = st.lists(FIELDS, max_size=30)


@examples()
@given(blocks=st.lists(st.tuples(LISTS, st.booleans(), st.sampled_from([None, 0, 64, 500, 4096])), max_size=8))
def test_decoding_what_hpack_encodes(blocks):
    """A whole connection: table updates, evictions, sensitive fields, both string codings."""
    encoder, decoder = hpack.Encoder(), FieldDecoder(1 << 20, 1000)
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([hpack.HeaderTuple(*f) for f in fields], huffman=huffman)
        version = decoder.version
        assert decoder.decode(block) == fields
        if decoder.version == version:
            assert decoder.decode(block) == fields  # what the memory of heads relies on


@examples(400)
@given(
    fields=LISTS,
    huffman=st.booleans(),
    cuts=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    end=st.integers(0, 2000),
)
def test_agreeing_on_damaged_blocks(fields, huffman, cuts, end):
    block = bytearray(hpack.Encoder().encode([hpack.HeaderTuple(*f) for f in fields], huffman=huffman))
    for place, byte in cuts:
        if block:
            block[place % len(block)] = byte
    assert_agreement([bytes(block[: end if end < 1000 else None])])


@examples(400)
@given(blocks=st.lists(st.binary(max_size=60), max_size=4))
def test_agreeing_on_nonsense(blocks):
    assert_agreement(blocks)


def assert_agreement(blocks: list[bytes]) -> None:
    """Same fields, or both refuse; ours may refuse an integer that ``hpack`` reads without bound."""
    theirs = hpack.Decoder(max_header_list_size=1 << 30)
    ours = FieldDecoder(1 << 30, 1 << 20)
    for block in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            with pytest.raises(FieldsError):
                ours.decode(block)
            return
        try:
            found = ours.decode(block)
        except FieldsError as error:
            if str(error) != "integer too long":
                raise
            return
        assert found == expected


@examples()
@given(fields=LISTS)
def test_hpack_decodes_what_the_lane_encodes_and_remembers_nothing(fields):
    decoder = hpack.Decoder(max_header_list_size=1 << 30)
    block = encode_fields(fields)
    assert [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)] == fields
    assert len(decoder.header_table.dynamic_entries) == 0
    assert FieldDecoder(1 << 30, 1 << 20).decode(block) == fields


@examples()
@given(size=st.integers(0, 4096))
def test_table_size_updates(size):
    decoder = hpack.Decoder()
    decoder.decode(encode_table_size(size))
    assert decoder.header_table_size == size


@examples()
@given(text=st.binary(max_size=2000))
def test_huffman_decodes_what_hpack_encodes(text):
    coded = hpack.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert decode_huffman(coded) == text


@examples(500)
@given(coded=st.binary(max_size=40))
def test_huffman_agrees_on_nonsense(coded):
    try:
        expected = hpack.huffman_table.decode_huffman(coded)
    except hpack.HPACKDecodingError:
        with pytest.raises(HuffmanError):
            decode_huffman(coded)
    else:
        assert decode_huffman(coded) == expected


@pytest.mark.parametrize("coded", [b"\xff", b"\xff\xff\xff\xff", b"\x00", b"\xff\xff\xff\xfc", b"\x1f\xff"])
def test_huffman_refuses_wrong_padding_and_the_end_symbol(coded):
    with pytest.raises(HuffmanError):
        decode_huffman(coded)


@examples()
@given(lists=st.lists(LISTS, max_size=5), bytes_=st.integers(0, 2000), count=st.integers(0, 10))
def test_bounds_keep_the_table_in_step(lists, bytes_, count):
    """A list beyond the bounds is not returned, and the next one is still decoded right."""
    encoder = hpack.Encoder()
    decoder = FieldDecoder(bytes_, count)
    for fields in lists:
        block = encoder.encode([hpack.HeaderTuple(*f) for f in fields])
        total = sum(len(name) + len(value) + 32 for name, value in fields)
        if total > bytes_ or len(fields) > count:
            with pytest.raises(FieldsTooLargeError):
                decoder.decode(block)
        else:
            assert decoder.decode(block) == fields


def clear_reserved(kind, payload):
    """RFC 9113 section 6.8: the last stream of GOAWAY has a reserved bit before it."""
    return bytes([payload[0] & 0x7F]) + payload[1:] if kind == GOAWAY and payload else payload


@examples()
@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([DATA, HEADERS, CONTINUATION, 4, GOAWAY, 0x10, 0xFA]),
            st.sampled_from([0, END_STREAM, END_HEADERS, PADDED, PADDED | END_STREAM]),
            st.integers(0, 2**31 - 1),
            st.one_of(st.binary(max_size=50), st.sampled_from([b"x" * 400, b"y" * 700])),
        ),
        max_size=8,
    ),
    portion=st.integers(1, 1000),
)
def test_frames_survive_any_portions(frames, portion):
    """Everything but DATA comes out as it was, without a reserved bit; DATA may be cut, but says the same and uses the
    same credit.
    """
    data = b"".join(encode_frame(*frame) for frame in frames)
    reader = FrameReader()
    seen: list[tuple[int, int, int, bytes]] = []
    so_far = b""
    for start in range(0, len(data), portion):
        for kind, flags, stream, raw in reader.feed(data[start : start + portion]):
            assert raw[:9] == encode_frame(kind, flags, stream, raw[9:])[:9]
            expected = frames[len(seen)]
            so_far += raw[9:]
            if kind == DATA and len(so_far) < len(expected[3]):
                assert flags == 0
                continue
            seen.append((kind, flags, stream, so_far))
            so_far = b""
    assert seen == [(*head, clear_reserved(head[0], payload)) for *head, payload in frames]
    assert not reader.partial


@examples()
@given(block=st.binary(max_size=40_000), end=st.booleans())
def test_long_heads_are_cut_into_frames(block, end):
    frames = list(FrameReader().feed(encode_head(5, block, end)))
    assert b"".join(frame.payload for frame in frames) == block
    assert [frame.kind for frame in frames] == [HEADERS] + [CONTINUATION] * (len(frames) - 1)
    assert frames[0].flags & END_STREAM == end
    assert [bool(frame.flags & END_HEADERS) for frame in frames] == [False] * (len(frames) - 1) + [True]


@examples()
@given(pairs=st.lists(st.tuples(st.binary(max_size=30), st.binary(min_size=1, max_size=30)), max_size=200))
def test_the_memory_never_lies_and_never_grows(pairs):
    memo: RecentMemo[bytes] = RecentMemo(4000)
    truth: dict[bytes, bytes] = {}
    for key, value in pairs:
        memo.put(key, value)
        truth[key] = value
        assert memo.get(key) in (None, value)
        held = memo._young | memo._old
        assert all(truth[k] == v for k, v in memo._young.items())
        assert sum(len(k) + len(v) + 160 for k, v in held.items()) <= 4000 + 400


@examples(300)
@given(
    fields=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(
                    [
                        b":method",
                        b":path",
                        b":scheme",
                        b":authority",
                        b"host",
                        b"te",
                        b"a",
                        b"content-length",
                        b"A",
                        b"connection",
                    ]
                ),
                st.binary(max_size=5),
            ),
            st.one_of(
                st.sampled_from(
                    [b"GET", b"/", b"http", b"a", b"trailers", b"1", b"a:80", b" a", b"a\n", b"a\r", b"a\x00"]
                ),
                st.binary(max_size=5),
            ),
        ),
        max_size=8,
    )
)
def test_heads_that_pass_are_well_formed(fields):
    good = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    for candidate in (fields, good + fields):
        try:
            head = read_head(candidate, 80, "10.0.0.1")
        except MalformedHeadError:
            continue
        names = [name for name, _ in candidate]
        assert names.count(b":method") == names.count(b":scheme") == names.count(b":path") == 1
        assert all(name == name.lower() and name for name in names)
        assert not {b"connection", b"transfer-encoding", b"upgrade"} & set(names)
        assert all(not set(value) & {0, 10, 13} for _, value in candidate)
        assert head.request.target.startswith(b"/")
        assert names.index(b":path") < min([i for i, name in enumerate(names) if name[:1] != b":"], default=99)
        assert all(name != b"host" for name, _ in head.fields)
