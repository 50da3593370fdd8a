"""Speech Engine on aiohttp (extra ``aiohttp``): a server of its own, or a route of yours.

::

    app = web.Application()
    speech_engine_transports.aiohttp.attach(app, "/ws", on_transcript=on_transcript)
    web.run_app(app, port=3001)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from speech_engine_proto import Limits

from ._cork import CorkedTransport
from ._mounted import UPGRADE_REQUIRED, Mounted
from ._socket import Request, Socket
from .server import Refusal, SpeechEngineServer

try:
    from aiohttp import (
        ClientSession,
        ClientWebSocketResponse,
        WebSocketError,
        WSCloseCode,
        WSMsgType,
        web,
    )
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.aiohttp needs aiohttp: pip install 'speech-engine-proto[aiohttp]'"
    ) from error

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, Awaitable, Iterable

__all__ = ["AiohttpSocket", "RequestHandler", "attach", "connect", "handler", "listen", "serve"]

KEEPALIVE_SECONDS = 20.0
"""Between WebSocket pings: an idle link was seen to be dropped without them (fact sheet 1.2)."""

OPEN_SECONDS = 10.0
"""For dialling and the upgrade, as the service's other end allows (fact sheet 1.6)."""

CLOSE_SECONDS = 10.0
"""For the closing handshake (fact sheet 1.6)."""

_ABNORMAL = 1006
"""What aiohttp notes as close code where the peer did not close in order (RFC 6455, 7.1.5)."""

# Text as bytes, where this aiohttp can (3.14): the core checks the UTF-8 and says where it breaks.
_DECODE: dict[str, Any] = (
    {"decode_text": False} if "decode_text" in signature(web.WebSocketResponse).parameters else {}
)


class RequestHandler(Protocol):
    """A request handler for your own routes, and the server behind it."""

    server: SpeechEngineServer

    def __call__(self, request: web.Request, /) -> Awaitable[web.StreamResponse]:
        """Answer a request: with a conversation, or with the reason why there is none."""
        ...


