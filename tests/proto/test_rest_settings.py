"""What may be sent: each check, and what it says."""

from __future__ import annotations

import json
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto._rest_messages import encode
from speech_engine_proto._rest_settings import (
    checked_page_size,
    checked_settings,
    path_segment,
    plain,
    query_text,
)
from speech_engine_proto.rest import create_engine

if TYPE_CHECKING:
    from speech_engine_proto.rest import EngineSettings

WS = {"ws_url": "wss://example.com/ws"}

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() and text not in (".", "..")
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


class Model:
    """Turns itself into a dict as pydantic's models do."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(
        self, *, mode: str = "", by_alias: bool = False, exclude_unset: bool = False
    ) -> dict[str, Any]:
        assert (mode, by_alias, exclude_unset) == ("json", True, True)
        return self.fields


class Plain:
    """Turns itself into a dict without any options."""

    def model_dump(self) -> dict[str, Any]:
        return {"first_message": True}


class Level(Enum):
    HIGH = "high"


@given(ids)
def test_an_id_survives_being_percent_encoded(engine_id: str) -> None:
    segment = path_segment("speech_engine_id", engine_id)
    assert unquote(segment) == engine_id
    assert not set(segment) & set("/?#;&+ \\")
    assert segment.isascii()


@pytest.mark.parametrize(
    ("engine_id", "words"),
    [
        ("", "speech_engine_id: expected an id, got an empty one"),
        (" \n", "speech_engine_id: expected an id, got an empty one"),
        (".", r"speech_engine_id: expected an id, got '\.'"),
        ("..", r"speech_engine_id: expected an id, got '\.\.'"),
        (None, "speech_engine_id: expected text, got NoneType"),
        (b"seng_1", "speech_engine_id: expected text, got bytes"),
        ("\ud800", "speech_engine_id: expected valid Unicode, got a lone surrogate"),
    ],
)
def test_what_is_no_id_is_refused(engine_id: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        path_segment("speech_engine_id", engine_id)


@given(values)
def test_json_values_stay_as_they_are(value: object) -> None:
    assert plain("x", value) == value
    assert json.loads(encode(plain("x", value))) == value


def test_models_mappings_tuples_and_enums_become_plain() -> None:
    value = MappingProxyType({"a": (1, Level.HIGH), "b": Model(c=Model(d=None)), "e": Plain()})
    assert plain("x", value) == {
        "a": [1, "high"],
        "b": {"c": {"d": None}},
        "e": {"first_message": True},
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [0, float("inf")]}, r"x\.a\[1\]: expected a finite number, got inf"),
        ({"a": b"bytes"}, r"x\.a: expected a value for JSON, got bytes"),
        ({1: "a"}, "x: expected keys that are text, got 1"),
        ({"\ud800": "a"}, "x: expected keys that are text, got str"),
        ({b"secret": "a"}, "x: expected keys that are text, got bytes"),
        ({"a": "\udfff"}, r"x\.a: expected valid Unicode, got a lone surrogate"),
        ({1, 2}, "x: expected a value for JSON, got set"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plain("x", value)


def test_what_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="x: expected JSON, got too many nested values"):
        plain("x", loop)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.5, "0.5"),
        ("a b", "a b"),
        (Level.HIGH, "high"),
    ],
)
def test_values_of_a_query_become_text(value: object, text: str) -> None:
    assert query_text("x", value) == text


def test_the_size_of_a_page() -> None:
    assert [checked_page_size(size) for size in (1, 30, 100)] == [1, 30, 100]
    for size in (0, 101, -1, True, 5.0, "5", None):
        with pytest.raises(ValueError, match="page_size: expected an int from 1 to 100, got "):
            checked_page_size(size)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "Desk", "language": "en", "tags": ["a", "b"], "cascade_timeout_seconds": 2},
        {"tags": (), "cascade_timeout_seconds": 15.0, "vad": {}, "asr": {"quality": "high"}},
        {"auth": {"enable_auth": True}, "overrides": Plain(), "turn": Model(turn_timeout=7)},
        {"auth": {}, "overrides": {"first_message": None, "later": 1}},
        {"name": None, "asr": None, "tags": None, "cascade_timeout_seconds": None, "auth": None},
        {"speech_engine": None},
        {"speech_engine": {"request_headers": {"X-Team": "a", "x": {"secret_id": "s"}}}},
        {"speech_engine": {**WS, "request_headers": {"X-Who": {"variable_name": "who"}}}},
        {"speech_engine": {"ws_url": "WS://localhost:3001/ws?token=1", "request_headers": None}},
        {"speech_engine": {"ws_url": "wss://[::1]/ws"}},
    ],
)
def test_settings_that_the_service_takes(settings: EngineSettings) -> None:
    assert checked_settings(settings).keys() == settings.keys()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": 1}, "name: expected text, got int"),
        ({"language": ["en"]}, "language: expected text, got list"),
        ({"tags": "abc"}, "tags: expected a list of text, got str"),
        ({"tags": ["a", 1]}, r"tags\[1\]: expected text, got int"),
        ({"asr": "high"}, r"asr: expected an object \(a dict or a model\), got str"),
        ({"vad": [1]}, "vad: expected an object .*, got list"),
        ({"auth": {"enable_auth": "yes"}}, r"auth\.enable_auth: expected true or false, got str"),
        ({"auth": True}, "auth: expected an object .*, got bool"),
        ({"overrides": {"first_message": 1}}, r"overrides\.first_message: .* true or false, got 1"),
        ({"cascade_timeout_seconds": 1.99}, "cascade_timeout_seconds: .* from 2 to 15, got 1.99"),
        ({"cascade_timeout_seconds": 16}, "from 2 to 15, got 16"),
        ({"cascade_timeout_seconds": True}, "from 2 to 15, got True"),
        ({"cascade_timeout_seconds": "4"}, "from 2 to 15, got str"),
        ({"cascade_timeout_seconds": float("nan")}, "expected a finite number, got nan"),
        ({"speech_engine": {"ws_url": 1}}, r"speech_engine\.ws_url: expected text, got int"),
        ({"speech_engine": []}, "speech_engine: expected an object .*, got list"),
    ],
)
def test_settings_that_the_service_refuses(settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_settings(settings)


@pytest.mark.parametrize(
    ("ws_url", "words"),
    [
        ("https://a.ngrok.io/ws", "got https://; write wss:// instead of https://"),
        ("HTTP://a.example/ws", "got HTTP://; write ws:// instead of HTTP://"),
        ("http:a", "got no scheme"),
        ("a.ngrok.io/ws", "got no scheme"),
        ("", "got no scheme"),
        ("ftp://a/ws", "got scheme 'ftp'"),
        ("wss://", "got one without a host"),
        ("wss:///ws", "got one without a host"),
        ("wss://a/ws#part", "got one with a fragment"),
        ("wss://a:99999/ws", "got one with a broken host or port"),
        ("wss://a:port/ws", "got one with a broken host or port"),
        ("wss://[a/ws", "got one with a broken host or port"),
        (" wss://a/ws", "got one with white space"),
        ("wss://a/w s", "got one with white space"),
        ("wss://a/ws\n", "got one with white space"),
    ],
)
def test_a_ws_url_that_is_none(ws_url: str, words: str) -> None:
    expected = r"speech_engine\.ws_url: expected a WebSocket URL \(ws:// or wss://\), "
    with pytest.raises(ValueError, match=expected + words):
        checked_settings({"speech_engine": {"ws_url": ws_url}})


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (["X-Team"], "request_headers: expected an object"),
        ({"X Team": "a"}, "request_headers: expected names of HTTP headers, got 'X Team'"),
        ({"": "a"}, "request_headers: expected names of HTTP headers, got ''"),
        ({"X-Team": "a\r\nX-Other: b"}, r"request_headers\.X-Team: expected one line, got several"),
        ({"X-Team": 1}, r"request_headers\.X-Team: expected text, \{.*, got int"),
        ({"X-Team": {}}, r"request_headers\.X-Team: expected text, \{.*, got dict"),
        ({"X-Team": {"secret_id": "a", "variable_name": "b"}}, r"got dict"),
    ],
)
def test_request_headers_that_are_none(headers: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_settings({"speech_engine": {"request_headers": headers}})


def test_no_error_shows_what_may_be_a_secret() -> None:
    for config in (
        {"ws_url": "https://user:s3cret@a/ws?token=s3cret"},
        {"ws_url": "wss://user:s3cret@/ws?token=s3cret"},
        {"request_headers": {"X-Key": "s3cret\n"}},
        {"request_headers": {"X-Key": {"value": "s3cret"}}},
    ):
        with pytest.raises(ValueError, match="expected") as caught:
            checked_settings({"speech_engine": config})
        assert "s3cret" not in str(caught.value)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'nmae'; expected one of name, asr, .*"):
        create_engine(speech_engine=WS, nmae="Desk")  # type: ignore[call-arg]
