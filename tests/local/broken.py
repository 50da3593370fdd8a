"""Ready targets with one fault each, over real sockets: what the checks must find.

A fault changes what the upgrade answers, what comes in, what goes out, or what the handlers do; or
it is another session altogether. Everything else is as it should be.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
import attrs
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from speech_engine_local.check.targets import Obedient
from speech_engine_proto.auth import AuthenticationError, find_token, verify_token
from speech_engine_transports import SpeechEngineSession

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup
    from websockets.asyncio.server import Server
    from websockets.http11 import Request, Response

KEY = "sk_check_of_broken_targets"

Frame = dict[str, Any]
Data = str | bytes
Admit = Callable[[ServerConnection, "Request", "Server"], "Response | None"]
Converse = Callable[["Wire", Obedient], Awaitable[None]]


def admit(ws: ServerConnection, request: Request, _: Server) -> Response | None:
    """Decide as a server should."""
    try:
        verify_token(find_token(request.headers.raw_items()), KEY, now=time.time())
    except AuthenticationError:
        return ws.respond(HTTPStatus.UNAUTHORIZED, "no\n")
    if request.path.partition("?")[0] != "/ws":
        return ws.respond(HTTPStatus.NOT_FOUND, "no\n")
    return None


_EVENTS = {
    "on_init": "init",
    "on_transcript": "user_transcript",
    "on_close": "close",
    "on_disconnect": "disconnected",
    "on_error": "error",
}


async def converse(wire: Wire, agent: Obedient, **options: Any) -> None:
    """Answer with this package's session."""
    session = SpeechEngineSession(wire, **options)
    for name, handler in agent.callbacks.items():
        session.on(_EVENTS[name], partial(_with_session, handler, session))
    await session.run()


@attrs.frozen
class Fault:
    """What is wrong with a target.

    Args:
        admit: what answers the upgrade.
        incoming: made anew for each call; turns each message that comes into what is read.
        outgoing: made anew for each call; turns each frame that is to go into what goes.
        agent: the class of the handlers.
        converse: what runs a call.
        as_bytes: messages are read as bytes, whatever their frames say.
        first_fragments: only the first fragment of a message is read.
        silent: opcodes of control frames that are never sent.
        close_code: what the session's end closes with.
        extra: more arguments of the listener.
    """

    admit: Admit = admit
    incoming: Callable[[], Callable[[Data], list[Data]]] | None = None
    outgoing: Callable[[], Callable[[Frame], list[Frame | bytes]]] | None = None
    agent: type[Obedient] = Obedient
    converse: Converse = converse
    as_bytes: bool = False
    first_fragments: bool = False
    silent: tuple[Opcode, ...] = ()
    close_code: int = 1000
    extra: dict[str, Any] = attrs.field(factory=dict)


class Refused(Exception):
    """A message that a strict target closes the call at."""


class Wire:
    """A socket for a session, with the fault in it."""

    def __init__(self, ws: ServerConnection, fault: Fault) -> None:
        self.ws = ws
        self._fault = fault
        self._incoming = fault.incoming() if fault.incoming else lambda data: [data]
        self._outgoing = fault.outgoing() if fault.outgoing else None
        self._waiting: list[Data] = []

    async def recv(self) -> Data:
        while not self._waiting:
            try:
                self._waiting = self._incoming(await self._read())
            except Refused as refused:
                await self.ws.close(refused.args[0])
        return self._waiting.pop(0)

    async def send(self, data: str) -> None:
        frames = self._outgoing(json.loads(data)) if self._outgoing else [data]
        for frame in frames:
            await self.ws.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def close(self) -> None:
        await self.ws.close(self._fault.close_code)

    async def _read(self) -> Data:
        if not self._fault.first_fragments:
            return await self.ws.recv(decode=False if self._fault.as_bytes else None)
        fragments = [fragment async for fragment in self.ws.recv_streaming()]
        return fragments[0]


