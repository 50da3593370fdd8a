"""What the two WebSocket libraries of trio have in common; websockets' one is whole here."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import trio

from ._overflow import has_overflowed
from ._socket import Request, Socket

if TYPE_CHECKING:
    from websockets.trio.connection import Connection

__all__ = [
    "CLOSE_SECONDS",
    "WRITE_SECONDS",
    "TrioSocketBase",
    "WebsocketsTrioSocket",
    "tcp_stream",
]

WRITE_SECONDS = 10.0
"""How long a peer may leave one write unread before the connection is dropped."""

CLOSE_SECONDS = 10.0
"""How long a peer may take to answer a close frame."""


class TrioSocketBase(Socket):
    """A `Socket` on trio: a write, once begun, is not cut off by whoever cancels its task.

    trio cancels at the socket: half of a frame would be on the wire, and the next message would
    land inside its payload. So a write is shielded, and the shield has a deadline: past it the
    stream is dropped, and with it the half frame.

    The lock is taken before a frame is made, for the libraries wait for locks of their own after
    that, and a word could turn stale in the queue.
    """

    def __init__(self, request: Request, stream: object) -> None:
        super().__init__(request)
        self.lock = trio.StrictFIFOLock()
        self._stream = stream

    async def send(self, frame: str) -> None:
        """Write one text frame, whole or, where the peer has stopped reading, never again."""
        await trio.lowlevel.checkpoint_if_cancelled()  # the shield would hide it from a loop
        with trio.move_on_after(WRITE_SECONDS, shield=True) as scope:
            await self._write(frame)
        if scope.cancelled_caught:
            self.abort()
            raise ConnectionError(f"the peer has not read for {WRITE_SECONDS:g} s")

    @abstractmethod
    async def _write(self, frame: str) -> None:
        """Write one text frame; ConnectionError where the socket is gone."""

    def abort(self) -> None:
        """Drop the TCP connection; whoever waits for it wakes up."""
        stream = tcp_stream(self._stream)
        if stream is not None:
            stream.socket.close()


class WebsocketsTrioSocket(TrioSocketBase):
    """A `Socket` around a connection of ``websockets.trio``, accepted or dialled."""

    def __init__(self, ws: Connection) -> None:
        super().__init__(_request_of(ws), ws.stream)
        self._ws = ws

    async def recv(self) -> bytes | None:
        """Return the next message as bytes; None when the connection is closed."""
        from websockets.exceptions import ConnectionClosed

        try:
            return await self._ws.recv(decode=False)
        except ConnectionClosed as closed:
            self.overflowed = has_overflowed(closed)
            return None

    async def _write(self, frame: str) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._ws.send(frame)
        except ConnectionClosed as error:
            raise ConnectionError(str(error)) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; past the deadline the connection is dropped."""
        with trio.move_on_after(CLOSE_SECONDS):
            await self._ws.aclose(code, reason)


def tcp_stream(stream: object) -> trio.SocketStream | None:
    """Return the TCP stream under a stream; None where there is none."""
    inner: Any = stream
    while isinstance(inner, trio.SSLStream):
        inner = inner.transport_stream  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return inner if isinstance(inner, trio.SocketStream) else None  # pyright: ignore[reportUnknownVariableType]


def _request_of(ws: Connection) -> Request:
    address = ws.remote_address
    peer = str(address[0]) if address else None
    if ws.request is None:
        return Request(peer=peer)
    return Request.from_target(ws.request.path, ws.request.headers.raw_items(), peer)
