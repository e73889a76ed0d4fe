"""What is remembered of request heads: it changes no reading, holds no secret, and is bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.lanes import grammar
from sidecar.lanes.http1 import requests as http1_requests
from sidecar.lanes.http1.requests import RequestError, RequestHead, read_request_head

LINES = [
    b"Host: a", b"Host: a:80", b"Host: a b", b"Connection: close", b"Connection: keep-alive, X-Hop", b"X-Hop: 1",
    b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c", b"TE: trailers", b"TE: gzip", b"Content-Length: 2",
    b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue",
    b"Expect: x", b"Proxy: x", b"Accept: */*", b"Authorization: Bearer t", b"X: " + b"y" * 100, b"bad line", b"A : b",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    grammar._fields.clear()
    http1_requests._sections.clear()
    http1_requests._seen.clear()


def read(data: bytes, most_fields: int = 5) -> RequestHead | tuple[str, int]:
    try:
        return read_request_head(data, most_fields, 80, "10.0.0.1", b"own:80")
    except RequestError as error:
        return error.why, error.status


@given(
    st.sampled_from([b"GET / HTTP/1.1", b"POST /p HTTP/1.0", b"GET http://a/ HTTP/1.1", b"GET http://b/ HTTP/1.1"]),
    st.lists(st.sampled_from(LINES), max_size=6),
    st.integers(0, 6),
)
def test_a_head_read_from_memory_reads_the_same(line: bytes, lines: list[bytes], most_fields: int) -> None:
    forget()
    block = b"".join(one + b"\r\n" for one in lines) + b"\r\n"
    first = read(line + b"\r\n" + block, most_fields)
    for other in (b"GET /other HTTP/1.1", b"POST / HTTP/1.0", line):
        read(other + b"\r\n" + block, 200)  # who else sends these fields
    assert read(line + b"\r\n" + block, most_fields) == first


def test_fields_that_come_again_are_remembered() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"
    for _ in range(2):
        read(head)
    assert list(http1_requests._sections) == [b"Host: a\r\nAccept: */*\r\n"]


@pytest.mark.parametrize(
    "secret",
    [b"Authorization: Bearer t", b"cookie: s=1", b"X-Auth: t", b"X-Own-Token: " + b"t" * 90, b"Proxy-Authorization: t"],
)
def test_no_secret_is_remembered(secret: bytes) -> None:
    for _ in range(5):
        assert isinstance(read(b"GET / HTTP/1.1\r\nHost: a\r\n" + secret + b"\r\n\r\n"), RequestHead)
    assert http1_requests._sections == {}


def test_nothing_refused_is_remembered() -> None:
    for _ in range(5):
        assert read(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == ("more than one Host field", 400)
    assert http1_requests._sections == {}


def test_the_memory_is_bounded() -> None:
    for number in range(5000):
        for _ in range(2):
            read(b"GET / HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % number)
        assert len(http1_requests._sections) <= http1_requests._REMEMBERED
        assert len(http1_requests._seen) <= 4 * http1_requests._REMEMBERED
    long = b"Host: a\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"y" * 80) for n in range(10))
    for _ in range(3):
        read(b"GET / HTTP/1.1\r\n" + long + b"\r\n", 200)
    assert long not in http1_requests._sections
