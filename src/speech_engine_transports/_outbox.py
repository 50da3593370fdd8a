"""Everything that a session writes goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec

import anyio

from speech_engine_proto import ConnectionClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup, TaskStatus

    from ._socket import Socket

__all__ = ["Outbox"]

P = ParamSpec("P")

MAX_UNSENT_PONGS = 16
"""Pongs that wait for a peer which pings and does not read, before the connection is dropped."""


class Outbox:
    """The writing side of one socket."""

    __slots__ = ("_pongs", "_socket", "_writing")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._pongs: list[str] = []
        self._writing = False

    async def write(self, verb: Callable[P, str], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make a frame and write it; where the socket needs a lock, the lock comes first.

        Raises:
            LocalProtocolError: the verb refused: the turn is over. Nothing was written.
            ConnectionClosedError: the socket is gone.
        """
        lock = self._socket.lock
        try:
            if lock is None:
                await self._socket.send(verb(*args, **kwargs))
            else:
                async with lock:
                    await self._socket.send(verb(*args, **kwargs))
        except ConnectionError as error:
            raise ConnectionClosedError("session is closed: the socket is gone") from error

    async def pong(self, frame: str, group: TaskGroup) -> None:
        """Write a pong, or hand it to a task: the reader, which calls this, waits for no write.

        A peer that stops reading would otherwise hide its own next transcript from us.
        """
        if not self._pongs and self._socket.try_send(frame):
            return
        if len(self._pongs) == MAX_UNSENT_PONGS:
            self._socket.abort()
            return
        self._pongs.append(frame)
        if not self._writing:
            self._writing = True
            await group.start(self._write_pongs)

    async def _write_pongs(
        self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        task_status.started()
        try:
            while self._pongs:
                await self.write(self._pongs.pop, 0)
        except ConnectionClosedError:
            self._pongs.clear()  # the reader will see the socket's end, and says so
        finally:
            self._writing = False
