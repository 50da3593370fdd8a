"""The conversation's WebSocket on loopback: real clients, right and wrong, and real agents."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import anyio
import attrs
import httpx
import pytest
from anyio.to_thread import run_sync
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from speech_engine_local.cloud import Cloud, engines
from speech_engine_local.cloud import conversation as conversation_module
from speech_engine_local.cloud import outbox as outbox_module
from speech_engine_local.cloud import talk as talk_module
from speech_engine_transports import SpeechEngineServer
from speech_engine_transports.httpx import ElevenLabs

from .memory import Beeps, initiation
from .servers import Call, answering, raw_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator

    from speech_engine_local.cloud import Engine
    from speech_engine_transports import SpeechEngineSession

pytestmark = pytest.mark.anyio

KEY = "sk_test_of_the_cloud"


class Agent:
    """Says every message back in capitals, word by word; "forever" goes on until interrupted."""

    def __init__(self) -> None:
        self.histories: list[list[tuple[str, str]]] = []

    async def on_transcript(self, transcript: list[Any], session: SpeechEngineSession) -> None:
        self.histories.append([(entry.role, entry.content) for entry in transcript])
        await session.send_response(self._speak(transcript[-1].content))

    async def _speak(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield f"{word.upper()} "
        if text == "forever":
            await anyio.sleep_forever()


class Stage:
    """A cloud and an agent, and an engine that joins them."""

    def __init__(self, cloud: Cloud, agent: Agent, agent_url: str) -> None:
        self.cloud = cloud
        self.agent = agent
        self.agent_url = agent_url

    async def engine(self, ws_url: str | None = None, **settings: Any) -> Engine:
        """Make an engine; ``cascade`` is a timeout shorter than the API takes."""
        cascade = settings.pop("cascade", 4)
        body = {"speech_engine": {"ws_url": ws_url or self.agent_url}, **settings}
        engine = engines.create(body, now=0)
        changed = {**engine.settings, "cascade_timeout_seconds": cascade}
        engine = attrs.evolve(engine, settings=changed)
        await self.cloud.store.add(engine)
        return engine

    @property
    def origin(self) -> str:
        return self.cloud.url.replace("http", "ws")

    def url(self, engine: Engine | str, **query: str) -> str:
        engine_id = engine if isinstance(engine, str) else engine.engine_id
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return f"{self.origin}/v1/convai/conversation?agent_id={engine_id}{more}"

    @asynccontextmanager
    async def talk(self, engine: Engine | str, **query: str) -> AsyncGenerator[Talk]:
        """Connect as a browser does, and send the first frame."""
        async with connect(
            self.url(engine, **query), subprotocols=[Subprotocol("convai")], max_size=None
        ) as ws:
            yield await Talk(ws).begin()


class Talk:
    """A raw client."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.frames: list[dict[str, Any]] = []

    async def begin(self) -> Self:
        await self.send(initiation())
        return self

    async def send(self, frame: dict[str, Any] | str | bytes) -> None:
        await self.ws.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def say(self, text: str) -> None:
        await self.send({"type": "user_message", "text": text})

    async def until(self, kind: str) -> dict[str, Any]:
        """Read frames up to one of this type, and return what it carries."""
        while True:
            frame = json.loads(await self.ws.recv())
            self.frames.append(frame)
            if frame["type"] == kind:
                payload: dict[str, Any] = next(v for k, v in frame.items() if k != "type")
                return payload

    async def ask(self, text: str) -> str:
        await self.say(text)
        answer: str = (await self.until("agent_response"))["agent_response"]
        return answer

    async def closed(self) -> tuple[int, str]:
        """Read to the end; return how it was closed."""
        with suppress(ConnectionClosed):
            while True:
                self.frames.append(json.loads(await self.ws.recv()))
        assert self.ws.close_code is not None
        assert self.ws.close_reason is not None
        return self.ws.close_code, self.ws.close_reason

    async def over(self, cloud: Cloud) -> None:
        """Wait until the cloud has done with this conversation."""
        (event,) = [frame for frame in self.frames if "metadata" in frame["type"]]
        metadata = event["conversation_initiation_metadata_event"]
        async for _ in cloud.wires.follow(metadata["conversation_id"]):
            pass


@asynccontextmanager
async def agent_server(agent: Agent) -> AsyncGenerator[str]:
    async with SpeechEngineServer(
        host="127.0.0.1", port=0, api_key=KEY, on_transcript=agent.on_transcript
    ) as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


