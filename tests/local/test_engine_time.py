"""The patience of `LocalEngine`, with the service's real numbers, on a clock that does not wait.

The socket is in memory and the loop is trio's with its mock clock, so minutes cost nothing and
every number is exact. It also shows that nothing in the engine needs asyncio.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from trio.testing import MockClock

from speech_engine_local import AgentLostError, LocalEngine, NoReplyError, NoTerminatorError, Rule
from speech_engine_local.agent import speak
from speech_engine_proto import AgentConnection, TranscriptIgnored, TurnResent, TurnStarted
from speech_engine_transports._socket import Socket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from speech_engine_proto import AgentEvent, Turn

    Handler = Callable[["Agent", AgentEvent], Awaitable[None]]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, with a clock that jumps to the next deadline when everyone waits."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Pipe(Socket):
    """A socket whose other end is an agent in memory."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.lock = anyio.Lock()
        self._agent = agent
        self.to_engine, self.inbox = anyio.create_memory_object_stream[str](100)

    async def recv(self) -> str | None:
        try:
            return await self.inbox.receive()
        except anyio.EndOfStream:
            return None

    async def send(self, frame: str) -> None:
        if self._agent.deaf:
            raise ConnectionError("gone")
        await self._agent.receive(frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.to_engine.close()

    def abort(self) -> None:
        self.to_engine.close()


class Agent:
    """The developer's side in memory; a handler tells what to do with each event."""

    def __init__(self, handle: Handler) -> None:
        self.conn = AgentConnection()
        self.events: list[tuple[float, str]] = []
        self.deaf = False
        self.pipe = Pipe(self)
        self._handle = handle
        self._begun = anyio.current_time()

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.events]

    async def receive(self, frame: str) -> None:
        event = self.conn.receive(frame)
        self.events.append((anyio.current_time() - self._begun, type(event).__name__))
        if event.reply:
            await self.pipe.to_engine.send(event.reply)
        await self._handle(self, event)

    async def say(self, turn: Turn, text: str) -> None:
        await self.pipe.to_engine.send(self.conn.send_text(turn, text))

    async def end(self, turn: Turn) -> None:
        await self.pipe.to_engine.send(self.conn.end_turn(turn))

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        with self.pipe.to_engine, self.pipe.inbox:
            yield self.pipe


def engine_for(agent: Agent, **options: Any) -> LocalEngine:
    return LocalEngine("ws://memory/", connect=agent.connect, **options)


async def silent(agent: Agent, event: AgentEvent) -> None:
    """Hear everything, say nothing."""


async def test_the_question_comes_again_every_four_seconds_under_its_id() -> None:
    async def third_time(agent: Agent, event: AgentEvent) -> None:
        turn = agent.conn.turn
        if turn is not None and agent.names.count("TranscriptIgnored") == 2:
            await agent.say(turn, "At last.")
            await agent.end(turn)

    agent = Agent(third_time)
    async with engine_for(agent, ping_interval=None) as engine:
        reply = await engine.say("hello")
    assert agent.events == [
        (0.0, "ConversationStarted"),
        (0.0, "TurnStarted"),
        (4.0, "TranscriptIgnored"),
        (8.0, "TranscriptIgnored"),
        (8.0, "ConversationEnded"),
    ]
    assert reply.attempts == 3
    assert reply.event_id == 1
    assert reply.first_word_after == 8.0
    assert engine.violations == ()


async def test_it_may_come_again_under_a_new_id() -> None:
    async def second_time(agent: Agent, event: AgentEvent) -> None:
        if isinstance(event, TurnResent):
            assert event.previous_event_id == 1
            await agent.say(event.turn, "Here I am.")
            await agent.end(event.turn)

    agent = Agent(second_time)
    async with engine_for(agent, resend_as_new=True, cascade_timeout=2.5) as engine:
        reply = await engine.say("hello")
    assert reply.event_id == 2
    assert reply.attempts == 2
    assert reply.first_word_after == 2.5
    assert reply.text == "Here I am."
    assert engine.violations == ()


async def test_after_the_third_time_it_gives_up() -> None:
    agent = Agent(silent)
    async with engine_for(agent, ping_interval=None) as engine:
        with pytest.raises(NoReplyError, match="within 12 s, asked 3 times, got none"):
            await engine.say("hello")
        await engine.wait_ended()
        assert not engine.is_open
    assert agent.events[-3:] == [
        (8.0, "TranscriptIgnored"),
        (12.0, "ErrorReceived"),
        (12.0, "ConversationEnded"),
    ]
    assert [violation.rule for violation in engine.violations] == [Rule.WORD_IN_TIME]


