"""The trio transport on real loopback sockets."""

from __future__ import annotations

import json
import math
import socket
import ssl
import struct
import threading
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
import trio_websocket
import trustme
import websockets.trio.client
import websockets.trio.server
from anyio.from_thread import BlockingPortal, start_blocking_portal
from trio.testing import MockClock, wait_all_tasks_blocked
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from speech_engine_transports import Socket, SpeechEngineServer, create_session
from speech_engine_transports._sockets import as_socket
from speech_engine_transports._trio_listener import (
    KEEPALIVE_SECONDS,
    LINGER_SECONDS,
    MAX_HEAD_BYTES,
)
from speech_engine_transports._trio_socket import CLOSE_SECONDS, WRITE_SECONDS, WebsocketsTrioSocket
from speech_engine_transports.trio import TrioSocket, connect, serve

from .agent_app import PIECE, Agent
from .caller import INIT, KEY, Caller, call, token, transcript
from .surface import ServerSurface

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from speech_engine_transports import Request, SpeechEngineSession


@asynccontextmanager
async def in_trio(server: SpeechEngineServer) -> AsyncGenerator[BlockingPortal]:
    """Let a server listen in a trio of its own, beside this event loop; yield the way into it."""
    with start_blocking_portal("trio") as portal:
        manager = portal.wrap_async_context_manager(server)
        await anyio.to_thread.run_sync(manager.__enter__)
        try:
            yield portal
        finally:
            await anyio.to_thread.run_sync(manager.__exit__, None, None, None)


async def close_all(server: SpeechEngineServer) -> None:
    await server.close_all()