@pytest.fixture
async def stage() -> AsyncGenerator[Stage]:
    agent = Agent()
    async with (
        agent_server(agent) as url,
        Cloud(api_key=KEY, synthesizer=Beeps(), page=False).listen() as cloud,
    ):
        yield Stage(cloud, agent, url)


@pytest.fixture
def eleven(stage: Stage) -> Generator[ElevenLabs]:
    """A client of the management API, with the cloud as its service."""
    with httpx.Client() as http:
        yield ElevenLabs(api_key=KEY, base_url=stage.cloud.url, httpx_client=http)


@pytest.fixture
async def other(stage: Stage) -> AsyncGenerator[Talk]:
    """Somebody else's conversation, which must go on whatever happens."""
    async with stage.talk(await stage.engine()) as talk:
        await talk.until("conversation_initiation_metadata")
        yield talk
        assert await talk.ask("still here?") == "STILL HERE? "


class TestTheUpgrade:
    async def test_convai_is_echoed(self, stage: Stage) -> None:
        protocols = [Subprotocol("bearer.x"), Subprotocol("convai")]
        url = stage.url(await stage.engine(), source="js_sdk", version="1.25.0", environment="x")
        async with connect(url, subprotocols=protocols) as ws:
            assert ws.subprotocol == "convai"
            assert ws.response is not None
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            talk = await Talk(ws).begin()
            await talk.until("conversation_initiation_metadata")
            assert len(talk.frames) == 1

    async def test_without_a_subprotocol_none_is_selected(self, stage: Stage) -> None:
        async with connect(stage.url(await stage.engine())) as ws:
            assert ws.subprotocol is None
            assert await (await Talk(ws).begin()).ask("hello") == "HELLO "

    async def test_an_agent_id_names_the_same_engine(self, stage: Stage) -> None:
        engine = await stage.engine()
        async with stage.talk(engine.engine_id.replace("seng_", "agent_")) as talk:
            assert await talk.ask("hello") == "HELLO "

    async def test_a_plain_request_is_told_to_upgrade(self, stage: Stage) -> None:
        async with httpx.AsyncClient() as http:
            response = await http.get(f"{stage.cloud.url}/v1/convai/conversation?agent_id=x")
        assert response.status_code == 426
        assert response.json()["detail"]["code"] == "upgrade_required"

    async def test_another_method_than_get(self, stage: Stage) -> None:
        async with httpx.AsyncClient() as http:
            response = await http.post(f"{stage.cloud.url}/v1/convai/conversation")
        assert response.status_code == 405


class TestWhoMayTalk:
    @pytest.mark.parametrize("engine_id", ["seng_unknown", "", "%00", "a/b"])
    async def test_an_unknown_engine(self, stage: Stage, other: Talk, engine_id: str) -> None:
        async with stage.talk(engine_id) as talk:
            assert await talk.closed() == (
                1008,
                "agent_id: expected the id of a Speech Engine, got another",
            )
        assert talk.frames == []

    async def test_a_signed_url_is_good_once(
        self, stage: Stage, other: Talk, eleven: ElevenLabs
    ) -> None:
        engine = await stage.engine(auth={"enable_auth": True})
        get = eleven.conversational_ai.conversations.get_signed_url
        signed = (await run_sync(lambda: get(agent_id=engine.engine_id))).signed_url
        async with connect(f"{signed}&source=js_sdk&version=1.25.0") as ws:
            assert await (await Talk(ws).begin()).ask("hello") == "HELLO "
        async with connect(signed) as ws:
            code, reason = await (await Talk(ws).begin()).closed()
        assert code == 1008
        assert "was used" in reason

    async def test_a_signed_url_may_name_the_conversation(self, stage: Stage) -> None:
        engine = await stage.engine(auth={"enable_auth": True})
        secret = stage.cloud.tickets.issue(engine.engine_id, "conv_named")
        async with stage.talk(engine, conversation_signature=secret) as talk:
            metadata = await talk.until("conversation_initiation_metadata")
            assert metadata["conversation_id"] == "conv_named"

    async def test_with_auth_nobody_talks_without_a_signed_url(self, stage: Stage) -> None:
        engine = await stage.engine(auth={"enable_auth": True})
        async with stage.talk(engine) as talk:
            code, reason = await talk.closed()
        assert code == 1008
        assert "expected a signed URL" in reason
        assert stage.agent.histories == []

    async def test_a_wrong_signature_is_refused_even_where_none_is_needed(
        self, stage: Stage
    ) -> None:
        async with stage.talk(await stage.engine(), conversation_signature="x") as talk:
            assert (await talk.closed())[0] == 1008

    async def test_a_signature_of_another_engine(self, stage: Stage) -> None:
        first, second = await stage.engine(), await stage.engine()
        secret = stage.cloud.tickets.issue(first.engine_id)
        async with stage.talk(second, conversation_signature=secret) as talk:
            code, reason = await talk.closed()
        assert code == 1008
        assert "another agent_id" in reason

    async def test_no_more_at_once_than_the_engine_takes(self, stage: Stage, other: Talk) -> None:
        engine = await stage.engine(call_limits={"agent_concurrency_limit": 1})
        async with stage.talk(engine) as first:
            assert await first.ask("hello") == "HELLO "
            async with stage.talk(engine) as second:
                code, reason = await second.closed()
            assert code == 1008
            assert "at most 1 conversations" in reason
        await first.over(stage.cloud)
        async with stage.talk(engine) as third:
            assert await third.ask("hello") == "HELLO "


