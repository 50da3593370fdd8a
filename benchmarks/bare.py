"""The least that streams and can be interrupted, by hand on a bare library: a floor for latencies.

It knows no rule of the protocol: whatever comes last is answered, and what was answered before is
cancelled. What it takes to the first piece, the library, the loop and the handler's own stream
take; a session can only add to that.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .texts import PONG, reply_frame

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .talk import Talk

__all__ = ["BareCall"]

_PING_MARK = b'"ping"'
_TRANSCRIPT_MARK = b'"user_transcript"'
_TYPE_WITHIN = 40


class BareCall:
    """One call.

    Args:
        talk: what to say.
        write: writes a frame.
    """

    def __init__(self, talk: Talk, write: Callable[[str], Awaitable[None]]) -> None:
        self._talk = talk
        self._write = write
        self._turn: asyncio.Task[None] | None = None

    async def take(self, message: bytes, group: asyncio.TaskGroup) -> None:
        """Answer a message; a transcript in a task of the group."""
        head = message[:_TYPE_WITHIN]
        if _PING_MARK in head:
            await self._write(PONG)
        elif _TRANSCRIPT_MARK in head:
            if self._turn is not None:
                self._turn.cancel()
            self._turn = group.create_task(self._answer(json.loads(message)))

    async def _answer(self, body: dict[str, Any]) -> None:
        async def send_response(words: AsyncIterator[str]) -> None:
            async for word in words:
                await self._write(reply_frame(word, False, body["event_id"]))
            await self._write(reply_frame("", True, body["event_id"]))

        last = SimpleNamespace(content=body["user_transcript"][-1]["content"])
        await self._talk.answer([last], SimpleNamespace(send_response=send_response))
