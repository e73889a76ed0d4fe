"""Requests to explain, from ``--request`` and ``-H`` or from a JSONL file, as the decision sees them.

Knows: URLs, header lines, the JSONL format of the interface, and what HTTP itself forbids (RFC 9110 section 5.5 field
values, 5.1 names, 9.1 methods; RFC 9112 section 3.2 targets and Host): that is a 400 before any policy is asked, as in
the lanes. Must not know: policies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from eastgate.model.decisions import Decision, Reason
from eastgate.model.requests import Request

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(rb"[A-Z][A-Z0-9_\-]{0,31}")
"""As the lanes take it: no registered method has a lower-case letter."""

_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FORBIDDEN_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")
_URL = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*))?(?P<target>.*)", re.DOTALL)


class QuestionError(ValueError):
    """The question is not one: wrong usage."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to decide. ``refusal`` is set where HTTP forbids it: then there is nothing to ask a policy."""

    id: object
    request: Request
    notes: tuple[str, ...] = ()
    refusal: Decision | None = None


def encode_argument(text: str) -> bytes:
    """The bytes of a command-line argument as they were typed."""
    return text.encode("utf-8", "surrogateescape")


def encode_json_string(text: str) -> bytes:
    """One byte a character where that is possible, as HTTP libraries encode header fields; else UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def ask(
    identity: object,
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    *,
    port: int = 0,
    peer: str = "",
    encode: Callable[[str], bytes] = encode_argument,
) -> Question:
    """The question that a method, a URL and header fields make."""
    match = _URL.fullmatch(url)
    if match is None or (match["scheme"] or "http").lower() not in ("http", "https"):
        raise QuestionError(
            f"`{url}` is not accepted; accepted: an http:// or https:// URL, or a path with a Host header"
        )
    notes = []
    target = match["target"] or "/"
    if "#" in target:
        notes.append("no client sends a fragment; here it is part of the target")
    if not target.startswith("/") and target != "*":
        if target[0] not in "?#":
            raise QuestionError(f"`{url}` is not accepted; accepted: an http:// or https:// URL, or a path from `/`")
        target = "/" + target
    fields: list[tuple[bytes, bytes]] = []
    hosts: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        pair = (encode(name).lower(), encode(value).strip(b" \t"))
        (hosts if pair[0] == b"host" else fields).append(pair)
    authority = encode(match["authority"] or "")
    if not authority and not hosts:
        raise QuestionError(f"`{url}` names no host; give a whole URL or a Host header")
    if hosts:
        if authority and hosts[0][1] != authority:
            notes.append(f"the Host header decides, not the URL's host {authority.decode()}")
        authority = hosts[0][1]
    request = Request(
        method=encode(method),
        target=encode(target),
        authority=authority,
        headers=tuple(fields),
        port=port,
        peer=peer,
        scheme=(match["scheme"] or "http").lower().encode(),
    )
    problem = "more than one Host header" if len(hosts) > 1 else _find_forbidden(request)
    refusal = None
    if problem is not None:
        refusal = Decision(allowed=False, status=400, reason=Reason.BAD_REQUEST, denied_by_policy=False)
        notes.append(f"HTTP forbids it: {problem}")
    return Question(identity, request, tuple(notes), refusal)


def read_header(line: str) -> tuple[str, str]:
    """``Name: value`` as curl's ``-H`` takes it."""
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise QuestionError(f"`{line}` is not accepted; accepted: 'Name: value'")
    return name, value


def read_request_line(text: str) -> tuple[str, str]:
    """``METHOD URL``."""
    method, _, url = text.strip().partition(" ")
    if not method or not url.strip():
        raise QuestionError(f"`{text}` is not accepted; accepted: 'METHOD URL', as 'GET http://www.example.com/foo'")
    return method, url.strip()


def read_questions(lines: Iterable[str], file: str, *, port: int = 0, peer: str = "") -> Iterator[Question]:
    """The questions of a JSONL file; empty lines are skipped. Keys that are not known are left alone: a test suite
    keeps its expectations beside its requests.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise QuestionError(f"{file}:{number}: not JSON: {error}") from None
        try:
            yield _read_entry(entry, number, port, peer)
        except QuestionError as error:
            raise QuestionError(f"{file}:{number}: {error}") from None


def _read_entry(entry: Any, number: int, port: int, peer: str) -> Question:
    if not isinstance(entry, dict):
        raise QuestionError("expected an object with `method`, `url` and `headers`")
    method, url = entry.get("method", "GET"), entry.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        raise QuestionError("`method` and `url` must be strings, and `url` be there")
    pairs = entry.get("headers", [])
    pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
    if not isinstance(pairs, list) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in pairs
    ):
        raise QuestionError("`headers` must be a list of [name, value] pairs")
    own_port, own_peer = entry.get("port", port), entry.get("peer", peer)
    if isinstance(own_port, bool) or not isinstance(own_port, int) or not isinstance(own_peer, str):
        raise QuestionError("`port` must be an integer and `peer` a string")
    headers = [(pair[0], pair[1]) for pair in pairs]
    return ask(entry.get("id", number), method, url, headers, port=own_port, peer=own_peer, encode=encode_json_string)


def _find_forbidden(request: Request) -> str | None:
    """What HTTP forbids in it, or None."""
    if not _METHOD.fullmatch(request.method):
        return "a method is a word in capitals"
    if _FORBIDDEN_IN_TARGET.search(request.target):
        return "the target holds white space or a control character"
    if not re.fullmatch(rb"[^\x00-\x20\x7f/?#@\\]*", request.authority):
        return "the host holds a character that none can have"
    for name, value in request.headers:
        if not _TOKEN.fullmatch(name):
            return "a header name is not a token"
        if _FORBIDDEN_IN_VALUE.search(value):
            return f"the value of {name.decode()} holds a control character"
    return None
