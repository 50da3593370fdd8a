"""The servers that are compared: ours on each library, the official SDK's, the bare libraries'.

All of them talk alike (see `talk`), and those that share a library listen with the same settings
of it. Only ``official`` listens as the SDK's own ``serve`` does.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from contextlib import asynccontextmanager
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from .bare import BareCall
from .texts import PONG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from .talk import Talk

__all__ = ["HOST", "MAX_FRAME_BYTES", "SERVERS", "Kind"]

HOST = "127.0.0.1"
KEEPALIVE_SECONDS = 20.0
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_SESSIONS = 20_000

_PING_MARK = b'"ping"'
_TRANSCRIPT_MARK = b'"user_transcript"'
_TYPE_WITHIN = 40
"""The type stands within the first bytes of each of our frames."""

_TRIES = 1000

Kind = str
"""A key of `SERVERS`: ``ours-``, ``raw-`` and ``bare-`` a library; the two of the official SDK."""


@asynccontextmanager
async def _ours(transport: str, talk: Talk) -> AsyncGenerator[int]:
    from speech_engine_transports.limits import Limits
    from speech_engine_transports.server import SpeechEngineServer

    warnings.simplefilter("ignore", UserWarning)  # no token is verified here, on purpose
    async with SpeechEngineServer(
        host=HOST,
        port=0,
        transport=transport,
        disable_auth=True,
        limits=Limits(max_sessions=MAX_SESSIONS),
        on_transcript=talk.answer,
        on_close=talk.end,
    ) as server:
        yield server.port


@asynccontextmanager
async def _official(talk: Talk) -> AsyncGenerator[int]:
    """Serve as ``SpeechEngineServer.serve`` does: its listener, its settings."""
    server = _official_server(talk, port=(port := _free_port()))
    warnings.simplefilter("ignore", UserWarning)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        await _until_open(port)
        yield port
        await server.stop()


@asynccontextmanager
async def _official_session(talk: Talk) -> AsyncGenerator[int]:
    """Run the official session on the listener that ours and the bare library have."""
    server = _official_server(talk)

    async def converse(ws: Any) -> None:
        await server.handle_connection(ws).run()

    async with _listen(converse) as port:
        yield port


def _official_server(talk: Talk, **options: Any) -> Any:
    from elevenlabs.speech_engine import SpeechEngineServer

    return SpeechEngineServer(
        disable_auth=True, on_transcript=talk.answer, on_close=talk.end, **options
    )


@asynccontextmanager
async def _raw_websockets(talk: Talk) -> AsyncGenerator[int]:
    from websockets.exceptions import ConnectionClosed

    frames = talk.frames()

    async def converse(ws: Any) -> None:
        try:
            while True:  # nothing is kept of a message while the next one is waited for
                await _react(await ws.recv(decode=False), ws.send, frames)
        except ConnectionClosed:
            pass

    async with _listen(converse) as port:
        yield port


@asynccontextmanager
async def _bare_websockets(talk: Talk) -> AsyncGenerator[int]:
    from websockets.exceptions import ConnectionClosed

    async def converse(ws: Any) -> None:
        call = BareCall(talk, ws.send)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await call.take(await ws.recv(decode=False), group)
        except* ConnectionClosed:
            pass  # its tasks are cancelled with the group

    async with _listen(converse) as port:
        yield port


@asynccontextmanager
async def _listen(converse: Callable[[Any], Any]) -> AsyncGenerator[int]:
    from websockets.asyncio.server import serve

    async with serve(
        converse,
        HOST,
        0,
        compression=None,
        max_size=MAX_FRAME_BYTES,
        ping_interval=KEEPALIVE_SECONDS,
        ping_timeout=KEEPALIVE_SECONDS,
        server_header=None,
    ) as listener:
        yield next(iter(listener.sockets)).getsockname()[1]


@asynccontextmanager
async def _raw_aiohttp(talk: Talk) -> AsyncGenerator[int]:
    from aiohttp import WSMsgType, web

    frames = talk.frames()
    knows = signature(web.WebSocketResponse).parameters
    options: dict[str, Any] = {"decode_text": False} if "decode_text" in knows else {}

    async def converse(request: web.Request) -> web.WebSocketResponse[bool]:
        ws = web.WebSocketResponse(
            heartbeat=KEEPALIVE_SECONDS, compress=False, max_msg_size=MAX_FRAME_BYTES, **options
        )
        await ws.prepare(request)
        while True:
            message = await ws.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return cast("web.WebSocketResponse[bool]", ws)
            await _react(_as_bytes(message.data), ws.send_str, frames)

    app = web.Application()
    app.router.add_get("/", converse)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _raw_picows(talk: Talk) -> AsyncGenerator[int]:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    frames = talk.frames()

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()
                return
            for reply in _replies(frame.get_payload_as_bytes(), frames):
                transport.send(WSMsgType.TEXT, reply)

    listener = await ws_create_server(
        lambda _: Listener(),
        HOST,
        0,
        max_frame_size=MAX_FRAME_BYTES,
        enable_auto_ping=True,
        auto_ping_idle_timeout=KEEPALIVE_SECONDS,
        auto_ping_reply_timeout=KEEPALIVE_SECONDS,
    )
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


async def _react(message: bytes, send: Callable[[str], Awaitable[None]], frames: list[str]) -> None:
    for frame in _replies(message, frames):
        await send(frame)


def _replies(message: bytes, frames: list[str]) -> list[str] | tuple[str, ...]:
    head = message[:_TYPE_WITHIN]
    if _PING_MARK in head:
        return (PONG,)
    return frames if _TRANSCRIPT_MARK in head else ()


def _as_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _until_open(port: int) -> None:
    """Return when somebody listens; the official server has no event that says so."""
    for _ in range(_TRIES):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise RuntimeError(f"port {port}: nobody listens")


SERVERS: dict[Kind, Callable[[Talk], AbstractAsyncContextManager[int]]] = {
    **{
        f"ours-{transport}": partial(_ours, transport)
        for transport in ("asyncio", "aiohttp", "picows", "trio")
    },
    "official": _official,
    "official-session": _official_session,
    "raw-asyncio": _raw_websockets,
    "bare-asyncio": _bare_websockets,
    "raw-aiohttp": _raw_aiohttp,
    "raw-picows": _raw_picows,
}
