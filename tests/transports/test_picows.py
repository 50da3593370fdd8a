"""The picows transport on real loopback sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import picows
import pytest
import trustme
from anyio.lowlevel import checkpoint
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode

from speech_engine_transports import Limits, SpeechEngineServer, create_session
from speech_engine_transports.picows import MAX_QUEUED, Listener, connect, serve

from .agent_app import Agent
from .caller import KEY, Caller, answer_to, ask, call, token, transcript
from .surface import ServerSurface, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from speech_engine_transports import Request, SpeechEngineSession

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: here\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    f"{': '.join(token())}\r\n\r\n"
).encode()


class TestServer(ServerSurface):
    transport = "picows"

    async def test_an_authorize_that_waits(self) -> None:
        async def authorize(request: Request) -> bool:
            await checkpoint()
            return request.query == "yes" and request.peer == "127.0.0.1"

        async with self.serving(authorize=authorize) as server:
            assert await refusal(server.port, "/ws?no", token()) == (403, "forbidden\n")
            async with call(server.port, "/ws?yes") as ws:
                assert await ask(ws, "hi") == "You said hi"

    async def test_an_authorize_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        def authorize(request: Request) -> bool:
            raise RuntimeError("no database")

        async with self.serving(authorize=authorize) as server:
            assert (await refusal(server.port, "/ws", token()))[0] == 500
        assert "authorize failed" in caplog.text

    async def test_the_end_does_not_wait_for_half_open_upgrades(self) -> None:
        asked = anyio.Event()

        async def authorize(request: Request) -> bool:
            asked.set()
            await anyio.sleep_forever()
            return True

        async with self.serving(authorize=authorize) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE)
            await asked.wait()
        with suppress(ConnectionError):  # either way of saying it will do
            assert await reader.read() == b""
        writer.close()

    async def test_a_decision_that_does_not_come_is_given_up(
        self,
    ) -> None:
        async def authorize(request: Request) -> bool:
            await anyio.sleep_forever()
            return True

        limits = Limits(handshake_timeout=0.05)
        async with self.serving(authorize=authorize, limits=limits) as server:
            assert await answer_to(server.port, UPGRADE) == b""
            assert server.exceeded == {"handshake_timeout": 1}

    async def test_a_peer_that_leaves_before_the_decision(self) -> None:
        asked, left = anyio.Event(), anyio.Event()

        async def authorize(request: Request) -> bool:
            asked.set()
            await left.wait()
            return True

        async with self.serving(authorize=authorize) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE)
            await asked.wait()
            writer.transport.abort()
            left.set()
            await anyio.wait_all_tasks_blocked()
        assert self.agent.events == []

    async def test_what_comes_with_the_request_is_read(self) -> None:
        text = transcript("early" + "!" * 50, 1).encode()
        early = b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text
        async with self.serving() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE + early)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert b"You said early" in await reader.readuntil(b"}")
            writer.close()

    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(b"hello\r\n\r\n", id="no HTTP"),
            pytest.param(UPGRADE.replace(b"AAAA==", b"AA=="), id="bad key"),
            pytest.param(UPGRADE.replace(b"Host: here\r\n", b""), id="no host"),
        ],
    )
    async def test_a_bad_request_400(self, request_: bytes) -> None:
        async with self.serving() as server:
            answer = await answer_to(server.port, request_)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")

    async def test_a_connection_that_fails_is_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(ws: object) -> SpeechEngineSession:
            raise RuntimeError("a bug")

        async with self.serving() as server:
            usual, server.handle_connection = server.handle_connection, broken  # type: ignore[method-assign]
            async with call(server.port) as ws:
                with pytest.raises(ConnectionClosed):
                    await ws.recv()
            assert ws.close_code == 1011
            server.handle_connection = usual  # type: ignore[method-assign]
            async with call(server.port) as ws:
                assert await ask(ws, "hi") == "You said hi"
        assert "connection failed" in caplog.text

    async def test_a_cancelled_server_tells_its_peers_and_leaves_no_task(self) -> None:
        agent = Agent()
        options = {"host": "127.0.0.1", "path": "/ws", "api_key": KEY, **agent.callbacks}
        before = asyncio.all_tasks()
        server = SpeechEngineServer(transport="picows", port=0, **options)
        started = anyio.Event()

        async def run() -> None:
            async with server:
                started.set()
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await started.wait()
            calling = call(server.port)
            ws = await calling.__aenter__()
            assert await ask(ws, "hi") == "You said hi"
            group.cancel_scope.cancel()
        await ws.wait_closed()
        await calling.__aexit__(None, None, None)
        assert ws.close_code == 1001
        assert asyncio.all_tasks() == before

    async def test_a_pong_does_not_wait_for_a_peer_that_does_not_read(self) -> None:
        async with self.serving() as server, Caller(server.port) as caller:
            await caller.say(transcript("flood", 1))
            await anyio.wait_all_tasks_blocked()
            await caller.say('{"type":"ping"}')
            await caller.say('{"type":"close"}')
            messages = await caller.read()
            assert {m["type"] for m in messages} == {"agent_response", "pong"}


class Watched(Listener):
    """A listener that tells when it pauses."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.paused = anyio.Event()

    def _pause_reading(self, paused: bool) -> None:
        super()._pause_reading(paused)
        if paused:
            self.paused.set()


