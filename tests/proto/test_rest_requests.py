"""The requests, one by one."""

from __future__ import annotations

import inspect
import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given

from speech_engine_proto import rest
from speech_engine_proto.rest import (
    ApiRequest,
    create_engine,
    delete_engine,
    duplicate_engine,
    get_engine,
    get_signed_url,
    get_webrtc_token,
    list_engines,
    update_engine,
)

from .test_rest_settings import WS, Model, ids

ENGINES = "/v1/speech-engine"


def body(request: ApiRequest) -> Any:
    assert request.body is not None
    return json.loads(request.body)


def test_create() -> None:
    request = create_engine(speech_engine=WS, name="Desk ü", tags=["a"], overrides=None)
    assert (request.method, request.path, request.query) == ("POST", ENGINES, ())
    assert body(request) == {
        "speech_engine": WS,
        "name": "Desk ü",
        "tags": ["a"],
        "overrides": None,
    }


def test_create_takes_models() -> None:
    request = create_engine(speech_engine=Model(**WS), tts=Model(speed=1.1))
    assert body(request) == {"speech_engine": WS, "tts": {"speed": 1.1}}


@pytest.mark.parametrize("config", [None, {}, {"ws_url": None}, {"request_headers": {}}])
def test_create_needs_a_ws_url(config: Any) -> None:
    with pytest.raises(ValueError, match=r"speech_engine\.ws_url: expected .* wss://\), got none"):
        create_engine(speech_engine=config)


def test_get_and_delete() -> None:
    assert get_engine("seng_1") == ApiRequest("GET", f"{ENGINES}/seng_1")
    assert delete_engine("agent_1") == ApiRequest("DELETE", f"{ENGINES}/agent_1")


@pytest.mark.parametrize(
    ("engine_id", "path"),
    [("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("../x", "..%2Fx"), ("é %", "%C3%A9%20%25")],
)
def test_an_id_cannot_leave_its_place(engine_id: str, path: str) -> None:
    assert get_engine(engine_id).path == f"{ENGINES}/{path}"


@given(ids)
def test_every_id_can_be_read_back_from_the_path(engine_id: str) -> None:
    for request in (get_engine(engine_id), update_engine(engine_id), delete_engine(engine_id)):
        assert unquote(request.path.removeprefix(f"{ENGINES}/")) == engine_id
    copy, _, last = duplicate_engine(engine_id).path.rpartition("/")
    assert (unquote(copy.removeprefix(f"{ENGINES}/")), last) == (engine_id, "duplicate")


@pytest.mark.parametrize("request_of", [get_engine, update_engine, delete_engine, duplicate_engine])
@pytest.mark.parametrize("engine_id", ["", "..", None])
def test_every_id_is_checked(request_of: Any, engine_id: Any) -> None:
    with pytest.raises(ValueError, match="speech_engine_id: expected"):
        request_of(engine_id)


def test_update() -> None:
    request = update_engine("seng_1", overrides={"first_message": True}, cascade_timeout_seconds=4)
    assert (request.method, request.path) == ("PATCH", f"{ENGINES}/seng_1")
    assert body(request) == {"overrides": {"first_message": True}, "cascade_timeout_seconds": 4}
    assert body(update_engine("seng_1")) == {}
    headers = {"request_headers": {"X-Team": "a"}}
    assert body(update_engine("seng_1", speech_engine=headers)) == {"speech_engine": headers}


def test_duplicate() -> None:
    request = duplicate_engine("seng_1", name="Copy")
    assert (request.method, request.path) == ("POST", f"{ENGINES}/seng_1/duplicate")
    assert body(request) == {"name": "Copy"}
    assert body(duplicate_engine("seng_1")) == {}
    with pytest.raises(ValueError, match="name: expected text, got int"):
        duplicate_engine("seng_1", name=1)  # type: ignore[arg-type]


def test_list() -> None:
    assert list_engines() == ApiRequest("GET", ENGINES)
    assert list_engines(
        page_size=100, search="a b", sort_direction="desc", sort_by="name", cursor="c=="
    ).query == (
        ("page_size", "100"),
        ("search", "a b"),
        ("sort_direction", "desc"),
        ("sort_by", "name"),
        ("cursor", "c=="),
    )
    assert list_engines(page_size=1, sort_direction="asc").body is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"page_size": 0}, "page_size: expected an int from 1 to 100, got 0"),
        ({"page_size": 101}, "page_size: expected an int from 1 to 100, got 101"),
        ({"page_size": True}, "page_size: expected an int from 1 to 100, got True"),
        ({"page_size": "5"}, "page_size: expected an int from 1 to 100, got str"),
        ({"sort_direction": "up"}, "sort_direction: expected 'asc' or 'desc', got 'up'"),
        ({"sort_by": []}, "sort_by: expected text, got list"),
        ({"search": b"a"}, "search: expected text, got bytes"),
    ],
)
def test_what_a_list_cannot_be_asked_for(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list_engines(**options)


def test_the_token() -> None:
    request = get_webrtc_token(agent_id="seng/1", participant_name="Ann", debug_events_request=True)
    assert (request.method, request.path) == ("GET", "/v1/convai/conversation/token")
    assert request.query == (
        ("agent_id", "seng/1"),
        ("participant_name", "Ann"),
        ("debug_events_request", "true"),
    )
    assert request.url("http://h").endswith(
        "token?agent_id=seng%2F1&participant_name=Ann&debug_events_request=true"
    )


def test_the_signed_url() -> None:
    request = get_signed_url(
        agent_id="seng_1", include_conversation_id=False, environment="staging"
    )
    assert (request.method, request.path) == ("GET", "/v1/convai/conversation/get-signed-url")
    assert request.query == (
        ("agent_id", "seng_1"),
        ("include_conversation_id", "false"),
        ("environment", "staging"),
    )


@pytest.mark.parametrize("request_of", [get_webrtc_token, get_signed_url])
def test_an_empty_agent_id_is_refused(request_of: Any) -> None:
    with pytest.raises(ValueError, match="agent_id: expected an id, got an empty one"):
        request_of(agent_id="")


@pytest.mark.parametrize(
    ("options", "function"),
    [
        (rest.ListOptions, list_engines),
        (rest.TokenOptions, get_webrtc_token),
        (rest.SignedURLOptions, get_signed_url),
    ],
)
def test_the_options_are_those_of_the_function(options: Any, function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert list(options.__annotations__) == [name for name in parameters if name != "agent_id"]
