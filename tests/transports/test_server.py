"""`SpeechEngineServer` and the asyncio transport on real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import ssl
import threading
import time
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidStatus

from speech_engine_proto import Limits
from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token
from speech_engine_transports import (
    Request,
    SpeechEngineResource,
    SpeechEngineServer,
    SpeechEngineSession,
    create_session,
)
from speech_engine_transports.asyncio import WebsocketsSocket, connect, serve

from .clock import ASYNCIO, real
from .peer import CLOSE, PING, init, said, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from websockets.asyncio.client import ClientConnection

pytestmark = pytest.mark.anyio

KEY = "sk_test"
Session = SpeechEngineSession


@pytest.fixture(params=ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return real(request.param)


def echo(messages: list[Any], session: Session) -> Any:
    return session.send_response(f"you said {messages[-1].content}")


def token(key: str = KEY) -> tuple[str, str]:
    return AUTHORIZATION_HEADER, sign_token(key, now=time.time())


@asynccontextmanager
async def serving(**options: Any) -> AsyncGenerator[SpeechEngineServer]:
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "api_key": KEY}
    async with SpeechEngineServer(**defaults | {"on_transcript": echo} | options) as server:
        yield server


@asynccontextmanager
async def calling(
    server: SpeechEngineServer, path: str = "/ws", **options: Any
) -> AsyncGenerator[ClientConnection]:
    options = {"additional_headers": [token()], "proxy": None} | options
    async with dial(f"ws://127.0.0.1:{server.port}{path}", **options) as ws:
        yield ws


async def frame(ws: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await ws.recv())
    return message


async def reply(ws: ClientConnection) -> list[tuple[int | None, str, bool]]:
    got: list[tuple[int | None, str, bool]] = []
    while not (got and got[-1][2]):
        data = await frame(ws)
        got.append((data["event_id"], data["content"], data["is_final"]))
    return got


async def ended(ws: ClientConnection) -> int | None:
    """Read to the end, and return the close code."""
    try:
        while True:
            await ws.recv()
    except ConnectionClosed:
        return ws.close_code


async def refused(server: SpeechEngineServer, path: str = "/ws", **options: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with calling(server, path, **options):
            pass
    response = caught.value.response
    return response.status_code, bytes(response.body or b"").decode()


# --- a conversation


async def test_a_conversation_over_a_real_socket() -> None:
    seen: list[object] = []
    async with serving(
        on_init=lambda id, s: seen.append((id, s.request.path, s.request.query)),
        on_close=lambda s: seen.append("close"),
        on_disconnect=lambda s: seen.append("disconnected"),
    ) as server:
        async with calling(server, "/ws?x=1") as ws:
            await ws.send(init("conv_3"))
            await ws.send(PING)
            assert await frame(ws) == {"type": "pong"}
            await ws.send(transcript("hi", id=1).encode())  # a binary frame, as Twilio's bridge
            assert await reply(ws) == said(1, "you said hi")
            await ws.send(CLOSE)
            assert await ended(ws) == 1000
    assert seen == [("conv_3", "/ws", "x=1"), "close"]


async def test_the_request_tells_headers_and_peer_but_not_the_token() -> None:
    requests: list[Request] = []
    async with serving(on_init=lambda id, s: requests.append(s.request)) as server:
        headers = [token(), ("X-Customer", "42")]
        async with calling(server, additional_headers=headers) as ws:
            await ws.send(init())
            await ws.send(transcript("hi", id=1))
            await reply(ws)
    [request] = requests
    assert request.headers["x-customer"] == "42"
    assert AUTHORIZATION_HEADER not in request.headers
    assert request.peer == "127.0.0.1"


async def test_our_own_connect_is_a_socket() -> None:
    async with serving() as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(url, headers=[token()]) as socket:
            await socket.send(transcript("hi", id=1))
            first = await socket.recv()
            assert isinstance(first, bytes)
            assert json.loads(first)["content"] == "you said hi"
            assert socket.try_send(CLOSE)
            await socket.recv()
            assert await socket.recv() is None
            with pytest.raises(ConnectionError):
                await socket.send(PING)


async def test_connect_is_told_when_it_is_refused_or_nobody_listens() -> None:
    async with serving() as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        with pytest.raises(InvalidStatus):
            async with connect(url):
                pass
    with pytest.raises(OSError, match=f"{server.port}"):
        async with connect(url):
            pass


# --- who may connect


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [token("sk_other")],
        [(AUTHORIZATION_HEADER, "rubbish")],
        [(AUTHORIZATION_HEADER, "")],
        [token(), token()],
        [("xi-api-key", KEY)],
    ],
    ids=["missing", "wrong", "rubbish", "empty", "twice", "api key"],
)
async def test_without_a_valid_token_it_is_401(headers: list[tuple[str, str]]) -> None:
    """Weakness 13 of the official SDK: a second header was a 500."""
    async with serving() as server:
        status = await refused(server, additional_headers=headers)
        assert status == (401, "authorization failed\n")


async def test_a_stranger_does_not_learn_the_paths() -> None:
    """Weakness 12: the path was checked first, query and all."""
    async with serving(path="/ws") as server:
        assert (await refused(server, "/other", additional_headers=[]))[0] == 401
        assert await refused(server, "/other") == (404, "not found\n")
        assert (await refused(server, "/ws/"))[0] == 404
        async with calling(server, "/ws?any=1") as ws:
            await ws.send(PING)
            assert await frame(ws) == {"type": "pong"}


async def test_every_path_is_served_where_none_is_given() -> None:
    async with serving() as server, calling(server, "/anything/at?all") as ws:
        await ws.send(PING)
        assert await frame(ws) == {"type": "pong"}


@pytest.mark.parametrize("target", ["//", "//[", "http://[/", "*"])
async def test_a_strange_target_is_a_path_that_is_not_there(target: str) -> None:
    """Such targets kill the official TypeScript server."""
    async with serving(path="/ws", disable_auth=False) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        name, value = token()
        lines = [f"GET {target} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        writer.write("\r\n".join([*lines, f"{name}: {value}", "", ""]).encode())
        assert (await reader.readline()).split()[1] == b"404"
        writer.close()
        async with calling(server) as ws:
            await ws.send(PING)
            assert await frame(ws) == {"type": "pong"}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_authorize_is_asked_after_the_token_and_before_the_path(asynchronous: bool) -> None:
    asked: list[str] = []

    def authorize(request: Request) -> Any:
        asked.append(request.path)
        verdict = request.query == "tenant=1"

        async def later() -> bool:
            return verdict

        return later() if asynchronous else verdict

    async with serving(path="/ws", authorize=authorize) as server:
        assert (await refused(server, additional_headers=[]))[0] == 401
        assert asked == []
        assert await refused(server, "/other") == (403, "forbidden\n")
        assert (await refused(server, "/other?tenant=1"))[0] == 404
        async with calling(server, "/ws?tenant=1"):
            assert asked == ["/other", "/other", "/ws"]


async def test_an_authorize_that_fails_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def authorize(request: Request) -> bool:
        raise ValueError("no database")

    async with serving(authorize=authorize) as server:
        assert (await refused(server))[0] == 500
    assert "no database" in caplog.text


async def test_several_keys_are_accepted_while_one_is_replaced() -> None:
    async with serving(api_key=["sk_old", "sk_new"]) as server:
        for key in ("sk_old", "sk_new"):
            async with calling(server, additional_headers=[token(key)]):
                pass
        assert (await refused(server))[0] == 401


async def test_the_key_of_the_environment_is_read_when_the_server_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    server = SpeechEngineServer(host="127.0.0.1", port=0, on_transcript=echo)
    with pytest.raises(RuntimeError, match=r"pass api_key=, or set ELEVENLABS_API_KEY"):
        await server.serve()
    monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
    async with server, calling(server):
        pass


async def test_disable_auth_warns_and_stays_on_this_machine() -> None:
    server = SpeechEngineServer(port=0, disable_auth=True, path="/ws", on_transcript=echo)
    assert server.host == "127.0.0.1"
    with pytest.warns(UserWarning, match="authentication is disabled"):
        await server.__aenter__()
    async with calling(server, additional_headers=[]):
        pass
    assert (await refused(server, "/other", additional_headers=[]))[0] == 404
    await server.__aexit__(None, None, None)
    assert SpeechEngineServer(disable_auth=True, host="0.0.0.0").host == "0.0.0.0"


# --- where it listens


async def test_without_a_host_it_listens_everywhere() -> None:
    async with serving(host=None) as server:
        async with calling(server):
            pass


async def test_the_port_is_known_while_it_listens() -> None:
    server = SpeechEngineServer(host="127.0.0.1", port=0, api_key=KEY, on_transcript=echo)
    assert server.port == 0
    async with server:
        assert server.port > 0
        with pytest.raises(RuntimeError, match="listens already"):
            await server.__aenter__()
        taken = SpeechEngineServer(host="127.0.0.1", port=server.port, api_key=KEY)
        with pytest.raises(OSError, match="address already in use"):
            await taken.serve()


async def test_the_port_is_3001_by_default() -> None:
    assert SpeechEngineServer().port == 3001


async def test_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(ssl=context) as server:
        url = f"wss://127.0.0.1:{server.port}/ws"
        async with connect(url, headers=[token()], ssl=trusting) as socket:
            for message in (PING, transcript("hi", id=1)):
                await socket.send(message)
            frames = [json.loads(await socket.recv() or b"") for _ in range(3)]
            assert [f.get("content") for f in frames] == [None, "you said hi", ""]
        with pytest.raises(ssl.SSLError):
            async with connect(url, headers=[token()]):
                pass


# --- limits and the end


async def test_a_message_over_the_limit_is_1009() -> None:
    seen: list[str] = []
    async with serving(
        limits=Limits(max_frame_bytes=2000), on_disconnect=lambda s: seen.append("disconnected")
    ) as server:
        async with calling(server) as ws:
            await ws.send(transcript("a" * 1500, id=1))
            await reply(ws)
            await ws.send(transcript("a" * 3000, id=2))
            assert await ended(ws) == 1009
    assert seen == ["disconnected"]


async def test_a_history_over_the_usual_mebibyte_is_read() -> None:
    """Weakness 15: 1009 when the history grows past 1 MiB."""
    async with serving() as server, calling(server) as ws:
        await ws.send(transcript("b" * 3_000_000, "ok", "hi", id=1))
        assert await reply(ws) == said(1, "you said hi")


async def test_leaving_the_block_closes_calls_with_1001() -> None:
    seen: list[str] = []

    async def endless(t: object, s: Session) -> None:
        await s.send_response("well, ", final=False)
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    server = SpeechEngineServer(
        host="127.0.0.1",
        port=0,
        api_key=KEY,
        on_transcript=endless,
        on_disconnect=lambda s: seen.append("disconnected"),
    )
    async with dialled(server) as ws:
        await ws.send(transcript("hi", id=1))
        await frame(ws)
        await server.__aexit__(None, None, None)
        assert await ended(ws) == 1001
    assert sorted(seen) == ["cancelled", "disconnected"]


@asynccontextmanager
async def dialled(server: SpeechEngineServer) -> AsyncGenerator[ClientConnection]:
    await server.__aenter__()
    async with calling(server) as ws:
        yield ws


class Listening(logging.Handler):
    """Tells the port that a server's log names, since `serve` itself tells nothing."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("listening"):
            self.port.set_result(record.args[1])  # type: ignore[index, arg-type]


