"""Turns: each gets one terminator or is no longer current, however its handler ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from speech_engine_proto import (
    ConversationMessage,
    StaleTurnError,
    Turn,
    TurnFinishedError,
    TurnState,
)
from speech_engine_proto.llm import ReplyStreamError
from speech_engine_transports import LimitExceeded, SpeechEngineSession

from .clock import settle
from .peer import Call, Peer, cut, said, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


# --- one terminator, however the handler ends


async def test_a_text_is_one_piece_and_the_terminator() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("hello")) as call:
        await call.says("hi", id=3)
        assert call.replies == said(3, "hello")


async def test_a_reply_without_an_id_carries_null() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("hello")) as call:
        await call.says("hi")
        await call.says("hi")
        assert call.replies == said(None, "hello") * 2


async def test_a_handler_that_never_replies_is_warned_of_and_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Call(on_transcript=lambda t, s: None) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1)
    assert warnings_in(caplog) == ["a turn ended without a word; set fallback= to say something"]
    assert caplog.records[-1].__dict__["event_id"] == 1


async def test_an_empty_reply_is_warned_of_too(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing(t: object, s: Session) -> None:
        await s.send_response("", final=False)

    async with Call(on_transcript=nothing) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1)
    assert len(warnings_in(caplog)) == 1


async def test_an_open_reply_is_ended_when_the_handler_returns() -> None:
    async def answer(t: object, s: Session) -> None:
        await s.send_response("one ", final=False)
        await s.send_response("two", final=False)

    async with Call(on_transcript=answer) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1, "one ", "two")


async def test_a_handler_that_raises_is_reported_with_the_turn_ended() -> None:
    """Weakness 10: the official session sends no frame, and the caller waits."""

    async def fail(t: object, s: Session) -> None:
        await s.send_response("Let me ", final=False)
        await anyio.sleep(1)
        raise ValueError("broken")

    async with Call(on_transcript=fail) as call:
        await call.says("hi", id=1)
        await anyio.sleep(2)
        assert call.replies == said(1, "Let me ")
        assert [str(error) for error in call.take_errors()] == ["broken"]


async def test_an_exception_of_a_sync_handler_is_an_exception_of_a_handler() -> None:
    def fail(t: object, s: Session) -> None:
        raise ValueError("broken")

    async with Call(on_transcript=fail) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1)
        assert len(call.take_errors()) == 1


async def test_a_handler_that_replied_and_then_raises_gets_no_second_terminator() -> None:
    async def fail(t: object, s: Session) -> None:
        await s.send_response("hello")
        raise ValueError("bookkeeping")

    async with Call(on_transcript=fail, fallback="Sorry.") as call:
        await call.says("hi", id=1)
        assert call.replies == said(1, "hello")
        assert len(call.take_errors()) == 1


async def test_a_group_that_a_handler_raises_ends_its_turn_only() -> None:
    async def fail(t: object, s: Session) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(_fail)

    async def _fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("child")

    async with Call(on_transcript=fail) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1)
        [error] = call.take_errors()
        assert isinstance(error, ExceptionGroup)
        assert call.session.is_open


async def test_a_group_that_is_cancelled_and_fails_does_not_end_the_conversation() -> None:
    async def fail_late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async def work(t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("fine")
            return
        async with anyio.create_task_group() as group:
            group.start_soon(fail_late)
            group.start_soon(anyio.sleep_forever)

    async with Call(on_transcript=work) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        assert call.replies == said(2, "fine")
        [error] = call.take_errors()
        assert isinstance(error, ExceptionGroup)
        assert [str(each) for each in error.exceptions] == ["clean-up"]


async def test_what_a_group_may_not_hide_still_ends_the_run() -> None:
    class Halt(BaseException):
        pass

    async def halt() -> None:
        raise Halt

    async def work(t: object, s: Session) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(halt)

    call = Call(on_transcript=work)
    call.peer.say(transcript("a"))
    with pytest.raises(Halt):
        await call.session.run()


# --- interruption


async def test_an_interruption_cancels_the_handler_and_closes_its_stream_in_its_task() -> None:
    """Weakness 6: the official session never closes the stream."""
    tasks: list[int] = []

    class Stream:
        closed = 0

        def __aiter__(self) -> AsyncGenerator[str]:
            return self.words()

        async def words(self) -> AsyncGenerator[str]:
            yield "one "
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            tasks.append(anyio.get_current_task().id)
            self.closed += 1

    stream = Stream()

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) == 1:
            tasks.append(anyio.get_current_task().id)
            await s.send_response(stream)
        else:
            await s.send_response("yes?")

    async with Call(on_transcript=answer) as call:
        await call.says("tell me", id=1)
        await call.says("tell me", "one", "stop", id=2)
        assert stream.closed == 1
        assert tasks[0] == tasks[1]
        assert anyio.current_time() == 0
        assert call.replies == cut(1, "one ") + said(2, "yes?")


async def test_an_interrupted_turn_gets_no_terminator_and_no_further_word() -> None:
    """A handler that ignores its cancellation cannot speak into the next turn."""
    refused: list[Exception] = []

    async def stubborn(t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("new")
            return
        while not refused:
            try:
                await s.send_response("old ", final=False)
                await anyio.sleep(1)
            except StaleTurnError as error:
                refused.append(error)
                raise
            except anyio.get_cancelled_exc_class():
                pass  # on asyncio this swallows it; on trio it comes back at the next await

    async with Call(on_transcript=stubborn) as call:
        await call.says("a", id=1)
        await call.says("a", "old", "b", id=2)
        await anyio.sleep(5)
        assert call.replies == cut(1, "old ") + said(2, "new")


async def test_a_swallowed_cancel_delays_neither_pong_nor_the_next_turn() -> None:
    """Weakness 2: the official session waits for the old handler."""
    release = anyio.Event()

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) == 1:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await release.wait()
        else:
            await s.send_response("here")

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.gets(transcript("a", "", "b", id=2), '{"type":"ping"}')
        assert call.replies == said(2, "here")
        assert call.peer.pongs == 1
        release.set()
        await settle()
        assert call.replies == said(2, "here")


async def test_slow_clean_up_overlaps_the_next_turn() -> None:
    ends: list[tuple[str, float]] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        try:
            await anyio.sleep(0.5 if len(t) > 1 else 100)
            await s.send_response("here")
        finally:
            if len(t) == 1:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2)
                ends.append(("old", anyio.current_time()))
            else:
                ends.append(("new", anyio.current_time()))

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        await anyio.sleep(5)
        assert [who for who, _ in ends] == ["new", "old"]
        assert [when for _, when in ends] == pytest.approx([0.5, 2])
        assert call.replies == said(2, "here")


async def test_a_background_task_of_an_interrupted_turn_cannot_speak_into_the_next() -> None:
    """Weakness 7: the official session sends ``OLD`` under the new id."""
    refused: list[type[Exception]] = []

    async def late(session: Session) -> None:
        await anyio.sleep(1)
        try:
            await session.send_response("OLD")
        except StaleTurnError as error:
            refused.append(type(error))

    async with anyio.create_task_group() as background:

        async def answer(t: list[ConversationMessage], s: Session) -> None:
            if len(t) == 1:
                background.start_soon(late, s)
                await anyio.sleep_forever()
            await anyio.sleep(3)
            await s.send_response("new")

        async with Call(on_transcript=answer) as call:
            await call.says("a", id=1)
            await call.says("a", "", "b", id=2)
            await anyio.sleep(5)
            assert call.replies == said(2, "new")
            assert refused == [StaleTurnError]


async def test_a_background_task_may_end_the_reply_after_the_handler_has_returned() -> None:
    async with anyio.create_task_group() as background:

        async def words() -> AsyncGenerator[str]:
            yield "one "
            await anyio.sleep(1)
            yield "two"

        async def answer(t: object, s: Session) -> None:
            background.start_soon(s.send_response, words())
            await anyio.sleep(0.1)

        async with Call(on_transcript=answer) as call:
            await call.says("a", id=1)
            await anyio.sleep(0.5)
            assert call.replies == cut(1, "one ")
            await anyio.sleep(1)
            assert call.replies == said(1, "one ", "two")


async def test_a_background_reply_left_open_is_ended_when_its_last_piece_is_said() -> None:
    async with anyio.create_task_group() as background:

        async def words() -> AsyncGenerator[str]:
            await anyio.sleep(1)
            yield "late"

        async def speak(s: Session) -> None:
            await s.send_response(words(), final=False)

        async def answer(t: object, s: Session) -> None:
            background.start_soon(speak, s)
            await anyio.sleep(0.1)

        async with Call(on_transcript=answer) as call:
            await call.says("a", id=1)
            await anyio.sleep(2)
            assert call.replies == said(1, "late")


async def test_a_reply_that_starts_after_the_handler_returned_is_refused_aloud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Weakness 8: ``create_task(session.send_response())`` was dropped without a word."""
    refused: list[Exception] = []

    async with anyio.create_task_group() as background:

        async def late(s: Session) -> None:
            await anyio.sleep(1)
            with pytest.raises(TurnFinishedError, match="before the handler returns") as caught:
                await s.send_response("late")
            refused.append(caught.value)

        def answer(t: object, s: Session) -> None:
            background.start_soon(late, s)

        async with Call(on_transcript=answer) as call:
            await call.says("a", id=1)
            await anyio.sleep(2)
            assert call.replies == said(1)
            assert len(refused) == 1
    assert "a turn ended without a word" in warnings_in(caplog)[0]


