"""What happens at each bound: the error, the log line, the count, the close code; in virtual time.

The bounds that a real socket is needed for, the number of sessions and the length of a message,
are tested with the servers.
"""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

import speech_engine_proto
from speech_engine_transports import LimitExceeded, Limits, SpeechEngineServer, SpeechEngineSession
from speech_engine_transports.limits import with_defaults

from .clock import settle
from .peer import PING, Call, Peer, cut, init, said

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession


def limit_of(call: Call) -> tuple[str, float]:
    [error] = call.take_errors()
    assert isinstance(error, LimitExceeded)
    return error.limit, error.value


async def quiet(transcript: Any, session: Session) -> None:
    await session.send_response("yes")


# --- the table


def test_the_defaults() -> None:
    limits = Limits()
    assert (limits.max_sessions, limits.max_frame_bytes) == (1000, 16 * 1024 * 1024)
    assert (limits.handshake_timeout, limits.first_message_timeout) == (10, 30)
    assert (limits.idle_timeout, limits.backlog_timeout) == (None, 10)
    assert (limits.handler_timeout, limits.first_word_timeout) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_sessions", 0, "expected a positive int, got 0"),
        ("max_sessions", 1.5, "expected a positive int, got 1.5"),
        ("idle_timeout", 0, "expected seconds above 0 or None, got 0"),
        ("idle_timeout", True, "expected seconds above 0 or None, got True"),
        ("backlog_timeout", "10", "expected seconds above 0 or None, got '10'"),
        ("handler_timeout", float("inf"), "expected seconds above 0 or None, got inf"),
        ("first_word_timeout", float("nan"), "expected seconds above 0 or None, got nan"),
        ("max_frame_bytes", -1, "expected a positive int, got -1"),
    ],
)
def test_what_is_no_bound_is_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"Limits\.{name}: {expected}"):
        Limits(**{name: value})


def test_the_limits_of_the_core_get_the_defaults_of_the_rest() -> None:
    limits = with_defaults(speech_engine_proto.Limits(max_frame_bytes=7, max_messages=3))
    assert limits == Limits(max_frame_bytes=7, max_messages=3)
    assert with_defaults(limits) is limits
    assert SpeechEngineServer(limits=speech_engine_proto.Limits(7)).limits.max_sessions == 1000


# --- silence


async def test_a_caller_who_never_says_a_word_is_closed_with_1008(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with Call(on_transcript=quiet) as call:
            await anyio.sleep(29)
            assert call.peer.closed == []
            await anyio.sleep(3)
            await call.ended.wait()
            assert call.peer.closed[0] == 1008
            assert call.events == ["disconnected"]
            assert limit_of(call) == ("first_message_timeout", 30)
    assert "limit exceeded: first_message_timeout: more than 30" in caplog.messages


async def test_any_message_is_a_first_message() -> None:
    async with Call(on_transcript=quiet) as call:
        await call.gets(PING)
        await anyio.sleep(10_000)
        assert call.session.is_open


async def test_a_silent_call_is_closed_with_1001() -> None:
    limits = Limits(idle_timeout=60)
    async with Call(on_transcript=quiet, limits=limits) as call:
        await call.gets(init())
        for _ in range(5):
            await anyio.sleep(50)
            await call.gets(PING)
        assert call.session.is_open
        await anyio.sleep(62)
        await call.ended.wait()
        assert call.peer.closed[0] == 1001
        assert limit_of(call) == ("idle_timeout", 60)


async def test_no_bounds_no_timer() -> None:
    limits = Limits(first_message_timeout=None, backlog_timeout=None)
    async with Call(on_transcript=quiet, limits=limits) as call:
        await anyio.sleep(50_000)
        assert call.session.is_open


# --- a peer that does not read


async def test_a_peer_that_does_not_read_is_aborted() -> None:
    async with Call(on_transcript=quiet, peer=Peer(stalled=True)) as call:
        await call.says("hi", id=1)
        await anyio.sleep(9)
        assert call.peer.aborted == 0
        await anyio.sleep(3)
        await call.ended.wait()
        assert call.peer.aborted == 1
        assert limit_of(call) == ("backlog_timeout", 10)


async def test_a_peer_that_reads_slowly_is_kept() -> None:
    async def talk(transcript: Any, session: Session) -> None:
        for _ in range(20):
            await session.send_response("x", final=False)

    class Trickle(Peer):
        async def send(self, frame: str) -> None:
            await super().send(frame)
            self.stalled = True

    async with Call(on_transcript=talk, peer=Trickle(stalled=True)) as call:
        await call.says("hi", id=1)
        for count in range(1, 6):
            await anyio.sleep(8)
            call.peer.read_again()
            await settle()
            assert call.replies == cut(1, *["x"] * count)
        assert call.session.is_open


async def test_one_timer_goes_on_when_its_call_has_ended() -> None:
    """It lives in the group of one of the calls, and moves to another."""
    server = SpeechEngineServer(on_transcript=quiet)
    peers = [Peer() for _ in range(5)]
    async with anyio.create_task_group() as group:
        for peer in peers:
            group.start_soon(server.handle_connection(peer).run)
        await settle()
        for peer in peers[:4]:
            await anyio.sleep(1)
            peer.vanish()
            await settle()
        await anyio.sleep(30)
    assert [peer.closed for peer in peers] == [[1000]] * 4 + [[1008, 1000]]
    assert server.exceeded == {"first_message_timeout": 1}


# --- turns that take too long


async def test_a_handler_that_takes_too_long_is_ended_for_the_turn() -> None:
    cancelled = anyio.Event()

    async def forever(transcript: Any, session: Session) -> None:
        try:
            await session.send_response("Well, ", final=False)
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    limits = Limits(handler_timeout=5)
    async with Call(on_transcript=forever, limits=limits, fallback="Sorry.") as call:
        await call.says("hi", id=1)
        await anyio.sleep(4.9)
        assert call.replies == cut(1, "Well, ")
        await anyio.sleep(0.2)
        assert call.replies == said(1, "Well, ", "Sorry.")
        assert cancelled.is_set()
        assert limit_of(call) == ("handler_timeout", 5)
        await call.says("hi", "x", "again", id=2)
        assert call.replies[3:] == cut(2, "Well, ")


async def test_its_clean_up_does_not_hold_the_terminator() -> None:
    async def stubborn(transcript: Any, session: Session) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)
            await session.send_response("too late")

    limits = Limits(handler_timeout=5)
    async with Call(on_transcript=stubborn, limits=limits, fallback="Sorry.") as call:
        await call.says("hi", id=1)
        await anyio.sleep(6)
        assert call.replies == said(1, "Sorry.")
        await anyio.sleep(60)
        assert call.replies == said(1, "Sorry.")
        assert limit_of(call) == ("handler_timeout", 5)


