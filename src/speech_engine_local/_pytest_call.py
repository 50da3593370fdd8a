"""The caller's end of a call, as a test has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from ._errors import ConversationOverError, EngineError
from ._pytest_story import Story

if TYPE_CHECKING:
    from speech_engine_proto import ConversationMessage

    from ._errors import Violation
    from ._reply import Reply
    from .engine import LocalEngine

__all__ = ["Call"]


class Call:
    """A call to your agent, which has begun when the test does.

    ::

        async def test_booking(call):
            reply = await call.say("book a table")
            assert "which day" in reply.text
            assert reply.first_word_after < 1

    What you read of a reply is what you have heard of it: `say` and `interrupt` hear all of it,
    `listen` as much as you like. The rest is cut from the history when you speak again.
    """

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        """What the agent's handlers raised, in order; empty for an agent at a URL."""
        self._story = Story()
        self._engine: LocalEngine | None = None
        self._told: set[str] = set()
        self._hung_up = False

    async def say(self, text: str) -> Reply:
        """Say something, and hear the whole reply.

        Raises:
            EngineError: no whole reply came; `ConversationOverError` where the call had ended.
        """
        __tracebackhide__ = True
        return await self._hear(await self._ask(text, "say"))

    async def ask(self, text: str) -> Reply:
        """Say something, and return the reply while it is still to come.

        Raises:
            ConversationOverError: the call has ended.
        """
        __tracebackhide__ = True
        return await self._ask(text, "ask")

    async def interrupt(self, text: str) -> Reply:
        """Speak into the reply that runs, and hear the whole reply to that.

        Raises:
            ValueError: no reply runs, or all of it has been heard.
            EngineError: no whole reply came; `ConversationOverError` where the call had ended.
        """
        __tracebackhide__ = True
        engine = self._open("interrupt")
        running = engine.reply
        try:
            reply = await engine.interrupt(text)
        except ValueError:
            raise ValueError(
                "call.interrupt: expected a reply that is being heard, got none; say() hears a "
                "reply to its end, ask() and listen() leave something to interrupt"
            ) from None
        self._story.asked(text, reply, running)
        return await self._hear(reply)

    async def listen(self, *, pieces: float = math.inf, seconds: float = math.inf) -> Reply:
        """Hear more of the reply that runs, and return it; by default all of it.

        Args:
            pieces: how many more pieces to hear.
            seconds: how long to listen.

        Raises:
            ValueError: there is no reply.
            EngineError: the reply failed.
        """
        __tracebackhide__ = True
        reply = self.reply
        if reply is None:
            raise ValueError("call.listen: expected a reply to listen to; ask() comes first")
        with anyio.move_on_after(seconds):
            await self._hear(reply, len(reply.pieces_read) + pieces)
        return reply

    async def greet(self, text: str) -> Reply:
        """Let the service say its first message, and hear it: the agent meets it in the history.

        Raises:
            ValueError: something was said before.
            ConversationOverError: the call has ended.
        """
        __tracebackhide__ = True
        reply = self._open("greet").greet(text)
        self._story.greeted(reply)
        return await self._hear(reply)

    async def pause(self, seconds: float) -> None:
        """Do nothing for so long: in virtual time nobody waits for it."""
        await anyio.sleep(seconds)

    async def ping(self) -> float:
        """Ping the agent, and return the seconds until its pong.

        Raises:
            NoPongError: none came.
            ConversationOverError: the call has ended.
        """
        __tracebackhide__ = True
        try:
            return await self._open("ping").ping()
        except EngineError as error:
            raise self._telling(error) from None

    async def hang_up(self) -> None:
        """End the call before the test ends; may be repeated."""
        if self._engine is None:
            self._open("hang_up")
        elif not self._hung_up and self._engine.is_open:
            self._hung_up = True
            self._story.note("you", "hang up")
            await self._engine.hang_up()

    async def wait_ended(self) -> None:
        """Wait until the call has ended, as when the agent shall hang up."""
        if self._engine is None:
            self._open("wait_ended")
        else:
            await self._engine.wait_ended()

    @property
    def is_open(self) -> bool:
        """Whether something may still be said."""
        return self._engine is not None and self._engine.is_open

    @property
    def close_code(self) -> int | None:
        """The code that the socket was closed with; None while open, or where none is told."""
        return None if self.is_open or self._engine is None else self._engine.close_code

    @property
    def conversation_id(self) -> str:
        """The name of the conversation."""
        return self._begun("conversation_id").conversation_id

    @property
    def reply(self) -> Reply | None:
        """The newest reply; None before there is one."""
        return None if self._engine is None else self._engine.reply

    @property
    def history(self) -> tuple[ConversationMessage, ...]:
        """What was said and heard; of an interrupted reply what was heard."""
        return () if self._engine is None else self._engine.history

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Each rule of the protocol that the agent has broken so far."""
        return () if self._engine is None else self._engine.violations

    def _begin(self, engine: LocalEngine) -> None:
        self._engine = engine

    def _unheard_violations(self) -> list[Violation]:
        """Return the violations of which no exception has told the test."""
        return [each for each in self.violations if each.detail not in self._told]

    async def _ask(self, text: str, verb: str) -> Reply:
        __tracebackhide__ = True
        engine = self._open(verb)
        running = engine.reply
        reply = await engine.ask(text)
        self._story.asked(text, reply, running)
        return reply

    async def _hear(self, reply: Reply, wanted: float = math.inf) -> Reply:
        """Read a reply until so many of its pieces have been read, or to its end."""
        __tracebackhide__ = True
        if wanted <= len(reply.pieces_read):
            return reply
        try:
            async for _ in reply:
                if len(reply.pieces_read) >= wanted:
                    break
        except EngineError as error:
            raise self._telling(error) from None
        return reply

    def _telling(self, error: EngineError) -> EngineError:
        """Remember what the test is told, and leave out where in this package it comes from."""
        self._told.add(str(error))
        return error.with_traceback(None)

    def _begun(self, verb: str) -> LocalEngine:
        __tracebackhide__ = True
        if self._engine is None:
            raise RuntimeError(f"call.{verb}: expected to be used in the test, where the call runs")
        return self._engine

    def _open(self, verb: str) -> LocalEngine:
        __tracebackhide__ = True
        engine = self._begun(verb)
        if not engine.is_open:
            who = "you hung up" if self._hung_up else "the other end, or a broken rule, ended it"
            raise ConversationOverError(f"call.{verb}: expected an open call, but {who}")
        return engine
