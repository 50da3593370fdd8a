"""`LocalEngine` over real sockets: what it sends, what it keeps, what it holds against a server."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local import (
    AgentLostError,
    ConnectError,
    ConversationOverError,
    LocalEngine,
    NoPongError,
    NoTerminatorError,
    Reply,
    ReplyTooLongError,
    Rule,
    Violation,
    _line,
)
from speech_engine_local import engine as engine_module
from speech_engine_local._dial import _refusal
from speech_engine_local._line import write
from speech_engine_local.agent import ExampleAgent
from speech_engine_proto import ConversationMessage
from speech_engine_proto.auth import AUTHORIZATION_HEADER, verify_token
from speech_engine_transports.server import SpeechEngineServer

from .servers import Call, answering, raw_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from speech_engine_transports import Socket

    Answer = Callable[[Call, int], Awaitable[None]]

pytestmark = pytest.mark.anyio

KEY = "sk_test_of_the_local_engine"


async def begin_to_count(call: Call, event_id: int) -> None:
    """Say three words of a reply that never ends."""
    for word in ("One, ", "two, ", "three, "):
        await call.piece(word, event_id)


async def silent(call: Call, event_id: int) -> None:
    """Say nothing."""


def first_piece(reply: Reply) -> str:
    return "".join(reply.pieces[:1])


def spoken(engine: LocalEngine) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in engine.history]


class TestAConversation:
    async def test_sends_a_token_then_init_then_the_whole_history(self) -> None:
        async with raw_server(answering()) as server:
            engine = LocalEngine(
                server.url, api_key=KEY, conversation_id="conv_7", headers=[("X-Who", "Ada")]
            )
            async with engine:
                assert engine.conversation_id == "conv_7"
                await engine.say("good day")
                await engine.say("bye now")
        headers = server.requests[0].headers
        assert verify_token(headers[AUTHORIZATION_HEADER], KEY, now=time.time())
        assert headers["X-Who"] == "Ada"
        assert server.call.received == [
            {"type": "init", "conversation_id": "conv_7"},
            {
                "type": "user_transcript",
                "user_transcript": [{"role": "user", "content": "good day"}],
                "event_id": 1,
            },
            {
                "type": "user_transcript",
                "user_transcript": [
                    {"role": "user", "content": "good day"},
                    {"role": "agent", "content": "good day "},
                    {"role": "user", "content": "bye now"},
                ],
                "event_id": 2,
            },
            {"type": "close"},
        ]

    async def test_without_a_key_no_token_is_sent_and_the_name_is_random(self) -> None:
        async with raw_server(answering()) as server:
            async with LocalEngine(server.url) as first, LocalEngine(server.url) as second:
                assert first.conversation_id != second.conversation_id
        assert all(AUTHORIZATION_HEADER not in request.headers for request in server.requests)

    async def test_a_reply_tells_what_came_and_when(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            assert engine.reply is None
            reply = await engine.say("one two")
            assert engine.reply is reply
        assert reply.event_id == 1
        assert reply.text == "one two "
        assert reply.heard == "one two "
        assert reply.pieces == reply.pieces_read == ("one ", "two ")
        assert reply.transcript == (ConversationMessage("user", "one two"),)
        assert (reply.finished, reply.interrupted, reply.is_over) == (True, False, True)
        assert reply.error is None
        assert reply.attempts == 1
        assert reply.first_word_after is not None
        assert reply.took is not None
        assert 0 <= reply.first_word_after <= reply.took
        assert "one" not in repr(reply)
        assert engine.violations == ()

    async def test_a_reply_without_a_word_leaves_no_entry(self) -> None:
        async def end_only(call: Call, event_id: int) -> None:
            await call.piece("", event_id)
            await call.end(event_id)

        async with raw_server(answering(end_only)) as server, LocalEngine(server.url) as engine:
            reply = await engine.say("hello")
            assert spoken(engine) == [("user", "hello")]
        assert reply.pieces == ()
        assert reply.first_word_after is None
        assert engine.violations == ()

    async def test_a_reply_without_an_id_belongs_to_the_current_turn(self) -> None:
        async def nameless(call: Call, event_id: int) -> None:
            await call.piece("I have no id", None)
            await call.end(None)

        async with raw_server(answering(nameless)) as server, LocalEngine(server.url) as engine:
            assert (await engine.say("hello")).text == "I have no id"

    async def test_two_readers_each_get_every_piece(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            reply = await engine.ask("a b c")
            assert [piece async for piece in reply] == ["a ", "b ", "c "]
            assert [piece async for piece in reply] == ["a ", "b ", "c "]

    async def test_holds_a_conversation_with_the_example_agent(self) -> None:
        agent = ExampleAgent(words_per_second=500)
        async with SpeechEngineServer(
            host="127.0.0.1", port=0, path="/ws", api_key=KEY, on_transcript=agent.on_transcript
        ) as server:
            url = f"ws://127.0.0.1:{server.port}/ws"
            async with LocalEngine(url, api_key=KEY) as engine:
                counting = await engine.ask("count to 100")
                async for _ in counting:
                    if len(counting.pieces_read) == 3:
                        break
                reply = await engine.interrupt("stop")
                await reply.wait()
                await engine.ping()
        assert counting.interrupted
        assert counting.heard == "One, two, three, "
        assert reply.text == 'You stopped me after "One, two, three". I am listening.'
        assert engine.violations == ()


class TestInterruption:
    async def test_the_history_keeps_what_was_read(self) -> None:
        async with raw_server(answering(begin_to_count)) as server:
            async with LocalEngine(server.url) as engine:
                first = await engine.ask("count")
                async for _ in first:
                    if len(first.pieces_read) == 2:
                        break
                assert spoken(engine) == [("user", "count")]
                second = await engine.interrupt("stop")
                await second.wait()
        assert first.heard == "One, two, "
        assert first.interrupted
        assert first.is_over
        assert not first.finished
        assert [piece async for piece in first] == ["One, ", "two, "]
        assert spoken(engine) == [
            ("user", "count"),
            ("agent", "One, two, "),
            ("user", "stop"),
            ("agent", "stop "),
        ]
        assert server.call.transcripts[1]["user_transcript"][1]["content"] == "One, two, "

    async def test_nothing_heard_is_no_entry(self) -> None:
        async with raw_server(answering(silent)) as server, LocalEngine(server.url) as engine:
            first = await engine.ask("hello")
            await engine.interrupt("no, wait")
            assert first.interrupted
            assert spoken(engine) == [("user", "hello"), ("user", "no, wait")]

    async def test_whoever_waits_for_the_first_reply_sees_it_end(self) -> None:
        async with raw_server(answering(begin_to_count)) as server:
            async with LocalEngine(server.url) as engine, anyio.create_task_group() as group:
                read: list[str] = []
                all_there = anyio.Event()

                async def listen() -> None:
                    async for piece in first:
                        read.append(piece)
                        if len(read) == 3:
                            all_there.set()

                first = await engine.ask("count")
                group.start_soon(listen)
                await all_there.wait()
                await engine.say("stop")
        assert read == ["One, ", "two, ", "three, "]
        assert first.interrupted

    async def test_late_words_are_counted_and_dropped(self) -> None:
        async def late(call: Call, event_id: int) -> None:
            await call.piece("four", event_id - 1)
            await call.end(event_id - 1)
            await call.piece("I am quiet.", event_id)
            await call.end(event_id)

        async with raw_server(answering(begin_to_count, late)) as server:
            async with LocalEngine(server.url) as engine:
                async for piece in await engine.ask("count"):
                    if piece == "three, ":
                        break
                reply = await engine.interrupt("stop")
                await reply.wait()
        assert reply.text == "I am quiet."
        assert engine.stale_replies == 2
        assert engine.violations == ()

    async def test_a_policy_can_cut_a_reply_that_has_all_arrived(self) -> None:
        async with raw_server(answering()) as server:
            async with LocalEngine(server.url, heard=first_piece) as engine:
                first = await engine.say("one two")
                assert not first.interrupted
                assert spoken(engine)[-1] == ("agent", "one ")
                await engine.interrupt("hm")
        assert first.finished
        assert first.interrupted
        assert spoken(engine)[1] == ("agent", "one ")

    async def test_without_a_running_reply_there_is_nothing_to_interrupt(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            with pytest.raises(ValueError, match="expected a reply that is being heard"):
                await engine.interrupt("stop")
            await engine.say("hello")
            with pytest.raises(ValueError, match="expected a reply that is being heard"):
                await engine.interrupt("stop")
        assert len(server.call.transcripts) == 1


class TestAGreeting:
    async def test_is_the_first_entry_and_never_a_turn(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            greeting = engine.greet("Good day.")
            assert engine.reply is greeting
            assert (greeting.finished, greeting.is_over, greeting.text) == (True, True, "Good day.")
            await greeting.wait()
            assert spoken(engine) == [("agent", "Good day.")]
            await engine.ping()
            assert server.call.types == ["init", "ping"]
            await engine.say("hello")
        assert not greeting.interrupted
        assert server.call.transcripts == [
            {
                "type": "user_transcript",
                "user_transcript": [
                    {"role": "agent", "content": "Good day."},
                    {"role": "user", "content": "hello"},
                ],
                "event_id": 1,
            }
        ]
        assert engine.violations == ()

    async def test_interrupted_is_cut_to_what_was_heard(self) -> None:
        async with raw_server(answering()) as server:
            async with LocalEngine(server.url, heard=lambda reply: reply.text[:4]) as engine:
                greeting = engine.greet("Good day.")
                await engine.interrupt("hello")
        assert greeting.interrupted
        assert spoken(engine)[:2] == [("agent", "Good"), ("user", "hello")]

    @pytest.mark.parametrize("text", ["", "Good day."])
    async def test_of_which_nothing_was_heard_is_no_entry(self, text: str) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            engine.greet(text)
            await engine.say("hello")
            assert spoken(engine)[0] == ("user", "hello")

    async def test_comes_first_or_not_at_all(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            engine.greet("Good day.")
            with pytest.raises(ValueError, match="expected to come first"):
                engine.greet("Good day again.")
            await engine.hang_up()
            with pytest.raises(ConversationOverError):
                engine.greet("Good day.")

    async def test_a_reply_to_it_is_out_of_place(self) -> None:
        async def eager(call: Call, message: dict[str, Any]) -> None:
            if message["type"] == "init":
                await call.piece("Good day to you", 0)
            if message["type"] == "ping":
                await call.pong()
            if message["type"] == "close":
                await call.ws.close()

        async with raw_server(eager) as server, LocalEngine(server.url) as engine:
            greeting = engine.greet("Good day.")
            await engine.ping()
            assert greeting.text == "Good day."
        assert [violation.rule for violation in engine.violations] == [Rule.MESSAGE]


class TestAFlood:
    async def test_is_cut_off_at_the_bound(self) -> None:
        async def flood(call: Call, event_id: int) -> None:
            while True:
                await call.piece("x" * 100, event_id)

        async with raw_server(answering(flood)) as server:
            async with LocalEngine(server.url, max_reply_chars=1_000) as engine:
                with pytest.raises(ReplyTooLongError, match="at most 1000 characters, got more"):
                    await engine.say("hello")
                await engine.wait_ended()
                assert not engine.is_open
            await server.call.over.wait()
        assert engine.reply is not None
        assert engine.reply.size == 1_000
        assert engine.reply.count == 10
        assert [violation.rule for violation in engine.violations] == [Rule.REPLY_SIZE]

    async def test_the_server_learns_why(self) -> None:
        async def long(call: Call, event_id: int) -> None:
            await call.piece("x" * 11, event_id)

        async with raw_server(answering(long)) as server:
            async with LocalEngine(server.url, max_reply_chars=10) as engine:
                with pytest.raises(ReplyTooLongError):
                    await engine.say("hello")
                await engine.wait_ended()
        assert server.call.types == ["init", "user_transcript", "error", "close"]
        assert "at most 10 characters" in server.call.received[2]["message"]

    async def test_a_reply_may_reach_its_bound(self) -> None:
        async with raw_server(answering()) as server:
            async with LocalEngine(server.url, max_reply_chars=8) as engine:
                assert (await engine.say("one two")).text == "one two "
            async with LocalEngine(server.url, max_reply_chars=None) as engine:
                assert (await engine.say("one two")).text == "one two "


async def garbage(call: Call, event_id: int) -> None:
    await call.ws.send("{nonsense")
    await call.piece("fine", event_id)
    await call.end(event_id)


async def wrong_types(call: Call, event_id: int) -> None:
    await call.send(type="agent_response", content="fine", is_final="yes", event_id=event_id)
    await call.piece("fine", event_id)
    await call.end(event_id)


async def id_of_the_future(call: Call, event_id: int) -> None:
    await call.piece("from tomorrow", event_id + 1)
    await call.piece("fine", event_id)
    await call.end(event_id)


async def two_terminators(call: Call, event_id: int) -> None:
    await call.piece("fine", event_id)
    await call.end(event_id)
    await call.end(event_id)


async def piece_after_terminator(call: Call, event_id: int) -> None:
    await call.piece("fine", event_id)
    await call.end(event_id)
    await call.piece("one more thing", event_id)


async def talking_terminator(call: Call, event_id: int) -> None:
    await call.piece("fine", event_id)
    await call.end(event_id, "one more thing")


class TestBrokenRules:
    @pytest.mark.parametrize(
        ("answer", "rule", "detail"),
        [
            (garbage, Rule.MESSAGE, "expected a JSON object"),
            (wrong_types, Rule.MESSAGE, "$.is_final"),
            (id_of_the_future, Rule.MESSAGE, "expected an event_id of at most 1, got 2"),
            (two_terminators, Rule.MESSAGE, "expected nothing after the terminator"),
            (piece_after_terminator, Rule.MESSAGE, "expected nothing after the terminator"),
            (talking_terminator, Rule.TERMINATOR_EMPTY, "expected content of 0 characters, got 14"),
        ],
    )
    async def test_are_noted_and_the_reply_goes_on(
        self, answer: Answer, rule: Rule, detail: str
    ) -> None:
        seen: list[Violation] = []
        async with raw_server(answering(answer)) as server:
            async with LocalEngine(server.url, on_violation=seen.append) as engine:
                assert (await engine.say("hello")).text == "fine"
                await engine.ping()  # behind it, nothing is left on the way
        (violation,) = engine.violations
        assert seen == [violation]
        assert violation.rule is rule
        assert detail in violation.detail
        assert str(violation) == f"broken rule: {rule.value}: {violation.detail} (turn 1)"
        assert "one more thing" not in str(violation)

    async def test_a_reply_before_any_question(self) -> None:
        async def early(call: Call, message: dict[str, Any]) -> None:
            match message["type"]:
                case "init":
                    await call.piece("hello", 0)
                case "ping":
                    await call.pong()
                case _:
                    await call.ws.close()

        async with raw_server(early) as server, LocalEngine(server.url) as engine:
            await engine.ping()
        (violation,) = engine.violations
        assert str(violation).endswith(
            "expected a reply after a transcript, got one before any at $.event_id"
        )

    async def test_more_of_a_finished_reply_is_told_from_words_that_cross(self) -> None:
        async def again(call: Call, event_id: int) -> None:
            await call.end(event_id - 1)
            await call.end(event_id)

        async with raw_server(answering(two_words, again)) as server:
            async with LocalEngine(server.url) as engine:
                await engine.say("one")
                await engine.say("two")
        (violation,) = engine.violations
        assert violation.rule is Rule.TERMINATOR_LAST
        assert violation.event_id == 1
        assert engine.stale_replies == 1

    async def test_unknown_types_are_no_violation(self) -> None:
        async def chatty(call: Call, event_id: int) -> None:
            await call.send(type="telemetry", load=1)
            await two_words(call, event_id)

        async with raw_server(answering(chatty)) as server, LocalEngine(server.url) as engine:
            await engine.say("hello")
        assert engine.violations == ()

    async def test_a_missing_terminator_fails_the_reply_and_the_call_goes_on(self) -> None:
        async with raw_server(answering(begin_to_count)) as server:
            async with LocalEngine(server.url, silence_timeout=0.05) as engine:
                reply = await engine.ask("count")
                with pytest.raises(NoTerminatorError, match=r"terminator within 0\.05 s"):
                    await reply.wait()
                assert reply.text == "One, two, three, "
                assert isinstance(reply.error, NoTerminatorError)
                assert not reply.interrupted
                await server.call.piece("too late", 1)
                await server.call.end(1)
                await engine.ping()
                assert reply.text == "One, two, three, "
                assert (await engine.say("go on")).finished
        assert [v.rule for v in engine.violations] == [Rule.TERMINATOR_OWED]
        assert spoken(engine)[1] == ("agent", "One, two, three, ")

    async def test_a_missing_pong(self) -> None:
        async with raw_server(no_pong) as server:
            async with LocalEngine(server.url, pong_timeout=0.05) as engine:
                with pytest.raises(NoPongError, match=r"within 0\.05 s, got none"):
                    await engine.ping()
        assert [v.rule for v in engine.violations] == [Rule.PONG_IN_TIME]

    async def test_a_missing_pong_is_found_without_being_asked_for(self) -> None:
        found = anyio.Event()
        async with raw_server(no_pong) as server:
            async with LocalEngine(
                server.url,
                ping_interval=0.01,
                pong_timeout=0.05,
                on_violation=lambda _: found.set(),
            ):
                await found.wait()
                await server.called.wait()
                await server.call.wait_for("ping", 2)  # it goes on asking

    async def test_pongs_in_time_are_no_violation(self) -> None:
        async with raw_server(answering()) as server:
            async with LocalEngine(server.url, ping_interval=0.01) as engine:
                await server.called.wait()
                await server.call.wait_for("ping", 3)
                assert await engine.ping() >= 0
        assert engine.violations == ()

    async def test_a_lost_socket_fails_the_reply(self) -> None:
        async def drop(call: Call, event_id: int) -> None:
            await call.piece("I am about", event_id)
            call.ws.transport.abort()

        async with raw_server(answering(drop)) as server, LocalEngine(server.url) as engine:
            with pytest.raises(AgentLostError, match="got the end of the socket"):
                await engine.say("hello")
            await engine.wait_ended()
            assert not engine.is_open
            with pytest.raises(ConversationOverError, match="lost"):
                await engine.say("are you there?")
            with pytest.raises(ConversationOverError, match="lost"):
                await engine.ping()
        assert [v.rule for v in engine.violations] == [Rule.SOCKET_KEPT]

    async def test_between_turns_an_agent_may_hang_up(self) -> None:
        async def leave(call: Call, event_id: int) -> None:
            await two_words(call, event_id)
            await call.ws.close()

        async with raw_server(answering(leave)) as server, LocalEngine(server.url) as engine:
            await engine.say("bye")
            await engine.wait_ended()
        assert engine.violations == ()

    async def test_a_ping_does_not_wait_for_a_socket_that_has_ended(self) -> None:
        async def leave(call: Call, message: dict[str, Any]) -> None:
            if message["type"] == "ping":
                await call.ws.close()

        async with raw_server(leave) as server, LocalEngine(server.url) as engine:
            with pytest.raises(ConversationOverError):
                await engine.ping()
        assert engine.violations == ()


async def two_words(call: Call, event_id: int) -> None:
    await call.piece("two words", event_id)
    await call.end(event_id)


async def no_pong(call: Call, message: dict[str, Any]) -> None:
    """Answer nothing at all; only the socket is closed in order."""
    if message["type"] == "close":
        await call.ws.close()


class TestNoConversation:
    @pytest.mark.parametrize(
        ("status", "cause"),
        [
            (401, "is the API key the one"),
            (403, "authorize"),
            (404, "which one does the server listen on"),
            (426, "not the WebSocket's"),
            (503, "full, or about to stop"),
            (418, "refused the upgrade"),
        ],
    )
    async def test_a_refusal_names_the_status_and_the_likely_cause(
        self, status: int, cause: str
    ) -> None:
        async with raw_server(no_pong, refuse=status) as server:
            with pytest.raises(ConnectError, match=cause) as caught:
                await LocalEngine(server.url, api_key=KEY).__aenter__()
        assert caught.value.status == status
        assert f"answered {status}" in str(caught.value)
        assert KEY not in str(caught.value)

    async def test_a_missing_key_is_told_from_a_wrong_one(self) -> None:
        async with raw_server(no_pong, refuse=401) as server:
            with pytest.raises(ConnectError, match="no token was sent"):
                await LocalEngine(server.url).__aenter__()

    async def test_the_real_server_refuses_a_wrong_key_and_a_wrong_path(self) -> None:
        async with SpeechEngineServer(
            host="127.0.0.1", port=0, path="/ws", api_key=KEY, on_transcript=lambda _t, _s: None
        ) as server:
            base = f"ws://127.0.0.1:{server.port}"
            with pytest.raises(ConnectError) as wrong_key:
                await LocalEngine(f"{base}/ws", api_key="sk_other").__aenter__()
            with pytest.raises(ConnectError) as wrong_path:
                await LocalEngine(f"{base}/elsewhere", api_key=KEY).__aenter__()
        assert wrong_key.value.status == 401
        assert wrong_path.value.status == 404

    async def test_nobody_listens(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # bound, not listening: the port stays free and deaf
            port = free.getsockname()[1]
            with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: nobody listens") as caught:
                await LocalEngine(f"ws://127.0.0.1:{port}/ws").__aenter__()
        assert caught.value.status is None

    async def test_a_server_that_hangs_up_on_the_upgrade(self) -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectError, match="hung up during the upgrade"):
                await LocalEngine(f"ws://127.0.0.1:{port}").__aenter__()

    async def test_tls_to_a_server_without(self) -> None:
        async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectError, match="TLS failed"):
                await LocalEngine(f"wss://127.0.0.1:{port}").__aenter__()

    @pytest.mark.parametrize(
        ("error", "cause"),
        [
            (TimeoutError(), "no answer in time"),
            (socket.gaierror(-2, "Name or service not known"), "no such host"),
            (ssl.SSLError(), "TLS failed: no reason given"),
            (ConnectionResetError(), "it hung up during the upgrade"),
            (OSError("Multiple exceptions"), "nobody listens"),
            (EOFError(), "it hung up during the upgrade"),
        ],
    )
    def test_each_way_to_fail_has_its_words(self, error: Exception, cause: str) -> None:
        assert str(_refusal(error, "example.test:1", True)).startswith(f"example.test:1: {cause}")

    def test_the_status_is_found_whichever_library_raises(self) -> None:
        class HandshakeError(Exception):
            status_code = 404

        assert _refusal(HandshakeError(), "host", True).status == 404

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1/ws", "127.0.0.1:3001", "ws://", "ws://host:99999", "ws://[::1"]
    )
    async def test_what_is_no_address_of_a_websocket(self, url: str) -> None:
        with pytest.raises(ConnectError, match="expected ws://host:port/path"):
            await LocalEngine(url).__aenter__()

    async def test_a_default_port_needs_no_number(self) -> None:
        def connect(url: str, *, headers: object) -> Any:
            raise TimeoutError

        with pytest.raises(ConnectError, match=r"^agent\.test: no answer in time"):
            await LocalEngine("wss://agent.test/ws?token=secret", connect=connect).__aenter__()


class TestTheEnd:
    async def test_an_error_in_the_block_comes_out_as_it_is_and_the_call_is_ended(self) -> None:
        async with raw_server(answering(begin_to_count)) as server:

            async def fail() -> None:
                async with LocalEngine(server.url) as engine:
                    replies.append(await engine.ask("count"))
                    raise KeyError("mine")

            replies: list[Reply] = []
            with pytest.raises(KeyError, match="mine"):
                await fail()
            await server.call.over.wait()
        assert server.call.types[-1] == "close"
        assert replies[0].is_over

    async def test_a_cancelled_block_says_close(self) -> None:
        async with raw_server(answering(silent)) as server:
            with anyio.CancelScope() as scope:
                async with LocalEngine(server.url) as engine:
                    reply = await engine.ask("hello")
                    scope.cancel()
                    await reply.wait()
            await server.call.over.wait()
        assert scope.cancelled_caught
        assert server.call.types[-1] == "close"

    async def test_cancelled_while_it_opens_it_leaves_nothing_open(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with raw_server(answering()) as server:
            with anyio.CancelScope() as scope:
                engine = LocalEngine(server.url)

                async def cancelled_write(socket: Socket, frame: str) -> None:
                    if json.loads(frame)["type"] == "init":
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
                    await write(socket, frame)

                monkeypatch.setattr(engine_module, "write", cancelled_write)
                async with engine:
                    pytest.fail("the block was entered")
            await server.call.over.wait()
        assert scope.cancelled_caught
        assert not engine.is_open

    async def test_a_policy_that_fails_still_leaves_nothing_open(self) -> None:
        def policy(reply: Reply) -> str:
            raise KeyError("mine")

        async with raw_server(answering(begin_to_count)) as server:
            with pytest.raises(KeyError, match="mine"):
                async with LocalEngine(server.url, heard=policy) as engine:
                    await engine.ask("count")
            await server.call.over.wait()

    async def test_hanging_up_twice_says_close_once(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            await engine.hang_up()
            await engine.hang_up()
            assert not engine.is_open
            with pytest.raises(ConversationOverError, match="ended"):
                await engine.ask("hello?")
            await server.call.over.wait()
        assert server.call.types == ["init", "close"]
        assert engine.violations == ()

    async def test_hanging_up_into_a_reply_keeps_what_was_heard(self) -> None:
        async with raw_server(answering(begin_to_count)) as server:
            async with LocalEngine(server.url) as engine:
                reply = await engine.ask("count")
                async for _ in reply:
                    break
                await engine.hang_up()
        assert reply.interrupted
        assert spoken(engine) == [("user", "count"), ("agent", "One, ")]
        assert engine.violations == ()

    async def test_a_server_that_leaves_the_socket_open_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_line, "LEAVE_SECONDS", 0.02)

        async def stay(call: Call, message: dict[str, Any]) -> None:
            pass

        async with raw_server(stay) as server:
            async with LocalEngine(server.url) as engine:
                pass
            await server.call.over.wait()
        assert server.call.ws.close_code == 1000
        assert engine.violations == ()

    async def test_a_server_that_does_not_answer_the_closing_handshake_is_cut_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_line, "LEAVE_SECONDS", 0.02)
        released = anyio.Event()

        async def stuck(call: Call, message: dict[str, Any]) -> None:
            call.ws.transport.pause_reading()
            await released.wait()

        async with raw_server(stuck) as server:
            async with LocalEngine(server.url) as engine:
                await server.called.wait()
                await server.call.wait_for("init")
            assert not engine.is_open
            released.set()
            server.call.ws.transport.abort()