class TestVoice:
    async def test_sound_and_microphone(self, stage: Stage) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.until("conversation_initiation_metadata")
            for _ in range(50):
                await talk.send({"user_audio_chunk": base64.b64encode(bytes(1024)).decode()})
            await talk.say("hello")
            event = await talk.until("audio")
        assert len(base64.b64decode(event["audio_base_64"])) == 16_000

    async def test_an_interruption(self, stage: Stage) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.say("one two three four.")
            old = await talk.until("audio")
            await talk.say("stop")
            border = await talk.until("interruption")
            correction = await talk.until("agent_response_correction")
            new = await talk.until("audio")
        assert old["event_id"] < border["event_id"] < new["event_id"]
        assert correction["original_agent_response"] == "ONE TWO THREE FOUR. "
        assert correction["corrected_agent_response"] == ""
        assert stage.agent.histories[-1] == [("user", "one two three four."), ("user", "stop")]


class TestBadClients:
    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ("{malformed", 1002),
            ('{"type":"user_message","text":[]}', 1002),
            ('{"type":["user_message"]}', 1002),
            (b"\x00", 1002),
            ("x" * 10_000_000, 1008),
            (json.dumps({"user_audio_chunk": "A" * 10_000_000}), 1008),
        ],
        ids=["malformed", "wrong type", "wrong type of type", "binary", "10 MB", "10 MB of sound"],
    )
    async def test_are_told_and_served_on(
        self, stage: Stage, other: Talk, frame: str | bytes, code: int
    ) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.until("conversation_initiation_metadata")
            await talk.send(frame)
            assert (await talk.until("error"))["code"] == code
            assert await talk.ask("hello") == "HELLO "

    async def test_a_message_past_all_measure_closes_the_socket(
        self, stage: Stage, other: Talk
    ) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.until("conversation_initiation_metadata")
            with suppress(ConnectionClosed):  # it is not read to its end
                await talk.send("x" * (talk_module.MAX_MESSAGE_BYTES + 1))
            assert (await talk.closed())[0] == 1009

    async def test_broken_utf8_closes_the_socket(self, stage: Stage, other: Talk) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.until("conversation_initiation_metadata")
            await talk.ws.send(b"\xff\xfe", text=True)
            assert (await talk.closed())[0] == 1007

    async def test_the_wrong_first_frame(self, stage: Stage, other: Talk) -> None:
        async with connect(stage.url(await stage.engine())) as ws:
            talk = Talk(ws)
            await talk.say("hello")
            assert (await talk.closed())[0] == 1002
            assert [frame["type"] for frame in talk.frames] == ["error"]

    async def test_one_that_vanishes(self, stage: Stage, other: Talk) -> None:
        async with stage.talk(await stage.engine()) as talk:
            await talk.ask("hello")
            talk.ws.transport.abort()
        await talk.over(stage.cloud)

    async def test_one_that_does_not_read(
        self, stage: Stage, other: Talk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox_module, "BACKLOG_SECONDS", 0.2)
        monkeypatch.setattr(conversation_module, "MAX_REPLY_CHARS", 100_000_000)

        async def pour(call: Call, event_id: int) -> None:
            for _ in range(400):
                await call.piece("x" * 100_000, event_id)

        async with (
            raw_server(answering(pour)) as server,
            stage.talk(await stage.engine(server.url)) as talk,
        ):
            await talk.until("conversation_initiation_metadata")
            await talk.say("pour")
            talk.ws.transport.pause_reading()
            await server.called.wait()
            await server.call.over.wait()  # the cloud hung up on the agent, because we do not read
            await talk.over(stage.cloud)
            talk.ws.transport.abort()


