"""What every server of this package does alike, on real sockets."""

from __future__ import annotations

import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus

from speech_engine_transports import LimitExceeded, Limits, Observer, SpeechEngineServer

from .agent_app import PIECE, Agent
from .caller import INIT, KEY, Caller, answer_to, ask, call, reply_to, token, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from speech_engine_proto import ConversationState, Turn
    from speech_engine_transports import Request, SpeechEngineSession

OTHER_PATH = "/elsewhere"
CLOSE = '{"type":"close"}'


async def blocked(port: int, agent_port: int | None = None) -> None:
    """Return when ``flood`` waits for its caller: it could run, and has not for a while."""
    async with call(agent_port or port) as ws:
        same, before = 0, "0"
        while same < 10:
            sent = await ask(ws, "sent")
            same = same + 1 if sent == before != "0" else 0
            before = sent


async def happened(port: int, event: str) -> None:
    """Return when the agent has seen this event."""
    async with call(port) as ws:
        while event not in json.loads(await ask(ws, "events")):
            pass


async def draining(server: SpeechEngineServer) -> None:
    """Return when the server drains; it may run in another thread."""
    while server.health["state"] != "draining":
        await anyio.lowlevel.checkpoint()


async def interrupt_a_flood(port: int, *, shielded: bool = False) -> None:
    """Cancel a write that waits for its peer: whole frames only, and nothing old after new.

    Args:
        port: where the agent is.
        shielded: the server lets nobody out of a write that waits.
    """
    async with Caller(port) as caller:
        await caller.say(transcript("flood", 1))
        await blocked(port)
        await caller.say(transcript("stop", 2))
        await happened(port, "heard stop" if shielded else "cut")
        messages = await caller.read(until=2)
        *old, first, last = messages
        assert {m["event_id"] for m in old} == {1}
        assert all(m["content"] == PIECE and not m["is_final"] for m in old)
        assert [first["content"], last["content"]] == ["You said stop", ""]
        assert [first["event_id"], last["event_id"]] == [2, 2]


