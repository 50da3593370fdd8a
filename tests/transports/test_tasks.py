"""The task of a handler: cancelled once, whoever cancels; strays end nothing."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from speech_engine_transports import SpeechEngineSession
from speech_engine_transports._groups import session_group
from speech_engine_transports._tasks import HandlerTask

from .clock import ASYNCIO, settle, virtual
from .peer import CLOSE, PING, Call, Peer, init, said, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from speech_engine_proto import ConversationMessage

pytestmark = pytest.mark.anyio
on_asyncio = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(virtual(name), id=name) for name in ASYNCIO]
)

Session = SpeechEngineSession


class Counter:
    """A handler that counts how often it is cancelled, with several awaits in its clean-up."""

    def __init__(self, cleanup: int = 20) -> None:
        self.cancellations = 0
        self.cleanup = cleanup
        self.ended: list[int] = []

    async def __call__(self, t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("new")
            return
        waits = 0
        try:
            while True:
                try:
                    await anyio.sleep(0.1 if self.cancellations else 1000)
                except asyncio.CancelledError:
                    self.cancellations += 1
                waits += self.cancellations
                if waits >= self.cleanup:
                    break
        finally:
            self.ended.append(waits)


@on_asyncio
async def test_an_interrupted_handler_that_swallows_is_cancelled_once() -> None:
    counter = Counter()
    async with Call(on_transcript=counter) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        for id in range(3, 8):
            await call.says("a", "", f"{id}", id=id)
        await anyio.sleep(5)
        assert counter.cancellations == 1
        assert counter.ended == [20]


@on_asyncio
@pytest.mark.parametrize("how", ["close message", "lost", "close()"])
async def test_the_end_of_the_conversation_cancels_once(how: str) -> None:
    counter = Counter()
    async with Call(on_transcript=counter) as call:
        await call.says("a", id=1)
        if how == "close message":
            call.peer.say(CLOSE)
        elif how == "lost":
            call.peer.vanish()
        else:
            call.session.close()
        await call.ended.wait()
        assert counter.cancellations == 1
        assert counter.ended == [20]


@on_asyncio
async def test_an_interruption_and_then_the_end_cancel_once() -> None:
    counter = Counter(cleanup=30)
    async with Call(on_transcript=counter) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        await call.gets(CLOSE)
        await call.ended.wait()
        assert counter.cancellations == 1


async def cancel_task(session: Session) -> None:
    task = asyncio.create_task(session.run())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def cancel_scope(session: Session) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(session.run)
            await settle()
            scope.cancel()
    assert scope.cancelled_caught


async def cancel_timeout(session: Session) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.run(), 1)


@on_asyncio
@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope, cancel_timeout])
async def test_outer_cancellation_cancels_once_and_waits_for_the_clean_up(
    cancel: Callable[[Session], Awaitable[None]],
) -> None:
    """Weakness 3: the official session swallows it while it waits for a handler."""
    counter = Counter()
    call = Call(on_transcript=counter, on_init=_forever)
    call.peer.say(transcript("a", id=1))
    await cancel(call.session)
    assert counter.cancellations == 1
    assert counter.ended == [20]
    assert call.events == []
    assert call.errors == []
    assert asyncio.all_tasks() == {_me(), *_runner_tasks()}


async def _forever(conversation_id: str, session: Session) -> None:
    await anyio.sleep_forever()


def _me() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _runner_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "_call_in_runner_task" in repr(task)}


@on_asyncio
@pytest.mark.parametrize("cancel", [cancel_task, cancel_scope])
async def test_outer_cancellation_does_not_wait_for_ever(
    cancel: Callable[[Session], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """After the grace the handler is left to the scopes further out, which cancel again."""
    cancellations: list[float] = []

    async def stubborn(t: object, s: Session) -> None:
        while len(cancellations) < 2:
            try:
                await anyio.sleep(10_000)
            except asyncio.CancelledError:
                cancellations.append(anyio.current_time())

    session = Call(on_transcript=stubborn, cancel_grace=3).session
    session._socket.say(transcript("a", id=1))  # type: ignore[attr-defined]
    await cancel(session)
    assert cancellations == [0, pytest.approx(3)]
    assert "stubborn still runs 3 s after its cancellation" in caplog.text


@on_asyncio
async def test_an_error_after_the_grace_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The group takes no more tasks by then, so ``on_error`` cannot be called."""

    async def late(t: object, s: Session) -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await anyio.sleep(10_000)
        raise ValueError("late")

    call = Call(on_transcript=late, cancel_grace=3)
    call.peer.say(transcript("a", id=1))
    await cancel_task(call.session)
    assert call.errors == []
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("late",)]  # type: ignore[union-attr]


