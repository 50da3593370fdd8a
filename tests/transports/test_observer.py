"""What an observer is told, in which order and when; in virtual time."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_transports import (
    LimitExceeded,
    Limits,
    Observer,
    SpeechEngineServer,
    SpeechEngineSession,
    create_session,
)

from .clock import settle
from .peer import CLOSE, PING, Call, Peer, cut, init, said, transcript

if TYPE_CHECKING:
    from speech_engine_proto import ConversationState, Turn

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession

where: ContextVar[str] = ContextVar("where", default="nowhere")


class Notes(Observer):
    """Writes down everything, each with the id of its turn."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def conversation_started(self, session: Session) -> None:
        where.set("conversation")
        self.told.append(("started", session.conversation_id))

    def conversation_ended(self, session: Session, state: ConversationState) -> None:
        self.told.append(("ended", session.conversation_id, state.value, where.get()))

    def turn_started(self, session: Session, turn: Turn) -> None:
        self.told.append(("turn", turn.event_id))

    def handler_started(self, session: Session, turn: Turn) -> None:
        where.set(f"turn {turn.event_id}")
        self.told.append(("handler", turn.event_id))

    def turn_resent(self, session: Session, turn: Turn) -> None:
        self.told.append(("resent", turn.event_id, turn.attempt))

    def first_word(self, session: Session, turn: Turn) -> None:
        self.told.append(("first word", turn.event_id, turn.text_sent))

    def turn_finished(self, session: Session, turn: Turn) -> None:
        self.told.append(("finished", turn.event_id, turn.pieces_sent))

    def turn_interrupted(self, session: Session, turn: Turn, by: Turn | None) -> None:
        self.told.append(("interrupted", turn.event_id, None if by is None else by.event_id))

    def error(self, session: Session, error: Exception, turn: Turn | None) -> None:
        self.told.append(("error", type(error).__name__, None if turn is None else turn.event_id))

    def limit_exceeded(
        self, session: Session | None, error: LimitExceeded, turn: Turn | None
    ) -> None:
        assert (session is None) == (error.limit == "max_sessions")
        self.told.append(("limit", error.limit, None if turn is None else turn.event_id))

    def ping_received(self, session: Session) -> None:
        self.told.append(("ping",))

    def pong_sent(self, session: Session) -> None:
        self.told.append(("pong",))

    def take(self) -> list[tuple[object, ...]]:
        told, self.told[:] = self.told[:], []
        return told


async def in_pieces(transcript: Any, session: Session) -> None:
    await session.send_response("Well, ", final=False)
    await anyio.sleep(2)
    await session.send_response("yes.")


async def test_a_conversation_from_its_beginning_to_its_end() -> None:
    notes = Notes()
    async with Call(on_transcript=in_pieces, observer=notes) as call:
        assert notes.take() == [("started", None)]
        await call.gets(init("conv_7"), PING)
        assert notes.take() == [("ping",), ("pong",)]
        await call.says("hi", id=1)
        assert notes.take() == [("turn", 1), ("handler", 1), ("first word", 1, "Well, ")]
        await anyio.sleep(3)
        assert notes.take() == [("finished", 1, 2)]
        await call.gets(CLOSE)
        await call.ended.wait()
        assert notes.take() == [("ended", "conv_7", "ended", "conversation")]


async def test_an_interruption_comes_before_the_turn_that_interrupts() -> None:
    notes = Notes()
    async with Call(on_transcript=in_pieces, observer=notes) as call:
        await call.says("hi", id=1)
        notes.take()
        await call.says("hi", "Well, ", "stop", id=2)
        assert notes.take() == [
            ("interrupted", 1, 2),
            ("turn", 2),
            ("handler", 2),
            ("first word", 2, "Well, "),
        ]


async def test_a_turn_asked_again_goes_on() -> None:
    async def slow(transcript: Any, session: Session) -> None:
        await anyio.sleep(1)
        await session.send_response("yes")

    notes = Notes()
    async with Call(on_transcript=slow, observer=notes) as call:
        await call.says("hi", id=1)
        await call.says("hi", id=4)
        await anyio.sleep(2)
        assert notes.take()[1:] == [
            ("turn", 1),
            ("handler", 1),
            ("resent", 4, 2),
            ("first word", 4, "yes"),
            ("finished", 4, 1),
        ]