async def test_old_and_repeated_transcripts_cancel_nothing() -> None:
    """Weakness 11: a duplicate after the end got a second reply, and lower ids were answered."""
    started: list[str] = []
    go_on = anyio.Event()

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        started.append(t[-1].content)
        await go_on.wait()
        await s.send_response("x")

    async with Call(on_transcript=answer) as call:
        await call.says("five", id=5)
        await call.says("corrected", id=5)
        await call.says("four", id=4)
        go_on.set()
        await settle()
        await call.says("five", id=5)
        assert started == ["five"]
        assert call.replies == said(5, "x")


async def test_the_same_id_is_a_new_attempt_where_the_first_said_nothing() -> None:
    replies = iter(["", "x"])
    async with Call(on_transcript=lambda t, s: s.send_response(next(replies))) as call:
        await call.says("a", id=1)
        await call.says("a", id=1)
        assert call.replies == said(1) + said(1, "x")


async def test_a_resend_under_a_new_id_does_not_restart_a_slow_reply() -> None:
    starts: list[Turn | None] = []

    async def slow(t: object, s: Session) -> None:
        starts.append(s.turn)
        await anyio.sleep(10)
        await s.send_response("at last")

    async with Call(on_transcript=slow) as call:
        await call.says("a", id=1)
        await call.says("a", id=2)
        await anyio.sleep(20)
        assert call.replies == said(2, "at last")
        [turn] = starts
        assert turn is not None
        assert turn.attempt == 2