class Told(Observer):
    """Keeps what an observer is told, by name and in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def conversation_started(self, session: SpeechEngineSession) -> None:
        self.events.append("started")

    def conversation_ended(self, session: SpeechEngineSession, state: ConversationState) -> None:
        self.events.append(state.value)

    def turn_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        self.events.append("turn started")

    def handler_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        self.events.append("handler started")

    def first_word(self, session: SpeechEngineSession, turn: Turn) -> None:
        self.events.append("first word")

    def turn_finished(self, session: SpeechEngineSession, turn: Turn) -> None:
        self.events.append("turn finished")

    def ping_received(self, session: SpeechEngineSession) -> None:
        self.events.append("ping")

    def pong_sent(self, session: SpeechEngineSession) -> None:
        self.events.append("pong")


async def refusal(port: int, target: str, *headers: tuple[str, str]) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with call(port, target, *headers, signed=False):
            pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


class ServerSurface:
    """Tests of a server; a subclass names the transport."""

    transport: str
    tells_overflow = True
    """Whether a message that is too long is told from other ends of the socket."""

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncGenerator[SpeechEngineServer]:
        self.agent = Agent()
        settings = {"path": "/ws", "api_key": KEY, **self.agent.callbacks, **options}
        server = SpeechEngineServer(host="127.0.0.1", port=0, transport=self.transport, **settings)
        async with server:
            yield server

    async def drain(self, server: SpeechEngineServer, *arguments: Any) -> bool:
        """Drain the server in its own event loop."""
        return await server.drain(*arguments)

    async def test_it_holds_a_conversation(self) -> None:
        async with self.serving() as server, call(server.port) as ws:
            await ws.send(INIT)
            await ws.send('{"type":"ping"}')
            assert json.loads(await ws.recv()) == {"type": "pong"}
            assert await ask(ws, "hello", 1) == "You said hello"
            assert await ask(ws, "again", 2) == "You said again"
            await ws.send(CLOSE)
            await ws.wait_closed()
            assert ws.close_code == 1000
        assert self.agent.events == ["close"]

    async def test_a_binary_frame_is_a_message(self) -> None:
        async with self.serving() as server, call(server.port) as ws:
            await ws.send(transcript("bytes", 1).encode())
            assert await reply_to(ws, 1) == "You said bytes"

    async def test_fragments_are_one_message(self) -> None:
        text = transcript("pieces", 1)
        async with self.serving() as server, call(server.port) as ws:
            await ws.send([text[:9], text[9:20], text[20:]])
            assert await reply_to(ws, 1) == "You said pieces"

    async def test_a_query_is_no_part_of_the_path(self) -> None:
        async with (
            self.serving() as server,
            call(server.port, "/ws?a=%20b&c", ("X-Who", "me")) as ws,
        ):
            seen = json.loads(await ask(ws, "request"))
            assert seen == ["/ws", "a=%20b&c", "me", "127.0.0.1"]

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([], id="missing"),
            pytest.param([token("another key")], id="wrong"),
            pytest.param([token(), token()], id="repeated"),
        ],
    )
    @pytest.mark.parametrize("target", ["/ws", OTHER_PATH])
    async def test_without_a_valid_token_401(
        self, target: str, headers: list[tuple[str, str]]
    ) -> None:
        async with self.serving() as server:
            verdict = await refusal(server.port, target, *headers)
        assert verdict == (401, "authorization failed\n")

    @pytest.mark.parametrize("target", [OTHER_PATH, "/ws/", "/WS", "//[", "/ws%2F"])
    async def test_another_path_404(self, target: str) -> None:
        async with self.serving() as server:
            assert await refusal(server.port, target, token()) == (404, "not found\n")

    async def test_authorize_is_asked_after_the_token(self) -> None:
        asked: list[Request] = []

        async def authorize(request: Request) -> bool:
            asked.append(request)
            return request.query == "tenant=1"

        async with self.serving(authorize=authorize) as server:
            assert (await refusal(server.port, "/ws"))[0] == 401
            assert asked == []
            assert await refusal(server.port, "/ws", token()) == (403, "forbidden\n")
            async with call(server.port, "/ws?tenant=1") as ws:
                assert await ask(ws, "hi") == "You said hi"
        assert [request.query for request in asked] == ["", "tenant=1"]
        assert all("authorization" not in str(list(request.headers)) for request in asked)

    @pytest.mark.parametrize(
        ("target", "signed", "status"),
        [("/ws", True, 426), (OTHER_PATH, True, 404), ("/ws", False, 401)],
    )
    async def test_no_upgrade(self, target: str, signed: bool, status: int) -> None:
        lines = [f"GET {target} HTTP/1.1", "Host: here", "Connection: close"]
        lines += [": ".join(token())] if signed else []
        async with self.serving() as server:
            answer = await answer_to(server.port, "\r\n".join([*lines, "", ""]).encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0].split(b" ")[1] == str(status).encode()
        assert (b"\r\nupgrade: websocket" in head.lower()) == (status == 426)
        assert body

    @pytest.mark.parametrize("over", [0, 1])
    async def test_a_message_may_be_this_long(self, over: int) -> None:
        limits = Limits(max_frame_bytes=1000)
        text = transcript("a", 1)
        text = transcript("a" * (1001 - len(text) + over), 1)
        async with self.serving(limits=limits) as server, call(server.port) as ws:
            await ws.send(INIT)
            assert await ask(ws, "short") == "You said short"
            await ws.send(text)
            if over:
                with pytest.raises(ConnectionClosed):
                    await ws.recv()
                assert ws.close_code == 1009
                await happened(server.port, "disconnect")
                if self.tells_overflow:
                    await happened(server.port, f"error {LimitExceeded('max_frame_bytes', 1000)!r}")
                    assert server.exceeded == {"max_frame_bytes": 1}
            else:
                assert (await reply_to(ws, 1)).startswith("You said aaa")

    async def test_a_session_closes_with_1000(self) -> None:
        async with self.serving() as server, call(server.port) as ws:
            await ws.send(INIT)
            await ws.send(transcript("bye", 1))
            await ws.wait_closed()
            assert ws.close_code == 1000
        assert self.agent.events == []

    async def test_a_reset_connection_is_a_disconnect_once(self) -> None:
        async with self.serving() as server:
            async with Caller(server.port) as caller:
                await caller.say(transcript("flood", 1))
                await blocked(server.port)
                caller.reset()
            await happened(server.port, "disconnect")
        assert sorted(self.agent.events) == ["cut", "disconnect"]

    async def test_a_peer_that_closes_is_a_disconnect(self) -> None:
        async with self.serving() as server:
            async with Caller(server.port) as caller:
                await caller.hang_up()
                await caller.read()
                assert caller.close_code == 1000
            await happened(server.port, "disconnect")

    async def test_a_write_that_is_cancelled_leaves_whole_frames(self) -> None:
        async with self.serving() as server:
            await interrupt_a_flood(server.port)

    async def test_at_the_end_calls_are_closed_with_1001(self) -> None:
        async with AsyncExitStack() as calls:
            async with self.serving() as server:
                ws = await calls.enter_async_context(call(server.port))
                await ws.send(INIT)
                assert await ask(ws, "hi") == "You said hi"
            await ws.wait_closed()
            assert ws.close_code == 1001
        assert self.agent.events == ["disconnect"]
        with pytest.raises(OSError, match="onnect"):
            async with call(server.port):
                pass

    async def test_health(self) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        async with self.serving() as server, call(server.port) as ws:
            await ws.send(transcript("hold", 1))
            assert json.loads(await ws.recv())["content"] == "held"
            head, _, body = (await answer_to(server.port, request)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"application/json" in head
            assert b'{"state": "serving", "calls": 1}' in body
            async with anyio.create_task_group() as group:
                group.start_soon(self.drain, server)
                await draining(server)
                answer = await answer_to(server.port, request)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b'{"state": "draining", "calls": 1}' in answer
                self.agent.let_go()

    async def test_a_server_that_drains_ends_replies_and_takes_no_calls(self) -> None:
        async with self.serving() as server, AsyncExitStack() as calls:
            held = [await calls.enter_async_context(call(server.port)) for _ in range(200)]
            for ws in held:
                await ws.send(transcript("hold", 1))
                assert json.loads(await ws.recv())["content"] == "held"
            idle = await calls.enter_async_context(call(server.port))
            assert await ask(idle, "hello") == "You said hello"
            async with anyio.create_task_group() as group:
                group.start_soon(self.drain, server)
                await idle.wait_closed()
                assert idle.close_code == 1001
                assert await refusal(server.port, "/ws", token()) == (503, "going away\n")
                self.agent.let_go()
            for ws in held:
                assert await reply_to(ws, 1) == " and let go"
                await ws.wait_closed()
                assert ws.close_code == 1001

    async def test_what_does_not_end_in_time_is_cut_off(self) -> None:
        async with self.serving() as server, call(server.port) as ws:
            await ws.send(transcript("hold", 1))
            assert json.loads(await ws.recv())["content"] == "held"
            assert await self.drain(server, 0.01) is False
            await ws.wait_closed()
            assert ws.close_code == 1001

    async def test_calls_may_be_waited_for(self) -> None:
        async with self.serving() as server, call(server.port) as ws:
            assert await ask(ws, "hello", 1) == "You said hello"
            async with anyio.create_task_group() as group:
                group.start_soon(self.drain, server, None, "finish")
                await draining(server)
                assert await ask(ws, "again", 2) == "You said again"
                assert await refusal(server.port, "/ws", token()) == (503, "going away\n")
                await ws.send(CLOSE)
            await ws.wait_closed()
            assert ws.close_code == 1000

    async def test_no_more_calls_than_there_is_room_for(self) -> None:
        async with self.serving(limits=Limits(max_sessions=2)) as server:
            async with call(server.port) as first, call(server.port) as second:
                assert await ask(first, "hello") == "You said hello"
                assert await ask(second, "hello") == "You said hello"
                full = (503, "too many conversations\n")
                assert await refusal(server.port, "/ws", token()) == full
                assert await refusal(server.port, "/ws") == (401, "authorization failed\n")
                assert await refusal(server.port, OTHER_PATH, token()) == (404, "not found\n")
                assert server.exceeded == {"max_sessions": 1}
                assert await ask(second, "there?") == "You said there?"
            while server.health["calls"]:
                await anyio.lowlevel.checkpoint()
            async with call(server.port) as third:
                assert await ask(third, "hello") == "You said hello"

    async def test_an_observer_hears_of_each_turn(self) -> None:
        told = Told()
        async with self.serving(observer=told) as server:
            async with call(server.port) as ws:
                await ws.send(INIT)
                assert await ask(ws, "hello", 1) == "You said hello"
                await ws.send('{"type":"ping"}')
                assert json.loads(await ws.recv()) == {"type": "pong"}
                assert await ask(ws, "again", 2) == "You said again"
                await ws.send(CLOSE)
                await ws.wait_closed()
            while told.events[-1] != "ended":
                await anyio.lowlevel.checkpoint()
        turn = ["turn started", "handler started", "first word", "turn finished"]
        assert told.events == ["started", *turn, "ping", "pong", *turn, "ended"]

    async def test_tls(self) -> None:
        authority = trustme.CA()
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(ours)
        theirs = ssl.create_default_context()
        authority.configure_trust(theirs)
        async with self.serving(ssl=ours) as server, call(server.port, ssl=theirs) as ws:
            assert await ask(ws, "secret") == "You said secret"

    async def test_a_port_in_use(self) -> None:
        async with self.serving() as server:
            second = SpeechEngineServer(
                host="127.0.0.1", port=server.port, transport=self.transport, api_key=KEY
            )
            with pytest.raises(OSError, match="in use"):
                await second.__aenter__()

    async def test_all_interfaces(self) -> None:
        server = SpeechEngineServer(port=0, transport=self.transport, api_key=KEY)
        async with server, call(server.port) as ws:
            await ws.send('{"type":"ping"}')
            assert json.loads(await ws.recv()) == {"type": "pong"}

    async def test_a_subprotocol_is_not_chosen(self) -> None:
        offered: Any = {"subprotocols": ["convai"]}
        async with self.serving() as server, call(server.port, **offered) as ws:
            assert ws.subprotocol is None
            assert ws.response is not None
            assert ws.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
