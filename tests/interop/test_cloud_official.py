"""The official Python SDK, unchanged, against the cloud: every operation of the management API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from speech_engine_local.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

elevenlabs = pytest.importorskip("elevenlabs")
httpx = pytest.importorskip("httpx")

pytestmark = pytest.mark.anyio

KEY = "sk_test_0123456789"
AGENT = {"ws_url": "ws://127.0.0.1:3001/ws"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def cloud() -> AsyncGenerator[Cloud]:
    async with Cloud(api_key=KEY).listen() as running:
        yield running


@pytest.fixture(params=["async", "sync"])
async def client(request: pytest.FixtureRequest, cloud: Cloud) -> AsyncGenerator[Any]:
    """One client or the other; the synchronous one is called in a thread."""
    options = {"api_key": KEY, "base_url": cloud.url}
    if request.param == "async":
        async with httpx.AsyncClient() as carrier:
            yield elevenlabs.AsyncElevenLabs(**options, httpx_client=carrier)
    else:
        with httpx.Client() as blocking:
            yield Threaded(elevenlabs.ElevenLabs(**options, httpx_client=blocking))


class Threaded:
    """Gives a synchronous client the shape of the other."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Threaded:
        return Threaded(getattr(self._inner, name))

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        return await anyio.to_thread.run_sync(lambda: self._inner(*arguments, **options))


async def test_create_get_and_delete(client: Any) -> None:
    engine = await client.speech_engine.create(name="Ada", speech_engine=AGENT, tags=["x"])
    assert re.fullmatch("seng_[a-z0-9]{28}", engine.engine_id)
    assert engine.config.name == "Ada"
    assert engine.config.speech_engine.ws_url == AGENT["ws_url"]
    assert engine.config.tts.voice_id == "cjVigY5qzO86Huf0OWal"
    assert engine.config.cascade_timeout_seconds == 4
    assert engine.config.access_info.role == "admin"
    missing = [
        name
        for name in type(engine.config).model_fields
        if name not in engine.config.model_fields_set
    ]
    assert missing == []
    found = await client.speech_engine.get(engine.engine_id)
    assert found.config == engine.config
    await client.speech_engine.delete(engine.engine_id)
    with pytest.raises(elevenlabs.core.ApiError) as refused:
        await client.speech_engine.get(engine.engine_id)
    assert refused.value.status_code == 404
    assert refused.value.body["detail"]["code"] == "speech_engine_not_found"


async def test_create_with_everything(client: Any) -> None:
    engine = await client.speech_engine.create(
        speech_engine={**AGENT, "request_headers": {"x": {"variable_name": "caller"}}},
        asr={"keywords": ["Ada"]},
        tts={"agent_output_audio_format": "ulaw_8000"},
        turn={"turn_eagerness": "eager"},
        conversation={"text_only": True},
        privacy={"record_voice": False},
        call_limits={"daily_limit": 5},
        auth={"enable_auth": True},
        language="de",
        overrides={"first_message": True},
    )
    config = engine.config
    assert config.speech_engine.request_headers["x"].variable_name == "caller"
    assert (config.asr.keywords, config.asr.quality) == (["Ada"], "high")
    assert config.tts.agent_output_audio_format == "ulaw_8000"
    assert config.turn.turn_eagerness == "eager"
    assert config.conversation.text_only is True
    assert config.privacy.record_voice is False
    assert (config.call_limits.daily_limit, config.call_limits.bursting_enabled) == (5, True)
    assert config.auth.enable_auth is True
    assert (config.language, config.overrides.first_message) == ("de", True)


async def test_update(client: Any) -> None:
    engine = await client.speech_engine.create(speech_engine=AGENT, tts={"speed": 1.1})
    changed = await client.speech_engine.update(engine.engine_id, name="B", tts={"stability": 1})
    assert changed.engine_id == engine.engine_id
    assert (changed.config.name, changed.config.tts.speed) == ("B", 1.1)
    assert changed.config.tts.stability == 1
    changed = await client.speech_engine.update(
        engine.engine_id, speech_engine={"request_headers": {"x": "1"}}
    )
    assert changed.config.speech_engine.ws_url == AGENT["ws_url"]
    assert changed.config.speech_engine.request_headers == {"x": "1"}


async def test_list(client: Any) -> None:
    for name in "abc":
        await client.speech_engine.create(name=name, speech_engine=AGENT)
    order = {"sort_by": "name", "sort_direction": "desc", "page_size": 2}
    first = await client.speech_engine.list(**order)
    assert [entry.name for entry in first.speech_engines] == ["c", "b"]
    assert first.has_more is True
    second = await client.speech_engine.list(**order, cursor=first.next_cursor)
    assert [entry.name for entry in second.speech_engines] == ["a"]
    assert (second.has_more, second.next_cursor) == (False, None)
    (entry,) = (await client.speech_engine.list(search="B")).speech_engines
    assert (entry.name, entry.voice_id) == ("b", "cjVigY5qzO86Huf0OWal")


async def test_token_and_signed_url(client: Any, cloud: Cloud) -> None:
    engine = await client.speech_engine.create(speech_engine=AGENT)
    conversations = client.conversational_ai.conversations
    for agent_id in (engine.engine_id, engine.engine_id.replace("seng_", "agent_")):
        token = await conversations.get_webrtc_token(agent_id=agent_id)
        assert token.token
        assert token.conversation_id.startswith("conv_")
        signed = await conversations.get_signed_url(agent_id=agent_id)
        assert signed.signed_url.startswith(f"ws://127.0.0.1:{cloud.port}/v1/convai/conversation?")
    signed = await conversations.get_signed_url(
        agent_id=engine.engine_id, include_conversation_id=True
    )
    assert "&conversation_id=conv_" in signed.signed_url


async def test_what_is_wrong_is_the_sdks_typed_error(client: Any) -> None:
    with pytest.raises(elevenlabs.UnprocessableEntityError) as refused:
        await client.speech_engine.create(speech_engine={"ws_url": "http://x"}, tags="x")
    assert [entry["loc"] for entry in refused.value.body["detail"]] == [
        ["body", "speech_engine", "ws_url"],
        ["body", "tags"],
    ]
    assert refused.value.headers["request-id"]


async def test_a_wrong_key(cloud: Cloud) -> None:
    async with httpx.AsyncClient() as carrier:
        wrong = elevenlabs.AsyncElevenLabs(
            api_key="wrong", base_url=cloud.url, httpx_client=carrier
        )
        with pytest.raises(elevenlabs.core.ApiError) as refused:
            await wrong.speech_engine.list()
    assert refused.value.status_code == 401
    assert refused.value.body["detail"]["code"] == "invalid_api_key"
