"""The official Python clients, `Conversation` and `AsyncConversation`, in text."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from websockets.exceptions import ConnectionClosed

from speech_engine_local.cloud import conversation

from .diary import Diary
from .official import AsyncConversation, Conversation, ConversationInitiationData, client_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from elevenlabs import ElevenLabs

    from speech_engine_local.cloud import Cloud

    from .talkers import Talker

pytestmark = pytest.mark.anyio

GREETING = "Good morning, how may I help?"

CALLBACKS = {
    "callback_agent_response": "agent",
    "callback_agent_response_correction": "correction",
    "callback_agent_chat_response_part": "part",
    "callback_user_transcript": "user",
    "callback_latency_measurement": "latency",
    "callback_disconnect": "over",
}


class Client:
    """Either of the two, with the same verbs."""

    def __init__(
        self,
        sdk: ElevenLabs,
        engine_id: str,
        *,
        asynchronous: bool,
        greeting: str | None = None,
        requires_auth: bool = False,
    ) -> None:
        self.diary = Diary()
        override = {} if greeting is None else {"agent": {"first_message": greeting}}
        kind: Any = AsyncConversation if asynchronous else Conversation
        write = self._write_later if asynchronous else self._write
        self._conversation = kind(
            sdk,
            engine_id,
            requires_auth=requires_auth,
            config=ConversationInitiationData(conversation_config_override=override),
            **{name: write(what) for name, what in CALLBACKS.items()},
        )
        self._asynchronous = asynchronous

    async def do(self, verb: str, *arguments: Any) -> Any:
        """Call a method of the client, a synchronous one in a thread."""
        method = getattr(self._conversation, verb)
        if self._asynchronous:
            return await method(*arguments)
        return await anyio.to_thread.run_sync(method, *arguments)

    def _write(self, kind: str) -> Callable[..., None]:
        return lambda *values: self.diary.note(kind, *values)

    def _write_later(self, kind: str) -> Callable[..., Awaitable[None]]:
        async def write(*values: Any) -> None:
            self.diary.note(kind, *values)

        return write


@pytest.fixture(params=[False, True], ids=["Conversation", "AsyncConversation"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def sdk(cloud: Cloud) -> Generator[ElevenLabs]:
    """The official client of the management API, at the cloud."""
    with client_of(cloud) as sdk:
        yield sdk


async def new_engine(sdk: ElevenLabs, talker: Talker, **settings: Any) -> str:
    def create() -> str:
        engine: Any = sdk.speech_engine.create(speech_engine={"ws_url": talker.url}, **settings)  # type: ignore[arg-type]
        engine_id: str = engine.engine_id
        return engine_id

    return await anyio.to_thread.run_sync(create)


async def test_a_conversation(sdk: ElevenLabs, talker: Talker, asynchronous: bool) -> None:
    engine_id = await new_engine(sdk, talker, overrides={"first_message": True})
    client = Client(sdk, engine_id, asynchronous=asynchronous, greeting=GREETING)
    diary = client.diary
    await client.do("start_session")

    assert await diary.next("agent") == (GREETING,)
    await client.do("send_user_message", "Good morning")
    assert await diary.next("agent") == ("You said: Good morning.",)
    parts = [(text, kind.value) for text, kind in diary.all("part")]
    assert parts[-4:] == [
        ("", "start"), ("You said: ", "delta"), ("Good morning.", "delta"), ("", "stop"),
    ]  # fmt: skip

    await client.do("send_user_message", "count")
    while (await diary.next("part"))[0] != "three, ":
        pass
    await client.do("send_user_message", "And now?")
    assert await diary.next("agent") == ("One, two, three,",)
    original, corrected = await diary.next("correction")
    assert original == "One, two, three,"
    assert original.startswith(corrected)
    assert await diary.next("agent") == ("You said: And now?.",)

    await client.do("end_session")
    (details,) = await diary.next("over")
    assert (details.reason, details.close_code) == ("user", None)
    conversation_id = await client.do("wait_for_session_end")
    await talker.ended.wait()
    assert talker.events == [f"init {conversation_id}", "close"]
    assert diary.all("user") == []  # what was typed is not heard
    assert talker.transcripts[0] == [("agent", GREETING), ("user", "Good morning")]
    assert [role for role, _ in talker.transcripts[-1]] == [
        "agent", "user", "agent", "user", *(["agent"] if corrected else []), "user",
    ]  # fmt: skip


async def test_a_signed_url(sdk: ElevenLabs, talker: Talker, asynchronous: bool) -> None:
    engine_id = await new_engine(sdk, talker, auth={"enable_auth": True})
    client = Client(sdk, engine_id, asynchronous=asynchronous, requires_auth=True)
    await client.do("start_session")
    await talker.called.wait()
    await client.do("send_user_message", "Hello")
    assert await client.diary.next("agent") == ("You said: Hello.",)
    await client.do("end_session")
    await client.do("wait_for_session_end")


async def test_refused_without_a_signed_url(
    sdk: ElevenLabs, talker: Talker, asynchronous: bool
) -> None:
    engine_id = await new_engine(sdk, talker, auth={"enable_auth": True})
    client = Client(sdk, engine_id, asynchronous=asynchronous)
    await client.do("start_session")
    (details,) = await client.diary.next("over")
    assert (details.reason, details.close_code) == ("error", 1008)
    assert "signed URL" in details.close_reason
    with suppress(ConnectionClosed):  # the asynchronous one also raises what it has told
        await client.do("wait_for_session_end")
    assert talker.events == []


async def test_pings_are_answered(
    sdk: ElevenLabs, talker: Talker, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "PING_SECONDS", 0.02)
    client = Client(sdk, await new_engine(sdk, talker), asynchronous=asynchronous)
    await client.do("start_session")
    (milliseconds,) = await client.diary.next("latency")  # told with the ping after a pong
    assert isinstance(milliseconds, int)
    assert milliseconds > 0
    await client.do("end_session")
    await client.do("wait_for_session_end")
