"""What a session knows of a socket and of the request; which adapter an object gets."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import AsyncMock, create_autospec

import anyio
import pytest
from starlette.websockets import WebSocket

from speech_engine_transports import Headers, Request, create_session
from speech_engine_transports._socket import PlainSocket, Socket
from speech_engine_transports._sockets import as_socket
from speech_engine_transports.asgi import StarletteSocket

from .clock import settle
from .peer import CLOSE, PING, init, transcript

pytestmark = pytest.mark.anyio


# --- headers and request


def test_headers_are_found_in_any_case_and_repeated_ones_joined() -> None:
    headers = Headers([("X-Call", "7"), ("x-call", "8"), ("Accept", "*/*")])
    assert headers["x-CALL"] == "7, 8"
    assert headers.get("missing") is None
    assert dict(headers) == {"x-call": "7, 8", "accept": "*/*"}
    assert len(headers) == 2


def test_the_token_is_not_among_the_headers_nor_any_value_in_the_repr() -> None:
    headers = Headers([("X-ElevenLabs-Speech-Engine-Authorization", "token"), ("X-A", "secret")])
    assert list(headers) == ["x-a"]
    assert repr(headers) == "Headers(['x-a'])"
    with pytest.raises(TypeError):
        cast("Any", headers)["X-A"] = "other"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/ws", "/ws", ""),
        ("/ws?a=b&c", "/ws", "a=b&c"),
        ("/ws?a=/x?y", "/ws", "a=/x?y"),
        ("/a%20b/", "/a%20b/", ""),
        ("//", "//", ""),
        ("//host/ws?x", "//host/ws", "x"),
        ("http://host:80/ws?x=1", "/ws", "x=1"),
        ("http://[", "http://[", ""),
        ("//[", "//[", ""),
        ("*", "*", ""),
    ],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query: str) -> None:
    request = Request.from_target(target, [("A", "b")], "10.0.0.1")
    assert (request.path, request.query) == (path, query)
    assert request.headers["a"] == "b"
    assert request.peer == "10.0.0.1"


def test_a_request_does_not_show_its_query() -> None:
    assert "secret" not in repr(Request("/ws", "token=secret"))


# --- which objects are sockets


class Text:
    """A fake of a Starlette WebSocket, as people write them."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        self.sent: list[str] = []
        self.closed = 0

    async def receive_text(self) -> str:
        if not self.messages:
            raise EOFError
        return self.messages.pop(0)

    async def send_text(self, data: str) -> None:
        self.sent.append(data)

    async def close(self) -> None:
        self.closed += 1


async def test_a_fake_starlette_socket_works() -> None:
    ws = Text(PING, transcript("hi", id=1))
    session = create_session(ws)
    session.on("user_transcript", lambda t: session.send_response("x"))
    await session.run()
    assert len(ws.sent) == 3
    assert ws.closed == 1


async def test_a_mock_with_a_spec_is_taken_for_what_it_is() -> None:
    from websockets.asyncio.server import ServerConnection

    ws = create_autospec(ServerConnection, instance=True)
    ws.recv = AsyncMock(side_effect=[PING])
    ws.send = AsyncMock()
    ws.close = AsyncMock()
    session = create_session(ws)
    session.on("user_transcript", lambda t: None)
    await session.run()
    ws.send.assert_awaited_once_with('{"type":"pong"}')


@pytest.mark.parametrize("ws", [None, "ws://host", object(), type("X", (), {"recv": print})()])
def test_anything_else_is_a_type_error_that_names_what_would_do(ws: Any) -> None:
    with pytest.raises(TypeError, match=r"ws: expected .*websockets.*Starlette.*recv\(\)") as e:
        create_session(ws)
    assert f"got {type(ws).__name__}" in str(e.value)


def test_a_socket_is_taken_as_it_is() -> None:
    class Mine(Socket):
        async def recv(self) -> None: ...

        async def send(self, frame: str) -> None: ...

        async def close(self, code: int = 1000, reason: str = "") -> None: ...

        def abort(self) -> None: ...

    mine = Mine()
    assert as_socket(mine) is mine
    assert mine.try_send("x") is False
    assert mine.request == Request()


async def test_a_plain_socket_has_no_abort() -> None:
    plain = as_socket(Text())
    assert isinstance(plain, PlainSocket)
    plain.abort()
    assert await plain.recv() is None