@asynccontextmanager
async def in_background(
    blocks: Callable[[], Coroutine[Any, Any, None]],
) -> AsyncGenerator[tuple[asyncio.Task[None], int]]:
    """Run something that serves and blocks; yield its task and the port."""
    logger = logging.getLogger("speech_engine_transports")
    listening, level = Listening(), logger.level
    logger.addHandler(listening)
    logger.setLevel(logging.INFO)
    task = asyncio.create_task(blocks())
    try:
        yield task, await listening.port
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        logger.removeHandler(listening)
        logger.setLevel(level)


async def test_stop_makes_serve_return_and_may_be_repeated() -> None:
    server = SpeechEngineServer(
        host="127.0.0.1", port=0, api_key=KEY, on_transcript=echo, handle_signals=False
    )

    async def run() -> None:
        await server.serve()
        assert asyncio.current_task() is task
        await asyncio.Event().wait()

    async with in_background(run) as (task, port):
        assert server.port == port
        async with calling(server) as ws:
            await ws.send(PING)
            await frame(ws)
            await server.stop()
            await server.stop()
            assert await ended(ws) == 1001


async def test_stop_before_serve_is_not_lost() -> None:
    """Weakness 15: the official server made its event inside ``serve()``."""
    server = SpeechEngineServer(host="127.0.0.1", port=0, api_key=KEY, on_transcript=echo)
    await server.stop()
    await server.serve()


