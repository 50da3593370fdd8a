"""Servers that say exactly what a test wants them to say, right or wrong, over real sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    Behaviour = Callable[["Call", dict[str, Any]], Awaitable[None]]


class Call:
    """One call that came in: everything it sent, and a pen to answer with."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.received: list[dict[str, Any]] = []
        self.over = anyio.Event()
        self._changed = anyio.Event()

    @property
    def transcripts(self) -> list[dict[str, Any]]:
        return [m for m in self.received if m["type"] == "user_transcript"]

    @property
    def types(self) -> list[str]:
        return [m["type"] for m in self.received]

    async def wait_for(self, kind: str, count: int = 1) -> None:
        """Return when so many messages of a type have come."""
        while self.types.count(kind) < count:
            await self._changed.wait()

    def note(self, message: dict[str, Any]) -> None:
        self.received.append(message)
        self._changed.set()
        self._changed = anyio.Event()

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def pong(self) -> None:
        await self.send(type="pong")

    async def piece(self, text: str, event_id: int | None) -> None:
        await self.send(type="agent_response", content=text, is_final=False, event_id=event_id)

    async def end(self, event_id: int | None, text: str = "") -> None:
        await self.send(type="agent_response", content=text, is_final=True, event_id=event_id)


class RawServer:
    """A WebSocket server without any rule of its own."""

    def __init__(self, behave: Behaviour) -> None:
        self.url = ""
        self.called = anyio.Event()
        self.calls: list[Call] = []
        self.requests: list[Request] = []
        self._behave = behave

    @property
    def call(self) -> Call:
        (call,) = self.calls
        return call

    async def handle(self, ws: ServerConnection) -> None:
        call = Call(ws)
        self.calls.append(call)
        self.called.set()
        assert ws.request is not None
        self.requests.append(ws.request)
        try:
            async for data in ws:
                message = json.loads(data)
                call.note(message)
                await self._behave(call, message)
        except ConnectionClosed:
            pass
        finally:
            call.over.set()


@asynccontextmanager
async def raw_server(behave: Behaviour, *, refuse: int | None = None) -> AsyncGenerator[RawServer]:
    """Serve a behaviour: called with each message that comes, pings among them."""

    def process_request(connection: ServerConnection, _: Request) -> Response | None:
        return None if refuse is None else connection.respond(HTTPStatus(refuse), "no\n")

    server = RawServer(behave)
    async with serve(
        server.handle, "127.0.0.1", 0, process_request=process_request, close_timeout=1
    ) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        server.url = f"ws://127.0.0.1:{port}/ws"
        yield server


def answering(*replies: Callable[[Call, int], Awaitable[None]]) -> Behaviour:
    """Behave well, except that the n-th transcript is answered by the n-th of these."""
    left = list(replies)

    async def behave(call: Call, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ping":
                await call.pong()
            case "user_transcript":
                reply = left.pop(0) if left else echo
                await reply(call, message["event_id"])
            case "close":
                await call.ws.close()

    return behave


async def echo(call: Call, event_id: int) -> None:
    """Answer with the caller's own words, one piece per word."""
    for word in call.transcripts[-1]["user_transcript"][-1]["content"].split():
        await call.piece(f"{word} ", event_id)
    await call.end(event_id)