@pytest.mark.parametrize(
    ("how", "state"), [("close", "ended"), ("vanish", "lost"), ("leave", "closed")]
)
async def test_the_end_of_a_conversation_interrupts_its_turn_once(how: str, state: str) -> None:
    notes = Notes()
    async with Call(on_transcript=in_pieces, observer=notes) as call:
        await call.says("hi", id=1)
        notes.take()
        match how:
            case "close":
                call.peer.say(CLOSE)
            case "vanish":
                call.peer.vanish()
            case _:
                call.session.close()
        await call.ended.wait()
        assert notes.take() == [
            ("interrupted", 1, None),
            ("ended", None, state, "conversation"),
        ]


async def test_a_handler_that_hangs_up_interrupts_its_own_turn() -> None:
    async def hang_up(transcript: Any, session: Session) -> None:
        await session.send_response("Bye.", final=False)
        session.close()
        session.close()

    notes = Notes()
    async with Call(on_transcript=hang_up, observer=notes) as call:
        await call.says("hi", id=1)
        await call.ended.wait()
        assert notes.take()[-2:] == [
            ("interrupted", 1, None),
            ("ended", None, "closed", "conversation"),
        ]


async def test_a_socket_that_ends_while_a_handler_closes_is_no_second_interruption() -> None:
    class Closing(Peer):
        session: Session

        async def recv(self) -> str | bytes | None:
            message = await super().recv()
            if message is None:
                self.session.close()
            return message

    notes = Notes()
    peer = Closing(transcript("hi", id=1))
    async with Call(on_transcript=in_pieces, observer=notes, peer=peer) as call:
        peer.session = call.session
        peer.vanish()
        await call.ended.wait()
        assert notes.take()[-2:] == [
            ("interrupted", 1, None),
            ("ended", None, "closed", "conversation"),
        ]


async def test_a_cancelled_run_ends_the_conversation() -> None:
    notes = Notes()
    peer = Peer(transcript("hi", id=1))
    session = create_session(peer, observer=notes).on("user_transcript", lambda t: anyio.sleep(9))
    with anyio.move_on_after(1):
        await session.run()
    assert notes.take() == [
        ("started", None),
        ("turn", 1),
        ("handler", 1),
        ("interrupted", 1, None),
        ("ended", None, "closed", "conversation"),
    ]


async def test_handlers_see_what_is_set_where_they_start() -> None:
    seen: list[str] = []

    async def nested() -> None:
        seen.append(where.get())

    async def answer(transcript: Any, session: Session) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(nested)
        await session.send_response("yes")

    async with Call(
        on_init=lambda id, session: seen.append(where.get()),
        on_transcript=answer,
        on_close=lambda session: seen.append(where.get()),
        observer=Notes(),
    ) as call:
        await call.gets(init())
        await call.says("hi", id=1)
        await call.says("hi", "yes", "and?", id=2)
        await call.gets(CLOSE)
        await call.ended.wait()
    assert seen == ["conversation", "turn 1", "turn 2", "conversation"]
    assert where.get() == "nowhere"


async def test_a_handler_may_start_later_than_its_turn_or_never() -> None:
    notes = Notes()
    async with Call(
        on_init=lambda id, session: anyio.sleep(2), on_transcript=in_pieces, observer=notes
    ) as call:
        await call.gets(init(), transcript("hi", id=1))
        assert notes.take()[1:] == [("turn", 1)]
        await call.says("hi", "", "hello?", id=2)
        assert notes.take() == [("interrupted", 1, 2), ("turn", 2)]
        await anyio.sleep(3)
        assert notes.take() == [("handler", 2), ("first word", 2, "Well, ")]


async def test_errors_are_told_with_their_turn_and_once() -> None:
    async def fail(transcript: Any, session: Session) -> None:
        raise ValueError("secret")

    async def fail_too(error: Exception, session: Session) -> None:
        raise KeyError("secret")

    notes = Notes()
    async with Call(
        on_transcript=fail,
        on_error=fail_too,
        listen=False,
        observer=notes,
    ) as call:
        await call.says("hi", id=1)
        assert notes.take()[1:] == [
            ("turn", 1),
            ("handler", 1),
            ("error", "ValueError", 1),
            ("finished", 1, 0),
            ("error", "KeyError", None),
        ]
        await call.gets("garbage", '{"type":"error","message":"secret"}')
        assert [entry for entry in notes.take() if entry[1] != "KeyError"] == [
            ("error", "RemoteProtocolError", None),
            ("error", "ServiceError", None),
        ]


