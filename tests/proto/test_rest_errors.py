"""Every body that may come with a status becomes the right error."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speech_engine_proto import rest
from speech_engine_proto.rest import (
    ApiError,
    ApiResponse,
    RateLimitError,
    TransportError,
    UnauthorizedError,
    UnprocessableEntityError,
    ValidationDetail,
    error_from,
    transport_error,
)

from .test_rest_settings import values

DOCUMENTED = {
    "detail": {
        "type": "authentication_error",
        "code": "invalid_api_key",
        "message": "Invalid API key",
        "status": "invalid_api_key",
        "request_id": "req_1",
        "param": "xi-api-key",
    }
}


def failed(status: int, body: object, **headers: str) -> ApiError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from(ApiResponse(status, headers, data), now=1_000.0)


def test_the_documented_body() -> None:
    error = failed(401, DOCUMENTED)
    assert type(error) is UnauthorizedError
    assert error.status_code == 401
    assert error.type == "authentication_error"
    assert error.code == "invalid_api_key"
    assert error.message == "Invalid API key"
    assert error.request_id == "req_1"
    assert error.param == "xi-api-key"
    assert error.body == DOCUMENTED
    assert str(error) == (
        "401 Invalid API key (code invalid_api_key, param xi-api-key, request_id req_1)"
    )
    assert repr(error) == "UnauthorizedError('Invalid API key')"


def test_the_older_body() -> None:
    error = failed(404, {"detail": {"status": "not_found", "message": "No such agent"}})
    assert type(error) is rest.NotFoundError
    assert (error.code, error.message) == ("not_found", "No such agent")
    assert str(error) == "404 No such agent (code not_found)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "Not allowed"}, "Not allowed"),
        ({"message": "Not allowed"}, "Not allowed"),
        ({"detail": ""}, "Forbidden"),
        ({"detail": None}, "Forbidden"),
        ({"detail": []}, "Forbidden"),
        ({"detail": {"message": 5, "code": []}}, "Forbidden"),
        ({}, "Forbidden"),
        ([], "Forbidden"),
        (None, "Forbidden"),
        ("Not allowed", "Forbidden"),
        (b"<html>Forbidden by proxy</html>", "Forbidden"),
        (b"", "Forbidden"),
        (b"\xff\xfe", "Forbidden"),
        (b"[" * 200_000, "Forbidden"),
    ],
)
def test_odd_bodies(body: object, message: str) -> None:
    error = failed(403, body)
    assert type(error) is rest.ForbiddenError
    assert str(error) == f"403 {message}"


def test_what_is_no_json_is_kept_as_text() -> None:
    assert failed(502, b"<html>\xff").body == "<html>\ufffd"


@pytest.mark.parametrize(
    ("status", "kind", "phrase"),
    [
        (400, rest.BadRequestError, "Bad Request"),
        (409, rest.ConflictError, "Conflict"),
        (500, rest.ServerError, "Internal Server Error"),
        (599, rest.ServerError, "unexpected status"),
        (307, ApiError, "Temporary Redirect"),
        (418, ApiError, "I'm a Teapot"),
        (600, ApiError, "unexpected status"),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[ApiError], phrase: str) -> None:
    error = failed(status, b"")
    assert type(error) is kind
    assert error.message == phrase


def test_the_fields_of_422() -> None:
    error = failed(
        422,
        {
            "detail": [
                {"loc": ["body", "tags", 0], "msg": "Input should be text", "type": "string_type"},
                {"loc": "body", "msg": 1, "input": "s3cret"},
                {"loc": [["body"], None, "name"]},
                {},
                "odd",
            ]
        },
    )
    assert isinstance(error, UnprocessableEntityError)
    assert error.details == (
        ValidationDetail(("body", "tags", 0), "Input should be text", "string_type"),
        ValidationDetail((), "", ""),
        ValidationDetail(("name",), "", ""),
    )
    assert str(error).startswith("422 Unprocessable")
    assert "; body.tags.0: Input should be text; : ; name: " in str(error)
    assert "s3cret" not in str(error)


def test_422_without_a_list() -> None:
    error = failed(422, DOCUMENTED)
    assert isinstance(error, UnprocessableEntityError)
    assert error.details == ()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:17:00 GMT", 20.0), ("soon", None), (None, None)],
)
def test_the_wait_of_429(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    error = failed(429, {}, **headers)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == seconds


def test_the_id_of_the_request_may_be_in_a_header() -> None:
    assert failed(500, {}, **{"request-id": "r1", "x-request-id": "r2"}).request_id == "r1"
    assert failed(500, {}, **{"X-Request-Id": "r2"}).request_id == "r2"
    assert failed(500, DOCUMENTED, **{"Request-Id": "r1"}).request_id == "req_1"


def test_no_answer() -> None:
    error = transport_error("no answer from https://a: ConnectTimeout", sent=False)
    assert isinstance(error, TransportError)
    assert isinstance(error, ApiError)
    assert (error.status_code, error.body, error.headers, error.sent) == (None, None, {}, False)
    assert str(error) == "no answer from https://a: ConnectTimeout"


@pytest.mark.parametrize("status", [401, 422, 429])
def test_errors_survive_pickling(status: int) -> None:
    error = failed(status, {"detail": [{"loc": ["a"]}]}, **{"Retry-After": "3"})
    copy: ApiError = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@given(st.integers(300, 599), values | st.builds(lambda value: {"detail": value}, values))
def test_any_json_becomes_an_error(status: int, body: Any) -> None:
    error = failed(status, body)
    assert error.status_code == status
    assert error.body == body
    assert str(error).startswith(str(status))


@example(500, b'{"":"\x80"')
@given(st.integers(100, 999), st.binary())
def test_any_bytes_become_an_error(status: int, body: bytes) -> None:
    assert isinstance(failed(status, body), ApiError)
