"""The conversation without a terminal: scripts, lines, and what makes it fail."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local import LocalEngine
from speech_engine_local.agent import ExampleAgent
from speech_engine_local.chat import Line, Patience, chat, demo, follow_script, read_lines
from tests.local.servers import Call, RawServer, answering, raw_server
from tests.local.test_engine import (
    begin_to_count,
    garbage,
    id_of_the_future,
    piece_after_terminator,
    silent,
    talking_terminator,
    two_terminators,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from speech_engine_proto import ConversationMessage
    from speech_engine_transports.session import SpeechEngineSession

pytestmark = pytest.mark.anyio

QUICK = Patience(cascade_timeout=0.05, silence_timeout=0.1, pong_timeout=0.1)
FAST = Patience()


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


class TestDemo:
    async def test_plays_its_script_with_the_interruption_in_it(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "")
        agent = ExampleAgent(words_per_second=200)
        assert await demo(agent, about="Offline agent", patience=FAST) == 0
        out, err = capsys.readouterr()
        first, *lines = out.splitlines()
        assert first.startswith("Offline agent; a real WebSocket on ws://127.0.0.1:")
        assert first.endswith("/ws, opened with a signed token.")
        assert lines == [
            "you:   Hello, my name is Ada.",
            "agent: Nice to meet you, Ada. I will remember your name.",
            "you:   Please count to twenty.",
            "agent: One, two, three, four, five, six, "
            "[interrupted; heard: One, two, three, four, five, six,]",
            "you:   Stop, that is enough.",
            'agent: You stopped me after "four, five, six". I am listening.',
            "you:   Go on.",
            "agent: Where was I? Seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, "
            "fifteen, sixteen, seventeen, eighteen, nineteen, twenty. Done!",
            "you:   What is my name?",
            "agent: You are Ada, you told me so.",
            "5 turns, 1 of them interrupted, broken rules: none.",
        ]
        assert err == ""

    async def test_an_agent_that_fails_makes_it_fail(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            async def on_transcript(
                self, transcript: list[ConversationMessage], session: SpeechEngineSession
            ) -> None:
                raise LookupError("no idea")

        type_in(monkeypatch, "")
        assert await demo(Broken(), about="Broken agent", patience=FAST) == 1
        out, err = capsys.readouterr()
        assert out.splitlines()[1:] == [
            "you:   Hello, my name is Ada.",
            "agent: Sorry, I could not think of an answer.",
        ]
        assert err == "speech-engine: the agent failed: LookupError: no idea\n"

    async def test_a_port_can_be_chosen(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "")
        async with raw_server(answering()) as other:
            port = int(other.url.split(":")[2].removesuffix("/ws"))
            with pytest.raises(OSError, match="address already in use"):
                await demo(ExampleAgent(), port=port, about="x", patience=FAST)


class TestScript:
    async def test_before_the_first_word(self) -> None:
        out = io.StringIO()
        async with raw_server(answering(silent)) as server, LocalEngine(server.url) as engine:
            await follow_script(engine, [Line("Hello", cut_after=0), Line("Wait.")], out)
        assert out.getvalue() == (
            "you:   Hello\nagent: [interrupted; nothing heard]\nyou:   Wait.\nagent: Wait. \n"
        )
        assert engine.violations == ()

    async def test_a_reply_that_ends_before_it_is_cut(self) -> None:
        out = io.StringIO()
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            await follow_script(engine, [Line("one two", cut_after=5), Line("three")], out)
        assert out.getvalue() == "you:   one two\nagent: one two \nyou:   three\nagent: three \n"

    async def test_a_reply_without_a_word(self) -> None:
        async def end_only(call: Call, event_id: int) -> None:
            await call.end(event_id)

        out = io.StringIO()
        async with raw_server(answering(end_only)) as server, LocalEngine(server.url) as engine:
            await follow_script(engine, [Line("Hello")], out)
        assert out.getvalue() == "you:   Hello\nagent: [no words]\n"

    async def test_an_empty_script(self) -> None:
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            await follow_script(engine, [], io.StringIO())
        assert engine.violations == ()

    async def test_words_are_shown_as_they_come(self) -> None:
        class Screen(io.StringIO):
            def flush(self) -> None:
                shown.append(self.getvalue())

        shown: list[str] = []
        async with raw_server(answering()) as server, LocalEngine(server.url) as engine:
            await follow_script(engine, [Line("a b")], Screen())
        assert shown[1:4] == [
            "you:   a b\nagent: ",
            "you:   a b\nagent: a ",
            "you:   a b\nagent: a b ",
        ]


async def never_end(call: Call, event_id: int) -> None:
    await call.piece("I never end", event_id)


async def drop(call: Call, event_id: int) -> None:
    await call.piece("I am about", event_id)
    call.ws.transport.abort()


async def no_pong(call: Call, message: dict[str, Any]) -> None:
    if message["type"] != "ping":
        await answering()(call, message)


class TestChat:
    async def test_each_line_is_a_turn(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "good day\n\n  bye now  \n")
        async with raw_server(answering()) as server:
            assert await chat(server.url, api_key="sk_x", patience=FAST) == 0
        out, err = capsys.readouterr()
        assert out == "you:   good day\nagent: good day \nyou:   bye now\nagent: bye now \n"
        assert err == ""
        assert server.call.types[-2:] == ["ping", "close"]

    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (never_end, "each reply gets its terminator"),
            (two_terminators, "nothing after the terminator"),
            (piece_after_terminator, "nothing after the terminator"),
            (talking_terminator, "the terminator carries no text"),
            (id_of_the_future, "an event_id of at most 1, got 2"),
            (garbage, "a JSON object"),
            (drop, "the socket stays open while a reply is owed"),
            (silent, "the first word comes before the service gives up"),
            (begin_to_count, "each reply gets its terminator"),
        ],
    )
    async def test_a_broken_rule_makes_it_fail(
        self,
        answer: Callable[[Call, int], Awaitable[None]],
        complaint: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        type_in(monkeypatch, "Hello\n")
        async with raw_server(answering(answer, answer, answer)) as server:
            assert await chat(server.url, api_key=None, patience=QUICK) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("speech-engine: broken rule: ")
        assert complaint in line

    async def test_a_missing_pong_makes_it_fail(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "Hello\n")
        async with raw_server(no_pong) as server:
            assert await chat(server.url, api_key=None, patience=QUICK) == 1
        assert "each ping is answered: expected a pong within 0.1 s" in capsys.readouterr().err

    @pytest.mark.parametrize("status", [401, 404])
    async def test_a_refusal_makes_it_fail(
        self, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "Hello\n")
        async with raw_server(no_pong, refuse=status) as server:
            assert await chat(server.url, api_key="sk_x", patience=FAST) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"answered {status}" in line

    async def test_an_agent_that_hung_up_cannot_be_asked(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server: RawServer

        async def leave(call: Call, event_id: int) -> None:
            await call.piece("Bye.", event_id)
            await call.end(event_id)
            await call.ws.close()

        type_in(monkeypatch, "Hello\nAre you there?\n")
        async with raw_server(answering(leave)) as server:
            assert await chat(server.url, api_key=None, patience=FAST) == 1
        assert server.call.over.is_set()
        assert capsys.readouterr().err.startswith("speech-engine: ")


class TestLines:
    async def test_come_while_the_pipe_is_still_open(self) -> None:
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as source, os.fdopen(write_end, "w") as pen:
            lines = read_lines(source)
            pen.write("one\n")
            pen.flush()
            assert await anext(lines) == "one\n"
            pen.write("two")
            pen.close()
            assert [line async for line in lines] == ["two"]

    async def test_nobody_waits_for_a_pipe_that_stays_silent(self) -> None:
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as source, os.fdopen(write_end, "w") as pen:
            lines = read_lines(source)
            with anyio.move_on_after(0.01) as scope:
                await anext(lines)
            assert scope.cancelled_caught
            pen.write("late\n")