async def test_resends_interrupt_where_adoption_is_off() -> None:
    async def slow(t: object, s: Session) -> None:
        await anyio.sleep(10)
        await s.send_response(f"{s.turn.event_id if s.turn else None}")

    async with Call(on_transcript=slow, adopt_resends=False) as call:
        await call.says("a", id=1)
        await call.says("a", id=2)
        await anyio.sleep(20)
        assert call.replies == said(2, "2")


async def test_of_a_burst_all_handlers_start_and_the_last_one_answers() -> None:
    starts: list[int] = []
    ends: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        starts.append(len(starts))
        try:
            await anyio.sleep(1)
            await s.send_response("x")
            ends.append("answered")
        except anyio.get_cancelled_exc_class():
            ends.append("cancelled")
            raise

    async with Call(on_transcript=answer) as call:
        await call.gets(*(transcript(f"{i}", id=i) for i in range(50)))
        await anyio.sleep(2)
        assert len(starts) == 50
        assert ends == ["cancelled"] * 49 + ["answered"]
        assert call.replies == said(49, "x")


async def test_a_handler_error_after_the_interruption_is_reported_and_says_nothing() -> None:
    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("new")
            return
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async with Call(on_transcript=answer, fallback="Sorry.") as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        assert [str(error) for error in call.take_errors()] == ["clean-up"]
        assert call.replies == said(2, "new")