@pytest.mark.anyio
class TestServer(ServerSurface):
    transport = "trio"

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # the caller's: the server brings its own

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncGenerator[SpeechEngineServer]:
        self.agent = Agent()
        settings = {"path": "/ws", "api_key": KEY, **self.agent.callbacks, **options}
        server = SpeechEngineServer(host="127.0.0.1", port=0, transport="trio", **settings)
        async with in_trio(server) as self.portal:
            yield server

    async def drain(self, server: SpeechEngineServer, *arguments: Any) -> bool:
        return await anyio.to_thread.run_sync(self.portal.call, server.drain, *arguments)

    async def test_a_reset_connection_is_a_disconnect_once(self) -> None:
        async def main() -> None:
            agent = Agent()
            async with serving(agent) as server:
                async with peer(server.port) as caller:
                    await caller.say(transcript("flood", 1))
                    await wait_all_tasks_blocked(0.01)
                    caller.reset()
                await wait_all_tasks_blocked(0.05)
                assert ends(agent) == ["cut", "disconnect"]

        await anyio.to_thread.run_sync(trio.run, main)

    async def test_a_write_that_is_cancelled_leaves_whole_frames(self) -> None:
        # A handler is not told that it is cancelled before its write has ended.
        await anyio.to_thread.run_sync(trio.run, interrupt_a_flood)

    async def test_closing_all_calls_waits_for_the_peers_not_for_a_deadline(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each session that ends closes its socket a second time, and must not take the reader."""
        monkeypatch.setattr("speech_engine_transports.trio.CLOSE_SECONDS", math.inf)
        begun, left = threading.Event(), threading.Event()
        async with (
            self.serving(
                on_init=lambda id, session: begun.set(), on_disconnect=lambda session: left.set()
            ) as server,
            Caller(server.port) as caller,
        ):
            await anyio.to_thread.run_sync(begun.wait)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, self.portal.call, close_all, server)
                await anyio.to_thread.run_sync(left.wait)
                await caller.read()
            assert caller.close_code == 1001

    async def test_a_port_in_use(self) -> None:
        async with self.serving() as server:
            second = SpeechEngineServer(
                host="127.0.0.1", port=server.port, transport="trio", api_key=KEY
            )
            with pytest.raises(OSError, match="in use"):
                await in_trio(second).__aenter__()

    async def test_all_interfaces(self) -> None:
        server = SpeechEngineServer(port=0, transport="trio", api_key=KEY)
        async with in_trio(server), call(server.port) as ws:
            await ws.send('{"type":"ping"}')
            assert json.loads(await ws.recv()) == {"type": "pong"}


class Talker(Agent):
    """An agent that counts the pieces that it has got rid of."""

    written = 0

    async def _flood(self, session: SpeechEngineSession) -> None:
        try:
            while True:
                await session.send_response(PIECE, final=False)
                self.written += 1
        finally:
            self._note("cut", session)


def ends(agent: Agent) -> list[str]:
    return sorted(event for event in agent.events if event in ("close", "cut", "disconnect"))


class Peer:
    """A WebSocket client that reads only when it is asked to, and answers only when told to."""

    def __init__(self, stream: trio.SocketStream, target: str = "/ws") -> None:
        self._stream = stream
        self._protocol = ClientProtocol(parse_uri(f"ws://here{target}"), max_size=None)

    async def open(self) -> None:
        request = self._protocol.connect()
        name, value = token()
        request.headers[name] = value
        self._protocol.send_request(request)
        await self.flush()
        await self._read_some()
        assert self._protocol.handshake_exc is None
        self._protocol.events_received()
        await self.say(INIT)

    async def say(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        await self.flush()

    async def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._stream.send_all(data)

    async def frames(self, count: int) -> list[Opcode]:
        """Read so many frames, or to the end."""
        kinds: list[Opcode] = []
        while len(kinds) < count and await self._read_some():
            kinds += [frame.opcode for frame in self._protocol.events_received()]  # type: ignore[union-attr]
        return kinds

    async def messages(self, last_id: int) -> list[dict[str, Any]]:
        """Read to the terminator of a turn; a frame that is not whole is an error."""
        messages: list[dict[str, Any]] = []
        while not any(m["is_final"] and m["event_id"] == last_id for m in messages):
            assert await self._read_some()
            frames: Any = self._protocol.events_received()
            messages += [json.loads(frame.data) for frame in frames if frame.opcode is Opcode.TEXT]
            assert self._protocol.parser_exc is None
        return messages

    def reset(self) -> None:
        """End the TCP connection with an RST."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()

    async def raw(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def answer_the_close(self) -> None:
        assert await self.frames(1) == [Opcode.CLOSE]
        await self.flush()
        assert await self.frames(1) == []

    @property
    def close_code(self) -> int | None:
        return self._protocol.close_code

    async def _read_some(self) -> bool:
        data = await self._stream.receive_some(65536)
        self._protocol.receive_data(data) if data else self._protocol.receive_eof()
        return bool(data)


@asynccontextmanager
async def serving(agent: Agent, **options: Any) -> AsyncGenerator[SpeechEngineServer]:
    settings: dict[str, Any] = {"path": "/ws", "api_key": KEY, **agent.callbacks, **options}
    async with SpeechEngineServer(host="127.0.0.1", port=0, transport="trio", **settings) as server:
        yield server


@asynccontextmanager
async def peer(port: int) -> AsyncGenerator[Peer]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        caller = Peer(stream)
        await caller.open()
        yield caller


@asynccontextmanager
async def dialled(port: int, target: str = "/ws", **options: Any) -> AsyncGenerator[TrioSocket]:
    async with connect(f"ws://127.0.0.1:{port}{target}", headers=[token()], **options) as socket:
        yield socket


async def reply(socket: TrioSocket, id: int) -> str:
    text = ""
    while True:
        message = json.loads(await socket.recv() or "null")
        assert message is not None
        if message["event_id"] == id:
            if message["is_final"]:
                return text
            text += message["content"]


@asynccontextmanager
async def listener(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
) -> AsyncGenerator[int]:
    """Accept connections and let the handler have them."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def in_virtual_time(test: Callable[[MockClock], Awaitable[None]]) -> None:
    clock = MockClock()
    trio.run(test, clock, clock=clock)


async def pass_time(clock: MockClock, seconds: float) -> None:
    await wait_all_tasks_blocked(0.01)
    clock.jump(seconds)
    await wait_all_tasks_blocked(0.01)


async def interrupt_a_flood() -> None:
    agent = Talker()
    async with serving(agent) as server, peer(server.port) as caller:
        await caller.say(transcript("flood", 1))
        await wait_all_tasks_blocked(0.01)
        written = agent.written
        assert written > 0
        await caller.say(transcript("stop", 2))
        await wait_all_tasks_blocked(0.01)
        *old, first, last = await caller.messages(2)
        assert len(old) > written  # the one that was cut off is whole, too
        assert all(m["content"] == PIECE and m["event_id"] == 1 for m in old)
        assert [first["content"], last["content"]] == ["You said stop", ""]


class TestWriting:
    def test_a_peer_that_does_not_read_is_dropped(self) -> None:
        async def main(clock: MockClock) -> None:
            agent = Agent()
            async with serving(agent) as server, peer(server.port) as caller:
                await caller.say(transcript("flood", 1))
                await pass_time(clock, WRITE_SECONDS - 1)
                assert ends(agent) == []
                await pass_time(clock, 1)
                assert ends(agent) == ["cut", "disconnect"]

        in_virtual_time(main)

    def test_a_blocked_peer_holds_the_end_of_a_server_no_longer_than_the_deadline(self) -> None:
        async def main(clock: MockClock) -> None:
            agent = Agent()
            ended = trio.Event()

            async def run(*, task_status: trio.TaskStatus[int]) -> None:
                async with serving(agent) as server:
                    task_status.started(server.port)
                    await stop.wait()
                ended.set()

            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                async with peer(await nursery.start(run)) as caller:
                    await caller.say(transcript("flood", 1))
                    await wait_all_tasks_blocked(0.01)
                    stop.set()
                    await pass_time(clock, max(CLOSE_SECONDS, WRITE_SECONDS))
                    assert ended.is_set()
            assert ends(agent) == ["cut", "disconnect"]

        in_virtual_time(main)

    def test_sending_after_the_end(self) -> None:
        async def main() -> None:
            async with serving(Agent()) as server, dialled(server.port) as socket:
                await socket.close()
                with pytest.raises(ConnectionError):
                    await socket.send("late")
                assert await socket.recv() is None
                assert socket.try_send("late") is False
                socket.abort()
                socket.abort()

        trio.run(main)


class TestReading:
    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(b"\x81\x81\x00\x00\x00\x00\xff", id="not UTF-8"),
            pytest.param(b"\x83\x80\x00\x00\x00\x00", id="no such opcode"),
            pytest.param(b"\x81\x01x", id="not masked"),
        ],
    )
    def test_a_broken_frame_is_a_disconnect(self, frame: bytes) -> None:
        async def main() -> None:
            agent = Agent()
            async with serving(agent) as server, peer(server.port) as caller:
                await caller.raw(frame)
                assert await caller.frames(9) == []
                await wait_all_tasks_blocked(0.01)
                assert ends(agent) == ["disconnect"]

        trio.run(main)

    def test_a_broken_frame_from_a_peer_that_is_gone(self) -> None:
        async def main() -> None:
            agent = Agent()
            async with serving(agent) as server:
                async with peer(server.port) as caller:
                    await caller.say(transcript("flood", 1))
                    await wait_all_tasks_blocked(0.01)
                    await caller.raw(b"\x83\x80\x00\x00\x00\x00")
                await wait_all_tasks_blocked(0.05)
                assert ends(agent) == ["cut", "disconnect"]

        trio.run(main)


class TestKeepalive:
    def test_pings_go_out(self) -> None:
        async def main(clock: MockClock) -> None:
            agent = Agent()
            async with serving(agent) as server, peer(server.port) as caller:
                for _ in range(3):
                    await pass_time(clock, KEEPALIVE_SECONDS)
                    assert await caller.frames(1) == [Opcode.PING]
                    await caller.flush()  # the pong
                assert ends(agent) == []

        in_virtual_time(main)

    def test_no_pong_is_the_end(self) -> None:
        async def main(clock: MockClock) -> None:
            agent = Agent()
            async with serving(agent) as server, peer(server.port) as caller:
                await pass_time(clock, KEEPALIVE_SECONDS)
                await pass_time(clock, KEEPALIVE_SECONDS)
                assert ends(agent) == ["disconnect"]
                assert await caller.frames(2) == [Opcode.PING]

        in_virtual_time(main)


async def answer_to(port: int, request: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return await rest_of(stream)


async def rest_of(stream: trio.SocketStream) -> bytes:
    """Read to the end, or to the reset that a connection given up may end with."""
    answer = b""
    with suppress(trio.BrokenResourceError):
        while data := await stream.receive_some():
            answer += data
    return answer


UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: here\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    f"{': '.join(token())}\r\n\r\n"
).encode()


class TestUpgrade:
    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(b"hello\r\n\r\n", id="no HTTP"),
            pytest.param(UPGRADE.replace(b"Host: ", b"Host : "), id="space in a name"),
            pytest.param(b"G" * (MAX_HEAD_BYTES + 1), id="too long"),
            pytest.param(UPGRADE.replace(b"AAAA==", b"AA=="), id="bad key"),
        ],
    )
    def test_a_bad_request_400(self, request_: bytes) -> None:
        async def main() -> None:
            async with serving(Agent()) as server:
                answer = await answer_to(server.port, request_)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")

        trio.run(main)

    def test_what_comes_with_the_request_is_read(self) -> None:
        ping = b"\x89\x80\x00\x00\x00\x00"
        hang_up = b"\x88\x80\x00\x00\x00\x00"

        async def main() -> None:
            async with serving(Agent()) as server:
                answer = await answer_to(server.port, UPGRADE + ping + hang_up)
            head, _, frames = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            assert frames[:2] == b"\x8a\x00"

        trio.run(main)

    def test_a_request_in_small_pieces(self) -> None:
        async def main() -> None:
            async with serving(Agent()) as server:
                async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                    for index in range(len(UPGRADE)):
                        await stream.send_all(UPGRADE[index : index + 1])
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")

        trio.run(main)

    def test_a_request_that_does_not_come_is_given_up(self) -> None:
        async def main(clock: MockClock) -> None:
            async with (
                serving(Agent()) as server,
                await trio.open_tcp_stream("127.0.0.1", server.port) as stream,
            ):
                await stream.send_all(b"GET /")
                await pass_time(clock, 10)
                assert await rest_of(stream) == b""
                assert server.exceeded == {"handshake_timeout": 1}

        in_virtual_time(main)

    def test_a_decision_that_does_not_come_is_given_up(self) -> None:
        async def main(clock: MockClock) -> None:
            async def authorize(request: Request) -> bool:
                await trio.sleep_forever()
                return True

            async with (
                trio.open_nursery() as nursery,
                serving(Agent(), authorize=authorize) as server,
            ):

                async def dial() -> None:
                    assert await answer_to(server.port, UPGRADE) == b""
                    nursery.cancel_scope.cancel()

                nursery.start_soon(dial)
                await pass_time(clock, 10)
                await trio.sleep_forever()

        in_virtual_time(main)

    def test_an_authorize_that_waits(self) -> None:
        async def main() -> None:
            async def authorize(request: Request) -> bool:
                await trio.lowlevel.checkpoint()
                return request.peer != "127.0.0.1"

            async with serving(Agent(), authorize=authorize) as server:
                with pytest.raises(trio_websocket.ConnectionRejected) as caught:
                    async with dialled(server.port):
                        pass
            assert caught.value.status_code == 403

        trio.run(main)

    def test_an_authorize_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            def authorize(request: Request) -> bool:
                raise RuntimeError("no database")

            async with serving(Agent(), authorize=authorize) as server:
                answer = await answer_to(server.port, UPGRADE)
            assert answer.startswith(b"HTTP/1.1 500 ")

        trio.run(main)
        assert "authorize failed" in caplog.text

    def test_a_refused_peer_that_stays_is_dropped(self) -> None:
        async def main(clock: MockClock) -> None:
            async with (
                serving(Agent()) as server,
                await trio.open_tcp_stream("127.0.0.1", server.port) as stream,
            ):
                await stream.send_all(b"nonsense\r\n\r\n")
                await wait_all_tasks_blocked(0.01)
                await pass_time(clock, LINGER_SECONDS)
                assert server_tasks() == 0

        in_virtual_time(main)


def server_tasks() -> int:
    """Count the connections that a server in this trio still works on."""
    root: Any = trio.lowlevel.current_root_task()
    names: list[str] = []

    def walk(task: Any) -> None:
        names.append(task.name)
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                walk(child)

    walk(root)
    return sum("TrioListener.handle" in name for name in names)


class TestServing:
    def test_start_and_cancel(self) -> None:
        async def main() -> None:
            agent = Agent()
            async with trio.open_nursery() as callers:
                async with trio.open_nursery() as nursery:
                    options: dict[str, Any] = {
                        "host": "127.0.0.1",
                        "port": 0,
                        "api_key": KEY,
                        **agent.callbacks,
                    }
                    server = await nursery.start(partial(serve, **options))
                    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                    caller = Peer(stream)
                    await caller.open()
                    await caller.say(transcript("hello", 1))
                    assert (await caller.messages(1))[0]["content"] == "You said hello"
                    callers.start_soon(caller.answer_the_close)
                    nursery.cancel_scope.cancel()
            await stream.aclose()
            assert caller.close_code == 1001
            assert ends(agent) == ["disconnect"]

        trio.run(main)

    def test_a_cancelled_server_waits_for_no_handler(self) -> None:
        async def main(clock: MockClock) -> None:
            cleaned = trio.Event()

            async def on_transcript(transcript: object, session: SpeechEngineSession) -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(2)
                    cleaned.set()

            async with trio.open_nursery() as nursery:
                options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "api_key": KEY}
                server = await nursery.start(partial(serve, on_transcript=on_transcript, **options))
                async with peer(server.port) as caller:
                    await caller.say(transcript("hello", 1))
                    await wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
                nursery.cancel_scope.shield = True
                with trio.CancelScope(shield=True):
                    await pass_time(clock, 2)
            assert cleaned.is_set()

        in_virtual_time(main)

    def test_stop(self) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "api_key": KEY}
                server = await nursery.start(partial(serve, **options))
                await server.stop()

        trio.run(main)

    def test_the_end_does_not_wait_for_half_open_upgrades(self) -> None:
        async def main(clock: MockClock) -> None:
            async with serving(Agent()) as server:
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                await stream.send_all(b"GET /")
                await wait_all_tasks_blocked(0.01)
            async with stream:
                assert await rest_of(stream) == b""

        in_virtual_time(main)  # time stands still

    def test_an_exception_in_the_block_comes_out_as_it_is(self) -> None:
        cause = KeyError("cause")
        group = ExceptionGroup("mine", [ValueError("a")])
        group.__cause__ = cause

        async def main() -> None:
            async with serving(Agent()) as server, dialled(server.port):
                raise group

        with pytest.raises(ExceptionGroup) as caught:
            trio.run(main)
        assert caught.value.message == "mine"
        assert [type(error) for error in caught.value.exceptions] == [ValueError]
        assert caught.value.__cause__ is cause

    def test_a_connection_that_fails_is_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(ws: object) -> SpeechEngineSession:
            raise RuntimeError("a bug")

        async def main() -> None:
            agent = Agent()
            async with serving(agent) as server:
                usual, server.handle_connection = server.handle_connection, broken  # type: ignore[method-assign]
                async with dialled(server.port) as socket:
                    assert await socket.recv() is None
                server.handle_connection = usual  # type: ignore[method-assign]
                async with dialled(server.port) as socket:
                    await socket.send(transcript("still there", 1))
                    assert await reply(socket, 1) == "You said still there"

        trio.run(main)
        assert "connection failed" in caplog.text


class TestDialling:
    def test_a_refusal(self) -> None:
        async def main() -> None:
            async with serving(Agent()) as server:
                with pytest.raises(trio_websocket.ConnectionRejected) as caught:
                    async with dialled(server.port, "/elsewhere?a=b"):
                        pass
            assert (caught.value.status_code, caught.value.body) == (404, b"not found\n")

        trio.run(main)

    def test_nobody_listens(self) -> None:
        async def main() -> None:
            async with serving(Agent()) as server:
                port = server.port
            with pytest.raises(OSError, match="failed"):
                async with dialled(port):
                    pass

        trio.run(main)

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101", b"what?\r\n\r\n"])
    def test_a_server_that_hangs_up(self, answer: bytes) -> None:
        async def hang_up(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            if answer:
                await stream.send_all(answer)

        async def main() -> None:
            async with listener(hang_up) as port:
                with pytest.raises(ConnectionResetError, match="upgrade"):
                    async with dialled(port):
                        pass

        trio.run(main)

    def test_a_server_that_says_nothing(self) -> None:
        async def main(clock: MockClock) -> None:
            async def say_nothing(stream: trio.SocketStream) -> None:
                await trio.sleep_forever()

            async with listener(say_nothing) as port:

                async def dial() -> None:
                    with pytest.raises(TimeoutError, match="10 s"):
                        async with dialled(port):
                            pass

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(dial)
                    await pass_time(clock, 10)

        in_virtual_time(main)

    @pytest.mark.parametrize("url", ["http://here/", "ws://", "here"])
    def test_what_is_no_url(self, url: str) -> None:
        async def main() -> None:
            async with connect(url):
                pass

        with pytest.raises(ValueError, match="ws://"):
            trio.run(main)

    def test_tls(self) -> None:
        authority = trustme.CA()
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(ours)
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)

        async def main() -> None:
            agent = Agent()
            async with serving(agent, ssl=ours) as server:
                url = f"wss://127.0.0.1:{server.port}/ws"
                async with connect(url, headers=[token()], ssl=theirs) as socket:
                    await socket.send(INIT)
                    await socket.send(transcript("secret", 1))
                    assert await reply(socket, 1) == "You said secret"
                    socket.abort()
                    assert await socket.recv() is None
                await wait_all_tasks_blocked(0.05)
                assert ends(agent) == ["disconnect"]
                with pytest.raises(ssl.SSLCertVerificationError):
                    async with connect(url, headers=[token()]):
                        pass

        trio.run(main)


def port_of(server: Any) -> int:
    port: int = server.listeners[0].socket.getsockname()[1]
    return port


class TestAcceptedElsewhere:
    """Sockets that another library's server has accepted."""

    def test_trio_websocket(self) -> None:
        agent = Agent()

        async def route(request: trio_websocket.WebSocketRequest) -> None:
            session = create_session(await request.accept())
            session.on("user_transcript", partial(agent.on_transcript, session=session))
            await session.run()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(
                    trio_websocket.serve_websocket, route, "127.0.0.1", 0, None
                )
                async with dialled(server.port) as socket:
                    await socket.send(transcript("hi", 1))
                    assert await reply(socket, 1) == "You said hi"
                nursery.cancel_scope.cancel()

        trio.run(main)

    def test_websockets(self) -> None:
        agent = Agent()
        seen: list[Request] = []

        async def route(ws: websockets.trio.server.ServerConnection) -> None:
            socket = as_socket(ws)
            assert type(socket) is WebsocketsTrioSocket
            session = create_session(socket)
            seen.append(session.request)
            session.on("user_transcript", partial(agent.on_transcript, session=session))
            await session.run()
            assert await socket.recv() is None
            with pytest.raises(ConnectionError):
                await socket.send("late")

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(
                    partial(websockets.trio.server.serve, route, 0, host="127.0.0.1")
                )
                port = port_of(server)
                async with peer(port) as caller:
                    await caller.say(transcript("hi", 1))
                    first, _ = await caller.messages(1)
                    assert first["content"] == "You said hi"
                nursery.cancel_scope.cancel()

        trio.run(main)
        assert [request.path for request in seen] == ["/ws"]
        assert [request.peer for request in seen] == ["127.0.0.1"]

    @pytest.mark.parametrize("library", ["trio_websocket", "websockets"])
    def test_a_write_that_is_cancelled_leaves_whole_frames(self, library: str) -> None:
        piece = '{"event_id":1,"is_final":false,"x":"' + PIECE + '"}'
        last = '{"event_id":2,"is_final":true}'

        async def route(ws: Any) -> None:
            socket = as_socket(await ws.accept() if library == "trio_websocket" else ws)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood, socket)
                await wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
                blocked.set()
            await socket.send(last)

        async def flood(socket: Socket) -> None:
            while True:
                await socket.send(piece)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                serve: Any = trio_websocket.serve_websocket
                if library == "websockets":
                    serve = partial(websockets.trio.server.serve, route, 0, host="127.0.0.1")
                else:
                    serve = partial(serve, route, "127.0.0.1", 0, None)
                server = await nursery.start(serve)
                port = server.port if library == "trio_websocket" else port_of(server)
                async with peer(port) as caller:
                    await blocked.wait()
                    messages = await caller.messages(2)
                    assert len(messages) > 1
                nursery.cancel_scope.cancel()

        blocked = trio.Event()
        trio.run(main)

    def test_websockets_dialled(self) -> None:
        async def main() -> None:
            async with serving(Agent()) as server:
                url = f"ws://127.0.0.1:{server.port}/ws"
                async with websockets.trio.client.connect(
                    url, additional_headers=[token()], proxy=None
                ) as ws:
                    socket = as_socket(ws)
                    await socket.send(transcript("hi", 1))
                    assert b"You said hi" in (await socket.recv() or b"")
                    socket.abort()
                    await socket.close()

        trio.run(main)
