"""The aiohttp transport on real loopback sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio.lowlevel
import pytest
from aiohttp import web

import speech_engine_transports.aiohttp as transport
from speech_engine_proto import Limits
from speech_engine_transports import SpeechEngineResource, create_session
from speech_engine_transports._sockets import as_socket
from speech_engine_transports.aiohttp import AiohttpSocket, attach, connect, handler, serve

from .agent_app import PIECE, Agent
from .caller import INIT, KEY, Caller, ask, call, token, transcript
from .surface import ServerSurface, blocked, happened, interrupt_a_flood, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class TestServer(ServerSurface):
    transport = "aiohttp"


@asynccontextmanager
async def running(app: web.Application) -> AsyncGenerator[int]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def pair(
    use: Callable[[AiohttpSocket], Awaitable[None]], **options: Any
) -> AsyncGenerator[int]:
    """Serve sockets of a route that is all the user's own."""

    async def route(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(**options)
        await ws.prepare(request)
        socket = as_socket(ws)
        assert isinstance(socket, AiohttpSocket)
        await use(socket)
        return ws

    app = web.Application()
    app.router.add_get("/ws", route)
    async with running(app) as port:
        yield port


class TestYourApplication:
    async def test_attach(self) -> None:
        agent = Agent()
        app = web.Application()
        server = attach(app, "/voice/{tenant}", api_key=KEY, **agent.callbacks)
        assert server.path is None
        async with AsyncExitStack() as calls:
            async with running(app) as port:
                assert await refusal(port, "/voice/one") == (401, "authorization failed\n")
                assert (await refusal(port, "/other", token()))[0] == 404
                ws = await calls.enter_async_context(call(port, "/voice/one?x=1"))
                await ws.send(INIT)
                seen = json.loads(await ask(ws, "request"))
                assert seen[:2] == ["/voice/one", "x=1"]
            await ws.wait_closed()
            assert ws.close_code == 1001
        assert agent.events == ["disconnect"]

    async def test_attach_needs_a_key_at_startup(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
        app = web.Application()
        attach(app, "/ws")
        with pytest.raises(RuntimeError, match="API key"):
            async with running(app):
                pass

    async def test_handler(self) -> None:
        agent = Agent()
        talk = handler(api_key=KEY, **agent.callbacks)
        app = web.Application()
        app.router.add_get("/a", talk)
        app.router.add_get("/b", talk)
        app.on_shutdown.append(lambda _: talk.server.close_all())
        async with running(app) as port:
            for target in ("/a", "/b"):
                async with call(port, target) as ws:
                    assert await ask(ws, "hi") == "You said hi"
            assert (await refusal(port, "/a", token("wrong")))[0] == 401

    @pytest.mark.parametrize("option", ["host", "port", "ssl", "transport"])
    def test_no_options_of_a_listener(self, option: str) -> None:
        with pytest.raises(TypeError, match=option):
            attach(web.Application(), "/ws", **{option: None})
        with pytest.raises(TypeError, match=option):
            handler(**{option: None})

    async def test_a_session_in_your_own_route(self) -> None:
        agent = Agent()
        engine = SpeechEngineResource("seng_1", api_key=KEY)

        async def route(request: web.Request) -> web.StreamResponse:
            if not engine.verify_request(request.headers):
                raise web.HTTPUnauthorized
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            session = engine.create_session(ws)
            session.on("user_transcript", lambda said: agent.on_transcript(said, session))
            await session.run()
            return ws

        app = web.Application()
        app.router.add_get("/ws", route)
        async with running(app) as port:
            assert (await refusal(port, "/ws"))[0] == 401
            async with call(port, "/ws?q=1", ("X-Who", "me")) as ws:
                seen = json.loads(await ask(ws, "request"))
                assert seen == ["/ws", "q=1", "me", "127.0.0.1"]

    async def test_compression_that_you_asked_for(self) -> None:
        agent = Agent()

        async def use(socket: AiohttpSocket) -> None:
            session = create_session(socket)
            session.on("user_transcript", lambda said: agent.on_transcript(said, session))
            await session.run()

        async with pair(use, compress=True) as port, aiohttp.ClientSession() as client:
            async with client.ws_connect(f"http://127.0.0.1:{port}/ws", compress=15) as ws:
                assert ws.compress
                await ws.send_str(transcript("hi", 1))
                assert (await ws.receive_json())["content"] == "You said hi"
                await ws.send_str('{"type":"ping"}')
                assert (await ws.receive_json())["is_final"]
                assert await ws.receive_json() == {"type": "pong"}


class TestSocket:
    async def test_it_must_be_open(self) -> None:
        with pytest.raises(RuntimeError, match="prepare"):
            create_session(web.WebSocketResponse())

    async def test_nothing_is_sent_at_once_behind_a_full_buffer(self) -> None:
        verdicts: list[bool] = []
        tried = asyncio.Event()

        async def use(socket: AiohttpSocket) -> None:
            while socket.try_send(json.dumps(PIECE)):
                verdicts.append(True)
            verdicts.append(socket.try_send("x"))
            tried.set()
            assert await socket.recv() is None
            assert not socket.try_send("y")

        async with pair(use) as port, Caller(port) as caller:
            await tried.wait()
            await caller.hang_up()
            messages: list[Any] = await caller.read()
        assert verdicts[-1] is False
        assert messages == [PIECE] * verdicts.count(True)
        assert messages

    async def test_a_frame_that_fills_the_buffer_is_sent_whole(self) -> None:
        long = "x" * 20_000_000

        async def use(socket: AiohttpSocket) -> None:
            assert await socket.recv() == INIT
            assert socket.try_send(json.dumps(long))
            assert not socket.try_send("{}")

        async with pair(use) as port, Caller(port) as caller:
            messages: list[Any] = await caller.read()
        assert messages == [long]

    async def test_a_peer_that_does_not_read_is_dropped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport, "CLOSE_SECONDS", 0.05)
        closed = asyncio.Event()

        async def use(socket: AiohttpSocket) -> None:
            while socket.try_send(json.dumps(PIECE)):
                pass
            await socket.close(1000)
            assert await socket.recv() is None
            with pytest.raises(ConnectionError):
                await socket.send("late")
            closed.set()

        async with pair(use) as port, Caller(port):
            await closed.wait()

    async def test_closing_twice_waits_for_the_first(self) -> None:
        codes: list[int | None] = []

        async def use(socket: AiohttpSocket) -> None:
            async def close() -> None:
                await socket.close(1001, "going")
                codes.append(socket._ws.close_code)  # the peer's answer, once there is one

            assert await socket.recv() == INIT
            async with asyncio.TaskGroup() as group:
                group.create_task(close())
                group.create_task(close())

        async with pair(use) as port, Caller(port) as caller:
            await caller.read()
            assert caller.close_code == 1001
        assert codes == [1001, 1001]

    async def test_nothing_holds_a_websocket_that_we_closed(self) -> None:
        """The peer's answer to our close frame starts the library's heartbeat again."""
        closed: list[weakref.ref[object]] = []

        async def use(socket: AiohttpSocket) -> None:
            await socket.close()
            closed.append(weakref.ref(socket._ws))

        async with pair(use, heartbeat=20.0) as port:
            own = len(asyncio.all_tasks())
            async with call(port) as ws:
                await ws.wait_closed()
            while len(asyncio.all_tasks()) > own:
                await anyio.lowlevel.checkpoint()
            gc.collect()
            assert [ref() for ref in closed] == [None]

    async def test_a_receive_timeout_is_an_end(self) -> None:
        ended = asyncio.Event()

        async def use(socket: AiohttpSocket) -> None:
            assert await socket.recv() == INIT
            assert await socket.recv() is None
            ended.set()

        async with pair(use, receive_timeout=0.05) as port, Caller(port):
            await ended.wait()

    async def test_abort_drops_the_connection(self) -> None:
        async def use(socket: AiohttpSocket) -> None:
            assert await socket.recv() == INIT
            socket.abort()
            assert not socket.try_send("late")
            assert await socket.recv() is None

        async with pair(use) as port, Caller(port) as caller:
            assert await caller.read() == []
            assert caller.close_code == 1006


class TestConnect:
    async def test_it_dials_as_the_service_does(self) -> None:
        surface = TestServer()
        async with surface.serving() as server:
            url = f"ws://127.0.0.1:{server.port}/ws?x=1"
            async with connect(url, headers=[token(), ("X-Who", "me")]) as socket:
                assert socket.request.path == "/ws"
                assert socket.request.query == "x=1"
                assert socket.request.headers["x-who"] == "me"
                assert "authorization" not in str(list(socket.request.headers))
                assert socket.request.peer == "127.0.0.1"
                await socket.send(INIT)
                assert socket.try_send('{"type":"ping"}')
                message = await socket.recv()
                assert message is not None
                assert json.loads(message) == {"type": "pong"}
            await happened(server.port, "disconnect")

    async def test_headers_may_be_repeated(self) -> None:
        async with TestServer().serving() as server:
            url = f"ws://127.0.0.1:{server.port}/ws"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with connect(url, headers=[token(), token()]):
                    pass
        assert caught.value.status == 401

    async def test_a_message_past_the_limit_ends_it(self) -> None:
        async def use(socket: AiohttpSocket) -> None:
            await socket.send("x" * 100)
            await socket.send("x" * 101)
            await socket.recv()

        limits = Limits(max_frame_bytes=100)
        async with (
            pair(use) as port,
            connect(f"ws://127.0.0.1:{port}/ws", limits=limits) as socket,
        ):
            assert len(await socket.recv() or "") == 100
            assert await socket.recv() is None

    async def test_its_socket_is_recognised(self) -> None:
        async def use(socket: AiohttpSocket) -> None:
            await socket.send("hello")
            assert await socket.recv() is None

        async with pair(use) as port, aiohttp.ClientSession() as client:
            async with client.ws_connect(f"http://127.0.0.1:{port}/ws") as ws:
                socket = as_socket(ws)
                assert isinstance(socket, AiohttpSocket)
                assert await socket.recv() == "hello"
                await socket.close()
                with pytest.raises(ConnectionError):
                    await socket.send("late")


async def test_serve_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="API key"):
        await serve(port=0)


async def test_a_flood_through_your_route_can_be_interrupted() -> None:
    agent = Agent()
    app = web.Application()
    attach(app, "/ws", api_key=KEY, **agent.callbacks)
    async with running(app) as port:
        await interrupt_a_flood(port)
        assert agent.sent


async def test_a_session_ends_while_its_peer_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "CLOSE_SECONDS", 0.05)
    surface = TestServer()
    async with surface.serving() as server, Caller(server.port) as caller:
        await caller.say(transcript("flood", 1))
        await blocked(server.port)
        await caller.say('{"type":"close"}')
        await happened(server.port, "close")