@asynccontextmanager
async def broken(fault: Fault) -> AsyncGenerator[str]:
    """Serve a target with this fault while the block runs; give its address."""
    listeners: list[Server] = []

    def process_request(ws: ServerConnection, request: Request) -> Response | None:
        return fault.admit(ws, request, listeners[0])

    async with anyio.create_task_group() as group:
        agent = fault.agent(group)

        async def handle(ws: ServerConnection) -> None:
            _silence(ws, fault.silent)
            await fault.converse(Wire(ws, fault), agent)

        options: dict[str, Any] = {"max_size": None, "close_timeout": 1, **fault.extra}
        async with serve(
            handle, "127.0.0.1", 0, process_request=process_request, **options
        ) as listener:
            listeners.append(listener)
            port = next(iter(listener.sockets)).getsockname()[1]
            yield f"ws://127.0.0.1:{port}/ws"
            listener.close()
        group.cancel_scope.cancel()


@asynccontextmanager
async def raw_listener(*, answers: bool) -> AsyncGenerator[str]:
    """Listen without ever answering; hang up on callers at once, or hold them."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            if not answers:
                with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield f"ws://127.0.0.1:{port}/ws"
        group.cancel_scope.cancel()


class HandMade:
    """A session as one might write it: no turn is ended, cut or told from another.

    Args:
        wire: the socket.
        captures: whether a reply keeps the id of its question, instead of the newest one.
    """

    def __init__(self, wire: Wire, *, captures: bool) -> None:
        self.conversation_id: str | None = None
        self._wire = wire
        self._captures = captures
        self._id: int | None = None
        self._ids: dict[int, int | None] = {}

    async def run(self, agent: Obedient, group: TaskGroup | None) -> None:
        """Read messages; their handlers run in a group, or one after another in the reader."""
        async for message in self._messages():
            match message.get("type"):
                case "init":
                    self.conversation_id = message["conversation_id"]
                    await agent.on_init(self.conversation_id, self)
                case "ping":
                    await self._write(type="pong")
                case "user_transcript":
                    self._id = message.get("event_id")
                    transcript = [Said(**item) for item in message["user_transcript"]]
                    if group is None:
                        await agent.on_transcript(transcript, self)
                    else:
                        group.start_soon(self._handle, agent, transcript, self._id)
        await agent.on_disconnect(self)

    async def send_response(self, response: Any) -> None:
        task = anyio.get_current_task().id
        id = self._ids.get(task, self._id) if self._captures else None
        pieces = response if isinstance(response, AsyncIterator) else _one(response)
        async for piece in pieces:
            await self._say(piece, False, id)
        await self._say("", True, id)

    def close(self) -> None:
        raise NotImplementedError

    async def _handle(self, agent: Obedient, transcript: list[Any], id: int | None) -> None:
        self._ids[anyio.get_current_task().id] = id
        try:
            await agent.on_transcript(transcript, self)
        except RuntimeError:
            return

    async def _say(self, text: str, is_final: bool, id: int | None) -> None:
        id = id if self._captures else self._id
        await self._write(type="agent_response", content=text, is_final=is_final, event_id=id)

    async def _write(self, **message: Any) -> None:
        await self._wire.send(json.dumps(message))

    async def _messages(self) -> AsyncGenerator[Frame]:
        while True:
            try:
                message = json.loads(await self._wire.recv())
            except ConnectionClosed:
                return
            except ValueError:
                continue
            yield message


@attrs.frozen
class Said:
    role: str
    content: str


def hand_made(*, captures: bool = False, parallel: bool = True) -> Converse:
    """Return what runs calls with `HandMade`."""

    async def run(wire: Wire, agent: Obedient) -> None:
        async def leave() -> None:
            await wire.ws.wait_closed()
            group.cancel_scope.cancel()

        session = HandMade(wire, captures=captures)
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            await session.run(agent, group if parallel else None)
            group.cancel_scope.cancel()

    return run


async def _with_session(handler: Any, session: Any, *arguments: Any) -> None:
    await handler(*arguments, session)


async def _one(text: str) -> AsyncGenerator[str]:
    yield text


def _silence(ws: ServerConnection, opcodes: tuple[Opcode, ...]) -> None:
    """Drop control frames of the library's own before they are written."""
    write = ws.protocol.send_frame

    def send_frame(frame: Any) -> None:
        if frame.opcode not in opcodes:
            write(frame)

    ws.protocol.send_frame = send_frame  # type: ignore[method-assign]
