"""The session's life: events, callbacks, close, the end; scripted sockets as people write them."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import anyio
import pytest

from speech_engine_proto import ConnectionClosedError, ConversationMessage
from speech_engine_transports import ServiceError, SpeechEngineServer, SpeechEngineSession

from .clock import settle
from .peer import CLOSE, PING, PONG, Call, Peer, cut, init, said, transcript

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


class Scripted:
    """What people write to test their handlers: a list to read, a list of what was sent."""

    def __init__(self, *messages: str | bytes) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []
        self.closed = 0

    async def recv(self) -> str | bytes:
        if not self.messages:
            raise EOFError("end of script")
        return self.messages.pop(0)

    async def send(self, data: str) -> None:
        self.sent.append(json.loads(data))

    async def close(self) -> None:
        self.closed += 1


def frames(*replies: tuple[int | None, str, bool]) -> list[dict[str, Any]]:
    keys = ("event_id", "content", "is_final")
    return [{"type": "agent_response", **dict(zip(keys, r, strict=True))} for r in replies]


# --- scripted sockets: transcript, then disconnect


async def test_a_scripted_socket_gets_the_whole_reply_before_its_script_ends() -> None:
    ws = Scripted(init(), PING, transcript("hi", id=7))
    session = SpeechEngineSession(ws)
    events: list[object] = []

    async def answer(messages: list[ConversationMessage]) -> None:
        events.append(messages)
        await session.send_response("hello")

    session.on("init", events.append).on("user_transcript", answer)
    session.on("disconnected", lambda: events.append("disconnected"))
    await session.run()
    assert ws.sent == [PONG, *frames(*said(7, "hello"))]
    assert events == ["conv_1", [ConversationMessage("user", "hi")], "disconnected"]
    assert ws.closed == 1
    assert not session.is_open
    assert session.conversation_id == "conv_1"


async def test_a_scripted_stream_is_sent_before_the_script_ends() -> None:
    async def words() -> Any:
        yield "one "
        yield "two"

    ws = Scripted(transcript("hi"))
    session = SpeechEngineSession(ws)
    session.on("user_transcript", lambda _: session.send_response(words()))
    await session.run()
    assert ws.sent == frames(*said(None, "one ", "two"))


async def test_a_scripted_handler_that_raises_still_gets_its_terminator() -> None:
    ws = Scripted(transcript("hi", id=1))
    errors: list[Exception] = []
    session = SpeechEngineSession(ws, fallback="Sorry.").on("error", errors.append)

    async def fail(_: object) -> None:
        raise ValueError("no")

    session.on("user_transcript", fail)
    await session.run()
    assert ws.sent == frames(*said(1, "Sorry."))
    assert [str(error) for error in errors] == ["no"]


async def test_an_async_mock_is_a_socket() -> None:
    ws = AsyncMock()
    ws.recv.side_effect = [transcript("hi", id=1), CLOSE]
    session = SpeechEngineSession(ws)
    session.on("user_transcript", lambda _: session.send_response("hello"))
    await session.run()
    sent = [json.loads(call.args[0]) for call in ws.send.await_args_list]
    assert sent == frames(*said(1, "hello"))
    ws.close.assert_awaited_once_with()


async def test_a_plain_socket_may_give_bytes_and_close_without_await() -> None:
    class Plain(Scripted):
        def close(self) -> None:  # type: ignore[override]
            self.closed += 1

    ws = Plain(transcript("hi", id=1).encode())
    session = SpeechEngineSession(ws)
    session.on("user_transcript", lambda _: session.send_response("x"))
    await session.run()
    assert ws.sent == frames(*said(1, "x"))
    assert ws.closed == 1


async def test_a_plain_socket_that_cannot_send_is_a_closed_session() -> None:
    """Weakness 9 of the official SDK: a reply to a dead socket looked like a success."""

    class Dead(Scripted):
        async def send(self, data: str) -> None:
            raise OSError("broken pipe")

    raised: list[Exception] = []
    session = SpeechEngineSession(Dead(PING, transcript("hi", id=1)))

    async def answer(_: object) -> None:
        try:
            await session.send_response("x")
        except ConnectionClosedError as error:
            raised.append(error)
            raise

    errors: list[Exception] = []
    session.on("user_transcript", answer).on("error", errors.append)
    await session.run()
    assert "session is closed" in str(raised[0])
    assert errors == []


async def test_a_socket_that_fails_to_close_does_not_fail_the_session() -> None:
    class Stuck(Peer):
        async def close(self, code: int = 1000, reason: str = "") -> None:
            raise OSError("cannot close")

    async with Call(on_transcript=lambda t, s: None, peer=Stuck()) as call:
        await call.gets(CLOSE)
        assert call.events == ["close"]


# --- the end


async def test_a_close_message_closes_the_socket_with_1000_and_fires_close_once() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(CLOSE)
        assert call.ended.is_set()
        assert call.events == ["close"]
        assert call.peer.closed == [1000]
        assert not call.session.is_open


async def test_after_a_close_message_nothing_is_read_nor_answered() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(CLOSE, PING, transcript("hi", id=1))
        assert call.peer.frames == []


async def test_a_lost_socket_fires_disconnected_once() -> None:
    async with Call(on_transcript=lambda t, s: None) as call:
        call.peer.vanish()
        await call.ended.wait()
        assert call.events == ["disconnected"]


async def test_the_end_is_told_at_once_though_a_handler_still_cleans_up() -> None:
    cleaned = anyio.Event()

    async def slow(transcript: object, session: SpeechEngineSession) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
                cleaned.set()

    async with Call(on_transcript=slow) as call:
        await call.says("hi", id=1)
        await call.gets(CLOSE)
        assert call.events == ["close"]
        assert not call.ended.is_set()
        await call.ended.wait()
        assert cleaned.is_set()
        assert anyio.current_time() == pytest.approx(3)


async def test_a_handler_that_outlives_its_grace_is_named_and_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(transcript: object, session: SpeechEngineSession) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)

    async with Call(on_transcript=stubborn, cancel_grace=2) as call:
        await call.gets(init("conv_9"))
        await call.says("hi", id=1)
        call.peer.vanish()
        await call.ended.wait()
        assert anyio.current_time() == pytest.approx(60)
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "stubborn still runs 2 s after its cancellation" in record.getMessage()
    assert record.__dict__["conversation_id"] == "conv_9"


async def test_on_close_may_take_its_time_and_fail() -> None:
    async def on_close(session: SpeechEngineSession) -> None:
        await anyio.sleep(30)
        raise ValueError("late")

    async with Call(on_transcript=lambda t, s: None, on_close=on_close) as call:
        await call.gets(CLOSE)
        await call.ended.wait()
        assert [str(error) for error in call.take_errors()] == ["late"]


async def test_on_disconnect_gets_the_session() -> None:
    got: list[object] = []
    async with Call(on_transcript=lambda t, s: None, on_disconnect=got.append) as call:
        call.peer.vanish()
        await call.ended.wait()
        assert got == [call.session]


async def test_run_runs_once() -> None:
    async with Call(on_transcript=lambda t, s: None) as call:
        with pytest.raises(RuntimeError, match=r"run\(\) was already called"):
            await call.session.run()


async def test_a_socket_that_returns_rubbish_ends_the_run_with_that_error() -> None:
    peer = Peer()
    cancelled: list[bool] = []

    async def wait(transcript: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    session = SpeechEngineSession(peer).on("user_transcript", wait)
    peer.say(transcript("hi", id=1))
    peer.say(17)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        await session.run()
    assert cancelled == [True]


async def test_what_a_handler_must_not_raise_leaves_run_without_a_group() -> None:
    class Halt(BaseException):
        pass

    async def halt(_: object) -> None:
        await anyio.sleep(1)
        raise Halt

    session = SpeechEngineSession(Peer(transcript("hi"))).on("user_transcript", halt)
    with pytest.raises(Halt):
        await session.run()


# --- close() from our side


async def test_close_before_run_closes_the_socket_and_fires_nothing() -> None:
    call = Call(on_transcript=lambda t, s: None)
    call.session.close()
    call.session.close()
    assert not call.session.is_open
    async with call:
        assert call.ended.is_set()
        assert call.events == []
        assert call.peer.closed == [1000]


async def test_close_from_outside_ends_run_cancels_handlers_and_fires_nothing() -> None:
    seen: list[str] = []

    async def wait(transcript: object, session: SpeechEngineSession) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async with Call(on_transcript=wait) as call:
        await call.says("hi", id=1)
        call.session.close()
        call.session.close()
        await call.ended.wait()
        assert seen == ["cancelled"]
        assert call.events == []
        assert call.peer.closed == [1000]
        call.session.close()


async def test_close_inside_a_handler_lets_it_clean_up_but_not_speak() -> None:
    seen: list[object] = []

    async def leave(transcript: object, session: SpeechEngineSession) -> None:
        await session.send_response("Bye.")
        session.close()
        await anyio.sleep(1)
        with pytest.raises(ConnectionClosedError, match="session is closed"):
            await session.send_response("And another thing")
        seen.append("cleaned up")

    async with Call(on_transcript=leave) as call:
        await call.says("hi", id=1)
        await call.ended.wait()
        assert seen == ["cleaned up"]
        assert call.replies == said(1, "Bye.")
        assert call.events == []


async def test_close_inside_a_handler_that_has_not_replied_adds_no_terminator() -> None:
    async with Call(on_transcript=lambda t, s: s.close(), fallback="Sorry") as call:
        await call.says("hi", id=1)
        assert call.replies == []
        assert call.peer.closed == [1000]


@pytest.mark.parametrize("pause", [0, 1], ids=["sync", "async"])
async def test_close_inside_on_init_spares_the_one_that_calls(pause: float) -> None:
    seen: list[str] = []

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.close()
        if pause:
            await anyio.sleep(pause)
        seen.append("after")

    async with Call(on_init=on_init, on_transcript=lambda t, s: None) as call:
        await call.gets(init())
        await call.ended.wait()
        assert seen == ["after"]
        assert call.events == []
        assert call.peer.closed == [1000]


async def test_close_by_a_background_task_cancels_the_handler() -> None:
    seen: list[str] = []

    async with anyio.create_task_group() as background:

        async def hang_up(session: SpeechEngineSession) -> None:
            await anyio.sleep(1)
            session.close()

        async def wait(transcript: object, session: SpeechEngineSession) -> None:
            background.start_soon(hang_up, session)
            try:
                await anyio.sleep_forever()
            finally:
                seen.append("cancelled")

        async with Call(on_transcript=wait) as call:
            await call.says("hi", id=1)
            await call.ended.wait()
            assert seen == ["cancelled"]
            assert anyio.current_time() == pytest.approx(1)


async def test_close_inside_on_error_ends_the_conversation() -> None:
    async with Call(on_transcript=lambda t, s: None, on_error=lambda e, s: s.close()) as call:
        await call.gets("rubbish")
        assert call.ended.is_set()
        assert call.events == []
        assert len(call.take_errors()) == 1


async def test_send_response_after_the_end_says_that_the_session_is_closed() -> None:
    async with Call(on_transcript=lambda t, s: None) as call:
        call.session.close()
        with pytest.raises(RuntimeError, match="session is closed"):
            await call.session.send_response("anybody?")


# --- on_init


async def test_a_slow_on_init_delays_transcripts_but_no_pong() -> None:
    """Weakness 1 of the official SDK."""
    seen: list[str] = []

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await anyio.sleep(1)
        seen.append("init done")

    async def answer(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
        seen.append(transcript[-1].content)
        await session.send_response("hello")

    async with Call(on_init=on_init, on_transcript=answer) as call:
        await call.gets(init(), PING, transcript("old", id=1))
        assert call.peer.pongs == 1
        assert seen == []
        await call.gets(transcript("new", id=2), PING)
        assert call.peer.pongs == 2
        assert anyio.current_time() == 0
        await anyio.sleep(2)
        assert seen == ["init done", "new"]
        assert call.replies == said(2, "hello")


async def test_transcripts_that_waited_for_on_init_leave_nothing_behind() -> None:
    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await anyio.sleep(1)

    async with Call(on_init=on_init, on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(init())
        for id in range(1, 40):
            await call.says(f"attempt {id}", id=id)
        await anyio.sleep(2)
        assert call.replies == said(39, "x")
        assert call.session._turns.tasks() == []


async def test_an_on_init_that_never_ends_is_cancelled_at_the_end() -> None:
    seen: list[str] = []

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")

    async with Call(on_init=on_init, on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(init())
        await call.says("hi", id=1)
        await call.gets(CLOSE)
        assert call.ended.is_set()
    assert seen == ["cancelled"]
    assert call.replies == []


async def test_an_on_init_that_fails_reaches_on_error_and_the_conversation_goes_on() -> None:
    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        raise ValueError("no database")

    async with Call(on_init=on_init, on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(init())
        await call.says("hi", id=1)
        assert [str(error) for error in call.take_errors()] == ["no database"]
        assert call.replies == said(1, "x")


async def test_a_second_init_is_a_violation_and_fires_nothing() -> None:
    """The official session fires again and takes the new id."""
    ids: list[str] = []
    async with Call(on_init=lambda id, s: ids.append(id), on_transcript=lambda t, s: None) as call:
        await call.gets(init("one"), init("two"))
        assert ids == ["one"]
        assert call.session.conversation_id == "one"
        assert "second init" in str(call.take_errors()[0])


async def test_a_transcript_before_init_is_answered() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.says("hi", id=1)
        assert call.replies == said(1, "x")
        assert call.session.conversation_id is None


# --- bad messages


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        "null",
        b"\xff\xfe",
        '{"type":"user_transcript"}',
        '{"type":"user_transcript","user_transcript":[{"role":"user"}],"event_id":9}',
        '{"type":"user_transcript","user_transcript":[{"role":"user","content":5}],"event_id":9}',
        '{"type":"user_transcript","user_transcript":[],"event_id":"9"}',
        '{"type":"error"}',
    ],
)
async def test_a_bad_message_is_reported_and_the_reply_in_flight_goes_on(
    message: str | bytes,
) -> None:
    """Weaknesses 4 and 5: it killed the socket, or cancelled the good reply."""
    go_on = anyio.Event()

    async def answer(transcript: object, session: SpeechEngineSession) -> None:
        await session.send_response("one ", final=False)
        await go_on.wait()
        await session.send_response("two")

    async with Call(on_transcript=answer) as call:
        await call.says("hi", id=1)
        await call.gets(message)
        assert len(call.take_errors()) == 1
        go_on.set()
        await settle()
        assert call.replies == said(1, "one ", "two")
        assert call.session.is_open


async def test_null_content_is_an_empty_message() -> None:
    """Weakness 4: it ended the conversation with 1011."""
    got: list[list[ConversationMessage]] = []
    async with Call(on_transcript=lambda t, s: got.append(t), fallback="x") as call:
        await call.gets(
            '{"type":"user_transcript","user_transcript":[{"role":"agent","content":null}],"event_id":1}'
        )
        assert got == [[ConversationMessage("agent", "")]]
        assert call.replies == said(1, "x")


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"later_version","x":1}',
        '{"type":"pong"}',
        '{"type":"agent_response","content":"","is_final":true,"event_id":1}',
    ],
)
async def test_a_message_without_meaning_is_no_error(message: str) -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets(message)
        await call.says("hi", id=1)
        assert call.replies == said(1, "x")


async def test_an_error_message_is_an_exception_with_that_text() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x")) as call:
        await call.gets('{"type":"error","message":"generation failed"}')
        [error] = call.take_errors()
        assert isinstance(error, ServiceError)
        assert str(error) == "generation failed"
        await call.says("hi", id=1)
        assert call.replies == said(1, "x")


# --- on, once, off


async def test_handlers_are_called_in_order_and_the_first_failure_skips_the_rest() -> None:
    seen: list[str] = []

    def fail(_: object) -> None:
        seen.append("b")
        raise ValueError("b")

    async with Call() as call:
        session = call.session.on("user_transcript", lambda t: seen.append("a"))
        session.on("user_transcript", fail).on("user_transcript", lambda t: seen.append("c"))
        await call.says("hi", id=1)
        assert seen == ["a", "b"]
        assert call.replies == said(1)
        assert len(call.take_errors()) == 1


async def test_once_fires_once_and_off_takes_it_out() -> None:
    """Weakness 17: ``off`` did not remove a ``once`` handler."""
    seen: list[str] = []

    def first(_: object) -> None:
        seen.append("first")

    def never(_: object) -> None:
        seen.append("never")

    def always(_: object) -> None:
        seen.append("always")

    async with Call(fallback="x") as call:
        session = call.session
        assert session.once("user_transcript", first) is session
        assert session.once("user_transcript", never) is session
        session.on("user_transcript", always)
        assert session.off("user_transcript", never) is session
        await call.says("a", id=1)
        await call.says("b", id=2)
        assert seen == ["first", "always", "always"]


async def test_off_removes_one_registration_and_knows_bound_methods() -> None:
    class Agent:
        calls = 0

        def hear(self, _: object) -> None:
            self.calls += 1

    agent = Agent()
    async with Call(fallback="x") as call:
        call.session.on("user_transcript", agent.hear).on("user_transcript", agent.hear)
        call.session.off("user_transcript", agent.hear)
        await call.says("a", id=1)
        assert agent.calls == 1
        call.session.off("user_transcript", agent.hear).off("user_transcript", agent.hear)
        call.session.off("close", print)
        await call.says("b", id=2)
        assert agent.calls == 1


async def test_sessions_of_one_server_do_not_share_what_they_register() -> None:
    server = SpeechEngineServer(on_transcript=lambda t, s: None)
    seen: list[str] = []
    for name in "ab":
        session = server.handle_connection(Scripted(transcript("hi")))
        session.on("user_transcript", lambda _, name=name: seen.append(name))
        await session.run()
    assert seen == ["a", "b"]


@pytest.mark.parametrize("verb", ["on", "once", "off"])
def test_an_unknown_event_is_refused(verb: str) -> None:
    session = SpeechEngineSession(Scripted())
    with pytest.raises(ValueError, match=r"event: expected one of init, .*; got 'transcript'"):
        getattr(session, verb)("transcript", print)


async def test_each_handler_gets_a_list_of_its_own() -> None:
    lists: list[list[ConversationMessage]] = []

    def spoil(messages: list[ConversationMessage]) -> None:
        lists.append(messages)
        messages.clear()

    async with Call(fallback="x") as call:
        call.session.on("user_transcript", spoil).on("user_transcript", lists.append)
        await call.says("hi", id=1)
        assert lists[1] == [ConversationMessage("user", "hi")]
        assert type(lists[1]) is list


async def test_whatever_a_handler_returns_is_awaited_if_it_can_be() -> None:
    """Weakness 17: a returned future was not awaited."""

    class Later:
        def __init__(self, work: Callable[[], Any]) -> None:
            self.work = work

        def __await__(self) -> Any:
            return self.work().__await__()

    async with Call() as call:
        call.session.on("user_transcript", lambda _: Later(lambda: call.session.send_response("x")))
        call.session.on("user_transcript", lambda _: 17)
        await call.says("hi", id=1)
        assert call.replies == said(1, "x")


async def test_without_a_handler_for_transcripts_it_warns_and_ends_each_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Call() as call:
        await call.says("hi", id=1)
        assert call.replies == said(1)
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "no handler for transcripts" in messages[0]


# --- what else it tells


async def test_the_request_is_that_of_the_socket() -> None:
    async with Call(on_transcript=lambda t, s: None) as call:
        assert call.session.request.path == "/ws"
        assert call.session.request.query == "a=b"


def test_a_handler_may_keep_its_own_things_on_the_session() -> None:
    session: Any = SpeechEngineSession(Scripted())
    session.customer = 42
    assert session.customer == 42


async def test_pings_are_answered_whatever_the_handlers_do() -> None:
    async def wait(transcript: object, session: SpeechEngineSession) -> None:
        await anyio.sleep_forever()

    async with Call(on_transcript=wait) as call:
        await call.gets(PING)
        await call.says("hi", id=1)
        await call.gets(PING, PING)
        assert call.peer.pongs == 3
        assert anyio.current_time() == 0


async def test_outer_cancellation_reaches_run_and_leaves_nothing() -> None:
    seen: list[str] = []

    async def answer(transcript: object) -> None:
        await session.send_response("one", final=False)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            seen.append("cleaned up")

    peer = Peer(transcript("hi", id=1))
    session = SpeechEngineSession(peer).on("user_transcript", answer)
    session.on("disconnected", lambda: seen.append("disconnected"))
    with anyio.move_on_after(5) as scope:
        await session.run()
    assert scope.cancelled_caught
    assert seen == ["cleaned up"]
    assert anyio.current_time() == pytest.approx(6)
    assert peer.replies == cut(1, "one")
    assert not session.is_open


async def test_a_server_can_close_all_of_its_conversations() -> None:
    ends: list[str] = []
    server = SpeechEngineServer(
        on_transcript=lambda t, s: None, on_disconnect=lambda s: ends.append("disconnected")
    )
    peers = [Peer(), Peer()]
    async with anyio.create_task_group() as group:
        for peer in peers:
            group.start_soon(server.converse, peer)
        await settle()
        await server.close_all(1001)
    assert [peer.closed[0] for peer in peers] == [1001, 1001]
    assert ends == ["disconnected"] * 2
    await server.close_all()


async def test_a_session_is_collected_when_it_is_over() -> None:
    def answer(transcript: object, session: SpeechEngineSession) -> Any:
        return session.send_response("hello")

    async def one() -> weakref.ref[SpeechEngineSession]:
        async with Call(on_transcript=answer) as call:
            await call.gets(init())
            await call.says("hi", id=1)
        return weakref.ref(call.session)

    sessions = [await one() for _ in range(200)]
    gc.collect()
    assert [ref for ref in sessions if ref() is not None] == []
