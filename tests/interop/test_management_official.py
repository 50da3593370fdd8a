"""The official management client and ours, against the same loopback socket.

For each operation both must send the same method, path, query, JSON body and key, and take the
same arguments; what the official client reads from an answer, ours reads too.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import elevenlabs as official
import pytest
from elevenlabs.core import RequestOptions as OfficialOptions
from elevenlabs.environment import ElevenLabsEnvironment as OfficialEnvironment
from elevenlabs.speech_engine_custom import SpeechEngineClient as OfficialSpeechEngineClient
from elevenlabs.types import (
    AsrConversationalConfig,
    SpeechEngineConfig,
    SpeechEngineConversationInitiationClientDataConfig,
    TtsConversationalConfigInput,
)

from speech_engine_proto import rest
from speech_engine_transports import httpx as ours
from tests.transports.management import ENGINE, Answer, Seen, Service, service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

KEY = "sk_test"
WS = {"ws_url": "wss://example.com/ws"}

# Each key that an engine has, with something in it.
WHOLE: dict[str, Any] = {
    **ENGINE,
    **{name: {"later": 1} for name in ("asr", "tts", "turn", "vad", "conversation", "privacy")},
    "call_limits": {"daily_limit": 5},
    "auth": {"enable_auth": True},
    "language": "en",
    "tags": ["a"],
    "overrides": {"first_message": True},
    "metadata": {"created_at_unix_secs": 1, "updated_at_unix_secs": 2},
    "access_info": None,
}
SUMMARY = {
    "speech_engine_id": "seng_1",
    "name": "Desk",
    "voice_id": "v",
    "created_at_unix_secs": 1,
    "updated_at_unix_secs": 2,
    "tags": ["a"],
}


@pytest.fixture
def far() -> Generator[Service]:
    with service() as running:
        yield running


def conversations(client: Any) -> Any:
    return client.conversational_ai.conversations


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "the quickstart's create": lambda c: c.speech_engine.create(
        name="My Speech Engine", speech_engine=WS
    ),
    "create with all": lambda c: c.speech_engine.create(
        name="Désk",
        speech_engine={**WS, "request_headers": {"X-Team": "a", "X-Key": {"secret_id": "s"}}},
        asr={"quality": "high", "keywords": ["a"]},
        tts={"voice_id": "v", "speed": 1.1},
        turn={"turn_timeout": 7, "initial_wait_time": None},
        conversation={"text_only": True, "client_events": ["audio"]},
        privacy={"record_voice": False},
        call_limits={"daily_limit": 5},
        auth={"enable_auth": True},
        language="de",
        tags=["a", "b"],
        overrides={"first_message": True},
    ),
    "create with nulls": lambda c: c.speech_engine.create(speech_engine=WS, name=None, tags=None),
    "create with models": lambda c: c.speech_engine.create(
        speech_engine=SpeechEngineConfig(
            ws_url="wss://example.com/ws", request_headers={"X-Team": "a"}
        ),
        asr=AsrConversationalConfig(quality="high"),
        tts=TtsConversationalConfigInput(voice_id="v", model_id="eleven_flash_v2"),
        overrides=SpeechEngineConversationInitiationClientDataConfig(first_message=True),
    ),
    "create with a bare model": lambda c: c.speech_engine.create(
        speech_engine=SpeechEngineConfig(ws_url="wss://example.com/ws")
    ),
    "get": lambda c: c.speech_engine.get("seng_1"),
    "get by keyword": lambda c: c.speech_engine.get(speech_engine_id="agent_1"),
    "update nothing": lambda c: c.speech_engine.update("seng_1"),
    "update": lambda c: c.speech_engine.update(
        "seng_1", name="x", speech_engine=WS, auth={"enable_auth": False}, tags=[]
    ),
    "delete": lambda c: c.speech_engine.delete("seng_1"),
    "list": lambda c: c.speech_engine.list(),
    "list with all": lambda c: c.speech_engine.list(
        page_size=5, search="a b&c=ü/+", sort_direction="desc", sort_by="name", cursor="c=="
    ),
    "token": lambda c: conversations(c).get_webrtc_token(agent_id="seng_1"),
    "token with all": lambda c: conversations(c).get_webrtc_token(
        agent_id="seng_1",
        participant_name="Ann B",
        branch_id="b",
        version_id="v",
        environment="staging",
        debug_events_request=True,
    ),
    "signed url": lambda c: conversations(c).get_signed_url(agent_id="seng_1"),
    "signed url with all": lambda c: conversations(c).get_signed_url(
        agent_id="seng_1",
        include_conversation_id=False,
        branch_id="b",
        version_id="v",
        environment="staging",
        debug_events_request=False,
    ),
    "with request options": lambda c: c.speech_engine.update(
        "seng_1",
        name="x",
        request_options={
            "timeout_in_seconds": 9,
            "max_retries": 1,
            "additional_headers": {"X-Team": "a"},
            "additional_query_parameters": {"later": True, "n": 1},
            "additional_body_parameters": {"vad": {}, "cascade_timeout_seconds": 4},
        },
    ),
    "options on a get": lambda c: c.speech_engine.get(
        "seng_1", request_options={"additional_query_parameters": {"later": "x"}}
    ),
}


def essence(seen: Seen) -> dict[str, Any]:
    wanted = ("xi-api-key", "content-type", "x-team", "x-all")
    return {
        "method": seen.method,
        "path": seen.path,
        "query": sorted(seen.query),
        "json": seen.json,
        "headers": {name: seen.headers.get(name) for name in wanted},
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_send_the_same(name: str, far: Service) -> None:
    operation = OPERATIONS[name]
    options: Any = {"base_url": far.url, "api_key": KEY, "headers": {"X-All": "b"}}
    with official_http() as http:
        operation(official.ElevenLabs(**options, httpx_client=http))
    with ours.ElevenLabs(**options) as client:
        operation(client)

    async def ask_both() -> None:
        async with async_http() as http_async:
            await operation(official.AsyncElevenLabs(**options, httpx_client=http_async))
        await operation(ours.AsyncElevenLabs(**options))

    asyncio.run(ask_both())
    expected, *others = map(essence, far.seen)
    assert len(others) == 3
    for other in others:
        assert other == expected


def official_http() -> Any:
    import httpx

    return httpx.Client(timeout=30)


def async_http() -> Any:
    import httpx

    return httpx.AsyncClient(timeout=30)


def test_both_read_the_same_engine(far: Service) -> None:
    far.answers = [Answer(201, WHOLE)] * 2
    with official_http() as http:
        theirs = official.ElevenLabs(base_url=far.url, api_key=KEY, httpx_client=http)
        expected = theirs.speech_engine.create(
            speech_engine=SpeechEngineConfig(ws_url=WS["ws_url"])
        )
    with ours.ElevenLabs(base_url=far.url, api_key=KEY) as client:
        engine = client.speech_engine.create(speech_engine=SpeechEngineConfig(ws_url=WS["ws_url"]))
    assert engine.engine_id == expected.engine_id
    config = expected.config
    assert config is not None
    assert engine.config.model_dump() == WHOLE
    for name in type(config).model_fields:
        assert hasattr(engine.config, name), name
    assert engine.config.speech_engine_id == config.speech_engine_id
    assert engine.config.speech_engine.ws_url == config.speech_engine.ws_url
    assert engine.config.overrides.first_message is True
    assert list(engine.config.tags) == config.tags


def test_both_read_the_same_page(far: Service) -> None:
    far.answers = [Answer(200, {"speech_engines": [SUMMARY], "has_more": True})] * 2
    with official_http() as http:
        theirs = official.ElevenLabs(base_url=far.url, api_key=KEY, httpx_client=http)
        expected = theirs.speech_engine.list()
    with ours.ElevenLabs(base_url=far.url, api_key=KEY) as client:
        page = client.speech_engine.list()
    for name in type(expected).model_fields:
        assert hasattr(page, name), name
    assert (page.next_cursor, page.has_more) == (expected.next_cursor, expected.has_more)
    for name, value in SUMMARY.items():
        mine = getattr(page.speech_engines[0], name)
        assert getattr(expected.speech_engines[0], name) == value
        assert (list(mine) if name == "tags" else mine) == value


def test_both_have_the_same_attributes_on_an_error(far: Service) -> None:
    far.answers = [Answer(404, {"detail": {"message": "words"}}, {"X-A": "b"})] * 2
    with official_http() as http, pytest.raises(official.core.ApiError) as theirs:
        official.ElevenLabs(base_url=far.url, api_key=KEY, httpx_client=http).speech_engine.get(
            "seng_1"
        )
    with ours.ElevenLabs(base_url=far.url, api_key=KEY) as client:
        with pytest.raises(rest.ApiError) as mine:
            client.speech_engine.get("seng_1")
    assert mine.value.status_code == theirs.value.status_code
    assert mine.value.body == theirs.value.body
    assert theirs.value.headers is not None
    assert mine.value.headers["x-a"] == theirs.value.headers["x-a"]


# --- arguments


def parameters(function: Any) -> set[str]:
    """Return the names that a function takes, those of its typed keywords included."""
    names: set[str] = set()
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            options = str(parameter.annotation).removeprefix("Unpack[").removesuffix("]")
            names |= set(getattr(rest, options).__annotations__)
        else:
            names.add(name)
    return names


@pytest.mark.parametrize("method", ["create", "get", "update", "delete", "list"])
def test_every_argument_of_the_official_client_is_taken(method: str) -> None:
    theirs = parameters(getattr(OfficialSpeechEngineClient, method))
    for kind in (ours.SpeechEngineClient, ours.AsyncSpeechEngineClient):
        assert parameters(getattr(kind, method)) >= theirs


@pytest.mark.parametrize("method", ["get_webrtc_token", "get_signed_url"])
def test_the_arguments_of_conversations(method: str) -> None:
    client = official.ElevenLabs(api_key=KEY)
    theirs = parameters(getattr(type(client.conversational_ai.conversations), method))
    for kind in (ours.ConversationsClient, ours.AsyncConversationsClient):
        assert parameters(getattr(kind, method)) == theirs


@pytest.mark.parametrize("name", ["ElevenLabs", "AsyncElevenLabs"])
def test_the_arguments_of_a_client(name: str) -> None:
    theirs = parameters(getattr(official, name).__init__)
    assert parameters(getattr(ours, name).__init__) == theirs | {"retry"}


def test_the_options_of_a_request_and_the_hosts_are_the_same() -> None:
    assert set(ours.RequestOptions.__annotations__) == set(OfficialOptions.__annotations__)
    assert {each.name: each.value for each in rest.ElevenLabsEnvironment} == {
        each.name: each.value for each in OfficialEnvironment
    }


def test_the_official_environments_are_taken() -> None:
    for environment in OfficialEnvironment:
        client = ours.ElevenLabs(api_key=KEY, environment=environment)
        assert environment.value in repr(client)