class TestBadAgents:
    async def refused(self, stage: Stage, engine: Engine) -> tuple[int, str]:
        async with stage.talk(engine) as talk:
            closed = await talk.closed()
        assert [frame["type"] for frame in talk.frames] == [
            "conversation_initiation_metadata",
            "error",
        ]
        assert talk.frames[-1]["error_event"]["code"] == closed[0] == 1011
        assert talk.frames[-1]["error_event"]["message"].startswith(closed[1])
        return closed

    async def test_down(self, stage: Stage, other: Talk) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws?key=secret"
        _, reason = await self.refused(stage, await stage.engine(url))
        assert "nobody listens there" in reason
        assert "secret" not in reason

    @pytest.mark.parametrize(
        ("status", "words"),
        [(401, "token was refused"), (403, "does not want"), (404, "path is wrong"), (503, "full")],
    )
    async def test_refusing(self, stage: Stage, other: Talk, status: int, words: str) -> None:
        async with raw_server(answering(), refuse=status) as server:
            _, reason = await self.refused(stage, await stage.engine(server.url))
        assert f"answered {status}" in reason
        assert words in reason

    async def test_no_websocket_at_all(self, stage: Stage, other: Talk) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"220 smtp.example ready\r\n")
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, reason = await self.refused(stage, await stage.engine(f"ws://127.0.0.1:{port}/"))
        assert "hung up" in reason

    async def test_answering_garbage(self, stage: Stage, other: Talk) -> None:
        async def garbage(call: Call, event_id: int) -> None:
            for number in range(1_000):
                await call.ws.send(f"garbage {number}")

        async with (
            raw_server(answering(garbage)) as server,
            stage.talk(await stage.engine(server.url)) as talk,
        ):
            await talk.say("hello")
            code, reason = await talk.closed()
        assert code == 1011
        assert "broke the protocol" in reason

    async def test_never_answering(self, stage: Stage, other: Talk) -> None:
        async def silent(call: Call, event_id: int) -> None:
            """Say nothing."""

        async with (
            raw_server(answering(silent, silent, silent)) as server,
            stage.talk(await stage.engine(server.url, cascade=0.1)) as talk,
        ):
            await talk.say("hello")
            code, reason = await talk.closed()
        assert code == 1011
        assert "asked 3 times, got none" in reason
        assert len(server.call.transcripts) == 3

    async def test_flooding(self, stage: Stage, other: Talk) -> None:
        async def flood(call: Call, event_id: int) -> None:
            while True:
                await call.piece("x" * 1_000, event_id)

        async with (
            raw_server(answering(flood)) as server,
            stage.talk(await stage.engine(server.url)) as talk,
        ):
            await talk.say("hello")
            code, reason = await talk.closed()
            await server.call.over.wait()
        assert code == 1011
        assert "at most 100000 characters" in reason
        whole = [frame for frame in talk.frames if frame["type"] == "agent_response"]
        assert len(whole) == 1

    async def test_hanging_up_in_a_reply(self, stage: Stage, other: Talk) -> None:
        async def hang_up(call: Call, event_id: int) -> None:
            await call.piece("Well", event_id)
            await call.ws.close()

        async with (
            raw_server(answering(hang_up)) as server,
            stage.talk(await stage.engine(server.url)) as talk,
        ):
            await talk.say("hello")
            assert (await talk.closed())[0] == 1011


async def test_a_cloud_that_stops_closes_its_conversations() -> None:
    agent = Agent()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(agent_server(agent))
        cloud = Cloud(api_key=KEY, page=False)
        listening = cloud.listen()
        await listening.__aenter__()
        stage = Stage(cloud, agent, url)
        talk = await stack.enter_async_context(stage.talk(await stage.engine()))
        assert await talk.ask("hello") == "HELLO "
        await listening.__aexit__(None, None, None)
        assert (await talk.closed())[0] == 1001
        with pytest.raises((InvalidStatus, OSError)):
            await connect(stage.url("x")).__aenter__()


async def test_nothing_that_was_said_and_no_key_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "speech_engine_local")
    engine = await stage.engine(auth={"enable_auth": True})
    secret = stage.cloud.tickets.issue(engine.engine_id)
    async with stage.talk(engine, conversation_signature=secret) as talk:
        await talk.ask("whisper")
        await talk.send("whisper")
        await talk.until("error")
    await talk.over(stage.cloud)
    ours = [record.getMessage() for record in caplog.records if "speech_engine" in record.name]
    assert any("begins" in message for message in ours)
    for hidden in ("whisper", "WHISPER", secret, KEY):
        assert not any(hidden in message for message in ours)
