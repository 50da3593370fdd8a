"""The contract's tests of turns: interruption, handlers that misbehave, pings meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from speech_engine_proto import ConversationMessage, StaleTurnError, wire

from ._contract_caller import cut, expect, question, said
from ._contract_stage import ContractHooks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .session import SpeechEngineSession

__all__ = ["TurnsContract"]

Transcript = list[ConversationMessage]


class TurnsContract(ContractHooks):
    """What an interruption does, and what no handler may do to anybody else."""

    async def test_conversation(self) -> None:
        """Text and binary messages, an init, pings, a null id, and a close in order."""
        seen: list[str] = []

        def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
            seen.append(conversation_id)

        async with self.serving(on_transcript=echo, on_init=on_init) as stage:
            async with stage.calling() as caller:
                await caller.gets_pong()
                await caller.sends(wire.Init("conv_7"))
                await caller.asks("one", id=1)
                await caller.hears(*said(1, "you said one"))
                await caller.sends(wire.encode(question("zwö", 2)).encode())
                await caller.hears(*said(2, "you said zwö"))
                await caller.asks("three", id=None)
                await caller.hears(*said(None, "you said three"))
                await caller.sends(wire.Close())
                expect(await caller.end(), 1000, "the close code")
        expect(seen, ["conv_7"], "conversations begun")
        expect(stage.ends, ["close"], "what the end fired")

    async def test_interruption_closes_the_stream(self) -> None:
        """The stream of an interrupted reply is closed, and the next reply comes whole."""
        closed = anyio.Event()

        async def words() -> AsyncGenerator[str]:
            try:
                yield "one"
                await anyio.sleep_forever()
            finally:
                closed.set()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            text = transcript[-1].content
            await session.send_response(words() if text == "first" else "two")

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            await caller.asks("first", id=1)
            await caller.hears(*cut(1, "one"))
            await caller.asks("second", id=2)
            await stage.reached(closed, "the end of the interrupted stream")
            await caller.hears(*said(2, "two"))

    async def test_old_text_never_comes_after_new(self) -> None:
        """However fast a reply is written, none of it follows the first word of the next."""

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            text = transcript[-1].content
            await session.send_response("done" if text == "20" else endless(text))

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            for id in range(1, 20):
                await caller.asks(str(id), id=id)
                await caller.message()
            await caller.asks("20", id=20)
            heard = await caller.hears_until_end_of(20)
        ids = [id for id, _, _ in heard]
        expect(ids, sorted(ids, key=lambda id: id or 0), "the turns of the frames")
        for old, text, final in heard[:-2]:
            expect((text, final), (long_piece(old), False), "a piece of an old turn")
        expect(heard[-2:], said(20, "done"), "the last reply")

    async def test_transcripts_in_one_packet(self) -> None:
        """Each handler starts before the next message is read; only the last turn stays."""
        heard: list[str] = []

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            heard.append(transcript[-1].content)
            await anyio.lowlevel.checkpoint()
            await session.send_response(heard[-1])

        async with self.serving(on_transcript=answer) as stage, stage.calling() as caller:
            await caller.sends(*(question(str(id), id) for id in range(1, 4)))
            replies = await caller.hears_until_end_of(3)
        expect(heard, ["1", "2", "3"], "transcripts heard")
        expect(replies[-2:], said(3, "3"), "the last reply")
        expect([r for r in replies if r[2]], [(3, "", True)], "terminators")

    async def test_handler_error(self) -> None:
        """An error reaches on_error; its turn is ended, and the next one goes on."""

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            await session.send_response("well", final=False)
            if transcript[-1].content == "fail":
                raise ValueError("no luck")

        async with self.serving(on_transcript=answer, fallback="Sorry.") as stage:
            async with stage.calling() as caller:
                await caller.asks("fail", id=1)
                await caller.hears(*said(1, "well", "Sorry."))
                expect(str(await stage.takes_error()), "no luck", "the error")
                await caller.asks("go on", id=2)
                await caller.hears(*said(2, "well"))

    async def test_swallowed_cancellation(self) -> None:
        """A handler that swallows its cancellation delays nothing, and says nothing any more."""
        release = anyio.Event()
        refused: list[str] = []

        async def swallow(session: SpeechEngineSession) -> None:
            try:
                await anyio.sleep_forever()
            except BaseException:
                with anyio.CancelScope(shield=True):
                    try:
                        await session.send_response("too late")
                    except StaleTurnError:
                        refused.append("too late")
                    await release.wait()

        await self._check_nothing_waits(release, swallow)
        expect(refused, ["too late"], "words that were refused")

    async def test_slow_clean_up(self) -> None:
        """A handler that takes long to clean up delays neither a pong nor the next turn."""
        release = anyio.Event()
        cleaned_up: list[bool] = []

        async def clean_up(session: SpeechEngineSession) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await release.wait()
                cleaned_up.append(True)

        await self._check_nothing_waits(release, clean_up)
        expect(cleaned_up, [True], "clean-ups that were not cut off")

    async def _check_nothing_waits(self, release: anyio.Event, first: Any) -> None:
        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            if transcript[-1].content == "first":
                await session.send_response("one", final=False)
                await first(session)
            else:
                await session.send_response("two")

        async with self.serving(release, on_transcript=answer) as stage:
            async with stage.calling() as caller:
                await caller.asks("first", id=1)
                await caller.hears(*cut(1, "one"))
                await caller.asks("second", id=2)
                await caller.hears(*said(2, "two"))
                await caller.gets_pong()
                expect(release.is_set(), False, "the handler was let go")
                release.set()
                await caller.sends(wire.Close())
                expect(await caller.end(), 1000, "the close code")
        expect(stage.ends, ["close"], "what the end fired")

    async def test_cancelled_before_it_started(self) -> None:
        """A turn that is interrupted while it waits for on_init is never heard."""
        release = anyio.Event()
        heard: list[str] = []

        async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
            await release.wait()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            heard.append(transcript[-1].content)
            await session.send_response("two")

        async with self.serving(release, on_transcript=answer, on_init=on_init) as stage:
            async with stage.calling() as caller:
                await caller.sends(wire.Init("conv_1"), question("one", 1), question("two", 2))
                await caller.gets_pong()
                release.set()
                await caller.hears(*said(2, "two"))
        expect(heard, ["two"], "transcripts heard")

    async def test_slow_on_init(self) -> None:
        """While on_init works, pings are answered; the first transcript waits for it."""
        release = anyio.Event()
        order: list[str] = []

        async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
            await release.wait()
            order.append("init")

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            order.append("transcript")
            await session.send_response("hello")

        async with self.serving(release, on_transcript=answer, on_init=on_init) as stage:
            async with stage.calling() as caller:
                await caller.sends(wire.Init("conv_1"))
                await caller.gets_pong()
                await caller.asks("hi", id=1)
                await caller.gets_pong()
                expect(order, [], "handlers that have ended")
                release.set()
                await caller.hears(*said(1, "hello"))
        expect(order, ["init", "transcript"], "the order of handlers")

    async def test_background_task_of_an_interrupted_turn(self) -> None:
        """What a handler left running cannot speak into the next turn."""
        second = anyio.Event()
        tried = anyio.Event()
        refused: list[bool] = []

        async def haunt(session: SpeechEngineSession) -> None:
            await second.wait()
            try:
                await session.send_response("ghost", final=False)
            except StaleTurnError:
                refused.append(True)
            tried.set()

        async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
            if transcript[-1].content == "first":
                group.start_soon(haunt, session)
                await session.send_response("one", final=False)
                await anyio.sleep_forever()
            second.set()
            await tried.wait()
            await session.send_response("two")

        async with self.serving(second, tried, on_transcript=answer) as stage:
            async with anyio.create_task_group() as group, stage.calling() as caller:
                await caller.asks("first", id=1)
                await caller.hears(*cut(1, "one"))
                await caller.asks("second", id=2)
                await caller.hears(*said(2, "two"))
                await caller.gets_pong()
        expect(refused, [True], "words that were refused")

    async def test_message_in_parts(self) -> None:
        """A fragmented message arrives whole, pings of the WebSocket in its midst."""
        text = "a long story " * 20_000
        async with self.serving(on_transcript=echo) as stage, stage.calling() as caller:
            for id in range(1, 4):
                await caller.sends_in_parts(question(text, id), 7)
                await caller.hears(*said(id, f"you said {text}"))


def long_piece(turn: object) -> str:
    """Return a piece that names its turn all over."""
    return f"turn {turn} " * 500


async def endless(name: str) -> AsyncGenerator[str]:
    """Yield pieces that name their turn, for as long as somebody listens."""
    while True:
        yield long_piece(name)
        await anyio.lowlevel.checkpoint()


async def echo(transcript: Transcript, session: SpeechEngineSession) -> None:
    """Repeat what the caller said."""
    await session.send_response(f"you said {transcript[-1].content}")
