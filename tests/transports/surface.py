"""What every server of this package does alike, on real sockets."""

from __future__ import annotations

import json
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus

from speech_engine_proto import Limits
from speech_engine_transports import SpeechEngineServer

from .agent_app import PIECE, Agent
from .caller import INIT, KEY, Caller, answer_to, ask, call, reply_to, token, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from speech_engine_transports import Request

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


async def refusal(port: int, target: str, *headers: tuple[str, str]) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        async with call(port, target, *headers, signed=False):
            pass
    response = caught.value.response
    return response.status_code, (response.body or b"").decode()


class ServerSurface:
    """Tests of a server; a subclass names the transport."""

    transport: str

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncGenerator[SpeechEngineServer]:
        self.agent = Agent()
        settings = {"path": "/ws", "api_key": KEY, **self.agent.callbacks, **options}
        server = SpeechEngineServer(host="127.0.0.1", port=0, transport=self.transport, **settings)
        async with server:
            yield server

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
