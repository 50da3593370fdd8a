"""Errors reach ``on_error`` one at a time, beside everything else; the log where nobody listens."""

from __future__ import annotations

import logging

import anyio
import pytest

from speech_engine_proto import ConversationMessage, RemoteProtocolError
from speech_engine_transports import ServiceError, SpeechEngineSession
from speech_engine_transports._reports import MAX_WAITING

from .peer import PING, Call, init, said, transcript

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession


def error(message: str) -> str:
    return f'{{"type":"error","message":"{message}"}}'


async def test_a_slow_on_error_delays_nothing_and_is_called_once_at_a_time() -> None:
    """Weakness 1 of the official SDK: it blocks the receive loop."""
    running = 0
    seen: list[str] = []

    async def on_error(error: Exception, session: Session) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await anyio.sleep(1)
        running -= 1
        seen.append(str(error))

    async with Call(
        on_transcript=lambda t, s: s.send_response("x"), on_error=on_error, listen=False
    ) as call:
        await call.gets(error("one"), error("two"), error("three"), PING)
        await call.says("hi", id=1)
        assert call.peer.pongs == 1
        assert call.replies == said(1, "x")
        assert seen == []
        await anyio.sleep(5)
        assert seen == ["one", "two", "three"]
        await call.gets(error("four"))
        await anyio.sleep(5)
        assert seen == ["one", "two", "three", "four"]


async def test_on_error_runs_beside_handlers() -> None:
    seen: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        if len(t) == 1:
            raise ValueError("first")
        await anyio.sleep(1)
        seen.append("second turn")
        await s.send_response("x")

    async def on_error(error: Exception, session: Session) -> None:
        await anyio.sleep(2)
        seen.append(str(error))

    async with Call(on_transcript=answer, on_error=on_error, listen=False) as call:
        await call.says("a", id=1)
        await call.says("a", "", "b", id=2)
        await anyio.sleep(3)
        assert seen == ["second turn", "first"]


async def test_a_new_transcript_does_not_cancel_on_error() -> None:
    """The error comes in the same moment as the next transcript."""
    seen: list[str] = []

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        raise ValueError(t[-1].content)

    async def on_error(error: Exception, session: Session) -> None:
        await anyio.sleep(0.1)
        seen.append(str(error))

    async with Call(on_transcript=answer, on_error=on_error, listen=False) as call:
        await call.gets(*(transcript(f"{id}", id=id) for id in range(5)))
        await anyio.sleep(2)
        assert seen == ["0", "1", "2", "3", "4"]


async def test_errors_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    release = anyio.Event()

    async def on_error(error: Exception, session: Session) -> None:
        await release.wait()
        seen.append(str(error))

    async with Call(on_transcript=lambda t, s: None, on_error=on_error, listen=False) as call:
        await call.gets(error("first"))
        await call.gets(*(error(f"{i}") for i in range(MAX_WAITING + 5)))
        records = [r for r in caplog.records if r.getMessage() == "on_error is too slow"]
        assert len(records) == 5
        release.set()
        call.peer.vanish()
        await call.ended.wait()
    assert seen == ["first", *(f"{i}" for i in range(MAX_WAITING))]


async def test_an_on_error_that_fails_is_logged_and_the_next_error_still_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[str] = []

    def on_error(error: Exception, session: Session) -> None:
        seen.append(str(error))
        raise KeyError("in on_error")

    async with Call(on_transcript=lambda t, s: None, on_error=on_error, listen=False) as call:
        await call.gets(error("one"), error("two"))
    assert seen == ["one", "two"]
    assert caplog.text.count("on_error failed") == 2
    assert "KeyError: 'in on_error'" in caplog.text


async def test_every_error_handler_is_called() -> None:
    seen: list[str] = []
    async with Call(on_transcript=lambda t, s: None) as call:
        call.session.on("error", lambda e: seen.append("on"))
        call.session.once("error", lambda e: seen.append("once"))
        await call.gets(error("one"))
        await call.gets(error("two"))
        assert seen == ["on", "once", "on"]
        assert len(call.take_errors()) == 2


async def test_without_on_error_errors_are_logged_with_their_ids(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(t: object, s: Session) -> None:
        raise ValueError("broken")

    async with Call(on_transcript=fail, listen=False) as call:
        await call.gets(init("conv_7"), error("service"), "rubbish")
        await call.says("hi", id=3)
    records = [r for r in caplog.records if r.getMessage() == "unhandled error"]
    assert [r.levelno for r in records] == [logging.ERROR] * 3
    assert {r.__dict__["conversation_id"] for r in records} == {"conv_7"}
    assert [r.__dict__["event_id"] for r in records] == [None, None, 3]
    kinds = [r.exc_info[0] for r in records if r.exc_info]
    assert kinds == [ServiceError, RemoteProtocolError, ValueError]


async def test_on_error_alone_may_be_registered_on_the_session_late() -> None:
    seen: list[str] = []
    async with Call(on_transcript=lambda t, s: None, listen=False) as call:
        call.session.on("error", lambda e: seen.append(str(e)))
        await call.gets(error("one"))
    assert seen == ["one"]


async def test_on_error_gets_the_session_and_may_know_the_turn_is_over() -> None:
    got: list[object] = []

    async def on_error(error: Exception, session: Session) -> None:
        got.append(session)
        with pytest.raises(RuntimeError):
            await session.send_response("from on_error")
        got.append("refused")

    async def fail(t: object, s: Session) -> None:
        raise ValueError("broken")

    async with Call(on_transcript=fail, on_error=on_error, listen=False, fallback="x") as call:
        await call.says("hi", id=1)
        assert got == [call.session, "refused"]
        assert call.replies == said(1, "x")
