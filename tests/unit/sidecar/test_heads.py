"""Heads are found however they are cut, and at a cost no higher than their size."""

from __future__ import annotations

import time

import pytest

from sidecar.lanes.http1.heads import HeadReader
from sidecar.lanes.http1.requests import RequestError

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_heads_however_they_are_cut(step: int) -> None:
    reader, found = HeadReader(1000), []
    wire = b"\r\n" + HEAD + HEAD + b"rest"
    for at in range(0, len(wire), step):
        reader.push(wire[at : at + step])
        while len(found) < 2 and (head := reader.next_head()):
            found.append(head)
    assert found == [HEAD, HEAD]
    assert len(reader) == 4
    assert reader.take_all() == b"rest"
    assert len(reader) == 0


@pytest.mark.parametrize("step", [1, 1000])
def test_one_empty_line_is_skipped_and_no_more(step: int) -> None:
    reader, wire = HeadReader(1000), b"\r\n\r\n" + HEAD
    with pytest.raises(RequestError):
        for at in range(0, len(wire), step):
            reader.push(wire[at : at + step])
            head = reader.next_head()
            if head and not head.startswith(b"GET"):
                raise RequestError("the grammar refuses it")


def test_ten_thousand_heads_in_one_segment_and_a_head_byte_by_byte() -> None:
    reader = HeadReader(64 * 1024)
    started = time.process_time()
    reader.push(HEAD * 10_000)
    while reader.next_head():
        pass
    reader.push(b"GET / HTTP/1.1\r\n")
    for _ in range(60_000):
        reader.push(b"a")
        reader.next_head()
    assert time.process_time() - started < 2


def test_bounds() -> None:
    reader = HeadReader(100)
    reader.push(b"GET /" + b"a" * 200)
    with pytest.raises(RequestError) as caught:
        reader.next_head()
    assert caught.value.status == 431
