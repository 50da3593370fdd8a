"""Speech Engine on asyncio, over the ``websockets`` library (extra ``asyncio``)."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from speech_engine_proto import Limits

from ._cork import CorkedTransport
from ._overflow import has_overflowed
from ._socket import Request, Socket
from .server import SpeechEngineServer

try:
    from websockets.asyncio.client import connect as _websockets_connect
    from websockets.asyncio.connection import Connection, broadcast
    from websockets.asyncio.server import ServerConnection
    from websockets.asyncio.server import serve as _websockets_serve
    from websockets.exceptions import ConnectionClosed
    from websockets.protocol import OPEN
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.asyncio needs websockets: "
        "pip install 'speech-engine-proto[asyncio]'"
    ) from error

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, Coroutine, Iterable

    from websockets.asyncio.server import Server
    from websockets.http11 import Request as HTTPRequest
    from websockets.http11 import Response

__all__ = ["WebsocketsSocket", "connect", "listen", "serve"]

KEEPALIVE_SECONDS = 20.0
"""Between WebSocket pings: an idle link was seen to be dropped without them (fact sheet 1.2)."""

_logger = logging.getLogger("speech_engine_transports.websockets")
_logger.setLevel(logging.INFO)  # below it, the library logs frames and headers: words and tokens


class WebsocketsSocket(Socket):
    """A `Socket` around a connection of ``websockets.asyncio``, accepted or dialled.

    A send that is cancelled while it waits for the peer has already put its whole frame into the
    transport's buffer, so no lock and no shield are needed.
    """

    def __init__(self, ws: Connection) -> None:
        super().__init__()
        self._ws = ws
        self._address = ws.remote_address  # a transport that is closed does not tell it any more
        self._corked: CorkedTransport | None = None

    def read_request(self) -> Request:
        """Return the upgrade request."""
        return _request_of(self._ws, self._address)

    async def recv(self) -> bytes | None:
        """Return the next message as bytes; None when the connection is closed."""
        try:
            return await self._ws.recv(decode=False)
        except ConnectionClosed as closed:
            self.overflowed = has_overflowed(closed)
            return None

    async def send(self, frame: str) -> None:
        """Write one text frame; waits while the peer reads too slowly.

        ``broadcast`` is the library's way to write without waiting, and without what that costs.
        """
        ws, transport = self._ws, self._corked or self._cork()
        transport.holding = True
        try:
            # A character has at most 4 bytes: this cannot fill the buffer, so nobody need wait.
            size = transport.get_write_buffer_size() + 4 * len(frame)
            if ws.state is OPEN and size <= transport.high:
                try:
                    broadcast((ws,), frame, raise_exceptions=True)
                except ExceptionGroup:
                    pass  # fragments of somebody else's message are under way: send() waits
                else:
                    return
            await ws.send(frame)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error
        finally:
            transport.holding = False

    def try_send(self, frame: str) -> bool:
        """Write one text frame unless the transport's buffer is over its mark."""
        transport = self._ws.transport
        if transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]:
            return False
        broadcast((self._ws,), frame)
        return True

    @property
    def closed_with(self) -> int | None:
        """The code that the connection was closed with; 1006 where that was without one."""
        return self._ws.close_code

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order, within the close timeout of the connection."""
        await self._ws.close(code, reason)

    def abort(self) -> None:
        """Drop the TCP connection."""
        self._ws.transport.abort()

    def _cork(self) -> CorkedTransport:
        """Put the cork in; a call that says nothing does without."""
        ws: Any = self._ws
        self._corked = ws.transport = CorkedTransport.around(ws.transport)
        return self._corked


async def serve(**options: Any) -> None:
    """Listen until stopped or signalled; the options are those of `SpeechEngineServer`.

    Raises:
        RuntimeError: there is no API key and ``disable_auth`` is not set.
        OSError: the address cannot be listened on.
    """
    await SpeechEngineServer(transport="asyncio", **options).serve()


@asynccontextmanager
async def listen(server: SpeechEngineServer) -> AsyncGenerator[int]:
    """Listen for a server while the block runs, and yield the port.

    At the end every live connection is closed with 1001, and their sessions are waited for.
    """

    async def check(ws: ServerConnection, request: HTTPRequest) -> Response | None:
        headers = list(request.headers.raw_items())
        refusal = await server.admit(_request_of(ws, ws.remote_address), headers)
        if refusal is None:
            return None
        response = ws.respond(refusal.status, refusal.body)
        del response.headers["Content-Type"]  # these headers keep what they are given twice
        response.headers["Content-Type"] = refusal.content_type
        return response

    def converse(ws: ServerConnection) -> Coroutine[Any, Any, None]:
        return server.converse(WebsocketsSocket(ws))

    tls: dict[str, Any] = {}
    if server.ssl is not None:
        tls["ssl_handshake_timeout"] = server.limits.handshake_timeout
    async with _websockets_serve(
        converse,
        server.host,
        server.port,
        process_request=check,
        ssl=server.ssl,
        compression=None,
        create_connection=_counting(server),
        open_timeout=None,
        **tls,
        max_size=server.limits.max_frame_bytes,
        ping_interval=KEEPALIVE_SECONDS,
        ping_timeout=KEEPALIVE_SECONDS,
        server_header=None,
        logger=_logger,
    ) as listener:
        yield _port_of(listener)


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[WebsocketsSocket]:
    """Dial a server as the service does; the socket is closed when the block ends.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: pairs to send with the upgrade request, the token among them.
        ssl: a context for ``wss://``; by default the platform's certificates.
        limits: the longest message to accept.

    Raises:
        OSError: nobody listens there.
        websockets.exceptions.InvalidStatus: the server refused the upgrade.
    """
    options: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
    async with _websockets_connect(
        url,
        additional_headers=list(headers),
        compression=None,
        max_size=(limits or Limits()).max_frame_bytes,
        ping_interval=KEEPALIVE_SECONDS,
        proxy=None,
        logger=_logger,
        **options,
    ) as ws:
        yield WebsocketsSocket(ws)


def _counting(server: SpeechEngineServer) -> type[ServerConnection]:
    """Return connections that tell a server of a handshake which takes too long."""

    class Counted(ServerConnection):
        async def handshake(self, *args: Any, **options: Any) -> None:
            deadline = asyncio.timeout(server.limits.handshake_timeout)
            try:
                async with deadline:
                    await super().handshake(*args, **options)
            except TimeoutError:
                if not deadline.expired():
                    raise
                if self.response is None:  # else it was refused in time, and lingers
                    server.exceed("handshake_timeout")
                self.transport.abort()

    return Counted


def _port_of(listener: Server) -> int:
    """Return the port; of several free ones, one per address family, that of IPv4."""
    sockets = sorted(listener.sockets, key=lambda each: each.family != socket.AF_INET)
    port: int = sockets[0].getsockname()[1]
    return port


def _request_of(ws: Connection, address: Any) -> Request:
    request: HTTPRequest | None = ws.request
    peer = str(address[0]) if address else None
    if request is None:
        return Request(peer=peer)
    return Request.from_target(request.path, request.headers.raw_items(), peer)
