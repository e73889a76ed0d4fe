"""Refusals on the wire: written the fast way they are, byte for byte, what they are written the plain way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eastgate.model.decisions import Decision
from eastgate.render.http import render_answer
from sidecar.lanes.http1.answers import write_answer, write_refusal
from sidecar.lanes.http2.answers import lay_out
from sidecar.lanes.http2.fields import FieldDecoder, encode_table_size
from sidecar.lanes.http2.frames import CONTINUATION, DATA, END_STREAM, HEADERS, FrameReader

FIELDS = st.tuples(
    st.sampled_from([b"www-authenticate", b"retry-after", b"x-a", b"content-type", b"content-length"]),
    st.sampled_from([b"", b"1", b'Bearer realm="http://a/"', b"\0", b"x" * 300]),
)
DECISIONS = st.builds(
    lambda status, body, headers: Decision(False, status, "x", body, tuple(headers)),
    st.sampled_from([400, 401, 403, 404, 502, 503, 499]),
    st.sampled_from([b"", b"Jwt is missing", b"RBAC: access denied", b"a\0b", "zäh%".encode()]),
    st.lists(FIELDS, max_size=3),
)


@given(DECISIONS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_http1(decision: Decision, grpc: bool, head: bool, http10: bool, persistent: bool) -> None:
    plain = write_answer(render_answer(decision, grpc=grpc, head=head), http10=http10, persistent=persistent)
    for _ in range(2):  # the second time from memory
        assert write_refusal(decision, grpc=grpc, head=head, http10=http10, persistent=persistent) == plain


@given(DECISIONS, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([b"", encode_table_size(0)]))
def test_http2(decision: Decision, grpc: bool, head: bool, with_body: bool, prefix: bytes) -> None:
    answer = render_answer(decision, grpc=grpc, head=head)
    for stream in (1, 2**31 - 1):
        layout = lay_out(decision, grpc=grpc, is_head=head, prefix=prefix, body=with_body)
        assert layout.size == len(answer.body)
        frames = list(FrameReader().feed(layout.fill_in(stream)))
        assert {frame.stream for frame in frames} == {stream}
        fields = FieldDecoder(10_000, 100).decode(frames[0].payload)
        said = [field for field in answer.headers if with_body or not answer.body or field[0] != b"content-length"]
        assert fields == [(b":status", b"%d" % answer.status), *said]
        body = answer.body if with_body else b""
        assert [frame.kind for frame in frames] == ([HEADERS, DATA] if body else [HEADERS])
        assert frames[-1].flags & END_STREAM
        assert not body or frames[-1].payload == body


def test_http2_a_head_of_several_frames() -> None:
    decision = Decision(False, 401, "x", b"no", ((b"x-long", b"v" * 40_000),))
    data = lay_out(decision, grpc=False, is_head=False, prefix=b"").fill_in(77)
    frames = list(FrameReader().feed(data))
    assert [frame.kind for frame in frames] == [HEADERS, CONTINUATION, CONTINUATION, DATA]
    assert {frame.stream for frame in frames} == {77}