@on_asyncio
async def test_a_call_that_ends_already_may_be_told_to_leave() -> None:
    """As a server that drains tells all its calls; one that raised would stop it half way."""
    told: list[str] = []

    async def late(t: object, s: Session) -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await anyio.sleep(10_000)
        s.leave()
        told.append("late")

    call = Call(on_transcript=late, cancel_grace=3)
    call.peer.say(transcript("a", id=1))
    await cancel_task(call.session)
    assert told == ["late"]
    assert call.errors == []


async def test_errors_that_wait_for_an_on_error_that_is_cut_off_reach_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def on_error(error: Exception, s: Session) -> None:
        await anyio.sleep_forever()

    call = Call(on_transcript=lambda t, s: None, on_error=on_error, listen=False)
    call.peer.say("rubbish")
    call.peer.say("more rubbish")
    with anyio.move_on_after(1):
        await call.session.run()
    assert [record.getMessage() for record in caplog.records] == ["unhandled error"]


@on_asyncio
async def test_a_second_outer_cancellation_ends_the_grace() -> None:
    async def slow(t: object, s: Session) -> None:
        try:
            await anyio.sleep(10_000)
        finally:
            await anyio.sleep(10_000)

    session = Call(on_transcript=slow).session
    session._socket.say(transcript("a", id=1))  # type: ignore[attr-defined]
    task = asyncio.create_task(session.run())
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert anyio.current_time() == 0


@pytest.mark.parametrize("when", ["reading", "ending", "starting"])
async def test_outer_cancellation_at_any_time_ends_run(when: str) -> None:
    """While a message is awaited, while handlers clean up at the end, and at a turn's start."""
    ended: list[str] = []

    async def handler(t: object, s: Session) -> None:
        if when == "starting":
            scope.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
            ended.append("handler")

    async def on_close(s: Session) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("on_close")

    call = Call(on_transcript=handler, on_close=on_close)
    call.peer.say(transcript("a", id=1))
    if when == "ending":
        call.peer.say(CLOSE)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(call.session.run)
            await settle()
            scope.cancel()
    assert scope.cancelled_caught
    assert sorted(ended) == (["handler", "on_close"] if when == "ending" else ["handler"])
    assert anyio.current_time() == pytest.approx(2)


async def test_outer_cancellation_ends_on_error_too() -> None:
    ended: list[str] = []

    async def on_error(error: Exception, s: Session) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("on_error")

    call = Call(on_transcript=lambda t, s: None, on_error=on_error, listen=False)
    call.peer.say("rubbish")
    with anyio.move_on_after(1) as scope:
        await call.session.run()
    assert scope.cancelled_caught
    assert ended == ["on_error"]


@on_asyncio
async def test_a_task_cancelled_before_its_first_step_never_starts() -> None:
    """The reader is cancelled between a turn's beginning and its handler's first step."""
    started: list[str] = []
    peer = Peer()
    session = Session(peer).on("user_transcript", lambda _: started.append("handler"))
    task = asyncio.create_task(session.run())
    await settle()
    peer.say(transcript("a", id=1))
    for _ in range(4):  # one for the reader to wake up in, and a few for good measure
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(started) <= 1


@on_asyncio
async def test_a_handler_task_that_was_cancelled_first_runs_nothing() -> None:
    ran: list[bool] = []

    async def body() -> None:
        ran.append(True)

    task = HandlerTask("test")
    task.cancel()
    async with session_group() as group:
        await task.start(group, body)
    assert task.ended
    assert not task.left_over
    assert ran == []


# --- stray cancellations


async def a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.sleep(1000))
    task.cancel()
    await task


async def itself() -> None:
    _me().cancel()
    await asyncio.sleep(1)


async def itself_and_returns() -> None:
    _me().cancel()


async def raises() -> None:
    raise asyncio.CancelledError


STRAYS = pytest.mark.parametrize("stray", [a_cancelled_task, itself, itself_and_returns, raises])


@on_asyncio
@STRAYS
async def test_a_stray_cancellation_is_an_error_of_the_handler(
    stray: Callable[[], Awaitable[None]],
) -> None:
    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if t[-1].content == "stray":
            await stray()
        else:
            await s.send_response("fine")

    async with Call(on_transcript=answer, fallback="Sorry.") as call:
        await call.says("stray", id=1)
        [error] = call.take_errors()
        assert "was cancelled, or awaited a task that was" in str(error)
        assert call.replies == said(1, "Sorry.")
        await call.says("next", id=2)
        assert call.replies == said(1, "Sorry.") + said(2, "fine")