async def test_serve_works_outside_the_main_thread() -> None:
    """Only the main thread can take signals; elsewhere it serves without them."""
    started: asyncio.Future[tuple[SpeechEngineServer, asyncio.AbstractEventLoop]]
    started = asyncio.get_running_loop().create_future()
    main = asyncio.get_running_loop()

    async def run() -> None:
        server = SpeechEngineServer(host="127.0.0.1", port=0, api_key=KEY, on_transcript=echo)
        async with server:
            found = (server, asyncio.get_running_loop())
            main.call_soon_threadsafe(started.set_result, found)
            await server.wait_stopped()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    server, loop = await started
    async with calling(server) as ws:
        await ws.send(PING)
        await frame(ws)
    asyncio.run_coroutine_threadsafe(server.stop(), loop)
    await anyio.to_thread.run_sync(thread.join)


@pytest.mark.parametrize("which", ["module", "resource", "resource with a key"])
async def test_the_module_and_the_resource_serve_until_they_are_cancelled(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_environment")

    async def run() -> None:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "path": "/ws"}
        match which:
            case "module":
                await serve(on_transcript=echo, **options)
            case "resource":
                await SpeechEngineResource("seng_1").serve(on_transcript=echo, **options)
            case _:
                await SpeechEngineResource("seng_1", api_key=KEY).serve(
                    on_transcript=echo, **options
                )

    key = KEY if which == "resource with a key" else "sk_environment"
    async with in_background(run) as (_, port):
        url = f"ws://127.0.0.1:{port}/ws"
        async with dial(url, additional_headers=[token(key)], proxy=None) as ws:
            await ws.send(transcript("hi", id=1))
            assert await reply(ws) == said(1, "you said hi")
        with pytest.raises(InvalidStatus, match="404"):
            await dial(f"{url}/x", additional_headers=[token(key)], proxy=None)


