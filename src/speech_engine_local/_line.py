"""The caller's end of a line: writing on it, and hanging up."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from speech_engine_proto import EngineConnection
    from speech_engine_transports._socket import Socket

__all__ = ["hang_up", "write"]

LEAVE_SECONDS = 1.0
"""How long the server has to close the socket after ``close``, which the official TypeScript SDK
leaves to the service (fact sheet 1.3), and then to answer ours."""


async def write(socket: Socket, frame: str) -> None:
    """Write a frame. A socket that is gone is the reader's to report."""
    async with socket.lock or nullcontext():
        with suppress(ConnectionError):
            await socket.send(frame)


async def hang_up(socket: Socket, conn: EngineConnection, ended: anyio.Event) -> None:
    """End a call: the ``close`` message, then the end of the socket; takes 2 s at most.

    Args:
        socket: to the server.
        conn: the conversation on it.
        ended: set by whoever reads the socket, at its end.
    """
    with anyio.move_on_after(LEAVE_SECONDS):
        if conn.is_open:
            await write(socket, conn.send_close())
        await ended.wait()
    with anyio.move_on_after(LEAVE_SECONDS):
        await socket.close()
    if not ended.is_set():
        socket.abort()
