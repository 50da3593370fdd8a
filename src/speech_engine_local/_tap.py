"""A socket that passes everything on, and tells what goes over it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from speech_engine_transports._socket import Socket

if TYPE_CHECKING:
    from ._journal import Direction

__all__ = ["TappedSocket"]


class TappedSocket(Socket):
    """Passes everything on to a socket; a subclass notes it.

    What is sent is noted before it is written: a reply to it cannot come earlier.

    Args:
        inner: the socket.
    """

    def __init__(self, inner: Socket) -> None:
        super().__init__(inner.request)
        self.lock = inner.lock
        self.gone = inner.gone
        self._inner = inner

    @abstractmethod
    def note(self, direction: Direction, message: str | bytes) -> None:
        """Hear of a frame."""

    def note_end(self) -> None:
        """Hear that nothing more will go over it; may be called more than once."""

    async def recv(self) -> str | bytes | None:
        """Return the next message; None when the socket has ended."""
        message = await self._inner.recv()
        if message is None:
            self.note_end()
            self.overflowed = self._inner.overflowed
        else:
            self.note("in", message)
        return message

    async def send(self, frame: str) -> None:
        """Write one text frame."""
        self.note("out", frame)
        await self._inner.send(frame)

    def try_send(self, frame: str) -> bool:
        """Write one text frame if that needs no waiting."""
        sent = self._inner.try_send(frame)
        if sent:
            self.note("out", frame)
        return sent

    @property
    def closed_with(self) -> int | None:
        """The code that the socket was closed with."""
        return self._inner.closed_with

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order."""
        self.note_end()
        await self._inner.close(code, reason)

    def abort(self) -> None:
        """Drop the connection."""
        self.note_end()
        self._inner.abort()
