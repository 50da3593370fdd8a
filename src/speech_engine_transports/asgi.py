"""Speech Engine under any ASGI server, on asyncio and on trio (extra ``asgi`` adds uvicorn).

An application of its own, or mounted in yours::

    app = speech_engine_transports.asgi.app(on_transcript=on_transcript)  # uvicorn module:app

or sessions in your own FastAPI and Starlette routes: see `create_session`.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from ._mounted import UPGRADE_REQUIRED, Mounted
from ._sigterm import drain_before_sigterm
from ._socket import Headers, Request, Socket
from .server import Refusal, SpeechEngineServer

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
    from contextlib import AbstractAsyncContextManager

    from speech_engine_proto import Limits

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = [
    "ASGIApp",
    "ASGISocket",
    "StarletteSocket",
    "app",
    "connect",
    "lifespan",
    "listen",
    "serve",
]

CLOSE_SECONDS = 10.0
"""For a close frame to get into the transport's buffer, where the peer reads nothing."""

KEEPALIVE_SECONDS = 20.0
"""Between WebSocket pings: an idle link was seen to be dropped without them (fact sheet 1.2)."""

logger = logging.getLogger("speech_engine_transports")


SENDS_WITHOUT_PAUSE = 16
"""After so many frames the other tasks get their turn, whatever the server's `send` does."""


class ASGISocket(Socket):
    """A `Socket` around an accepted ``websocket`` connection of ASGI.

    Args:
        scope: the connection's scope.
        receive: gives the next event.
        send: takes one.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(_request_of(scope))
        # A cancelled send leaves a whole frame or none under every server that was tried. But some
        # wait before they write, so the frames behind must wait as well, or one overtakes another.
        self.lock = self._writing = anyio.Lock(fast_acquire=True)
        self._receive = receive
        self._send = send
        self._sends = 0
        self._ended = False
        self._reading: anyio.CancelScope | None = None

    async def recv(self) -> str | bytes | None:
        """Return the next message, text or bytes; None when the connection is closed."""
        if self._ended:
            return None
        with anyio.CancelScope() as self._reading:
            message = await self._receive()
            if message["type"] == "websocket.receive":
                text: str | None = message.get("text")
                return message["bytes"] if text is None else text
        self._ended = True
        return None

    async def send(self, frame: str) -> None:
        """Write one text frame; waits while the peer reads too slowly."""
        if self._ended:
            raise ConnectionError("the connection is closed")
        try:
            await self._send({"type": "websocket.send", "text": frame})
        except Exception as error:
            # Each ASGI server raises a class of its own here, and Starlette a RuntimeError.
            raise ConnectionError(str(error)) from error
        # Some servers swallow what comes after the end, and never suspend in it: a handler that
        # only sends would keep the reader from seeing that end. Not each time: between a handler
        # and the socket nothing else suspends, and a short reply goes out in one step.
        self._sends += 1
        if self._sends % SENDS_WITHOUT_PAUSE == 0:
            await anyio.lowlevel.checkpoint()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order, unless the peer has; the server drops one that does not answer."""
        if self._ended:
            return
        with anyio.move_on_after(CLOSE_SECONDS):
            async with self._writing:
                try:
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                except Exception as error:
                    logger.debug("closing the socket: %s", type(error).__name__)

    def abort(self) -> None:
        """End the reading: ASGI has no such verb, and the server drops what is left.

        When that is, is the server's own choice: after its keepalive's timeout at the latest.
        """
        self._ended = True
        if self._reading is not None:
            self._reading.cancel()


class StarletteSocket(ASGISocket):
    """An `ASGISocket` around ``starlette.websockets.WebSocket``, accepted by the route."""

    def __init__(self, ws: Any) -> None:
        super().__init__(ws.scope, ws.receive, ws.send)
        self._ended = ws.client_state.name == "DISCONNECTED"