# --- the edge: a peer that stops reading


async def flood(piece: str) -> AsyncGenerator[str]:
    while True:
        yield piece


async def test_a_peer_that_stops_reading_can_still_barge_in_and_is_dropped_in_the_end() -> None:
    heard: list[str] = []
    cancelled = asyncio.Event()
    lost = asyncio.Event()

    async def answer(messages: list[Any], s: Session) -> None:
        heard.append(messages[-1].content)
        try:
            await s.send_response(flood("x" * 60_000))
        finally:
            cancelled.set()

    async with serving(on_transcript=answer, on_disconnect=lambda s: lost.set()) as server:
        async with calling(server, max_queue=1, ping_interval=None) as ws:
            await ws.send(transcript("flood me", id=1))
            await ws.recv()  # and not one more
            await ws.send(transcript("flood me", "xxx", "stop", id=2))
            await cancelled.wait()
            assert heard == ["flood me", "stop"]
            for _ in range(40):
                await ws.send(PING)
            await lost.wait()
            ws.transport.abort()


async def test_a_cancelled_write_leaves_whole_frames_on_the_wire() -> None:
    """Never half a frame: the frames of the next turn must be readable."""

    async def answer(messages: list[Any], s: Session) -> None:
        if messages[-1].content == "flood":
            await s.send_response(flood("x" * 200_000))
        else:
            await s.send_response("done")

    async with serving(on_transcript=answer) as server:
        async with calling(server, max_queue=1, max_size=None) as ws:
            for id in range(0, 20, 2):
                await ws.send(transcript("flood", id=id))
                await ws.recv()
                await ws.send(transcript("flood", f"{id}", "stop", id=id + 1))
                old = True
                while old:
                    data = await frame(ws)
                    old = data["event_id"] == id
                    assert data["content"] in ("x" * 200_000, "done")
                assert await frame(ws) == data | {"content": "", "is_final": True}


