"""Requests and responses as values."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto.rest import ApiRequest, ApiResponse

BASE = "https://api.example"


def test_a_url_is_the_base_the_path_and_the_query() -> None:
    request = ApiRequest("GET", "/v1/speech-engine", (("search", "a b&c"), ("page_size", "3")))
    assert request.url(BASE) == f"{BASE}/v1/speech-engine?search=a+b%26c&page_size=3"
    assert ApiRequest("GET", "/v1/x").url(f"{BASE}/under/") == f"{BASE}/under/v1/x"


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_any_query_comes_out_as_it_went_in(pairs: list[tuple[str, str]]) -> None:
    query = urlsplit(ApiRequest("GET", "/v1/x", tuple(pairs)).url(BASE)).query
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=bool(pairs)) == pairs


def test_the_headers_tell_of_a_body() -> None:
    assert ApiRequest("GET", "/v1/x").headers == {"accept": "application/json"}
    assert ApiRequest("POST", "/v1/x", body=b"{}").headers == {
        "accept": "application/json",
        "content-type": "application/json",
    }


def test_a_request_can_be_extended() -> None:
    request = ApiRequest("POST", "/v1/x", (("a", "1"),), b'{"name":"x","tags":["a"]}')
    more = request.extended(query={"a": 2, "b": True, "c": None}, body={"name": "y", "new": None})
    assert more.query == (("a", "2"), ("b", "true"))
    assert json.loads(more.body or b"") == {"name": "y", "tags": ["a"], "new": None}
    assert request.extended() == request
    assert request.extended(query={}, body={}) == request


def test_a_request_without_a_body_can_be_given_one() -> None:
    assert ApiRequest("GET", "/v1/x").extended(body={"a": "é"}).body == '{"a":"é"}'.encode()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"body": {"a": {"b": float("nan")}}}, r"body\.a\.b: expected a finite number, got nan"),
        ({"body": {"a": object()}}, r"body\.a: expected a value for JSON, got object"),
        ({"query": {"a": [1]}}, r"a: expected text, got list"),
    ],
)
def test_what_a_request_cannot_hold_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ApiRequest("GET", "/v1/x").extended(**more)


def test_a_response_finds_headers_by_lower_case() -> None:
    assert ApiResponse(200, {"Retry-After": "1"}).headers == {"retry-after": "1"}
    assert ApiResponse(200, [("Retry-After", "1"), ("A", "b")]).headers == {
        "retry-after": "1",
        "a": "b",
    }
    assert ApiResponse(200).headers == {}


@pytest.mark.parametrize(
    ("status", "success"), [(199, False), (200, True), (204, True), (299, True), (300, False)]
)
def test_success_is_2xx(status: int, success: bool) -> None:
    assert ApiResponse(status).is_success is success


def test_reprs_show_sizes() -> None:
    request = ApiRequest("POST", "/v1/x", body=b'{"secret":1}')
    assert repr(request) == "ApiRequest(method='POST', path='/v1/x', query=(), body=<12 bytes>)"
    assert "body=None" in repr(ApiRequest("GET", "/v1/x"))
    response = ApiResponse(200, {"set-cookie": "secret"}, b"secret")
    assert repr(response) == "ApiResponse(status=200, headers=<1>, body=<6 bytes>)"