class ASGIApp:
    """An ASGI 3 application that answers calls; `app` makes one.

    Args:
        mounted: the server whose handlers and checks are used.
    """

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    @property
    def server(self) -> SpeechEngineServer:
        """The server behind it."""
        return self._mounted.server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection.

        Raises:
            RuntimeError: there is no API key, and no lifespan told so before.
        """
        match scope["type"]:
            case "websocket":
                await self._talk(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case _:
                await self._explain(scope, send)

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        refusal = await self._admit(scope)
        if refusal is not None:
            await _refuse_upgrade(scope, send, refusal)
            return
        await send({"type": "websocket.accept"})
        await self.server.converse(ASGISocket(scope, receive, send))

    async def _explain(self, scope: Scope, send: Send) -> None:
        refusal = await self._admit(scope) or Refusal(_UPGRADE, UPGRADE_REQUIRED)
        # HTTP/2 has no such header.
        by_header = refusal.status == _UPGRADE and scope["http_version"].startswith("1")
        headers = [(b"upgrade", b"websocket")] if by_header else []
        await _respond(send, "http.response", refusal, headers)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            self._mounted.prepare()
        except RuntimeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        async with lifespan(self.server):
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    async def _admit(self, scope: Scope) -> Refusal | None:
        self._mounted.prepare()
        return await self.server.admit(_request_of(scope), _pairs(scope))


def app(**options: Any) -> ASGIApp:
    """Make an ASGI application: for an ASGI server, or to mount in another application.

    The API key is read at startup, where the server or framework has a lifespan, else at the first
    request. At SIGTERM and at shutdown it drains, see `lifespan`.

    Args:
        options: those of `SpeechEngineServer`, except those of its listener. The length of a
            message and WebSocket pings are settings of the ASGI server.

    Raises:
        TypeError: an unknown option or callback.
    """
    return ASGIApp(Mounted.with_options(options))


@asynccontextmanager
async def lifespan(server: SpeechEngineServer) -> AsyncGenerator[None]:
    """Drain a server when the process that runs your application is told to end.

    `app` does this by itself where it gets a lifespan. An application of yours, with routes that
    use `SpeechEngineServer.handle_connection` or with `app` mounted in it, does it in its own::

        @asynccontextmanager
        async def lifespan(_: FastAPI):
            async with speech_engine_transports.asgi.lifespan(server):
                yield

    SIGTERM drains before the ASGI server hears of it, which under uvicorn would cut every call
    with 1012; ``handle_signals=False`` leaves the signal alone. The end of the block drains too.

    Args:
        server: drained within its ``drain_timeout``.
    """

    async def drain() -> None:
        await server.drain(server.drain_timeout)

    async with drain_before_sigterm(server.handle_signals, drain):
        yield
    await drain()


async def serve(**options: Any) -> None:
    """Listen with uvicorn until stopped or signalled; the options are `SpeechEngineServer`'s.

    Raises:
        RuntimeError: there is no API key and ``disable_auth`` is not set.
        OSError: the address cannot be listened on.
        ImportError: uvicorn is not installed.
    """
    await SpeechEngineServer(transport="asgi", **options).serve()


@asynccontextmanager
async def listen(server: SpeechEngineServer) -> AsyncGenerator[int]:
    """Listen for a server with uvicorn while the block runs, and yield the port.

    At the end every live connection is closed with 1001, and their sessions are waited for.
    """
    uvicorn = _import_uvicorn()
    config = uvicorn.Config(
        ASGIApp(Mounted(server, prepared=True)),
        lifespan="off",
        ws_max_size=server.limits.max_frame_bytes,
        ws_ping_interval=KEEPALIVE_SECONDS,
        ws_ping_timeout=KEEPALIVE_SECONDS,
        ws_per_message_deflate=False,
        log_config=None,
        log_level="info",  # below it, words and tokens are logged
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.load()
    config.ssl = server.ssl
    listener = uvicorn.Server(config)
    listener.lifespan = config.lifespan_class(config)
    bound = await anyio.create_tcp_listener(local_host=server.host, local_port=server.port)
    sockets = [each.extra(anyio.abc.SocketAttribute.raw_socket) for each in bound.listeners]
    await listener.startup(sockets=sockets)
    try:
        yield bound.extra(anyio.abc.SocketAttribute.local_port)
    finally:
        with anyio.CancelScope(shield=True):
            await server.close_all()
            await listener.shutdown(sockets=sockets)


def connect(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> AbstractAsyncContextManager[Socket]:
    """Dial a server as the service does: ASGI has no such side, `asyncio.connect` does it."""
    from .asyncio import connect

    return connect(url, headers=headers, ssl=ssl, limits=limits)


_UPGRADE = HTTPStatus.UPGRADE_REQUIRED


async def _refuse_upgrade(scope: Scope, send: Send, refusal: Refusal) -> None:
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _respond(send, "websocket.http.response", refusal)
        return
    status = refusal.status.value
    logger.info("refused with 403: this ASGI server cannot say %d", status)
    await send({"type": "websocket.close", "code": 1008})


async def _respond(
    send: Send, kind: str, refusal: Refusal, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    # No length: uvicorn 0.50 adds its own to a refused upgrade, and clients choke on two of them.
    fields = [(b"content-type", refusal.content_type.encode()), *headers]
    await send({"type": f"{kind}.start", "status": refusal.status.value, "headers": fields})
    await send({"type": f"{kind}.body", "body": refusal.body.encode()})


def _request_of(scope: Scope) -> Request:
    # Some servers give the raw path with its query, and some none.
    raw: bytes | None = scope.get("raw_path")
    path = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    query: bytes = scope.get("query_string", b"")
    client = scope.get("client")
    peer = str(client[0]) if client else None
    return Request(path, query.decode("latin-1"), Headers(_pairs(scope)), peer)


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _import_uvicorn() -> Any:
    try:
        import uvicorn
    except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
        raise ImportError(
            "speech_engine_transports.asgi.serve needs uvicorn: "
            "pip install 'speech-engine-proto[asgi]'"
        ) from error
    return uvicorn