async def test_a_peer_that_vanishes_is_a_lost_conversation() -> None:
    lost = asyncio.Event()
    async with serving(on_disconnect=lambda s: lost.set()) as server, calling(server) as ws:
        await ws.send(PING)
        await frame(ws)
        ws.transport.abort()
        await lost.wait()


async def test_session_close_closes_the_socket_with_1000() -> None:
    async def answer(t: object, s: Session) -> None:
        await s.send_response("Bye.")
        s.close()

    async with serving(on_transcript=answer) as server, calling(server) as ws:
        await ws.send(transcript("hi", id=1))
        assert await reply(ws) == said(1, "Bye.")
        assert await ended(ws) == 1000


async def test_abort_drops_the_connection_without_a_handshake() -> None:
    async with serving(on_init=lambda id, s: s._socket.abort()) as server, calling(server) as ws:
        await ws.send(init())
        assert await ended(ws) == 1006


async def test_a_connection_that_you_accepted_yourself() -> None:
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as accept

    resource = SpeechEngineResource("seng_1", api_key=KEY)
    sockets: list[object] = []

    async def converse(ws: ServerConnection) -> None:
        assert ws.request is not None
        if not resource.verify_request(ws.request.headers.raw_items()):
            await ws.close(1008)
            return
        session = resource.create_session(ws)
        sockets.append(session._socket)
        session.on("user_transcript", lambda t: session.send_response("x"))
        await session.run()

    async with accept(converse, "127.0.0.1", 0) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}/"
        async with dial(url, additional_headers=[token()], proxy=None) as ws:
            await ws.send(transcript("hi", id=1))
            assert await reply(ws) == said(1, "x")
            await ws.send(CLOSE)
            assert await ended(ws) == 1000
        async with dial(url, proxy=None) as ws:
            assert await ended(ws) == 1008
    assert [type(each) for each in sockets] == [WebsocketsSocket]


async def test_two_hundred_calls_leave_nothing_behind() -> None:
    sessions: list[weakref.ref[Session]] = []

    async def one(server: SpeechEngineServer) -> None:
        async with calling(server) as ws:
            await ws.send(transcript("hi", id=1))
            await reply(ws)

    def on_transcript(t: list[Any], s: Session) -> Any:
        sessions.append(weakref.ref(s))
        return echo(t, s)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, tasks = descriptors(), asyncio.all_tasks()
    async with serving(on_transcript=on_transcript) as server:
        for _ in range(10):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(one, server)
    gc.collect()
    assert len(sessions) == 200
    assert [ref for ref in sessions if ref() is not None] == []
    assert asyncio.all_tasks() <= tasks
    assert descriptors() <= before


async def test_the_library_below_logs_neither_words_nor_tokens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as server:
        async with connect(f"ws://127.0.0.1:{server.port}/", headers=[token()]) as socket:
            await socket.send(transcript("xyzzy", id=1))
            await socket.recv()
    assert caplog.records
    assert "xyzzy" not in caplog.text
    assert token()[1][:20] not in caplog.text


@pytest.mark.parametrize("make", [create_session, SpeechEngineSession])
def test_create_session_is_the_session(make: Callable[..., Session]) -> None:
    class Nothing:
        recv = send = close = print

    assert isinstance(make(Nothing(), debug=False, serialize_turns=True), SpeechEngineSession)