@asynccontextmanager
async def accepting(opened: Callable[[Listener], object], **options: Any) -> AsyncGenerator[int]:
    """Listen with picows itself, as in a program of one's own."""
    server = await picows.ws_create_server(lambda _: Watched(opened, **options), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def accepted(**options: Any) -> AsyncGenerator[tuple[Watched, Any]]:
    """Both ends of a connection: our listener, and the peer's websocket."""
    listeners: list[Any] = []
    async with accepting(listeners.append, **options) as port, call(port) as ws:
        yield listeners[0], ws


class TestListener:
    async def test_a_session_on_it(self) -> None:
        agent = Agent()
        requests: list[Request] = []

        async def talk(listener: Listener) -> None:
            session = create_session(listener)
            requests.append(session.request)
            session.on("user_transcript", partial(agent.on_transcript, session=session))
            await session.run()

        async with (
            anyio.create_task_group() as group,
            accepting(lambda listener: group.start_soon(talk, listener)) as port,
            call(port, "/any?a=b") as ws,
        ):
            assert await ask(ws, "hi", 1) == "You said hi"
        assert [(r.path, r.query, r.peer) for r in requests] == [("/any", "a=b", "127.0.0.1")]

    async def test_before_it_is_open(self) -> None:
        listener = Listener()
        with pytest.raises(ConnectionError, match="closed"):
            await listener.send("early")
        with pytest.raises(ConnectionError, match="not open"):
            _ = listener.transport
        assert listener.try_send("early") is False
        await listener.close()
        listener.abort()

    async def test_after_its_end(self) -> None:
        async with accepted() as (listener, ws):
            await ws.send("last words")
            await ws.close()
            assert await listener.recv() == b"last words"
            assert await listener.recv() is None
            with pytest.raises(ConnectionError):
                await listener.send("late")
            assert listener.try_send("late") is False
            await listener.close()
            listener.abort()

    async def test_what_nobody_asks_for_waits_with_the_peer(self) -> None:
        count = 5000
        text = "x" * 1000
        async with accepted() as (listener, ws), anyio.create_task_group() as group:

            async def send() -> None:
                for index in range(count):
                    await ws.send(f"{index} {text}")

            group.start_soon(send)
            await listener.paused.wait()
            assert not listener.raw.is_reading()
            kept = len(listener._messages)
            assert MAX_QUEUED <= kept < count // 2
            for index in range(count):
                message = await listener.recv()
                assert message == f"{index} {text}".encode()
            assert listener.raw.is_reading()

    async def test_a_session_may_be_closed_while_messages_wait(self) -> None:
        async with accepted() as (listener, ws):
            for _ in range(2 * MAX_QUEUED):
                await ws.send("unread")
            await listener.paused.wait()
            await listener.close(1001, "going away")
            await ws.wait_closed()
            assert (ws.close_code, ws.close_reason) == (1001, "going away")

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            pytest.param([(Opcode.CONT, b"x", True)], 1002, id="fragment of none"),
            pytest.param(
                [(Opcode.TEXT, b"x", False), (Opcode.TEXT, b"y", True)], 1002, id="within"
            ),
            pytest.param(
                [(Opcode.TEXT, b"x" * 60, False), (Opcode.CONT, b"y" * 60, False)], 1009, id="big"
            ),
            pytest.param([(Opcode.TEXT, b"x" * 101, False)], 1009, id="big at once"),
        ],
    )
    async def test_what_is_no_message(
        self, frames: list[tuple[Opcode, bytes, bool]], code: int
    ) -> None:
        limits = Limits(max_frame_bytes=100)
        async with accepted(limits=limits) as (listener, ws):
            for opcode, data, fin in frames:
                ws.protocol.send_frame(_frame(opcode, data, fin))
            ws.send_data()
            assert await listener.recv() is None
            await listener.close()
            await ws.wait_closed()
            assert ws.close_code == code

    async def test_reserved_bits_are_refused(self) -> None:
        async with accepted() as (listener, ws):
            ws.transport.write(b"\xc1\x81\x00\x00\x00\x00x")
            assert await listener.recv() is None
            await listener.close()
            await ws.wait_closed()
            assert ws.close_code == CloseCode.PROTOCOL_ERROR

    async def test_a_cancelled_recv_loses_nothing(self) -> None:
        async with accepted() as (listener, ws):
            with anyio.move_on_after(0):
                await listener.recv()
            await ws.send("here")
            assert await listener.recv() == b"here"

    async def test_fragments_with_a_ping_between_them(self) -> None:
        async with accepted() as (listener, ws):
            ws.protocol.send_frame(_frame(Opcode.TEXT, b"a", False))
            ws.protocol.send_ping(b"?")
            ws.protocol.send_frame(_frame(Opcode.CONT, b"", False))
            ws.protocol.send_frame(_frame(Opcode.CONT, b"b", True))
            ws.send_data()
            assert await listener.recv() == b"ab"

    async def test_a_transport_is_no_socket(self) -> None:
        async with accepted() as (listener, _):
            with pytest.raises(TypeError, match=r"speech_engine_transports\.picows\.Listener"):
                create_session(listener.transport)
        with pytest.raises(TypeError, match=r"speech_engine_transports\.picows\.Listener"):
            create_session(picows.WSListener())


