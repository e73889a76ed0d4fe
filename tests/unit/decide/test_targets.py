"""The canonical target, case by case."""

from __future__ import annotations

import pytest

from eastgate.decide.targets import BadTarget, Target, canonicalise_target


@pytest.mark.parametrize(
    ("sent", "path", "query"),
    [
        (b"/", b"/", None),
        (b"/?", b"/", b""),
        (b"/a/b?x=y", b"/a/b", b"x=y"),
        (b"/a//b", b"/a/b", None),
        (b"//a", b"/a", None),
        (b"/a/./b", b"/a/b", None),
        (b"/a/../b", b"/b", None),
        (b"/a/..", b"/", None),
        (b"/a/b/..", b"/a/", None),
        (b"/a/.", b"/a/", None),
        (b"/../../a", b"/a", None),
        (b"/a//../b", b"/a/b", None),
        (b"/a/%2e%2E/b", b"/b", None),
        (b"/%7Eme", b"/~me", None),
        (b"/caf%c3%a9", b"/caf%C3%A9", None),
        (b"/%2541", b"/%2541", None),
        (b"/%41%42", b"/AB", None),
        (b"/.well-known/x", b"/.well-known/x", None),
        (b"/a/...", b"/a/...", None),
        (b"/a;x=1/b", b"/a;x=1/b", None),
        # As Envoy forwards them: one path, one spelling, whichever the client chose.
        (b'/a|b^{}`"<>', b"/a%7Cb%5E%7B%7D%60%22%3C%3E", None),
        (b"/a%7cb%5e%7b%7d%60%22%3c%3e", b"/a%7Cb%5E%7B%7D%60%22%3C%3E", None),
        (b"/a[b]!$&'()*+,;=:@~_-.", b"/a[b]!$&'()*+,;=:@~_-.", None),
        (b'/a?|^{}`"<>', b"/a", b'|^{}`"<>'),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/a?%zz&%2f%00\\/../", b"/a", b"%zz&%2f%00\\/../"),
        (b"/a?..//", b"/a", b"..//"),
        (b"/pkg.Service/Method", b"/pkg.Service/Method", None),
    ],
)
def test_canonical(sent: bytes, path: bytes, query: bytes | None) -> None:
    target = canonicalise_target(sent)
    assert target == Target(path, query, path if query is None else path + b"?" + query)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"*",
        b"a",
        b"?x",
        b"http://host/a",
        b"/a#b",
        b"/a?b#c",
        b"/a b",
        b"/a\x00",
        b"/a\x7f",
        b"/a?\xc3\xa9",
        b"/caf\xc3\xa9",
        b"/a\\b",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/a%00",
        b"/a%2fb",
        b"/a%2Fb",
        b"/a%5cb",
        b"/a%5C..",
        b"/a/..;/b",
        b"/a/..;x=y/b",
        b"/a/.;/b",
        b"/a/%2e%2e;/b",
        b"/a/..%3b/b",
        b"/a\r\n",
    ],
)
def test_refused(sent: bytes) -> None:
    assert isinstance(canonicalise_target(sent), BadTarget)
