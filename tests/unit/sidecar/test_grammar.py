"""The grammar refuses what has two readings."""

import re

import pytest

from sidecar.lanes.grammar import (
    ABSOLUTE,
    AUTHORITY,
    CHUNK_LINE,
    NOT_IN_HEAD,
    REQUEST_LINE,
    STATUS_LINE,
    MalformedError,
    read_fields,
)

GOOD = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nA:\r\nB: \xe9 \t z \r\n\r\n"


def passes(first_line: re.Pattern[bytes], head: bytes) -> bool:
    match = first_line.match(head)
    if match is None:
        return False
    try:
        read_fields(head[match.end() : -2])
    except MalformedError:
        return False
    return True


def test_a_plain_head_passes() -> None:
    assert passes(REQUEST_LINE, GOOD)
    match = REQUEST_LINE.match(GOOD)
    assert match is not None
    assert match.groups() == (b"GET", b"/a?b=c", b"1")


@pytest.mark.parametrize(
    "head",
    [
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / http/1.1\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"!GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n fold\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\tfold\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\rB: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nB: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\x0b\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nH\xc3st: x\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_request_head_with_two_readings_is_refused(head: bytes) -> None:
    assert not passes(REQUEST_LINE, head)


def test_matching_is_linear_in_a_hostile_head() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\x00\r\n\r\n"
    assert not passes(REQUEST_LINE, head)


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.0 404 ", b"HTTP/1.1 204"])
def test_status_lines(line: bytes) -> None:
    assert passes(STATUS_LINE, line + b"\r\nA: b\r\n\r\n")


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK", b"HTTP/2 200 OK", b"HTTP/1.1 2000", b"220 smtp"]
)
def test_bad_status_lines(line: bytes) -> None:
    assert not passes(STATUS_LINE, line + b"\r\nA: b\r\n\r\n")


@pytest.mark.parametrize("host", [b"a", b"a.b.c:80", b"a_b", b"1.2.3.4", b"[::1]:8080", b"a.b."])
def test_authorities(host: bytes) -> None:
    assert AUTHORITY.fullmatch(host)


@pytest.mark.parametrize(
    "host", [b"", b"a@b", b"a/x", b"a b", b"a,b", b"a:", b"a:b", b"::1", b"[::1", b"a:123456", b"%61", b"a?b", b".a"]
)
def test_bad_authorities(host: bytes) -> None:
    assert AUTHORITY.fullmatch(host) is None


@pytest.mark.parametrize("line", [b"5", b"00a", b"5;a", b"5;a=b", b'5;a="b;c"', b'5;a="\\""'])
def test_chunk_lines(line: bytes) -> None:
    assert CHUNK_LINE.fullmatch(line)


@pytest.mark.parametrize(
    "line", [b"", b"0x5", b"+5", b"-1", b"5 ", b" 5", b"5;", b"5 ;a", b"5;a=", b'5;a="\r"', b"5\x0b", b"1" * 16, b"g"]
)
def test_bad_chunk_lines(line: bytes) -> None:
    assert CHUNK_LINE.fullmatch(line) is None


def test_absolute_form_has_no_userinfo() -> None:
    assert ABSOLUTE.fullmatch(b"HTTP://a:80/x?y")
    assert ABSOLUTE.fullmatch(b"http://a@b/") is None
    assert ABSOLUTE.fullmatch(b"https://a/") is None


def test_what_cannot_be_mended_is_seen_before_the_head_ends() -> None:
    for bad in (b"GET / HTTP/1.1\nHost", b"GET /\x00", b"GET / HTTP/1.1\rHost"):
        assert NOT_IN_HEAD.search(bad)
    for open_end in (b"GET / HTTP/1.1\r", b"GET / HT", b"GET / HTTP/1.1\r\nA: \xe9\t"):
        assert NOT_IN_HEAD.search(open_end) is None


def test_fields_are_split_and_stripped() -> None:
    for _ in range(2):  # the second time from memory
        assert read_fields(b"Host: x\r\nA:\r\nB-C: \t d:e \t\r\n") == [(b"host", b"x"), (b"a", b""), (b"b-c", b"d:e")]


def test_tokens_are_not_remembered() -> None:
    from sidecar.lanes import grammar

    read_fields(b"Authorization: Bearer short\r\nCookie: a=b\r\nX: " + b"t" * 500 + b"\r\n")
    remembered = b"".join(grammar._fields)
    assert b"Bearer short" not in remembered
    assert b"a=b" not in remembered
    assert b"t" * 500 not in remembered


def test_the_memory_is_bounded() -> None:
    from sidecar.lanes import grammar

    for number in range(grammar._REMEMBERED * 2):
        read_fields(b"n: %d\r\n" % number)
    assert len(grammar._fields) <= grammar._REMEMBERED
