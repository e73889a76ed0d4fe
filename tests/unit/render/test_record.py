"""A decision as a record of the log."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from eastgate.model.decisions import Check, Decision, Reason
from eastgate.model.requests import Request
from eastgate.render import record as record_module
from eastgate.render.record import MAX_CHECKS, grade, render_line, render_record

REQUEST = Request(
    b"GET", b"/get?access_token=SECRET", b"www.example.com", ((b"authorization", b"Bearer SECRET"),), 8080, "10.0.0.9"
)
DENIED = Decision(
    False, 401, "jwt_expired", b"Jwt is expired", route="r", policies=("ns/jwt",), denied_by_policy=True,
    checks=(Check("route", "r", True), Check("verify", "dev", False, "expired at 12:00")),
)  # fmt: skip
ALLOWED = Decision(True, 200, Reason.ALLOWED, route="r", policies=("ns/jwt",))


def render(decision: Decision, request: Request = REQUEST, status: int = 0) -> dict[str, object]:
    return render_record(
        request, decision, time="2026-11-22T08:00:00.000Z", seconds=0.0001234567, mode="enforce", status=status
    )


def test_a_denial() -> None:
    assert render(DENIED, status=401) == {
        "time": "2026-11-22T08:00:00.000Z", "level": "warning", "event": "decision", "decision": "deny",
        "reason": "jwt_expired", "method": "GET", "host": "www.example.com", "path": "/get", "route": "r",
        "policies": ("ns/jwt",), "peer": "10.0.0.9", "port": 8080, "protocol": "HTTP/1.1", "seconds": 0.000123,
        "mode": "enforce", "status": 401, "checks": ["verify dev: expired at 12:00"],
    }  # fmt: skip


def test_an_allowed_request_has_no_status_and_no_checks() -> None:
    record = render(ALLOWED)
    assert record["decision"] == "allow"
    assert record["level"] == "info"
    assert "status" not in record
    assert "checks" not in record


def test_audit_mode_says_what_would_have_been() -> None:
    record = render(Decision(True, 401, "jwt_missing", denied_by_policy=True))
    assert record["decision"] == "would-deny"
    assert record["would_status"] == 401
    assert "status" not in record


def test_our_own_faults_are_errors() -> None:
    assert grade(Decision(False, 503, Reason.INTERNAL_ERROR)) == "error"


def test_neither_query_nor_header_nor_forged_lines() -> None:
    request = REQUEST._replace(target=b"/a\r\n{}\x1b[2J\xff?token=SECRET", authority=b'h"\n\x7f', method=b"G\x00T")
    text = json.dumps(render(DENIED, request))
    assert "SECRET" not in text
    assert render(DENIED, request)["path"] == "/a\\x0d\\x0a{}\\x1b[2J\\xff"
    assert render(DENIED, request)["method"] == "G\\x00T"


def test_checks_are_bounded_and_cleaned() -> None:
    checks = tuple(Check("claim", f"c{number}", False, "\x1b" + "x" * 1000) for number in range(50))
    lines = render(Decision(False, 403, "x", checks=checks))["checks"]
    assert isinstance(lines, list)
    assert len(lines) == MAX_CHECKS + 1
    assert lines[-1] == "..."
    assert lines[0].startswith("claim c0: \\x1bxxx")


@given(st.binary(max_size=5000), st.binary(max_size=2000), st.binary(max_size=100))
def test_any_request_gives_one_printable_line_of_bounded_length(target: bytes, authority: bytes, method: bytes) -> None:
    line = json.dumps(render(DENIED, REQUEST._replace(target=target, authority=authority, method=method)))
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 5000


def test_of_an_unknown_peer() -> None:
    assert render(ALLOWED, REQUEST._replace(peer=""))["peer"] == ""


@given(
    st.binary(max_size=600), st.binary(max_size=300), st.text(max_size=20), st.booleans(), st.booleans(),
    st.sampled_from([0, 401]), st.text(max_size=30), st.sampled_from([Reason.ALLOWED, "jwt_missing"]),
    st.sampled_from(["enforce", "audit"]),
)  # fmt: skip
def test_the_fast_line_says_the_same(
    target: bytes, host: bytes, peer: str, allowed: bool, denied: bool, status: int, route: str, reason: str, mode: str
) -> None:
    request = REQUEST._replace(target=target, authority=host, peer=peer)
    decision = Decision(
        allowed, 403, reason, route=route, policies=("a/b",), denied_by_policy=denied,
        checks=(Check("claim", route, False, peer),),
    )  # fmt: skip
    record = render_record(request, decision, time="t", seconds=0.0001234567, mode=mode, status=status)
    for _ in range(2):  # the second time from memory
        line = render_line(request, decision, time="t", seconds=0.0001234567, mode=mode, status=status)
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line) == json.loads(json.dumps(record))
        assert list(json.loads(line)) == list(record)


@given(st.lists(st.tuples(st.text(max_size=12), st.booleans(), st.text(max_size=250)), max_size=9))
def test_the_fast_line_names_the_same_checks(found: list[tuple[str, bool, str]]) -> None:
    decision = Decision(
        False, 403, "x", checks=tuple(Check("claim", subject, passed, detail) for subject, passed, detail in found)
    )
    record = render_record(REQUEST, decision, time="t", seconds=0.0, mode="enforce", status=403)
    line = render_line(REQUEST, decision, time="t", seconds=0.0, mode="enforce", status=403)
    assert json.loads(line)["checks"] == record["checks"]


@given(st.text(max_size=40), st.text(max_size=20), st.sampled_from([b"/a", b'/"seconds":0.0', b'/"host":"","path":""']))
def test_a_line_is_cut_where_its_gaps_are(route: str, peer: str, target: bytes) -> None:
    """Whatever the texts around them say."""
    tricky = [route, '"host":"","path":""', '"seconds":0.0', '{"time":""', "}"]
    for text in tricky:
        request = REQUEST._replace(peer=text + peer, authority=text.encode()[:20], target=target)
        decision = Decision(False, 401, text, route=text, policies=(text, peer))
        record = render_record(request, decision, time="t", seconds=0.25, mode="enforce")
        line = render_line(request, decision, time="t", seconds=0.25, mode="enforce")
        assert json.loads(line) == json.loads(json.dumps(record))


def test_what_is_remembered_of_lines_is_bounded_and_has_no_query() -> None:
    record_module._constants.clear()
    for number in range(3000):
        request = REQUEST._replace(
            method=b"M" * (number % 40) + b"%d" % number, target=b"/?token=SECRET%d" % number, authority=b"h" * 60_000
        )
        render_line(request, DENIED, time="t", seconds=0.0, mode="enforce", status=401)
    assert len(record_module._constants) <= record_module._REMEMBERED
    assert "SECRET" not in str(record_module._constants)
    assert len(str(record_module._constants)) < 2_000_000
