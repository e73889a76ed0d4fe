"""A refusal as a trailers-only gRPC answer."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eastgate.model.decisions import Decision
from eastgate.render.grpc import encode_message, is_grpc, map_status
from eastgate.render.http import render_answer


@pytest.mark.parametrize(
    ("value", "grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"text/plain, application/grpc", False),
        (b"", False),
    ],
)
def test_which_requests_are_grpc(value: bytes, grpc: bool) -> None:
    assert is_grpc([(b"te", b"trailers"), (b"content-type", value)]) is grpc


def test_no_content_type_and_a_second_one() -> None:
    assert not is_grpc([])
    assert not is_grpc([(b"content-type", b"text/plain"), (b"content-type", b"application/grpc")])


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2), (418, 2)],
)
def test_codes(status: int, code: int) -> None:
    assert map_status(status) == code


def test_the_whole_answer() -> None:
    challenge = (b"www-authenticate", b'Bearer realm="http://grpc-example.com/yages.Echo/Ping"')
    answer = render_answer(Decision(False, 401, "jwt_missing", b"Jwt is missing", (challenge,)), grpc=True)
    assert answer.status == 200
    assert answer.body == b""
    assert answer.headers == (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"16"),
        (b"grpc-message", b"Jwt is missing"),
        challenge,
    )


def test_without_a_body_there_is_no_message() -> None:
    answer = render_answer(Decision(False, 404, "route_not_found"), grpc=True)
    assert answer.headers == ((b"content-type", b"application/grpc"), (b"grpc-status", b"12"))


def test_what_is_encoded() -> None:
    assert encode_message(b"RBAC: access denied") == b"RBAC: access denied"
    assert encode_message("100% ~ é\r\n\x7f".encode()) == b"100%25 ~ %C3%A9%0D%0A%7F"


@given(st.binary(max_size=64))
def test_every_text_survives_and_is_printable(text: bytes) -> None:
    encoded = encode_message(text)
    assert unquote_to_bytes(encoded) == text
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
