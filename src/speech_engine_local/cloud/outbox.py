"""The writing side of a client's socket: one task writes, whoever has a frame leaves it here."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio
import attrs

if TYPE_CHECKING:
    from speech_engine_transports._socket import Socket

__all__ = ["Outbox"]

BACKLOG_SECONDS = 10.0
"""How long a client may leave a frame unread, as a session allows (`Limits.backlog_timeout`)."""

MAX_WAITING = 1_000
"""Frames that may wait: a client that is sent to and does not read, before its time is up."""


@attrs.define(eq=False)
class _Entry:
    frame: str
    owner: object
    written: anyio.Event = attrs.field(factory=anyio.Event)


class Outbox:
    """Writes frames to a client in the order in which they came.

    Args:
        link: the client's socket; nobody else writes to it.
    """

    def __init__(self, link: Socket) -> None:
        self.ended = anyio.Event()
        self._link = link
        self._waiting: deque[_Entry] = deque()
        self._changed = anyio.Event()
        self._closing = False
        self._writing = False

    async def run(self) -> None:
        """Write until `close`, or until the client is gone: then ``ended`` is set.

        A client that does not read is cut off; its reader sees the end of the socket.
        """
        try:
            while await self._wait():
                entry = self._waiting.popleft()
                self._writing = True
                with anyio.move_on_after(BACKLOG_SECONDS) as patience:
                    await self._link.send(entry.frame)
                if patience.cancelled_caught:
                    self._link.abort()
                    return
                self._writing = False
                entry.written.set()
        except ConnectionError:
            pass
        finally:
            self.ended.set()

    def post(self, frame: str, owner: object = None) -> _Entry:
        """Write a frame at once where that needs no waiting, else leave it; never waits.

        Args:
            frame: the text.
            owner: whose frame it is, for `drop`.
        """
        entry = _Entry(frame, owner)
        if self._is_idle and self._link.try_send(frame):
            entry.written.set()
        elif len(self._waiting) >= MAX_WAITING:
            self._link.abort()
        else:
            self._waiting.append(entry)
            self._notify()
        return entry

    async def send(self, frame: str, owner: object = None) -> None:
        """Leave a frame, and wait until it has been written. A client that is gone waits on."""
        await self.post(frame, owner).written.wait()

    def drop(self, owner: object) -> None:
        """Take back what somebody left and has not been begun."""
        self._waiting = deque(entry for entry in self._waiting if entry.owner is not owner)

    def close(self) -> None:
        """Let `run` return once everything is written."""
        self._closing = True
        self._notify()

    @property
    def _is_idle(self) -> bool:
        return not self._waiting and not self._writing and not self.ended.is_set()

    async def _wait(self) -> bool:
        """Wait for a frame; False where there will be none."""
        while not self._waiting:
            if self._closing:
                return False
            await self._changed.wait()
        return True

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
