"""Answers read into values."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto import rest
from speech_engine_proto.rest import (
    ApiError,
    ApiResponse,
    Engine,
    EnginePage,
    JsonObject,
    RateLimitError,
    UnexpectedResponseError,
    read_engine,
    read_nothing,
    read_page,
    read_signed_url,
    read_token,
)

from .test_rest_settings import values

ENGINE: dict[str, Any] = {
    "speech_engine_id": "seng_1",
    "name": "Desk",
    "speech_engine": {
        "ws_url": "wss://example.com/ws",
        "request_headers": {"X-Key": "s3cret", "X-Id": {"secret_id": "a"}},
    },
    "asr": {"quality": "high", "keywords": ["a"]},
    "tts": {"voice_id": "v", "supported_voices": [{"label": "x"}]},
    "turn": {"turn_timeout": 7, "initial_wait_time": None},
    "vad": {},
    "conversation": {"text_only": False},
    "privacy": {"record_voice": True},
    "call_limits": {"daily_limit": 100000},
    "auth": {"enable_auth": False},
    "language": "en",
    "cascade_timeout_seconds": 4,
    "tags": ["a", "b"],
    "overrides": {"first_message": True},
    "metadata": {"created_at_unix_secs": 1, "updated_at_unix_secs": 2},
    "access_info": None,
    "later": {"items": [1]},
}


def answer(body: object, status: int = 200) -> ApiResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ApiResponse(status, {}, data)


def test_an_engine() -> None:
    engine = read_engine(answer(ENGINE, 201))
    assert engine.engine_id == engine.speech_engine_id == "seng_1"
    assert engine.name == "Desk"
    assert engine.language == "en"
    assert engine.cascade_timeout_seconds == 4
    assert engine.tags == ("a", "b")
    assert engine.speech_engine.ws_url == "wss://example.com/ws"
    assert engine.speech_engine["request_headers"]["X-Id"].secret_id == "a"
    assert engine.overrides.first_message is True
    assert engine.turn.initial_wait_time is None
    assert engine.tts.supported_voices[0].label == "x"
    assert engine.metadata.created_at_unix_secs == 1
    assert engine.access_info == {}
    assert engine.raw.access_info is None
    assert engine.raw.later["items"] == [1]
    assert engine.model_dump() == ENGINE


def test_every_documented_key_is_a_field() -> None:
    fields = {field.name for field in attrs.fields(Engine)}
    assert set(ENGINE) - {"later", "speech_engine_id"} | {"engine_id", "raw"} == fields
    engine = read_engine(answer(ENGINE))
    for name in set(ENGINE) - {"later", "speech_engine_id", "access_info", "tags"}:
        assert getattr(engine, name) == ENGINE[name]


def test_an_engine_shows_no_header() -> None:
    assert repr(read_engine(answer(ENGINE))) == "Engine(engine_id='seng_1', name='Desk')"


def test_an_engine_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        read_engine(answer(ENGINE)).name = "x"  # type: ignore[misc]


def test_an_engine_with_nothing_but_an_id() -> None:
    engine = read_engine(answer({"speech_engine_id": "seng_1"}))
    assert engine == Engine("seng_1", raw=JsonObject({"speech_engine_id": "seng_1"}))
    assert engine.overrides.get("first_message") is None


def test_a_key_of_another_type_is_empty_and_kept() -> None:
    odd = {
        "speech_engine_id": "seng_1",
        "name": 5,
        "tags": "abc",
        "asr": [],
        "cascade_timeout_seconds": True,
    }
    engine = read_engine(answer(odd))
    assert (engine.name, engine.tags) == (None, ())
    assert engine.asr == {}
    assert engine.cascade_timeout_seconds is None
    assert engine.raw == odd
    assert read_engine(answer({**odd, "tags": ["a", 1]})).tags == ("a",)


def test_the_id_that_was_asked_for_stands_in() -> None:
    assert read_engine(answer({}), engine_id="agent_1").engine_id == "agent_1"
    assert read_engine(answer(ENGINE), engine_id="agent_1").engine_id == "seng_1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, r"expected an id, got nothing at \$\.speech_engine_id"),
        ({"speech_engine_id": 5}, r"expected an id, got int at \$\.speech_engine_id"),
        ([], r"200 expected a JSON object, got list at \$"),
        (None, r"expected a JSON object, got NoneType at \$"),
        (b"<html>s3cret", r"expected a JSON object, got str at \$"),
        (b"", r"expected a JSON object, got str at \$"),
        (b"[" * 200_000, r"expected a JSON object, got str at \$"),
    ],
)
def test_what_is_no_engine(body: object, words: str) -> None:
    with pytest.raises(UnexpectedResponseError, match=words) as caught:
        read_engine(answer(body))
    assert "s3cret" not in str(caught.value)


def test_a_page() -> None:
    entry = {
        "speech_engine_id": "seng_1",
        "name": "Desk",
        "voice_id": "v",
        "created_at_unix_secs": 1,
        "updated_at_unix_secs": "2",
        "tags": ["a"],
        "access_info": {"is_creator": True},
        "later": 1,
    }
    page = read_page(answer({"speech_engines": [entry], "next_cursor": "c", "has_more": True}))
    (summary,) = page.speech_engines
    assert summary.engine_id == summary.speech_engine_id == "seng_1"
    assert (summary.name, summary.voice_id, summary.tags) == ("Desk", "v", ("a",))
    assert (summary.created_at_unix_secs, summary.updated_at_unix_secs) == (1, None)
    assert summary.access_info.is_creator is True
    assert summary.raw.later == 1
    assert (page.next_cursor, page.has_more) == ("c", True)


@pytest.mark.parametrize(
    ("rest_of_body", "cursor", "more"),
    [
        ({}, None, False),
        ({"next_cursor": None, "has_more": False}, None, False),
        ({"next_cursor": "c"}, "c", True),
        ({"next_cursor": "c", "has_more": "yes"}, "c", True),
        ({"next_cursor": 5, "has_more": True}, None, True),
    ],
)
def test_the_end_of_a_page(rest_of_body: Any, cursor: str | None, more: bool) -> None:
    page = read_page(answer({"speech_engines": [], **rest_of_body}))
    assert (page.next_cursor, page.has_more) == (cursor, more)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, r"expected a list, got nothing at \$\.speech_engines"),
        ({"speech_engines": {}}, r"expected a list, got dict at \$\.speech_engines"),
        ({"speech_engines": [5]}, r"expected an id, got nothing at \$\.speech_engines\[0\]"),
        ({"speech_engines": [{"speech_engine_id": 5}]}, r"expected an id, got int at"),
    ],
)
def test_what_is_no_page(body: object, words: str) -> None:
    with pytest.raises(UnexpectedResponseError, match=words):
        read_page(answer(body))


def test_from_page_to_page() -> None:
    assert EnginePage((), "b", True).cursor_after(None) == "b"
    assert EnginePage((), "b", True).cursor_after("a") == "b"
    assert EnginePage((), "b", False).cursor_after("a") is None
    assert EnginePage((), None, True).cursor_after("a") is None
    with pytest.raises(UnexpectedResponseError, match=r"another cursor than the last one"):
        EnginePage((), "a", True).cursor_after("a")


def test_a_token_is_not_shown() -> None:
    token = read_token(answer({"token": "s3cret", "conversation_id": "conv_1"}))
    assert (token.token, token.conversation_id) == ("s3cret", "conv_1")
    assert repr(token) == "WebRTCToken(conversation_id='conv_1')"
    assert read_token(answer({"token": "a"})).conversation_id is None


def test_a_signed_url_is_not_shown() -> None:
    signed = read_signed_url(answer({"signed_url": "wss://a?s3cret"}))
    assert signed.signed_url == "wss://a?s3cret"
    assert repr(signed) == "SignedURL()"


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": 5}, {"signed_url": None}])
def test_what_is_neither(body: object) -> None:
    with pytest.raises(UnexpectedResponseError, match=r"expected text, got \w+ at \$\.token"):
        read_token(answer(body))
    with pytest.raises(UnexpectedResponseError, match=r"expected text, got \w+ at \$\.signed_url"):
        read_signed_url(answer(body))


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_deletion_needs_no_body(status: int) -> None:
    read_nothing(answer(b"whatever", status))


@pytest.mark.parametrize(
    "read", [read_engine, read_page, read_token, read_signed_url, read_nothing]
)
def test_each_reader_raises_what_the_service_says(read: Any) -> None:
    date = {"Retry-After": "Thu, 01 Jan 1970 00:00:30 GMT"}
    with pytest.raises(RateLimitError, match="429 Too Many Requests") as caught:
        read(ApiResponse(429, date), now=10.0)
    assert caught.value.retry_after == 20.0
    with pytest.raises(rest.NotFoundError):
        read(ApiResponse(404))


keys = st.sampled_from([*ENGINE, "speech_engines", "has_more", "next_cursor", "token"])
bodies = values | st.dictionaries(keys, values | st.just([ENGINE]), max_size=6)


@given(st.integers(200, 599), bodies)
@pytest.mark.parametrize(
    "read", [read_engine, read_page, read_token, read_signed_url, read_nothing]
)
def test_any_json_is_read_or_an_api_error(read: Any, status: int, body: Any) -> None:
    try:
        read(answer(body, status))
    except ApiError as error:
        assert str(error)  # noqa: PT017


@given(st.dictionaries(st.text("abc", min_size=1), values))
def test_a_json_object_is_a_mapping(content: dict[str, Any]) -> None:
    tree = JsonObject(content)
    assert tree == content
    assert dict(tree) == content
    assert len(tree) == len(content)
    assert tree.model_dump() == content
    assert pickle.loads(pickle.dumps(tree)) == copy.copy(tree) == copy.deepcopy(tree) == tree
    for key in content:
        assert getattr(tree, key) == content[key]


def test_a_json_object_shows_its_keys_only() -> None:
    tree = JsonObject({"a": "s3cret", "_b": 1, "items": 2})
    assert repr(tree) == "JsonObject(a, _b, items)"
    assert tree["_b"] == 1
    assert tree["items"] == 2
    with pytest.raises(AttributeError, match=r"there is no 'c' in this object; it has JsonObject"):
        _ = tree.c
    with pytest.raises(AttributeError):
        _ = tree._b


def test_a_json_object_gives_nothing_of_itself_away() -> None:
    content = {"a": {"b": [1]}}
    tree = JsonObject(content)
    tree.model_dump()["a"]["b"].append(2)
    with pytest.raises(TypeError):
        tree["a"] = 1
    assert tree == {"a": {"b": [1]}}
