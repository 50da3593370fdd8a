"""The ASGI transport on real loopback sockets, under real ASGI servers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket

from speech_engine_transports import SpeechEngineResource, create_session
from speech_engine_transports._sockets import as_socket
from speech_engine_transports.asgi import ASGISocket, app, connect, serve

from .agent_app import Agent
from .agent_server import running, started
from .caller import INIT, KEY, Caller, answer_to, ask, call, reply_to, token, transcript
from .surface import ServerSurface, blocked, happened, interrupt_a_flood, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, MutableMapping

    from speech_engine_transports import SpeechEngineSession

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class TestServer(ServerSurface):
    transport = "asgi"
    tells_overflow = False  # the ASGI server closes, and gives a code that peers may send as well


UVICORNS = ["uvicorn-sansio", "uvicorn-legacy", "uvicorn-wsproto"]
ONE_PROCESS = [
    *UVICORNS,
    "hypercorn-asyncio",
    "hypercorn-trio",  # shields its writes, without a deadline
]


@pytest.fixture(scope="module", params=ONE_PROCESS)
def port(request: pytest.FixtureRequest) -> Generator[int]:
    with running(request.param) as port:
        yield port


class TestASGIServers:
    """The application under each server, in a process of its own."""

    async def test_a_conversation(self, port: int) -> None:
        async with call(port, "/ws?a=%20b", ("X-Who", "me")) as ws:
            await ws.send(INIT)
            await ws.send('{"type":"ping"}')
            assert json.loads(await ws.recv()) == {"type": "pong"}
            seen = json.loads(await ask(ws, "request", 1))
            assert seen == ["/ws", "a=%20b", "me", "127.0.0.1"]
            await ws.send(transcript("bytes", 2).encode())
            assert await reply_to(ws, 2) == "You said bytes"
            await ws.send('{"type":"close"}')
            await ws.wait_closed()
            assert ws.close_code == 1000
        await happened(port, "close")

    async def test_it_closes_with_1000(self, port: int) -> None:
        async with call(port) as ws:
            await ws.send(transcript("bye", 1))
            await ws.wait_closed()
            assert ws.close_code == 1000

    async def test_refusals(self, port: int) -> None:
        assert await refusal(port, "/ws") == (401, "authorization failed\n")
        assert await refusal(port, "/ws", token(), token()) == (401, "authorization failed\n")
        assert await refusal(port, "/elsewhere", token()) == (404, "not found\n")

    async def test_no_upgrade(self, port: int) -> None:
        lines = ["GET /ws HTTP/1.1", "Host: here", "Connection: close", ": ".join(token())]
        answer = await answer_to(port, "\r\n".join([*lines, "", ""]).encode())
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"\r\nupgrade: websocket" in answer.lower()

    async def test_a_write_that_is_cancelled_leaves_whole_frames(self, port: int) -> None:
        await interrupt_a_flood(port, shielded=True)

    async def test_a_caller_who_vanishes_is_a_disconnect(self, port: int) -> None:
        async with Caller(port) as caller:
            await caller.say(transcript("flood", 1))
            await blocked(port)
            caller.reset()
        await happened(port, "disconnect")


@pytest.mark.parametrize("server", ["uvicorn-workers", "gunicorn"])
async def test_calls_reach_all_workers(server: str) -> None:
    with running(server) as port:
        pids: set[str] = set()
        async with AsyncExitStack() as calls:
            # Whoever accepts first gets a call; those that go on keep their worker busy.
            while len(pids) < 2:
                ws = await calls.enter_async_context(call(port))
                pids.add(await ask(ws, "pid"))
    assert str(os.getpid()) not in pids


@pytest.mark.parametrize("server", [*UVICORNS, "uvicorn-workers", "gunicorn", "hypercorn-asyncio"])
async def test_sigterm_lets_the_reply_end(server: str) -> None:
    """By itself, uvicorn would close the socket with 1012 in the middle of it."""
    with started(server) as (port, process):
        async with call(port) as ws:
            await ws.send(transcript("hold until drained", 1))
            assert json.loads(await ws.recv())["content"] == "held"
            process.terminate()
            assert await reply_to(ws, 1) == " and let go"
            await ws.wait_closed()
            assert ws.close_code == 1001


@asynccontextmanager
async def under_uvicorn(application: Any, **options: Any) -> AsyncGenerator[int]:
    """Serve any ASGI application inside the test."""
    config = uvicorn.Config(application, log_config=None, **options)
    listener = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        serving = asyncio.create_task(listener.serve([bound]))
        try:
            yield bound.getsockname()[1]
        finally:
            listener.should_exit = True
            await serving


class TestYourApplication:
    async def test_mounted_it_reads_the_key_at_the_first_request(self) -> None:
        agent = Agent()
        mounted = app(api_key=KEY, **agent.callbacks)
        yours = FastAPI()
        yours.mount("/voice", mounted)
        async with under_uvicorn(yours) as port:
            assert await refusal(port, "/voice/one") == (401, "authorization failed\n")
            async with call(port, "/voice/one?x=1") as ws:
                seen = json.loads(await ask(ws, "request"))
                assert seen == ["/voice/one", "x=1", None, "127.0.0.1"]
        assert mounted.server.path is None

    async def test_a_fastapi_route_of_your_own(self) -> None:
        agent = Agent()
        engine = SpeechEngineResource("seng_1", api_key=KEY)
        yours = FastAPI()

        async def talk(websocket: WebSocket) -> None:
            if not engine.verify_request(websocket.headers.items()):
                await websocket.close(1008)
                return
            await websocket.accept()
            session = engine.create_session(websocket)
            session.on("user_transcript", lambda said: agent.on_transcript(said, session))
            session.on("disconnected", lambda: agent.on_disconnect(session))
            await session.run()

        yours.add_api_websocket_route("/ws", talk)
        async with under_uvicorn(yours) as port:
            assert (await refusal(port, "/ws"))[0] == 403
            async with call(port, "/ws?x=1", ("X-Who", "me")) as ws:
                await ws.send(INIT)
                seen = json.loads(await ask(ws, "request", 1))
                assert seen == ["/ws", "x=1", "me", "127.0.0.1"]
                await ws.send(transcript("bytes", 2).encode())
                assert await reply_to(ws, 2) == "You said bytes"
                await ws.send(transcript("bye", 3))
                await ws.wait_closed()
                assert ws.close_code == 1000
            await interrupt_a_flood(port)
            await happened(port, "disconnect")

    async def test_a_route_that_was_left_already(self) -> None:
        sessions: list[SpeechEngineSession] = []
        done = asyncio.Event()
        yours = FastAPI()

        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass
            session = create_session(websocket)
            session.on("user_transcript", lambda said: None)
            session.on("disconnected", lambda: sessions.append(session))
            await session.run()
            done.set()

        yours.add_api_websocket_route("/ws", talk)
        async with under_uvicorn(yours) as port:
            async with call(port):
                pass
            await done.wait()
        assert len(sessions) == 1

    async def test_no_key_stops_the_start(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
        config = uvicorn.Config(app(), log_config=None)
        config.load()
        listener = uvicorn.Server(config)
        listener.lifespan = config.lifespan_class(config)
        with pytest.raises(SystemExit):
            await listener.startup()
        assert "an API key is needed" in caplog.text

    @pytest.mark.parametrize("option", ["host", "port", "ssl", "transport"])
    def test_no_options_of_a_listener(self, option: str) -> None:
        with pytest.raises(TypeError, match=option):
            app(**{option: None})

    async def test_at_shutdown_calls_are_closed(self) -> None:
        agent = Agent()
        application = app(api_key=KEY, **agent.callbacks)
        async with AsyncExitStack() as calls:
            async with under_uvicorn(application) as port:
                ws = await calls.enter_async_context(call(port))
                await ws.send(INIT)
                assert await ask(ws, "hi") == "You said hi"
            await ws.wait_closed()
        assert agent.events == ["disconnect"]


async def test_a_server_that_can_only_say_403(caplog: pytest.LogCaptureFixture) -> None:
    inner = app(api_key=KEY)

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await inner({**scope, "extensions": {}}, receive, send)

    caplog.set_level("INFO", "speech_engine_transports")
    async with under_uvicorn(application) as port:
        assert (await refusal(port, "/ws"))[0] == 403
    assert "cannot say 401" in caplog.text


async def test_abort_ends_the_reading() -> None:
    ended = asyncio.Event()

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        ws = ASGISocket(scope, receive, send)
        assert await ws.recv() == INIT
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(ws.recv())
            await asyncio.sleep(0)
            ws.abort()
        assert reading.result() is None
        assert await ws.recv() is None
        with pytest.raises(ConnectionError):
            await ws.send("late")
        assert not ws.try_send("late")
        await ws.close()
        ended.set()

    async with under_uvicorn(application, lifespan="off") as port, Caller(port) as caller:
        await caller.read()
        await ended.wait()


async def test_a_socket_that_the_route_has_closed() -> None:
    done = asyncio.Event()
    yours = FastAPI()

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        ws = as_socket(websocket)
        await websocket.close(1000)
        with pytest.raises(ConnectionError):
            await ws.send("late")
        await ws.close()
        ws.abort()
        assert await ws.recv() is None
        done.set()

    yours.add_api_websocket_route("/ws", talk)
    async with under_uvicorn(yours) as port, call(port) as ws:
        await ws.wait_closed()
        assert ws.close_code == 1000
        await done.wait()


async def test_connect() -> None:
    async with TestServer().serving() as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(url, headers=[token()]) as ws:
            await ws.send('{"type":"ping"}')
            message = await ws.recv()
            assert message is not None
            assert json.loads(message) == {"type": "pong"}


async def test_serve_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    with pytest.raises(RuntimeError, match="API key"):
        await serve(port=0)
