"""What the HTTP/1 lane accepts, ``h11`` and ``llhttp`` read in the same way; what either refuses, so does the lane.

``llhttp`` (through ``httptools``) knows a fixed list of methods, so only those are generated for the comparison; a
fragment in the target, lower-case methods and the like are refused here although the others take them: stricter is
allowed, looser is not.
"""

from __future__ import annotations

import contextlib

import h11
import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from eastgate.model.decisions import Edits
from sidecar.lanes.framing import ChunkedBody, FramingError, LengthBody
from sidecar.lanes.http1.requests import RequestError, RequestHead, read_request_head, write_request_head
from tests.examples import examples

type Reading = tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]

# --- the three readers --------------------------------------------------------------------------------------------


def read_ours(wire: bytes) -> RequestHead | None:
    end = wire.find(b"\r\n\r\n")
    if end < 0:
        return None
    try:
        return read_request_head(wire[: end + 4], 200, 80, "10.0.0.1", b"own:80")
    except RequestError:
        return None


def read_our_body(head: RequestHead, wire: bytes) -> tuple[bytes, bytes] | None:
    """(body, rest), or None while unfinished or refused."""
    rest = wire[wire.index(b"\r\n\r\n") + 4 :]
    if not head.has_body:
        return b"", rest
    body = ChunkedBody() if head.chunked else LengthBody(head.length or 0)
    try:
        found = body.feed(rest)
    except FramingError:
        return None
    return (found, body.rest) if body.done else None


def read_h11(wire: bytes) -> Reading | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(wire)
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            return None
    except h11.RemoteProtocolError:
        return None
    return request.method, request.target, list(request.headers), body


class _Llhttp:
    def __init__(self) -> None:
        self.target = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = 0
        self.head_complete = False

    def on_url(self, url: bytes) -> None:
        if not self.complete:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # trailers come here as well
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def read_llhttp(wire: bytes) -> Reading | None:
    seen = _Llhttp()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        if not seen.complete:
            return None
    if not seen.complete:
        return None
    return parser.get_method(), seen.target, seen.headers, seen.body


# --- generated requests -------------------------------------------------------------------------------------------

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"PROPFIND", b"M-SEARCH"]
HOSTILE = b"\x00\x01\t\n\x0b\x0c\r \x1f\"#%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\xff"
dirt = st.lists(st.sampled_from([bytes([byte]) for byte in HOSTILE] + [b"\r\n", b"\r\n ", b"\n"]), max_size=4).map(
    b"".join
)
words = st.sampled_from(
    [b"a", b"x-org", b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"TE"]
)
values = st.one_of(
    st.sampled_from(
        [
            b"",
            b"a",
            b"chunked",
            b"Chunked",
            b"5",
            b"+5",
            b"05",
            b"5, 5",
            b"close",
            b"100-continue",
            b"a, b",
            b"identity",
        ]
    ),
    dirt,
)
colons = st.sampled_from([b":", b": ", b":\t", b" :", b":  ", b""])
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b" \r\n", b"\r\n "])
fields = st.builds(lambda n, d, c, v, e: n + d + c + v + e, words, st.one_of(st.just(b""), dirt), colons, values, ends)
clean = st.builds(
    lambda n, v: n + b": " + v + b"\r\n", words, st.sampled_from([b"", b"a", b"chunked", b"5", b"\xe9 b"])
)
targets = st.one_of(
    st.sampled_from([b"/", b"/a?b=c", b"/%2e", b"*", b"http://h/x", b"//a"]), dirt.map(lambda d: b"/" + d)
)
versions = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1"])
bodies = st.one_of(
    st.sampled_from(
        [
            b"",
            b"hello",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
            b"5\nhello\r\n0\r\n\r\n",
            b"0\r\n\r\n",
        ]
    ),
    dirt.map(lambda d: b"5" + d + b"\r\nhello\r\n0\r\n\r\n"),
)
hosts = st.sampled_from([b"Host: h\r\n", b"Host: h\r\n", b"Host: h\r\n", b"", b"host:h \r\n"])
wild = st.builds(
    lambda m, t, v, h, f, b: m + b" " + t + b" " + v + b"\r\n" + h + b"".join(f) + b"\r\n" + b,
    st.sampled_from(METHODS), targets, versions, hosts, st.lists(st.one_of(clean, fields), max_size=4), bodies,
)  # fmt: skip
framed = st.sampled_from(
    [
        b"\r\n",
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
    ]
)
nearly = st.builds(
    # A good request with something put into one place of it.
    lambda m, t, f, b, at, d: (w := m + b" " + t + b" HTTP/1.1\r\nHost: h\r\n" + b"".join(f) + b)[: at % len(w)] + d + w[at % len(w) :],
    st.sampled_from(METHODS), st.sampled_from([b"/", b"/a?b=c", b"/%2e", b"http://h/x"]),
    st.lists(st.sampled_from([b"A: b\r\n", b"A:\xe9\t b \r\n", b"X-Org: 1\r\n", b"Connection: close\r\n"]), max_size=3),
    framed, st.integers(0, 1000), st.one_of(st.just(b""), st.sampled_from([bytes([byte]) for byte in HOSTILE] + [b"\r\n", b"\r\n "])),
)  # fmt: skip
requests = st.one_of(nearly, nearly, wild)


@examples(600)
@given(requests)
@example(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
@example(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nA: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\xe9\t b\r\n\r\n")
def test_what_is_accepted_has_one_reading(wire: bytes) -> None:
    head = read_ours(wire)
    if head is None or head.request.method not in METHODS:
        return
    body = read_our_body(head, wire)
    if body is None:
        return
    # The others are shown the message without what follows it, which is the next request's business.
    message = wire[: len(wire) - len(body[1])]
    theirs = [read_h11(message), read_llhttp(message)]
    for reading in theirs:
        assert reading is not None, "accepted here, refused there"
        method, target, headers, found = reading
        assert method == head.request.method
        assert target == head.request.target or target.startswith(b"http://")
        assert found == body[0]
        names = {name for name, _ in head.request.headers}
        assert [field for field in headers if field[0] in names] == list(head.request.headers)
        assert [value for name, value in headers if name == b"host"] in ([head.request.authority], [])


@examples(400)
@given(requests)
def test_what_is_forwarded_has_one_reading_too(wire: bytes) -> None:
    head = read_ours(wire)
    if head is None or head.request.method not in METHODS or read_our_body(head, wire) is None:
        return
    head.chunked, head.length = False, None
    written = write_request_head(head, Edits(head.request.target, frozenset([b"x-org"]), ((b"x-org", b"internal"),)))
    for reading in (read_h11(written), read_llhttp(written)):
        assert reading is not None
        method, target, headers, body = reading
        assert (method, target, body) == (head.request.method, head.request.target, b"")
        assert [value for name, value in headers if name == b"x-org"] == [b"internal"]
        assert [value for name, value in headers if name == b"host"] == [head.request.authority]


@examples(150)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 30))
def test_chunks_come_back_however_they_are_cut(pieces: list[bytes], step: int) -> None:
    wire = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nA: b\r\n\r\nNEXT"
    body, found, at = ChunkedBody(), b"", 0
    while not body.done:
        found += body.feed(wire[at : at + step])
        at += step
    assert found == b"".join(pieces)
    assert body.rest + wire[at:] == b"NEXT"


@examples(300)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    read_ours(data)
    read_ours(b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n")
    with contextlib.suppress(FramingError):
        ChunkedBody().feed(data)
