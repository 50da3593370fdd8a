"""Speech Engine on asyncio, over the ``picows`` library (extra ``picows``): most calls per core.

picows' usual loop is uvloop; asyncio's own does as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import anyio

from speech_engine_proto import Limits

from ._cork import Cork
from ._socket import Request, Socket
from .server import SpeechEngineServer

try:
    from picows import (
        WSCloseCode,
        WSFrame,
        WSListener,
        WSMsgType,
        WSTransport,
        ws_connect,  # pyright: ignore[reportUnknownVariableType]
        ws_create_server,  # pyright: ignore[reportUnknownVariableType]
    )
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.picows needs picows: pip install 'speech-engine-proto[picows]'"
    ) from error

from ._picows_connections import (
    PicowsConnections,
    library_logger,
    request_of,
)
from ._upgrade import port_of

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections.abc import AsyncGenerator, Callable, Iterable
    from typing import TypeGuard

__all__ = ["Listener", "connect", "listen", "serve"]

KEEPALIVE: dict[str, Any] = {
    "enable_auto_ping": True,
    "auto_ping_idle_timeout": 20.0,
    "auto_ping_reply_timeout": 20.0,
}
"""Ping after 20 s of silence: an idle link was seen to be dropped (fact sheet 1.2)."""

CLOSE_SECONDS = 10.0
"""How long a peer may take to answer a close frame."""

FOREVER = 1e9
"""Seconds, for picows, which wants a number."""

OPEN_SECONDS = 10.0
"""For dialling and the upgrade, as the service's other end allows (fact sheet 1.6)."""

MAX_QUEUED = 16
"""Messages that wait for the session before reading pauses; a session reads at once."""


class Listener(Socket, WSListener):
    """A `Socket` that is also the listener picows wants: return it from the listener factory.

    picows shows a frame where it lies in its own read buffer, and hands out the fragments of a
    message one by one. Here they are copied, joined, and kept until the session asks for them.

    Args:
        opened: called with this listener when the WebSocket is open: the place to start a task
            that runs ``create_session(listener)``. A refused upgrade never gets there.
        limits: the longest message to accept.
        request: the upgrade request, where it is known; by default read from picows.
    """

    def __init__(
        self,
        opened: Callable[[Listener], object] | None = None,
        *,
        limits: Limits | None = None,
        request: Request | None = None,
    ) -> None:
        Socket.__init__(self, request)
        self._opened = opened
        self._max_bytes = (limits or Limits()).max_frame_bytes
        self._transport: WSTransport | None = None
        self._cork: Cork | None = None
        self._messages: deque[bytes] = deque()
        self._fragments: bytearray | None = None
        self._ended = self._reading_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Event | None = None

    @property
    def transport(self) -> WSTransport:
        """The connection, as picows has it.

        Raises:
            ConnectionError: it is not open yet.
        """
        if self._transport is None:
            raise ConnectionError("the WebSocket is not open yet")
        return self._transport

    @property
    def raw(self) -> asyncio.Transport:
        """The byte stream under it."""
        return self.transport.underlying_transport

    def read_request(self) -> Request:
        """Return the upgrade request, as picows has it."""
        return request_of(self.transport)

    async def recv(self) -> bytes | None:
        """Return the next message as bytes; None when the connection is closed."""
        while not self._messages:
            if self._ended:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        if self._reading_paused and len(self._messages) <= MAX_QUEUED // 2:
            self._pause_reading(False)
        return message

    async def send(self, frame: str) -> None:
        """Write one text frame; waits while the peer reads too slowly.

        The whole frame is with the transport before anything waits, so it may be cancelled.
        """
        transport = self._transport
        if not self._is_usable(transport):
            raise ConnectionError("the WebSocket is closed")
        if self._cork is not None and self._cork.takes():
            self._cork.add(_text_frame(frame.encode()))
        else:
            transport.send(WSMsgType.TEXT, frame)
        if self._writable is not None:
            await self._writable.wait()

    def try_send(self, frame: str) -> bool:
        """Write one text frame unless the transport's buffer is over its mark."""
        transport = self._transport
        if not self._is_usable(transport) or self._writable is not None:
            return False
        if self._cork is not None:
            self._cork.flush()
        transport.send(WSMsgType.TEXT, frame)
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; past the deadline the connection is dropped."""
        transport = self._transport
        if transport is None:
            return
        self._say_goodbye(code, reason)
        try:
            with anyio.move_on_after(CLOSE_SECONDS), suppress(Exception):
                await transport.wait_disconnected()  # raises what picows held against the peer
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the TCP connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the connection over. Called by picows."""
        self._transport = transport
        if not transport.is_client_side:  # a client's frames are masked: picows writes those
            self._cork = Cork(transport.underlying_transport)
        if self._opened is not None:
            self._opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame. Called by picows."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            code = cast("int", frame.get_close_code())
            self._say_goodbye(code or 1000, "")
            transport.disconnect()
        elif kind == WSMsgType.PONG or not self._is_usable(transport):
            pass  # picows goes on parsing for a moment after it has refused a frame
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._say_goodbye(1002, "reserved bits")
        elif (kind == WSMsgType.CONTINUATION) == (self._fragments is None):
            self._say_goodbye(1002, "a message within a message, or a fragment of none")
        else:
            self._take(frame.get_payload_as_bytes(), bool(frame.fin))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take note of the end. Called by picows."""
        self._end()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Let senders wait. Called by picows when the transport's buffer is over its mark."""
        if self._writable is None:
            self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Let senders go on. Called by picows when the transport's buffer has drained."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _take(self, payload: bytes, final: bool) -> None:
        joined = self._fragments
        if joined is None and final:
            self._queue(payload)
            return
        joined = bytearray() if joined is None else joined
        joined += payload
        self._fragments = None if final else joined
        if len(joined) > self._max_bytes:
            self._say_goodbye(1009, "message too big")
        elif final:
            self._queue(bytes(joined))

    def _queue(self, message: bytes) -> None:
        self._messages.append(message)
        self._wake()
        if len(self._messages) >= MAX_QUEUED:
            self._pause_reading(True)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _say_goodbye(self, code: int, reason: str) -> None:
        transport = self.transport
        if self._cork is not None:
            self._cork.flush()
        if not transport.is_close_frame_sent:
            # picows takes any code, and names some of them.
            transport.send_close(cast("WSCloseCode", code), reason)
        self._end()

    def _end(self) -> None:
        closing: Any = self.transport.close_handshake  # None before one, whatever its type says
        if closing is not None and closing.sent is not None and not closing.recv_then_sent:
            self.overflowed = closing.sent.code == WSCloseCode.MESSAGE_TOO_BIG
        self._ended = True
        self._fragments = None
        self._wake()
        self._pause_reading(False)  # or the answer to our close frame would not be seen

    def _pause_reading(self, paused: bool) -> None:
        raw = self.raw
        if paused == self._reading_paused or raw.is_closing():
            return
        self._reading_paused = paused
        if paused:
            raw.pause_reading()
        else:
            raw.resume_reading()

    def _is_usable(self, transport: WSTransport | None) -> TypeGuard[WSTransport]:
        return transport is not None and not self._ended and not transport.is_close_frame_sent