# --- Starlette's own socket, over ASGI messages in memory


class Asgi:
    """What an ASGI server gives an application."""

    scope: dict[str, Any]

    def __init__(self, *messages: str | bytes) -> None:
        self.scope = {
            "type": "websocket",
            "path": "/ws",
            "query_string": b"a=b",
            "headers": [(b"x-call", b"7"), (b"x-call", b"8")],
            "client": ("10.0.0.1", 1234),
        }
        self.inbox: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        self.sent: list[dict[str, Any]] = []
        self.gone = False
        self.changed = anyio.Event()
        for message in messages:
            key = "text" if isinstance(message, str) else "bytes"
            self.inbox.append({"type": "websocket.receive", key: message})

    def hang_up(self) -> None:
        self.say({"type": "websocket.disconnect", "code": 1006})

    async def receive(self) -> dict[str, Any]:
        if not self.inbox:
            self.changed = anyio.Event()
            await self.changed.wait()
        return self.inbox.pop(0)

    def say(self, message: dict[str, Any]) -> None:
        self.inbox.append(message)
        self.changed.set()

    async def send(self, message: Any) -> None:
        if self.gone:
            raise OSError("the client has gone")
        self.sent.append(message)

    async def accepted(self) -> WebSocket:
        ws = WebSocket(self.scope, self.receive, self.send)
        await ws.accept()
        self.sent.clear()
        return ws


async def test_a_starlette_socket_carries_a_conversation() -> None:
    asgi = Asgi(init(), PING.encode(), transcript("hi", id=1), CLOSE)
    session = create_session(await asgi.accepted())
    events: list[str] = []
    session.on("user_transcript", lambda t: session.send_response("x"))
    session.on("close", lambda: events.append("close"))
    await session.run()
    texts = [m["text"] for m in asgi.sent if m["type"] == "websocket.send"]
    assert texts[0] == '{"type":"pong"}'
    assert len(texts) == 3
    assert asgi.sent[-1]["type"] == "websocket.close"
    assert asgi.sent[-1]["code"] == 1000
    assert events == ["close"]
    assert session.request.path == "/ws"
    assert session.request.query == "a=b"
    assert session.request.headers["X-Call"] == "7, 8"
    assert session.request.peer == "10.0.0.1"


async def test_a_starlette_client_that_leaves_is_a_lost_socket() -> None:
    asgi = Asgi()
    asgi.hang_up()
    session = create_session(await asgi.accepted())
    events: list[str] = []
    session.on("user_transcript", lambda t: None)
    session.on("disconnected", lambda: events.append("disconnected"))
    await session.run()
    assert events == ["disconnected"]
    assert asgi.sent == []


async def test_a_starlette_client_that_leaves_during_a_reply_is_no_error() -> None:
    asgi = Asgi(transcript("hi", id=1))
    session = create_session(await asgi.accepted())
    refused: list[Exception] = []

    async def answer(t: object) -> None:
        asgi.gone = True
        try:
            await session.send_response("x")
        except RuntimeError as error:
            refused.append(error)
            raise
        finally:
            asgi.hang_up()

    session.on("user_transcript", answer)
    session.on("error", refused.append)
    await session.run()
    assert len(refused) == 1
    assert "session is closed" in str(refused[0])


async def test_a_closed_starlette_socket_stays_closed() -> None:
    asgi = Asgi()
    asgi.scope["client"] = None
    socket = StarletteSocket(await asgi.accepted())
    assert socket.request.peer is None
    await socket.close(1001)
    await socket.close()
    assert [m["code"] for m in asgi.sent] == [1001]
    socket.abort()


async def test_an_ended_starlette_socket_is_not_read_again() -> None:
    asgi = Asgi()
    asgi.hang_up()
    socket = StarletteSocket(await asgi.accepted())
    assert await socket.recv() is None
    assert await socket.recv() is None


async def test_messages_of_a_starlette_socket_may_come_late() -> None:
    asgi = Asgi()
    session = create_session(await asgi.accepted())
    session.on("user_transcript", lambda t: session.send_response("x"))
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await settle()
        asgi.say({"type": "websocket.receive", "text": transcript("hi", id=1)})
        await settle()
        assert len(asgi.sent) == 2
        asgi.hang_up()
