"""From a URL and headers, or a JSONL line, to the request that is decided."""

from __future__ import annotations

import json

import pytest

from eastgate.cli.questions import Question, QuestionError, ask, read_header, read_questions, read_request_line


def test_a_url_gives_host_target_and_scheme_byte_for_byte() -> None:
    question = ask(1, "GET", "https://www.example.com:8443/a%2Fb?x=%41&y", [("X-Auth", " Bearer  abc ")])
    assert question.request.authority == b"www.example.com:8443"
    assert question.request.target == b"/a%2Fb?x=%41&y"
    assert question.request.scheme == b"https"
    assert question.request.headers == ((b"x-auth", b"Bearer  abc"),)
    assert question.refusal is None
    assert question.notes == ()


def test_a_fragment_stays_so_that_it_is_refused_as_on_the_wire() -> None:
    question = ask(1, "GET", "http://a/x#y", [])
    assert question.request.target == b"/x#y"
    assert "fragment" in question.notes[0]
    assert ask(1, "GET", "http://a#y", []).request.target == b"/#y"


def test_an_empty_path_is_the_root() -> None:
    assert ask(1, "GET", "http://a", []).request.target == b"/"
    assert ask(1, "GET", "http://a?x=1", []).request.target == b"/?x=1"


def test_the_host_header_wins_and_it_is_said() -> None:
    question = ask(1, "GET", "http://127.0.0.1:8888/get", [("Host", "www.example.com"), ("A", "b")])
    assert question.request.authority == b"www.example.com"
    assert question.request.headers == ((b"a", b"b"),)
    assert question.notes == ("the Host header decides, not the URL's host 127.0.0.1:8888",)


def test_the_same_host_twice_needs_no_word() -> None:
    assert ask(1, "GET", "http://a/", [("host", "a")]).notes == ()


def test_a_path_needs_a_host_header() -> None:
    assert ask(1, "GET", "/get", [("Host", "a")]).request.authority == b"a"
    with pytest.raises(QuestionError, match="names no host"):
        ask(1, "GET", "/get", [])


@pytest.mark.parametrize("url", ["ftp://a/", "a.example.com/x", "file:///etc", "ws://a/"])
def test_other_urls_are_wrong_usage(url: str) -> None:
    with pytest.raises(QuestionError, match="accepted: an http:// or https:// URL"):
        ask(1, "GET", url, [])


@pytest.mark.parametrize(
    ("method", "url", "headers", "word"),
    [
        ("G ET", "http://a/", [], "method"),
        ("", "http://a/", [], "method"),
        ("get", "http://a/", [], "capitals"),
        ("GET", "http://a/x y", [], "target"),
        ("GET", "http://a/\r\n", [], "target"),
        ("GET", "http://a/\x00", [], "target"),
        ("GET", "http://a/", [("x", "a\r\nb: c")], "value of x"),
        ("GET", "http://a/", [("x", "a\x00")], "value of x"),
        ("GET", "http://a/", [("x y", "a")], "header name"),
        ("GET", "http://a/", [("", "a")], "header name"),
        ("GET", "http://a/", [("host", "a"), ("Host", "b")], "more than one Host"),
        ("GET", "http://a/", [("host", "a b")], "host"),
        ("GET", "http://u@a/", [], "host"),
    ],
)
def test_what_http_forbids_is_a_400(method: str, url: str, headers: list[tuple[str, str]], word: str) -> None:
    refusal = ask(1, method, url, headers)
    assert refusal.refusal is not None
    assert (refusal.refusal.status, refusal.refusal.allowed, refusal.refusal.reason) == (400, False, "bad_request")
    assert word in refusal.notes[-1]


def test_tabs_and_high_bytes_are_legal_in_values() -> None:
    question = ask(1, "GET", "http://a/", [("x", "a\tb\udcff")])
    assert question.refusal is None
    assert question.request.headers == ((b"x", b"a\tb\xff"),)


def test_header_line() -> None:
    assert read_header("X-A: b: c") == ("X-A", " b: c")
    for line in ("nothing", ": value", "  : x"):
        with pytest.raises(QuestionError, match="Name: value"):
            read_header(line)


def test_request_line() -> None:
    assert read_request_line("GET http://a/b") == ("GET", "http://a/b")
    for line in ("GET", "", "http://a/"):
        with pytest.raises(QuestionError, match="METHOD URL"):
            read_request_line(line)


def read(*lines: object) -> list[Question]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return list(read_questions(texts, "r.jsonl", port=80, peer="10.0.0.1"))


def test_jsonl() -> None:
    first, second = read(
        {"id": "x", "method": "POST", "url": "http://a/b?c", "headers": [["N", "v"], ["N", "w"]], "expect": {"any": 1}},
        "",
        {"url": "http://a/", "port": 9, "peer": "::1"},
    )
    assert (first.id, first.request.method, first.request.target) == ("x", b"POST", b"/b?c")
    assert first.request.headers == ((b"n", b"v"), (b"n", b"w"))
    assert (first.request.port, first.request.peer) == (80, "10.0.0.1")
    assert (second.id, second.request.method, second.request.port, second.request.peer) == (3, b"GET", 9, "::1")


def test_jsonl_strings_are_bytes_where_they_can_be() -> None:
    latin, beyond = read(
        {"url": "http://a/", "headers": [["n", "\u00ff"]]}, {"url": "http://a/", "headers": [["n", "\u20ac"]]}
    )
    assert latin.request.headers[0][1] == b"\xff"
    assert beyond.request.headers[0][1] == "€".encode()
    (lone,) = read('{"url": "http://a/", "headers": [["n", "\\ud800"]]}')
    assert lone.request.headers[0][1] == b"?"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '"x"',
        "{}",
        '{"url": 1}',
        '{"url": "http://a/", "headers": "x"}',
        '{"url": "http://a/", "headers": [["a"]]}',
        '{"url": "http://a/", "headers": [["a", 1]]}',
        '{"url": "http://a/", "port": "80"}',
        '{"url": "a"}',
    ],
)
def test_jsonl_mistakes_name_file_and_line(line: str) -> None:
    with pytest.raises(QuestionError, match=r"^r\.jsonl:2: "):
        read({"url": "http://a/"}, line)
