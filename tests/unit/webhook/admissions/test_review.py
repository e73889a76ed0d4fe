from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.webhook.admissions.reviews import as_bytes, make_pod, make_review, read_answer, read_patch
from webhook.admissions.pod_reviews import parse_pod_review
from webhook.admissions.review import (
    MAX_BODY,
    NotAReviewError,
    Verdict,
    allow,
    bound_warnings,
    check_request,
    fail,
    parse_review,
    refuse,
    render_response,
)

PARSERS = [parse_review, parse_pod_review]


def test_a_review_is_read() -> None:
    review = parse_review(as_bytes(make_review(make_pod(), name="web-1", dryRun=True)))
    assert review.uid == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert (review.kind.group, review.kind.version, review.kind.kind) == ("", "v1", "Pod")
    assert (review.operation, review.namespace, review.name, review.subResource) == ("CREATE", "shop", "web-1", "")
    assert review.dryRun is True
    assert json.loads(bytes(review.object)) == make_pod()
    assert bytes(review.oldObject) == b"null"


def test_what_is_read_cannot_be_changed() -> None:
    review = parse_review(as_bytes(make_review(make_pod())))
    with pytest.raises(AttributeError):
        review.uid = "another"  # type: ignore[misc]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "no apiVersion and kind"),
        (b'"text"', "Expected `object`"),
        (b"\xff\xfe", "malformed"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', "`request` is missing"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}', "`request` is missing"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}', "`uid`"),
        (b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}', "v1beta1"),
        (b'{"apiVersion":"v1","kind":"Pod"}', "`v1 Pod`"),
        (as_bytes({**make_review({}), "request": {**make_review({})["request"], "uid": ""}}), "uid"),
        (as_bytes(make_review({})) + b"{}", "trailing"),
        (as_bytes(make_review({}))[:-1], "truncated"),
        (b'{"request":' * 100_000, "nested"),
    ],
)  # fmt: skip
def test_what_is_no_review_is_told_so(parse, body: bytes, message: str) -> None:
    with pytest.raises(NotAReviewError, match=message) as caught:
        parse(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("content_type", "size", "status"),
    [
        ("application/json", 100, None),
        ("application/json; charset=utf-8", 100, None),
        ("Application/JSON", MAX_BODY, None),
        ("application/json", MAX_BODY + 1, 413),
        ("application/json", 0, 400),
        ("application/yaml", 100, 415),
        ("text/plain", 100, 415),
        ("", 100, 415),
        ("application/jsonx", 100, 415),
    ],
)
def test_what_need_not_be_looked_into(content_type: str, size: int, status: int | None) -> None:
    if status is None:
        check_request(content_type, size)
        return
    with pytest.raises(NotAReviewError) as caught:
        check_request(content_type, size)
    assert caught.value.status == status


def test_allowed() -> None:
    response = read_answer(render_response("u-1", allow("fine")))
    assert response == {"uid": "u-1", "allowed": True, "auditAnnotations": {"outcome": "allowed", "reason": "fine"}}


def test_patched() -> None:
    operations = [{"op": "add", "path": "/metadata/labels/a~1b", "value": "ü"}]
    verdict = Verdict(
        allowed=True, outcome="patched", reason="injected", patch=json.dumps(operations).encode(), warnings=("careful",)
    )
    response = read_answer(render_response("u-1", verdict))
    assert read_patch(response) == operations
    assert response["warnings"] == ["careful"]
    assert "status" not in response


def test_refused() -> None:
    response = read_answer(render_response("u-1", refuse("bad-annotation", ["a: `x`", "b: `y`", "a: `x`"])))
    assert response["allowed"] is False
    assert response["status"] == {
        "status": "Failure",
        "code": 403,
        "reason": "Forbidden",
        "message": "2 faults:\n- a: `x`\n- b: `y`",
    }
    assert "patch" not in response


def test_one_fault_is_said_without_a_list() -> None:
    assert refuse("enforced", ["only this"]).message == "only this"


def test_an_internal_error_is_refused_with_its_number() -> None:
    response = read_answer(render_response("u-1", fail("0badf00d")))
    assert (response["uid"], response["allowed"]) == ("u-1", False)
    assert response["status"]["code"] == 500
    assert "0badf00d" in response["status"]["message"]


def test_audit_annotations_have_bare_names() -> None:
    verdict = Verdict(allowed=True, outcome="a", reason="b", annotations={"added": "x" * 5000})
    annotations = read_answer(render_response("u", verdict))["auditAnnotations"]
    assert set(annotations) == {"outcome", "reason", "added"}
    assert all("/" not in key for key in annotations)
    assert len(annotations["added"]) == 1024


@given(st.lists(st.text(max_size=600), max_size=60))
def test_warnings_stay_within_the_limits_of_the_api_server(texts: list[str]) -> None:
    bounded = bound_warnings(texts)
    assert all(0 < len(one) <= 256 and one.isprintable() for one in bounded)
    assert sum(map(len, bounded)) <= 4096


def test_warnings_that_do_not_fit_are_counted() -> None:
    bounded = bound_warnings(f"{number:03d}" * 80 for number in range(50))
    assert bounded[-1] == f"and {50 - len(bounded) + 1} more; `eastgate lint` shows all of them"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted(make_review({})["request"])


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_review_or_a_400(body: bytes) -> None:
    for parse in PARSERS:
        with pytest.raises(NotAReviewError) as caught:
            parse(body)
        assert caught.value.status == 400


@settings(max_examples=150)
@given(st.sampled_from(FIELDS), JSON, JSON)
def test_a_review_with_one_field_that_is_anything(name: str, value: object, found: object) -> None:
    review = make_review(found)
    review["request"][name] = value
    for parse in PARSERS:
        with contextlib.suppress(NotAReviewError):
            made = parse(as_bytes(review))
            assert (made if parse is parse_review else made[0]).uid == review["request"]["uid"]
