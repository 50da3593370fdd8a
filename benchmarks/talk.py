"""What the measured servers say, and what they note of it: the same handler for all sessions."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import attrs

from .texts import PIECES, reply_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Order", "Talk"]


@attrs.frozen
class Order:
    """What the caller's last message asks of the server, and when it was sent.

    Args:
        pieces: how many pieces to answer with.
        pause: seconds from one piece to the next; 0 says them all at once.
        call: which call this is.
        turn: which turn of it; the one before it is what this one interrupts.
        sent: when the transcript was sent, in nanoseconds of the system's monotonic clock; 0 asks
            for no note of the turn's end.
    """

    pieces: int
    pause: float
    call: int = 0
    turn: int = 0
    sent: int = 0

    def as_text(self) -> str:
        """Return it as the content of a message."""
        return json.dumps(attrs.astuple(self))

    @classmethod
    def from_text(cls, text: str) -> Order | None:
        """Return what a message says; None where it is ordinary talk."""
        return cls(*json.loads(text)) if text.startswith("[") else None


@attrs.define
class Talk:
    """The handlers of every measured session.

    Args:
        pieces: how many pieces answer a transcript that says nothing of it.
        pause: seconds between them.
        one_by_one: let the loop turn before each piece, as a stream from a network does.
    """

    pieces: int
    pause: float
    one_by_one: bool
    ended: int = attrs.field(default=0, init=False)
    """Conversations whose end was told to ``on_close``."""
    _sent: dict[tuple[int, int], int] = attrs.field(factory=dict[tuple[int, int], int], init=False)
    _over: dict[tuple[int, int], int] = attrs.field(factory=dict[tuple[int, int], int], init=False)

    def frames(self) -> list[str]:
        """Return the frames of a whole reply, made beforehand."""
        words = itertools.islice(itertools.cycle(PIECES), self.pieces)
        return [*(reply_frame(word, False, 1) for word in words), reply_frame("", True, 1)]

    async def answer(self, transcript: Any, session: Any) -> None:
        """Answer a transcript: ``on_transcript``."""
        order = Order.from_text(transcript[-1].content) or Order(self.pieces, self.pause)
        if not order.sent:
            await session.send_response(self._words(order))
            return
        self._sent[order.call, order.turn] = order.sent
        try:
            await session.send_response(self._words(order))
        finally:
            self._note_end(order)

    def end(self, _: object) -> None:
        """Count an ended conversation: ``on_close``."""
        self.ended += 1

    def interruptions(self) -> list[int]:
        """Return, for each interrupted turn, the nanoseconds from the send to the end of it all.

        They begin where the caller sent the newer transcript, and end where both the stream is
        closed and the handler has ended.
        """
        return [
            over - self._sent[call, turn + 1]
            for (call, turn), over in self._over.items()
            if (call, turn + 1) in self._sent
        ]

    def _note_end(self, order: Order) -> None:
        self._over[order.call, order.turn] = time.monotonic_ns()

    async def _words(self, order: Order) -> AsyncGenerator[str]:
        """Yield pieces at a steady pace: a late one does not make the next ones late."""
        try:
            due = time.monotonic()
            for word in itertools.islice(itertools.cycle(PIECES), order.pieces):
                if self.one_by_one:
                    await asyncio.sleep(0)
                yield word
                if order.pause:
                    due += order.pause
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            if order.sent:
                self._note_end(order)  # the handler's own end may come before or after