async def test_a_stream_that_hangs_is_ended_too() -> None:
    async def words() -> Any:
        yield "One, "
        await anyio.sleep_forever()

    limits = Limits(handler_timeout=5)
    async with Call(
        on_transcript=lambda t, s: s.send_response(words()), limits=limits, fallback="Sorry."
    ) as call:
        await call.says("hi", id=1)
        await anyio.sleep(6)
        assert call.replies == said(1, "One, ", "Sorry.")
        assert limit_of(call) == ("handler_timeout", 5)


async def test_a_slow_first_word_is_bridged_and_the_turn_goes_on() -> None:
    async def slow(transcript: Any, session: Session) -> None:
        await anyio.sleep(5)
        await session.send_response("Here it is.")

    fallbacks: list[Exception | None] = []

    def fallback(error: Exception | None) -> str:
        fallbacks.append(error)
        return "One moment. "

    limits = Limits(first_word_timeout=2.5)
    async with Call(on_transcript=slow, limits=limits, fallback=fallback) as call:
        await call.says("hi", id=1)
        await anyio.sleep(2.6)
        assert call.replies == cut(1, "One moment. ")
        await anyio.sleep(3)
        assert call.replies == said(1, "One moment. ", "Here it is.")
        [error] = fallbacks
        assert isinstance(error, LimitExceeded)
        assert limit_of(call) == ("first_word_timeout", 2.5)


async def test_a_first_word_in_time_is_left_alone() -> None:
    async def talk(transcript: Any, session: Session) -> None:
        await session.send_response("Well, ", final=False)
        await anyio.sleep(10)
        await session.send_response("yes.")

    limits = Limits(first_word_timeout=2.5, handler_timeout=60)
    async with Call(on_transcript=talk, limits=limits, fallback="Hm.") as call:
        await call.says("hi", id=1)
        await anyio.sleep(11)
        assert call.replies == said(1, "Well, ", "yes.")


async def test_an_interrupted_turn_has_no_timer() -> None:
    async def stubborn(transcript: Any, session: Session) -> None:
        if len(transcript) == 1:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(20)
        else:
            await session.send_response("new")

    limits = Limits(first_word_timeout=2, handler_timeout=5)
    async with Call(on_transcript=stubborn, limits=limits, fallback="Hm.") as call:
        await call.says("hi", id=1)
        await anyio.sleep(1)
        await call.says("hi", "", "again", id=2)
        await anyio.sleep(30)
        assert call.replies == said(2, "new")


async def test_without_on_error_the_log_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Call(on_transcript=quiet, listen=False) as call:
        await call.ended.wait()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [
        "limit exceeded: first_message_timeout: more than 30"
    ]
