"""Everything that a session writes goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from speech_engine_proto import ConnectionClosedError, LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._groups import Group
    from ._socket import Socket

__all__ = ["Outbox"]

T = TypeVar("T")

MAX_UNSENT_PONGS = 16
"""Pongs that wait for a peer which pings and does not read, before the connection is dropped."""


class Outbox:
    """The writing side of one socket.

    Args:
        socket: the socket.
        ponged: called when a pong is written.
    """

    __slots__ = ("_ponged", "_pongs", "_socket", "_writing", "begun", "ended")

    def __init__(self, socket: Socket, ponged: Callable[[], None] | None = None) -> None:
        self._socket = socket
        self._ponged = ponged
        self._pongs: list[str] = []
        self._writing = False
        self.begun = 0
        """Writes that have begun."""
        self.ended = 0
        """Writes that have been; whoever looks twice sees whether the socket moves."""

    def writer(self, verb: Callable[[T], str]) -> Callable[[T], Coroutine[Any, Any, None]]:
        """Return what makes a frame and writes it; where the socket needs a lock, that comes first.

        What is returned raises:
            LocalProtocolError: the verb refused: the turn is over. Nothing was written.
            ConnectionClosedError: the socket is gone.
        """
        send, lock, gone = self._socket.send, self._socket.lock, self._socket.gone

        async def write(argument: T) -> None:
            self.begun += 1
            try:
                if lock is None:
                    await send(verb(argument))
                else:
                    async with lock:
                        await send(verb(argument))
            except LocalProtocolError:
                raise
            except gone as error:
                raise ConnectionClosedError("session is closed: the socket is gone") from error
            finally:
                self.ended += 1

        return write

    async def pong(self, frame: str, group: Group) -> None:
        """Write a pong, or hand it to a task: the reader, which calls this, waits for no write.

        A peer that stops reading would otherwise hide its own next transcript from us.
        """
        if not self._pongs and self._socket.try_send(frame):
            if self._ponged is not None:
                self._ponged()
            return
        if len(self._pongs) == MAX_UNSENT_PONGS:
            self._socket.abort()
            return
        self._pongs.append(frame)
        if not self._writing:
            self._writing = True
            await group.start(self._write_pongs)

    async def _write_pongs(self) -> None:
        write = self.writer(self._pongs.pop)
        try:
            while self._pongs:
                await write(0)
                if self._ponged is not None:
                    self._ponged()
        except ConnectionClosedError:
            self._pongs.clear()  # the reader will see the socket's end, and says so
        finally:
            self._writing = False