async def test_one_word_in_time_is_enough() -> None:
    async def slow(agent: Agent, event: AgentEvent) -> None:
        if isinstance(event, TurnStarted):
            group.start_soon(one_word_each, event.turn)

    async def one_word_each(turn: Turn) -> None:
        for seconds, word in ((3.9, "Let "), (29.0, "me "), (29.0, "think.")):
            await anyio.sleep(seconds)
            await agent.say(turn, word)
        await anyio.sleep(29.0)
        await agent.end(turn)

    agent = Agent(slow)
    async with anyio.create_task_group() as group, engine_for(agent) as engine:
        reply = await engine.say("hello")
    assert reply.attempts == 1
    assert reply.took == pytest.approx(3.9 + 3 * 29.0)
    assert engine.violations == ()
    pings = [at for at, name in agent.events if name == "PingReceived"]
    assert pings == [20.0, 40.0, 60.0, 80.0]


async def test_half_a_minute_of_silence_is_a_forgotten_terminator() -> None:
    async def forgetful(agent: Agent, event: AgentEvent) -> None:
        if isinstance(event, TurnStarted):
            await agent.say(event.turn, "That is")

    agent = Agent(forgetful)
    async with engine_for(agent) as engine:
        with pytest.raises(NoTerminatorError, match="within 30 s"):
            await engine.say("hello")
        assert engine.is_open
    assert agent.events[-1] == (30.0, "ConversationEnded")


async def test_an_interrupted_question_is_not_asked_again() -> None:
    async def only_the_second(agent: Agent, event: AgentEvent) -> None:
        if isinstance(event, TurnStarted) and event.interrupted:
            await agent.say(event.turn, "Yes.")
            await agent.end(event.turn)

    agent = Agent(only_the_second)
    async with engine_for(agent, ping_interval=None) as engine:
        await engine.ask("hello")
        await anyio.sleep(3)
        await engine.say("are you there?")
        await anyio.sleep(60)
    assert agent.events == [
        (0.0, "ConversationStarted"),
        (0.0, "TurnStarted"),
        (3.0, "TurnStarted"),
        (63.0, "ConversationEnded"),
    ]


async def test_wordless_ends_of_a_question_asked_twice_are_no_violation() -> None:
    async def two_ends(agent: Agent, event: AgentEvent) -> None:
        match event:
            case TurnStarted(turn):
                if turn.event_id == 2:
                    await agent.pipe.to_engine.send(
                        '{"type":"agent_response","content":"","is_final":true,"event_id":1}'
                    )
                    await agent.say(turn, "Here.")
                    await agent.end(turn)
            case TranscriptIgnored():
                assert agent.conn.turn is not None
                await agent.end(agent.conn.turn)
            case _:
                pass

    agent = Agent(two_ends)
    async with engine_for(agent, ping_interval=None) as engine:
        assert (await engine.say("hello")).attempts == 2
        assert (await engine.say("hello?")).text == "Here."
    assert engine.stale_replies == 1
    assert engine.violations == ()


async def test_a_socket_that_refuses_a_frame_is_reported_by_its_end() -> None:
    async def hang_up(agent: Agent, event: AgentEvent) -> None:
        agent.deaf = True

    agent = Agent(hang_up)
    async with engine_for(agent, ping_interval=None) as engine:
        reply = await engine.ask("hello")
        agent.pipe.to_engine.close()
        with pytest.raises(AgentLostError):
            await reply.wait()
    assert [violation.rule for violation in engine.violations] == [Rule.SOCKET_KEPT]


async def test_cancelled_from_outside_it_still_lets_go_of_its_socket() -> None:
    agent = Agent(silent)
    left = anyio.Event()

    @asynccontextmanager
    async def connect(url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        async with anyio.create_task_group(), agent.connect(url) as pipe:
            try:
                yield pipe
            finally:
                left.set()

    with anyio.CancelScope() as scope:
        async with LocalEngine("ws://memory/", connect=connect) as engine:
            await engine.ask("hello")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert left.is_set()
    assert agent.names[-1] == "ConversationEnded"


async def test_hanging_up_waits_for_no_write() -> None:
    class Stuck(Pipe):
        async def send(self, frame: str) -> None:
            if frame == '{"type":"close"}':
                await anyio.sleep_forever()
            await super().send(frame)

    agent = Agent(silent)
    agent.pipe.to_engine.close()
    agent.pipe.inbox.close()
    agent.pipe = Stuck(agent)
    async with engine_for(agent) as engine:
        begun = anyio.current_time()
        await engine.hang_up()
        assert anyio.current_time() - begun == 1.0


async def test_the_example_agent_keeps_its_pace() -> None:
    begun = anyio.current_time()
    arrivals = [anyio.current_time() - begun async for _ in speak("one two three", 4)]
    assert arrivals == [0.25, 0.5, 0.75]
