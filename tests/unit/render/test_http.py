"""A refusal as an HTTP answer."""

from eastgate.model.decisions import Decision
from eastgate.render.http import Answer, render_answer

CHALLENGE = (b"www-authenticate", b'Bearer realm="http://a/"')


def test_a_body_comes_with_its_type_and_length() -> None:
    decision = Decision(False, 401, "jwt_missing", b"Jwt is missing", (CHALLENGE,))
    assert render_answer(decision, grpc=False) == Answer(
        401, ((b"content-type", b"text/plain"), (b"content-length", b"14"), CHALLENGE), b"Jwt is missing"
    )


def test_head_has_the_fields_of_get_and_no_body() -> None:
    decision = Decision(False, 403, "rbac_access_denied", b"RBAC: access denied")
    answer = render_answer(decision, grpc=False, head=True)
    assert answer.headers == render_answer(decision, grpc=False).headers
    assert answer.body == b""


def test_an_empty_body_has_a_length_and_no_type() -> None:
    assert render_answer(Decision(False, 404, "route_not_found"), grpc=False) == Answer(
        404, ((b"content-length", b"0"),), b""
    )


def test_the_decisions_own_fields_are_kept() -> None:
    decision = Decision(False, 503, "keys_unavailable", b"x", ((b"retry-after", b"1"), CHALLENGE))
    assert render_answer(decision, grpc=False).headers[2:] == ((b"retry-after", b"1"), CHALLENGE)


def test_equal_refusals_are_rendered_once() -> None:
    one, other = (Decision(False, 401, "jwt_missing", b"Jwt is missing", (CHALLENGE,)) for _ in range(2))
    assert render_answer(one, grpc=False) is render_answer(other, grpc=False)
    assert render_answer(one, grpc=True) is not render_answer(other, grpc=False)


def test_fields_about_the_body_are_said_once() -> None:
    decision = Decision(False, 401, "jwt_missing", b"x", ((b"content-type", b"text/plain"), CHALLENGE))
    assert [name for name, _ in render_answer(decision, grpc=False).headers] == [
        b"content-type", b"content-length", b"www-authenticate",
    ]  # fmt: skip
    assert [name for name, _ in render_answer(decision, grpc=True).headers] == [
        b"content-type", b"grpc-status", b"grpc-message", b"www-authenticate",
    ]  # fmt: skip