async def serve(**options: Any) -> None:
    """Listen until stopped or signalled; the options are those of `SpeechEngineServer`.

    Raises:
        RuntimeError: there is no API key and ``disable_auth`` is not set.
        OSError: the address cannot be listened on.
    """
    await SpeechEngineServer(transport="picows", **options).serve()


@asynccontextmanager
async def listen(server: SpeechEngineServer) -> AsyncGenerator[int]:
    """Listen for a server while the block runs, and yield the port.

    At the end every live connection is closed with 1001, and their sessions are waited for.
    """
    connections = PicowsConnections(server, Listener)
    listener = await ws_create_server(
        connections.answer,
        server.host,
        server.port,
        ssl=server.ssl,
        websocket_handshake_timeout=server.limits.handshake_timeout or FOREVER,
        max_frame_size=server.limits.max_frame_bytes,
        logger_name=library_logger,
        **KEEPALIVE,
    )
    try:
        yield port_of(listener.sockets)
    finally:
        listener.close()
        await connections.end()


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[Listener]:
    """Dial a server as the service does; the socket is closed when the block ends.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: pairs to send with the upgrade request, the token among them.
        ssl: a context for ``wss://``; by default the platform's certificates.
        limits: the longest message to accept.

    Raises:
        OSError: nobody listens there.
        picows.WSHandshakeError: the server refused the upgrade.
    """
    limits = limits or Limits()
    _, listener = await ws_connect(
        lambda _request, _response: Listener(limits=limits),
        url,
        ssl_context=ssl,
        extra_headers=list(headers),
        websocket_handshake_timeout=OPEN_SECONDS,
        max_frame_size=limits.max_frame_bytes,
        max_redirects=0,
        logger_name=library_logger,
        **KEEPALIVE,
    )
    socket = cast("Listener", listener)
    try:
        yield socket
    finally:
        await socket.close()


def _text_frame(payload: bytes) -> bytes:
    """Return a whole text message of a server as its one frame (RFC 6455, 5.2).

    picows writes each frame that it makes by a system call of its own, so the frames of a burst
    are made here.
    """
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + payload
    return b"\x81\x7f" + size.to_bytes(8) + payload
