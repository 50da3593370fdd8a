"""The contract's tests of how a conversation ends, and of peers that do not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from speech_engine_proto import ConversationMessage, Limits, wire

from ._contract_caller import cut, expect, question, said
from ._contract_stage import ContractHooks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from ._contract_caller import Caller
    from ._contract_stage import Stage
    from .session import SpeechEngineSession

__all__ = ["EndsContract"]

Transcript = list[ConversationMessage]

HUGE = 24 * 1024 * 1024
"""Characters in one piece: more than the kernel holds for a peer that does not read."""

PINGS = 20_000
"""More pongs than a library buffers (one was seen to take 8,000) and a session keeps (16)."""


class EndsContract(ContractHooks):
    """Every end is told once, stops the handler, and leaves no task."""

    async def test_close_message_in_mid_turn(self) -> None:
        """A close message ends the turn; the socket is closed with 1000, on_close is called."""

        async def end(caller: Caller, stage: Stage) -> None:
            await caller.sends(wire.Close())
            expect(await caller.end(), 1000, "the close code")

        await self._check_end_in_mid_turn("close", end)

    async def test_end_of_the_socket_in_mid_turn(self) -> None:
        """A WebSocket that the peer closes, without a close message, is a lost conversation."""

        async def end(caller: Caller, stage: Stage) -> None:
            await caller.hangs_up()
            await caller.end()

        await self._check_end_in_mid_turn("disconnect", end)

    async def test_reset_peer(self) -> None:
        """A peer that resets the connection is a lost conversation."""

        async def end(caller: Caller, stage: Stage) -> None:
            await caller.resets()

        await self._check_end_in_mid_turn("disconnect", end)

    async def test_half_closed_peer(self) -> None:
        """A peer that ends its side of TCP without a closing handshake is lost too."""

        async def end(caller: Caller, stage: Stage) -> None:
            await caller.stops_sending()
            await caller.end()

        await self._check_end_in_mid_turn("disconnect", end)

    async def test_half_open_peer(self) -> None:
        """A peer that is silently gone is found by the keepalive."""

        async def end(caller: Caller, stage: Stage) -> None:
            await stage.ended("disconnect")  # the caller reads nothing, so it answers nothing

        with self.short_keepalive():
            await self._check_end_in_mid_turn("disconnect", end)

    async def _check_end_in_mid_turn(
        self, kind: str, end: Callable[[Caller, Stage], Coroutine[Any, Any, None]]
    ) -> None:
        closed = anyio.Event()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            await session.send_response(one_word_and_wait(closed))

        async with self.serving(on_transcript=answer) as stage:
            async with stage.calling() as caller:
                await caller.asks("first", id=1)
                await caller.hears(*cut(1, "one"))
                await end(caller, stage)
                await stage.ended(kind)
                await stage.reached(closed, "the end of the stream of the turn in flight")
        expect(stage.ends, [kind], "what the end fired")

    async def test_session_close(self) -> None:
        """A session that closes from its side says 1000 to the peer, and fires nothing."""

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            await session.send_response("Bye.")
            session.close()

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            await caller.asks("that was all", id=1)
            await caller.hears(*said(1, "Bye."))
            expect(await caller.end(), 1000, "the close code")
        expect(stage.ends, [], "what the end fired")

    async def test_outer_cancel(self) -> None:
        """Cancelling `run` from outside closes the stream and leaves no task."""
        closed = anyio.Event()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            await session.send_response(one_word_and_wait(closed))

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            await caller.asks("first", id=1)
            await caller.hears(*cut(1, "one"))
            stage.scopes[0].cancel()
            await stage.reached(closed, "the end of the stream of the cancelled session")
            await caller.end()

    async def test_server_goes_away(self) -> None:
        """A server that stops in mid turn closes its sockets with 1001; the handler ends."""
        closed = anyio.Event()
        codes: list[int | None] = []

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            await session.send_response(one_word_and_wait(closed))

        async with anyio.create_task_group() as group:
            done = anyio.Event()
            asked = anyio.Event()

            async def call(stage: Stage) -> None:
                async with stage.calling() as caller:
                    await caller.asks("first", id=1)
                    await caller.hears(*cut(1, "one"))
                    asked.set()
                    codes.append(await caller.end())
                done.set()

            async with self.serving(on_transcript=answer) as stage:
                group.start_soon(call, stage)
                await stage.reached(asked, "the first word")
            await stage.reached(done, "the end of the call")
            expect(stage.ends, ["disconnect"], "what the end fired")
        expect(codes, [1001], "the close code")
        expect(closed.is_set(), True, "the stream of the turn in flight is closed")

    async def test_too_long_message(self) -> None:
        """A message over the limit closes the socket with 1009.

        Adapters that can tell why say so in ``overflowed``, and the session reports it.
        """
        async with self.serving(
            on_transcript=never_called, limits=Limits(max_frame_bytes=1000)
        ) as stage:
            async with stage.calling() as caller:
                await caller.asks("x" * 2000, id=1)
                expect(await caller.end(), 1009, "the close code")
                await stage.ended("disconnect")
            told = [str(stage.errors.pop()) for _ in stage.errors[:1]]
            expect(told in ([], ["max_frame_bytes: more than 1000"]), True, "what on_error is told")
        expect(stage.ends, ["disconnect"], "what the end fired")

    async def test_blocked_peer_barges_in(self) -> None:
        """A peer that does not read can interrupt; the write that is cut leaves a whole frame."""
        piece = "x" * HUGE
        heard = anyio.Event()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            if transcript[-1].content == "first":
                await session.send_response(piece)
            heard.set()
            await session.send_response("two")

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            await caller.asks("first", id=1)
            await caller.reads_some()  # the write has begun, and cannot end
            await caller.sends(wire.Ping(), question("second", 2))
            await stage.reached(heard, "the transcript of a peer that does not read")
            frames = await caller.hears_until_end_of(2)
        expect(len(frames), 3, "frames heard")
        expect(frames[0] == (1, piece, False), True, "the frame that was cut off is whole")
        expect(frames[1:], said(2, "two"), "the next reply")

    async def test_writes_cancelled_under_backpressure(self) -> None:
        """Again and again: only whole frames are on the wire, and in the order of their turns."""
        piece = "x" * 500_000
        heard = [anyio.Event() for _ in range(12)]

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            number = int(transcript[-1].content)
            heard[number].set()
            await session.send_response("done" if number == 11 else flood(piece))

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            for number, event in enumerate(heard):
                await caller.asks(str(number), id=number)
                await stage.reached(event, "the transcript of a peer that does not read")
            frames = await caller.hears_until_end_of(11)
        ids = [id for id, _, _ in frames]
        expect(ids, sorted(ids, key=lambda id: id or 0), "the turns of the frames")
        expect({text for _, text, _ in frames} - {piece}, {"done", ""}, "texts of other frames")
        expect(frames[-2:], said(11, "done"), "the last reply")

    async def test_blocked_peer_that_pings_is_dropped(self) -> None:
        """A peer that pings on and on and reads nothing does not fill the memory."""
        cancelled = anyio.Event()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            try:
                await session.send_response("x" * HUGE)
            finally:
                cancelled.set()

        async with self.serving(on_transcript=answer) as stage:
            async with stage.calling() as caller:
                await caller.asks("first", id=1)
                await caller.reads_some()
                await caller.sends(*[wire.Ping()] * PINGS)
                await stage.ended("disconnect")
                await stage.reached(cancelled, "the end of the handler")
        expect(stage.ends, ["disconnect"], "what the end fired")


async def one_word_and_wait(closed: anyio.Event) -> AsyncGenerator[str]:
    """Yield a word, then nothing more; tell when it is closed."""
    try:
        yield "one"
        await anyio.sleep_forever()
    finally:
        closed.set()


async def flood(piece: str) -> AsyncGenerator[str]:
    """Yield one piece again and again, for as long as somebody listens."""
    while True:
        yield piece
        await anyio.lowlevel.checkpoint()


async def never_called(transcript: Transcript, session: SpeechEngineSession) -> None:
    """Fail: a handler that must not be reached."""
    raise AssertionError("a transcript was heard")
