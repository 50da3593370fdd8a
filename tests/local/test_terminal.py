"""The interactive conversation, driven through prompt_toolkit's own pipe for keys."""

from __future__ import annotations

import io
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from speech_engine_local import LocalEngine
from speech_engine_local._terminal import _wrap, talk
from tests.local.servers import Call, RawServer, answering, raw_server
from tests.local.test_engine import begin_to_count, silent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from prompt_toolkit.input import PipeInput

    from tests.local.servers import Behaviour

pytestmark = pytest.mark.anyio


class Screen(io.StringIO):
    """What was drawn, without the control sequences."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = anyio.Event()

    def write(self, text: str) -> int:
        self._changed.set()
        self._changed = anyio.Event()
        return super().write(text)

    @property
    def text(self) -> str:
        return re.sub(r"\x1b(\[[\d;?]*[A-Za-z]|\][^\x07]*\x07)", "", self.getvalue())

    async def until(self, text: str) -> None:
        while text not in self.text:
            await self._changed.wait()


class Desk:
    """A person at a terminal, in a call with a server that does as it is told."""

    def __init__(self, server: RawServer, engine: LocalEngine, keys: PipeInput) -> None:
        self.server = server
        self.engine = engine
        self.screen = Screen()
        self.left = anyio.Event()
        self._keys = keys

    def type(self, text: str) -> None:
        self._keys.send_text(text)

    async def run(self) -> None:
        output = Vt100_Output(self.screen, lambda: Size(rows=24, columns=40), term="xterm")
        with create_app_session(input=self._keys, output=output):
            await talk(self.engine)
        self.left.set()


@asynccontextmanager
async def desk(behave: Behaviour, **options: Any) -> AsyncGenerator[Desk]:
    with create_pipe_input() as keys:
        async with raw_server(behave) as server, LocalEngine(server.url, **options) as engine:
            async with anyio.create_task_group() as group:
                made = Desk(server, engine, keys)
                group.start_soon(made.run)
                await made.screen.until("you:")
                yield made
                await made.left.wait()


async def test_says_what_is_typed_and_shows_the_reply() -> None:
    async with desk(answering()) as at:
        await at.screen.until("Type, and press Enter.")
        at.type("good day\r")
        await at.screen.until("agent: good day\r\n")
        assert "you:   good day\r\n" in at.screen.text
        at.type("/quit\r")
    assert at.server.call.types[-1] == "close"
    assert at.engine.violations == ()
    assert "interrupted" not in at.screen.text


async def test_enter_interrupts_and_the_history_shows_what_was_shown() -> None:
    async with desk(answering(begin_to_count)) as at:
        at.type("count\r")
        await at.screen.until("three,")
        at.type("stop\r")
        await at.screen.until("agent: One, two, three, [interrupted]\r\n")
        await at.screen.until("agent: stop\r\n")
        at.type("/history\r")
        await at.screen.until("  agent: One, two, three,")
        await at.screen.until("  user: stop\r\n")
        at.type("\x04")
    entries = at.server.call.transcripts[1]["user_transcript"]
    assert entries[1] == {"role": "agent", "content": "One, two, three, "}


async def test_before_the_first_word_too() -> None:
    async with desk(answering(silent)) as at:
        at.type("hello\r")
        await at.screen.until("you:   hello\r\n")
        at.type("wait\r")
        await at.screen.until("[interrupted]\r\n")
        await at.screen.until("agent: wait\r\n")
        at.type("\x04")
    assert [m["content"] for m in at.server.call.transcripts[1]["user_transcript"]] == [
        "hello",
        "wait",
    ]


async def test_a_reply_without_a_word_is_told() -> None:
    async def end_only(call: Call, event_id: int) -> None:
        await call.end(event_id)

    async with desk(answering(end_only)) as at:
        at.type("hello\r")
        await at.screen.until("agent: [no words]\r\n")
        at.type("/quit\r/quit\r")


async def test_a_call_that_is_over_before_the_first_prompt() -> None:
    async def leave(call: Call, message: dict[str, Any]) -> None:
        await call.ws.close()

    async with raw_server(leave) as server, LocalEngine(server.url) as engine:
        await engine.wait_ended()
        with create_pipe_input() as keys:
            at = Desk(server, engine, keys)
            await at.run()
    assert "The agent has hung up." in at.screen.text


async def test_commands_and_empty_lines_say_nothing_to_the_agent() -> None:
    async with desk(answering()) as at:
        at.type("\r  \r/history\r")
        await at.screen.until("nothing yet")
        at.type("/what\r")
        await at.screen.until("leaves.")
        at.type("\x03")
    assert at.server.call.types == ["init", "close"]


async def test_ctrl_c_in_mid_reply_ends_the_call_in_order() -> None:
    async with desk(answering(begin_to_count)) as at:
        at.type("count\r")
        await at.screen.until("three,")
        at.type("\x03")
    assert "agent: One, two, three, [interrupted]" in at.screen.text
    assert at.server.call.types == ["init", "user_transcript", "close"]
    assert at.engine.violations == ()


async def test_an_agent_that_hangs_up_ends_it() -> None:
    async def leave(call: Call, event_id: int) -> None:
        await call.piece("Bye.", event_id)
        await call.end(event_id)
        await call.ws.close()

    async with desk(answering(leave)) as at:
        at.type("bye\r")
        await at.screen.until("The agent has hung up.")
    assert at.engine.violations == ()


async def test_a_lost_socket_is_told_with_its_reason() -> None:
    async def drop(call: Call, event_id: int) -> None:
        await call.piece("I am about", event_id)
        call.ws.transport.abort()

    async with desk(answering(drop)) as at:
        at.type("hello\r")
        await at.screen.until("[expected the rest of a reply,")
        await at.screen.until("The agent has hung up.")
    assert len(at.engine.violations) == 1


async def test_a_forgotten_terminator_is_told_and_the_call_goes_on() -> None:
    async with desk(answering(begin_to_count), silence_timeout=0.05) as at:
        at.type("count\r")
        await at.screen.until("[expected a piece or the terminator")
        at.type("hello\r")
        await at.screen.until("agent: hello\r\n")
        at.type("/quit\r")
    assert len(at.engine.violations) == 1


async def test_a_long_reply_moves_up_line_by_line() -> None:
    async def long(call: Call, event_id: int) -> None:
        for word in "these words are more than fit into one line of forty columns".split():
            await call.piece(f"{word} ", event_id)
        await call.end(event_id)

    async with desk(answering(long)) as at:
        at.type("go\r")
        await at.screen.until("agent: these words are more than fit\r\n")
        await at.screen.until("into one line of forty columns\r\n")
        at.type("/quit\r")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("short ", ["short "]),
        ("exactly 10", ["exactly 10"]),
        ("exactly 10 ", ["exactly 10 "]),
        ("one two three four", ["one two", "three four"]),
        ("abcdefghijklm", ["abcdefghij", "klm"]),
        ("one\ntwo", ["one", "two"]),
        ("one\n", ["one", ""]),
        ("字字字字字字", ["字字字字字", "字"]),
    ],
)
def test_lines_break_before_words_that_do_not_fit(text: str, lines: list[str]) -> None:
    assert _wrap(text, 10) == lines


def test_even_one_column_makes_progress() -> None:
    assert _wrap("字字", 1) == ["字", "字", ""]