async def test_an_error_is_told_where_only_the_log_gets_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_words(error: Exception | None) -> str:
        raise LookupError("secret")

    notes = Notes()
    async with Call(
        on_transcript=lambda t, s: None, listen=False, observer=notes, fallback=no_words
    ) as call:
        await call.says("hi", id=1)
        assert ("error", "LookupError", None) in notes.take()
        await call.gets("garbage")
        assert notes.take() == [("error", "RemoteProtocolError", None)]
    assert "fallback failed" in caplog.text


async def test_a_limit_of_a_turn_and_one_of_a_conversation() -> None:
    async def slow(transcript: Any, session: Session) -> None:
        await anyio.sleep(3)
        await session.send_response("yes")

    notes = Notes()
    limits = Limits(first_word_timeout=1, idle_timeout=20)
    async with Call(on_transcript=slow, observer=notes, limits=limits, fallback="Hm, ") as call:
        await call.says("hi", id=1)
        await call.ended.wait()
        assert len(call.take_errors()) == 2
        assert notes.take()[1:] == [
            ("turn", 1),
            ("handler", 1),
            ("limit", "first_word_timeout", 1),
            ("first word", 1, "Hm, "),
            ("finished", 1, 2),
            ("limit", "idle_timeout", None),
            ("ended", None, "lost", "conversation"),
        ]


def test_a_limit_of_the_server_has_no_session() -> None:
    notes = Notes()
    SpeechEngineServer(observer=notes).exceed("max_sessions")
    assert notes.take() == [("limit", "max_sessions", None)]


async def test_a_terminator_that_could_not_be_written_finished_the_turn_all_the_same() -> None:
    notes = Notes()
    async with Call(
        on_transcript=lambda t, s: None, observer=notes, peer=Peer(stalled=True)
    ) as call:
        await call.says("hi", id=1)
        await call.says("hi", "hello?", id=2)
        assert notes.take()[1:] == [
            ("turn", 1),
            ("handler", 1),
            ("finished", 1, 0),
            ("turn", 2),
            ("handler", 2),
            ("finished", 2, 0),
        ]


async def test_a_pong_that_has_to_wait_is_told_when_it_is_written() -> None:
    notes = Notes()
    peer = Peer(stalled=True)
    async with Call(on_transcript=lambda t, s: None, observer=notes, peer=peer) as call:
        await call.gets(PING, PING)
        assert notes.take()[1:] == [("ping",), ("ping",)]
        peer.read_again()
        await settle()
        assert notes.take() == [("pong",), ("pong",)]


async def test_a_pong_for_a_socket_that_is_gone_is_none() -> None:
    notes = Notes()
    peer = Peer(stalled=True)
    async with Call(on_transcript=lambda t, s: None, observer=notes, peer=peer) as call:
        await call.gets(PING)
        peer.vanish()
        await call.ended.wait()
    assert ("pong",) not in notes.take()


async def test_what_an_observer_raises_is_logged_and_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Observer):
        def turn_started(self, session: Session, turn: Turn) -> None:
            raise RuntimeError("no such metric")

        def first_word(self, session: Session, turn: Turn) -> None:
            raise RuntimeError("no such metric")

    async with Call(on_transcript=in_pieces, observer=Broken()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(3)
        assert call.replies == said(1, "Well, ", "yes.")
    failed = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert failed == [
        "the observer failed in turn_started",
        "the observer failed in first_word",
    ]


async def test_an_observer_that_overrides_nothing_changes_nothing() -> None:
    async with Call(on_transcript=in_pieces, observer=Observer()) as call:
        await call.gets(init(), PING, "garbage")
        await call.says("hi", id=1)
        await call.says("hi", "Well, ", "stop", id=2)
        await anyio.sleep(3)
        assert call.replies == [*cut(1, "Well, "), *said(2, "Well, ", "yes.")]
        assert call.peer.pongs == 1
        call.take_errors()


@pytest.mark.parametrize("make", [SpeechEngineServer, lambda **o: create_session(Peer(), **o)])
def test_what_is_no_observer_is_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="observer: expected an Observer, got dict"):
        make(observer={})