@on_asyncio
@STRAYS
async def test_a_stray_cancellation_with_a_slow_socket_still_ends_the_turn(
    stray: Callable[[], Awaitable[None]],
) -> None:
    class Slow(Peer):
        async def send(self, frame: str) -> None:
            await asyncio.sleep(0.1)
            await super().send(frame)

    async with Call(on_transcript=lambda t, s: stray(), fallback="Sorry.", peer=Slow()) as call:
        await call.says("stray", id=1)
        await anyio.sleep(1)
        assert len(call.take_errors()) == 1
        assert call.replies == said(1, "Sorry.")


@on_asyncio
@STRAYS
@pytest.mark.parametrize("callback", ["on_init", "on_close", "on_disconnect", "on_error"])
async def test_a_stray_cancellation_in_another_callback_ends_nothing(
    stray: Callable[[], Awaitable[None]], callback: str, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks: dict[str, Any] = {callback: lambda *args: stray()}
    listen = callback != "on_error"
    async with Call(
        on_transcript=lambda t, s: s.send_response("x"), listen=listen, **callbacks
    ) as call:
        await call.gets(init(), "rubbish", PING)
        await call.says("hi", id=1)
        assert call.replies == said(1, "x")
        assert call.peer.pongs == 1
        await call.gets(*([CLOSE] if callback == "on_close" else []))
        call.peer.vanish()
        await call.ended.wait()
        assert call.events == ["close" if callback == "on_close" else "disconnected"]
        strays = [e for e in call.take_errors() if "awaited a task that was" in str(e)]
        assert len(strays) == listen
    assert ("on_error failed" in caplog.text) is not listen


async def test_a_cancellation_of_a_foreign_loop_is_an_error_too() -> None:
    """On trio it means nothing; a bridge to asyncio may let one out."""

    async def answer(t: object, s: Session) -> None:
        await raises()

    async with Call(on_transcript=answer) as call:
        await call.says("hi", id=1)
        assert len(call.take_errors()) == 1
        assert call.replies == said(1)


@on_asyncio
async def test_a_cancellation_that_comes_with_the_reply_ready_is_no_stray() -> None:
    """The handler is about to run when it is cancelled: it gets that one, and no other."""
    ready = anyio.Event()
    seen: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("new")
            return
        try:
            await ready.wait()
            seen.append("not cancelled")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        call.peer.say(transcript("a", "", "b", id=2))
        ready.set()
        await settle()
        assert seen in (["cancelled"], ["not cancelled"])
        assert call.replies == said(2, "new")


# --- async generators and scopes of the user's own


async def test_a_timeout_in_a_handler_is_the_handlers() -> None:
    async def answer(t: object, s: Session) -> None:
        try:
            with anyio.fail_after(1):
                await anyio.sleep_forever()
        except TimeoutError:
            await s.send_response("Too slow.")

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await anyio.sleep(2)
        assert call.replies == said(1, "Too slow.")


async def test_an_interruption_inside_the_handlers_own_scopes_ends_them() -> None:
    seen: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("child")

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) > 1:
            await s.send_response("new")
            return
        with anyio.move_on_after(100):
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                await anyio.sleep_forever()

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        assert seen == ["child"]
        assert call.replies == said(2, "new")
        assert call.errors == []


async def test_a_generator_closes_itself_with_awaits_before_its_deadline() -> None:
    seen: list[str] = []

    async def words() -> AsyncGenerator[str]:
        try:
            yield "one "
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=trio.lowlevel.in_trio_run()):
                await anyio.sleep(1)
            seen.append("closed")

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        await s.send_response(words() if len(t) == 1 else "new")

    async with Call(on_transcript=answer) as call:
        await call.says("a", id=1)
        await call.says("a", "one", "b", id=2)
        assert seen == []
        await anyio.sleep(2)
        assert seen == ["closed"]


async def test_no_task_is_left_when_sessions_are_over() -> None:
    async def answer(t: object, s: Session) -> None:
        await s.send_response("x", final=False)
        await anyio.sleep_forever()

    of_others = _handler_tasks()  # whatever an earlier test, or a report of one, holds on to
    for _ in range(20):
        async with Call(on_init=_forever, on_transcript=answer) as call:
            await call.gets(transcript("a", id=1), transcript("b", id=2), init(), "rubbish")
            call.take_errors()
    del call
    left = [task for task in _handler_tasks() if task not in of_others]
    assert left == []


def _handler_tasks() -> list[HandlerTask]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, HandlerTask)]