class AiohttpSocket(Socket):
    """A `Socket` around a WebSocket of aiohttp, accepted or dialled.

    aiohttp writes a frame before it waits for the peer, so a send that is cancelled leaves a whole
    frame. Only where you asked for compression may it wait first: then there is a lock.

    Raises:
        RuntimeError: the ``WebSocketResponse`` was not prepared.
    """

    def __init__(self, ws: web.WebSocketResponse[bool] | ClientWebSocketResponse[bool]) -> None:
        inner: Any = ws  # neither class tells its transport or its request in public
        if inner._writer is None:
            raise RuntimeError("ws: expected an open WebSocket; await ws.prepare(request) first")
        self._ws = ws
        self._transport = inner._writer.transport = CorkedTransport.around(inner._writer.transport)
        super().__init__()
        self._closing = asyncio.Lock()
        if ws.compress:
            self.lock = asyncio.Lock()

    def read_request(self) -> Request:
        """Return the upgrade request."""
        return _request_of(self._ws, self._transport)

    async def recv(self) -> str | bytes | None:
        """Return the next message; None when the connection is closed, or broken."""
        try:
            message = await self._ws.receive()
        except TimeoutError:  # of a ``receive_timeout`` that you set
            _ = self.request
            return None
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            return cast("str | bytes", message.data)
        _ = self.request  # the library forgets it
        error: object = message.data
        if isinstance(error, WebSocketError):
            self.overflowed = error.code == WSCloseCode.MESSAGE_TOO_BIG
        return None

    async def send(self, frame: str) -> None:
        """Write one text frame; waits while the peer reads too slowly.

        Every writer of a connection waits for one future. A writer that is cancelled would cancel
        it, and with it all the others: so it is awaited behind a shield.
        """
        if self.lock is not None:
            await self._ws.send_str(frame)
            return
        self._transport.holding = True
        try:
            drained = self._write(frame)
        finally:
            self._transport.holding = False
        if drained is not None:
            drained._asyncio_future_blocking = False  # taken from its task, as `asyncio.Task` does
            await asyncio.shield(drained)

    def try_send(self, frame: str) -> bool:
        """Write one text frame unless the transport still holds much of what came before."""
        low, _ = self._transport.get_write_buffer_limits()
        if self.lock is not None or self._transport.get_write_buffer_size() > low:
            return False
        try:
            self._write(frame)  # what it would wait for is the next frame's
        except ConnectionError:
            return False
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; drop the connection of a peer that does not do its part."""
        with anyio.move_on_after(CLOSE_SECONDS) as closing:
            # Whoever comes second waits: a handler that returns takes the connection with it.
            async with self._closing:
                try:
                    await self._ws.close(code=code, message=reason.encode())
                finally:
                    self._stop_heartbeat()
        if closing.cancelled_caught or self._ws.close_code == _ABNORMAL:
            self.abort()

    def abort(self) -> None:
        """Drop the TCP connection."""
        self._transport.abort()

    def _stop_heartbeat(self) -> None:
        """Let go of a WebSocket that is closed.

        The peer's answer to our close frame starts aiohttp's timer once more (seen in 3.14), and
        that keeps the connection's memory for half a minute.
        """
        inner: Any = self._ws  # the library does this where the peer closes first, in private
        inner._cancel_heartbeat()

    def _write(self, frame: str) -> Any:
        """Hand a frame to the transport; return the future that tells when more may follow."""
        writing = self._ws.send_str(frame)
        try:
            drained = writing.send(None)  # one step, and the frame is with the transport
        except StopIteration:
            return None
        writing.close()
        return drained


async def serve(**options: Any) -> None:
    """Listen until stopped or signalled; the options are those of `SpeechEngineServer`.

    Raises:
        RuntimeError: there is no API key and ``disable_auth`` is not set.
        OSError: the address cannot be listened on.
    """
    await SpeechEngineServer(transport="aiohttp", **options).serve()


@asynccontextmanager
async def listen(server: SpeechEngineServer) -> AsyncGenerator[int]:
    """Listen for a server while the block runs, and yield the port.

    At the end every live connection is closed with 1001, and their sessions are waited for.
    """
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _handler_of(Mounted(server, prepared=True)))

    async def close_all(_: web.Application) -> None:
        await server.close_all()

    app.on_shutdown.append(close_all)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, server.host, server.port, ssl_context=server.ssl).start()
        yield _port_of(runner)
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def handler(**options: Any) -> RequestHandler:
    """Make a request handler for a route of your own.

    End its conversations when your application shuts down, or use `attach`, which does::

        talk = handler(on_transcript=on_transcript)
        app.router.add_get("/ws/{tenant}", talk)
        app.on_shutdown.append(lambda app: talk.server.drain(25))

    Args:
        options: those of `SpeechEngineServer`, except those of its listener. The API key is read
            at the first request. Without ``path`` every route to it counts.

    Raises:
        TypeError: an unknown option or callback.
    """
    return _handler_of(Mounted.with_options(options))


def attach(app: web.Application, path: str, **options: Any) -> SpeechEngineServer:
    """Add a route for conversations to an application that does not run yet.

    The API key is read when the application starts. When it shuts down, replies in flight end and
    every conversation is closed with 1001, see `SpeechEngineServer.drain`; aiohttp has closed its
    listener by then. Add `SpeechEngineServer.health` to a route of yours if something asks for it.

    Args:
        app: your application.
        path: the route, in aiohttp's own syntax (``"/ws"``, ``"/ws/{tenant}"``).
        options: those of `SpeechEngineServer`, except those of its listener.

    Raises:
        TypeError: an unknown option or callback.
    """
    mounted = Mounted.with_options(options)

    async def prepare(_: web.Application) -> None:
        mounted.prepare()

    app.router.add_get(path, _handler_of(mounted), allow_head=False)

    async def drain(_: web.Application) -> None:
        await mounted.server.drain(mounted.server.drain_timeout)

    app.on_startup.append(prepare)
    app.on_shutdown.append(drain)
    return mounted.server


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[AiohttpSocket]:
    """Dial a server as the service does; the socket is closed when the block ends.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: pairs to send with the upgrade request, the token among them.
        ssl: a context for ``wss://``; by default the platform's certificates.
        limits: the longest message to accept.

    Raises:
        OSError: nobody listens there, or it does not answer in 10 s (``TimeoutError``).
        aiohttp.WSServerHandshakeError: the server refused the upgrade.
    """
    async with ClientSession() as client:
        dial: Any = client.ws_connect  # its type differs from version to version
        options = _options(limits or Limits())
        with anyio.fail_after(OPEN_SECONDS):
            ws = await dial(url, headers=list(headers), ssl=ssl or True, **options)
        socket = AiohttpSocket(ws)
        try:
            yield socket
        finally:
            await socket.close()


def _handler_of(mounted: Mounted) -> RequestHandler:
    server = mounted.server

    async def talk(request: web.Request) -> web.StreamResponse:
        mounted.prepare()
        ours = _to_request(request)
        deadline = asyncio.timeout(server.limits.handshake_timeout)
        try:
            async with deadline:
                refusal = await server.admit(ours, request.headers.items())
        except TimeoutError:
            if not deadline.expired():
                raise
            server.exceed("handshake_timeout")
            refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "no decision in time\n")
        if refusal is not None:
            return _refuse(refusal)
        if request.headers.get("Upgrade", "").strip().lower() != "websocket":
            required = Refusal(HTTPStatus.UPGRADE_REQUIRED, UPGRADE_REQUIRED)
            return _refuse(required, Upgrade="websocket")
        ws = web.WebSocketResponse(**_options(server.limits))
        await ws.prepare(request)
        await server.converse(AiohttpSocket(ws))
        return ws

    # aiohttp wants a coroutine function, which no instance with __call__ is before Python 3.12.
    made = cast("RequestHandler", talk)
    made.server = server
    return made


def _options(limits: Limits) -> dict[str, Any]:
    """Return what both ends of a WebSocket are opened with."""
    # aiohttp refuses a message as long as its limit, too.
    longest = limits.max_frame_bytes + 1
    return {
        "heartbeat": KEEPALIVE_SECONDS,
        "compress": 0,
        "max_msg_size": longest,
        **_DECODE,
    }


def _refuse(refusal: Refusal, **headers: str) -> web.Response:
    """Answer, and close the connection after it: a refused peer keeps no socket of ours."""
    headers["Content-Type"] = refusal.content_type
    response = web.Response(status=refusal.status, body=refusal.body.encode(), headers=headers)
    response.force_close()
    return response


def _port_of(runner: web.AppRunner) -> int:
    """Return the port; of several free ones, one per address family, that of IPv4."""
    return int(min(runner.addresses, key=len)[1])


def _to_request(request: web.BaseRequest) -> Request:
    return Request.from_target(request.raw_path, request.headers.items(), request.remote)


def _request_of(ws: Any, transport: CorkedTransport) -> Request:
    request: web.BaseRequest | None = getattr(ws, "_req", None)
    if request is not None:
        return _to_request(request)
    info = ws._response.request_info
    address = transport.get_extra_info("peername")
    peer = str(address[0]) if address else None
    return Request.from_target(info.url.raw_path_qs, info.headers.items(), peer)