def _frame(opcode: Opcode, data: bytes, fin: bool) -> Frame:
    return Frame(opcode, data, fin=fin)


class TestDialling:
    async def test_a_conversation(self) -> None:
        agent = Agent()
        server = SpeechEngineServer(
            host="127.0.0.1", port=0, transport="picows", api_key=KEY, **agent.callbacks
        )
        async with server:
            url = f"ws://127.0.0.1:{server.port}/any"
            async with connect(url, headers=[token()]) as socket:
                await socket.send(transcript("x" * 100_000, 1))
                reply = json.loads(await socket.recv() or b"")
                assert reply["content"] == "You said " + "x" * 100_000
                assert socket.request.peer == "127.0.0.1"
                while not socket._messages:
                    await anyio.lowlevel.checkpoint()
            assert await socket.recv() is not None  # the terminator was there already
            assert await socket.recv() is None

    async def test_refused(self) -> None:
        async with SpeechEngineServer(
            host="127.0.0.1", port=0, transport="picows", api_key=KEY
        ) as server:
            with pytest.raises(picows.WSInvalidStatusError) as caught:
                async with connect(f"ws://127.0.0.1:{server.port}/"):
                    pass
        assert caught.value.response is not None
        assert caught.value.response.status == 401
        with pytest.raises(OSError, match="onnect"):
            async with connect(f"ws://127.0.0.1:{server.port}/"):
                pass

    async def test_tls(self) -> None:
        authority = trustme.CA()
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(ours)
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)
        async with SpeechEngineServer(
            host="127.0.0.1", port=0, transport="picows", api_key=KEY, ssl=ours
        ) as server:
            url = f"wss://127.0.0.1:{server.port}/"
            async with connect(url, headers=[token()], ssl=theirs) as socket:
                await socket.send('{"type":"ping"}')
                assert json.loads(await socket.recv() or b"") == {"type": "pong"}
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connect(url, headers=[token()]):
                    pass

    async def test_a_message_too_big(self) -> None:
        async def talk(listener: Listener) -> None:
            await listener.send("x" * 101)

        async with (
            anyio.create_task_group() as group,
            accepting(lambda listener: group.start_soon(talk, listener)) as port,
            connect(f"ws://127.0.0.1:{port}/", limits=Limits(max_frame_bytes=100)) as socket,
        ):
            assert await socket.recv() is None


async def test_serve_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="API key"):
        await serve(host="127.0.0.1", port=0)
