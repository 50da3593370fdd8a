"""The reply to one turn, alive while it comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import anyio

from speech_engine_proto import ConversationMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ._errors import EngineError

__all__ = ["Heard", "History", "Reply", "read_so_far"]

Heard: TypeAlias = "Callable[[Reply], str]"
"""Tells what the caller has heard of a reply; asked when the caller speaks or hangs up."""


class Reply:
    """The agent's reply to one turn: read it while it comes, or wait for its end.

    ``async for piece in reply`` yields the pieces as they arrive and stops with the terminator or
    the interruption. What has been read in this way is what the caller has heard, unless the
    engine was given another ``heard``.
    """

    def __init__(
        self, event_id: int, transcript: tuple[ConversationMessage, ...], heard: Heard
    ) -> None:
        self._event_id = event_id
        self._transcript = transcript
        self._policy = heard
        self._pieces: list[str] = []
        self._size = 0
        self._read = 0
        self._asked_at = anyio.current_time()
        self._first_word_at: float | None = None
        self._ended_at: float | None = None
        self._finished = False
        self._heard: str | None = None
        self._error: EngineError | None = None
        self._changed = anyio.Event()
        self._attempts = 1

    @property
    def event_id(self) -> int:
        """The id of the turn; a re-send under a new id changes it."""
        return self._event_id

    @property
    def transcript(self) -> tuple[ConversationMessage, ...]:
        """The history that was sent with the question, the question last."""
        return self._transcript

    @property
    def attempts(self) -> int:
        """How often the question was sent."""
        return self._attempts

    @property
    def pieces(self) -> tuple[str, ...]:
        """All pieces that have arrived."""
        return tuple(self._pieces)

    @property
    def pieces_read(self) -> tuple[str, ...]:
        """The pieces that ``async for`` or `wait` has taken."""
        return tuple(self._pieces[: self._read])

    @property
    def text(self) -> str:
        """All text that has arrived."""
        return "".join(self._pieces)

    @property
    def heard(self) -> str:
        """What has been heard of it, and what the history keeps once the next turn begins."""
        return self._policy(self) if self._heard is None else self._heard

    @property
    def is_settled(self) -> bool:
        """Whether `heard` is for good, because the caller has spoken again or hung up."""
        return self._heard is not None

    @property
    def finished(self) -> bool:
        """Whether the terminator came."""
        return self._finished

    @property
    def interrupted(self) -> bool:
        """Whether the caller spoke, or hung up, before the end of it was heard."""
        if self._heard is None or self._error is not None:
            return False
        return not self._finished or self._heard != self.text

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come: finished, interrupted or failed."""
        return self._ended_at is not None

    @property
    def error(self) -> EngineError | None:
        """Why the reply failed; None where it did not."""
        return self._error

    @property
    def first_word_after(self) -> float | None:
        """Seconds from the question to the first piece; None where none came."""
        return None if self._first_word_at is None else self._first_word_at - self._asked_at

    @property
    def took(self) -> float | None:
        """Seconds from the question to the end of the reply; None while it is coming in."""
        return None if self._ended_at is None else self._ended_at - self._asked_at

    def __aiter__(self) -> AsyncIterator[str]:
        """Yield the pieces from the first one on, as they arrive.

        Raises:
            EngineError: the reply failed; `error` holds the same exception.
        """
        return _Pieces(self)

    async def wait(self) -> Reply:
        """Read the reply to its end and return it.

        Raises:
            EngineError: the reply failed.
        """
        async for _ in self:
            pass
        return self

    def __repr__(self) -> str:
        state = "over" if self.is_over else "coming in"
        return (
            f"<Reply {self._event_id} {state}: {len(self._pieces)} pieces, "
            f"finished={self._finished}, interrupted={self.interrupted}>"
        )

    # For the engine only.

    def add(self, piece: str) -> None:
        """Note a piece that came."""
        if self._first_word_at is None:
            self._first_word_at = anyio.current_time()
        self._pieces.append(piece)
        self._size += len(piece)
        self._wake()

    def finish(self) -> None:
        """Note the terminator."""
        self._finished = True
        self._end()

    def fail(self, error: EngineError) -> None:
        """Note that no more will come, and why."""
        self._error = error
        self._end()

    def settle(self) -> None:
        """Note that the caller spoke or hung up: what was heard until here is what is kept."""
        if self._heard is None:
            self._heard = self._policy(self)
            if not self.is_over:
                self._end()

    def ask_again(self, event_id: int) -> None:
        """Note a re-send."""
        self._attempts += 1
        self._event_id = event_id

    @property
    def count(self) -> int:
        """How many pieces have arrived."""
        return len(self._pieces)

    @property
    def size(self) -> int:
        """How many characters have arrived."""
        return self._size

    def is_beyond(self, pieces: int) -> bool:
        """Whether there are more than so many pieces, or the reply is over."""
        return len(self._pieces) > pieces or self.is_over

    async def wait_beyond(self, pieces: int) -> None:
        """Return once `is_beyond` holds."""
        while not self.is_beyond(pieces):
            await self._changed.wait()

    def read(self, index: int) -> str | None:
        """Take the piece with this number; None where there is none.

        After an interruption, what came and was not read will not be heard any more.
        """
        if index >= (self._read if self.interrupted else len(self._pieces)):
            return None
        self._read = max(self._read, index + 1)
        return self._pieces[index]

    def _end(self) -> None:
        self._ended_at = anyio.current_time()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def read_so_far(reply: Reply) -> str:
    """Take as heard what has been read of the reply: in a terminal, what has been shown."""
    return "".join(reply.pieces_read)


class History:
    """What was said and heard in a call, and its newest reply."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self._settled: list[ConversationMessage] = []

    @property
    def messages(self) -> tuple[ConversationMessage, ...]:
        """All messages; a reply that is still coming in is not among them."""
        reply = self.reply
        if reply is None or reply.is_settled or not reply.is_over:
            return tuple(self._settled)
        return (*self._settled, *_entries(reply))

    def settle(self) -> None:
        """Fix what was heard of the newest reply: the caller speaks, or hangs up."""
        reply = self.reply
        if reply is not None and not reply.is_settled:
            reply.settle()
            self._settled += _entries(reply)

    def ask(self, text: str) -> tuple[ConversationMessage, ...]:
        """Add what the caller says, and return all messages."""
        self.settle()
        self._settled.append(ConversationMessage("user", text))
        return tuple(self._settled)


def _entries(reply: Reply) -> list[ConversationMessage]:
    """The history's entry for a reply; none where nothing was heard."""
    return [ConversationMessage("agent", reply.heard)] if reply.heard else []


class _Pieces:
    """A place in a reply. No async generator: leaving the loop early leaves nothing to close."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._index = 0

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> str:
        reply = self._reply
        await reply.wait_beyond(self._index)
        piece = reply.read(self._index)
        if piece is None:
            if reply.error is not None:
                raise reply.error
            raise StopAsyncIteration
        self._index += 1
        return piece