# --- left-over handlers, serialize_turns


async def hang(release: anyio.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await release.wait()


async def test_at_most_eight_handlers_are_left_over() -> None:
    release = anyio.Event()
    starts: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        starts.append(t[-1].content)
        if t[-1].content != "quick":
            await hang(release)
        await s.send_response("x")

    async with Call(on_transcript=answer, fallback="Busy.") as call:
        for id in range(9):
            await call.says(f"{id}", id=id)
        assert len(starts) == 9
        assert call.errors == []
        await call.says("refused", id=9)
        [error] = call.take_errors()
        assert isinstance(error, LimitExceeded)
        assert (error.limit, error.value) == ("left-over handlers", 8)
        assert call.replies == said(9, "Busy.")
        assert "refused" not in starts
        release.set()
        await settle()
        await call.says("quick", id=10)
        assert call.replies == said(9, "Busy.") + said(10, "x")


async def test_serialized_turns_wait_for_each_other() -> None:
    release = anyio.Event()
    starts: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        starts.append(t[-1].content)
        if t[-1].content == "a":
            await hang(release)
        await s.send_response("x")

    async with Call(on_transcript=answer, serialize_turns=True) as call:
        await call.says("a", id=1)
        await call.says("skipped", id=2)
        await call.says("b", id=3)
        await call.gets('{"type":"ping"}')
        assert starts == ["a"]
        assert call.peer.pongs == 1
        release.set()
        await settle()
        assert starts == ["a", "b"]
        assert call.replies == said(3, "x")


# --- final, turn=, outside


async def test_a_second_final_is_refused_and_names_final() -> None:
    async def twice(t: object, s: Session) -> None:
        await s.send_response("one")
        await s.send_response("two")

    async with Call(on_transcript=twice) as call:
        await call.says("a", id=1)
        [error] = call.take_errors()
        assert isinstance(error, TurnFinishedError)
        assert "final=False" in str(error)
        assert call.replies == said(1, "one")


async def test_a_refused_stream_is_closed_unread() -> None:
    closed: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def __aiter__(self) -> AsyncGenerator[str]:
            raise AssertionError("read")

        async def close(self) -> None:
            await anyio.lowlevel.checkpoint()
            closed.append(self.name)

    async def answer(t: object, s: Session) -> None:
        await s.send_response("one")
        with pytest.raises(TurnFinishedError):
            await s.send_response(Stream("second"))

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.session.send_response(Stream("outside"))
        call.session.close()
        with pytest.raises(RuntimeError, match="session is closed"):
            await call.session.send_response(Stream("closed"))
    assert closed == ["second", "outside", "closed"]


async def test_an_unread_coroutine_of_a_stale_turn_does_not_warn() -> None:
    async def text() -> str:
        raise AssertionError("awaited")

    async def words() -> AsyncGenerator[str]:
        raise AssertionError("read")
        yield ""

    async def answer(t: object, s: Session) -> None:
        await s.send_response("one")
        for response in (text(), words(), (w for w in "ab"), ["x"], {"not": "text"}):
            with pytest.raises(TurnFinishedError):
                await s.send_response(response)

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        assert call.replies == said(1, "one")


async def test_outside_a_handler_it_warns_and_sends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.session.send_response("hello?")
        await call.says("a", id=1)
        await call.session.send_response("hello?")
        assert call.replies == said(1, "x")
        assert call.session.turn is None
    [first, second] = warnings_in(caplog)
    assert first == second
    assert "pass turn=" in first


async def test_a_handler_of_another_session_is_outside(caplog: pytest.LogCaptureFixture) -> None:
    other = Call(on_transcript=lambda t, s: None)

    async def answer(t: object, s: Session) -> None:
        assert other.session.turn is None
        await other.session.send_response("wrong line")
        await s.send_response("x")

    async with other, Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        assert call.replies == said(1, "x")
        assert other.replies == []
    assert len(warnings_in(caplog)) == 1


async def test_a_turn_can_be_answered_from_code_outside_its_context() -> None:
    send, receive = anyio.create_memory_object_stream[tuple[Turn, anyio.Event]](1)

    async with anyio.create_task_group() as workers, send, receive:

        async def worker(session: Session) -> None:
            async for turn, done in receive:
                assert session.turn is None
                await session.send_response("from ", final=False, turn=turn)
                await session.send_response("a worker", turn=turn)
                done.set()

        async def answer(t: object, s: Session) -> None:
            assert s.turn is not None
            done = anyio.Event()
            await send.send((s.turn, done))
            await done.wait()

        async with Call(on_transcript=answer) as call:
            workers.start_soon(worker, call.session)
            await call.says("a", id=1)
            assert call.replies == said(1, "from ", "a worker")
            workers.cancel_scope.cancel()


async def test_a_turn_that_is_over_cannot_be_answered_from_outside() -> None:
    turns: list[Turn] = []

    async def answer(t: object, s: Session) -> None:
        assert s.turn is not None
        turns.append(s.turn)
        if len(turns) == 1:
            await anyio.sleep_forever()
        await s.send_response("x")

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.says("b", id=2)
        with pytest.raises(StaleTurnError, match="turn 1 is no longer current"):
            await call.session.send_response("late", turn=turns[0])
        with pytest.raises(TurnFinishedError, match="turn 2 already has its terminator"):
            await call.session.send_response("late", turn=turns[1])
        assert call.replies == said(2, "x")


async def test_the_turn_tells_what_was_heard_and_whether_it_was_interrupted() -> None:
    turns: list[Turn] = []

    async def answer(t: object, s: Session) -> None:
        assert s.turn is not None
        turns.append(s.turn)
        await s.send_response("one two three", final=False)
        try:
            await anyio.sleep_forever()
        finally:
            assert s.turn is turns[0]
            assert s.turn.interrupted

    async with Call(on_transcript=answer) as call:
        await call.says("count", id=1)
        assert turns[0].state is TurnState.SPEAKING
        assert turns[0].heard is None
        call.session.off("user_transcript", answer)
        call.session.on("user_transcript", lambda t: turns.append(call.session.turn))  # type: ignore[arg-type]
        await call.says("count", "one two", "stop", id=2)
        heard = turns[1].heard
        assert heard is not None
        assert (heard.sent, heard.heard, heard.interrupted) == ("one two three", "one two", True)


# --- fallback


async def test_a_fallback_text_is_said_for_errors_and_for_silence() -> None:
    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if t[-1].content == "fail":
            raise ValueError
        if t[-1].content == "half":
            await s.send_response("Let me see. ", final=False)
            raise ValueError

    async with Call(on_transcript=answer, fallback="Say it again?") as call:
        await call.says("fail", id=1)
        await call.says("silent", id=2)
        await call.says("half", id=3)
        again = "Say it again?"
        assert call.replies == said(1, again) + said(2, again) + said(3, "Let me see. ", again)
        assert len(call.take_errors()) == 2


async def test_a_fallback_callable_gets_the_error_or_none() -> None:
    got: list[Exception | None] = []

    def fallback(error: Exception | None) -> str | None:
        got.append(error)
        return None if error is None else f"{error}!"

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if t[-1].content == "fail":
            raise ValueError("oops")

    async with Call(on_transcript=answer, fallback=fallback) as call:
        await call.says("fail", id=1)
        await call.says("silent", id=2)
        assert call.replies == said(1, "oops!") + said(2)
        assert got == [*call.take_errors(), None]


async def test_a_fallback_that_raises_is_logged_and_the_turn_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fallback(error: Exception | None) -> str:
        raise ValueError("no fallback either")

    async with Call(on_transcript=lambda t, s: None, fallback=fallback) as call:
        await call.says("silent", id=1)
        assert call.replies == said(1)
    assert "fallback failed" in caplog.text


async def test_a_stream_error_surfaces_from_send_response_and_on_error() -> None:
    """Weakness of both SDKs: a provider's error event was an empty success."""

    async def words() -> AsyncGenerator[Any]:
        yield "Well, "
        yield {"type": "error", "error": {"message": "overloaded"}}

    async with Call(on_transcript=lambda t, s: s.send_response(words()), fallback="Hm.") as call:
        await call.says("a", id=1)
        [error] = call.take_errors()
        assert isinstance(error, ReplyStreamError)
        assert str(error) == "overloaded"
        assert call.replies == said(1, "Well, ", "Hm.")


async def test_a_stream_error_that_the_handler_handles_is_nobody_elses() -> None:
    async def words() -> AsyncGenerator[Any]:
        yield {"type": "error", "error": {"message": "overloaded"}}

    async def answer(t: object, s: Session) -> None:
        try:
            await s.send_response(words())
        except ReplyStreamError:
            await s.send_response("One moment.")

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        assert call.replies == said(1, "One moment.")


# --- a socket whose writes wait


async def test_no_frame_is_made_while_another_one_waits_for_the_lock() -> None:
    """Lock, then verb, then write: a word that waited behind an interruption is never built."""
    peer = Peer()
    peer.lock = anyio.Lock()
    refused: list[Exception] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        with anyio.CancelScope(shield=True):  # the cancellation is not what stops the word
            try:
                await s.send_response(f"{t[-1].content}")
            except StaleTurnError as error:
                refused.append(error)

    async with Call(on_transcript=answer, peer=peer) as call:
        async with peer.lock:
            await call.says("old", id=1)
            await call.says("new", id=2)
        await settle()
        assert call.replies == said(2, "new")
        assert isinstance(peer.lock, anyio.Lock)


async def test_a_blocked_write_hides_no_barge_in() -> None:
    seen: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        try:
            await s.send_response(t[-1].content)
        except anyio.get_cancelled_exc_class():
            seen.append(f"{t[-1].content} cancelled")
            raise

    async with Call(on_transcript=answer, peer=Peer(stalled=True)) as call:
        await call.says("old", id=1)
        await call.says("new", id=2)
        assert seen == ["old cancelled"]
        call.peer.read_again()
        await settle()
        assert call.replies == said(2, "new")


async def test_an_interruption_does_not_cut_off_the_closing_of_a_stream() -> None:
    may_close = anyio.Event()
    closed: list[str] = []

    class Stream:
        async def __aiter__(self) -> AsyncGenerator[str]:
            yield "old"

        async def aclose(self) -> None:
            await may_close.wait()
            closed.append("stream")

    async def answer(messages: list[ConversationMessage], session: Session) -> None:
        await session.send_response(Stream() if len(messages) == 1 else "new")

    async with Call(on_transcript=answer) as call:
        await call.says("one", id=1)
        await call.says("one", "two", id=2)
        assert closed == []
        may_close.set()
        await settle()
        assert closed == ["stream"]
        assert call.replies == [*cut(1, "old"), *said(2, "new")]


async def test_an_interruption_between_two_closings_skips_neither() -> None:
    """An SDK's stream and the generator that iterates it are closed one after the other."""
    may_close = anyio.Event()
    closed: list[str] = []

    class Stream:
        async def __aiter__(self) -> AsyncGenerator[object]:
            try:
                yield "old"
                yield {"type": "error", "message": "overloaded"}
            finally:
                with anyio.CancelScope(shield=True):
                    await may_close.wait()
                closed.append("generator")

        async def aclose(self) -> None:
            closed.append("stream")

    async def answer(messages: list[ConversationMessage], session: Session) -> None:
        await session.send_response(Stream() if len(messages) == 1 else "new")

    async with Call(on_transcript=answer) as call:
        await call.says("one", id=1)
        await call.says("one", "two", id=2)
        assert closed == []
        may_close.set()
        await settle()
        assert closed == ["generator", "stream"]
        assert call.replies == [*cut(1, "old"), *said(2, "new")]
        call.errors.clear()  # the provider's, on trio; on asyncio the cancellation came before it
