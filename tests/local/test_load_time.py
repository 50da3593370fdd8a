"""What a load run measures, exact to the digit: the clock is virtual and the sockets are in memory.

It also shows that nothing in a call needs asyncio.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from trio.testing import MockClock

from speech_engine_local.load import LoadPlan, LoadReport, run_load
from speech_engine_proto import ConversationEnded, PingReceived, TurnStarted, wire
from tests.local.test_engine_time import Agent as MemoryAgent
from tests.local.test_engine_time import Pipe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from speech_engine_proto import AgentEvent, Turn
    from speech_engine_transports._socket import Socket

    Answer = Callable[["Agent", Turn], Awaitable[None]]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, with a clock that jumps to the next deadline when everyone waits."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Agent(MemoryAgent):
    """One call's agent, which says what a test wants."""

    def __init__(self, answer: Answer, group: TaskGroup, pong_delays: list[float]) -> None:
        super().__init__(_handle)
        self.answer = answer
        self.group = group
        self.turns: list[Turn] = []
        self.pong_delays = pong_delays

    async def receive(self, frame: str) -> None:
        if isinstance(wire.decode(frame), wire.Ping) and self.pong_delays:
            self.events.append((anyio.current_time() - self._begun, PingReceived.__name__))
            self.group.start_soon(self._pong_in, self.pong_delays.pop(0))
        else:
            await super().receive(frame)

    async def raw(self, text: str, event_id: int) -> None:
        """Send a piece past the gate that keeps a right agent from it."""
        await self.pipe.to_engine.send(wire.encode(wire.AgentResponse(text, False, event_id)))

    @property
    def transcripts(self) -> list[list[tuple[str, str]]]:
        return [[(m.role, m.content) for m in turn.transcript] for turn in self.turns]

    async def _pong_in(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        await self.pipe.to_engine.send(wire.encode(wire.Pong()))


async def _handle(agent: Any, event: AgentEvent) -> None:
    match event:
        case TurnStarted(turn):
            agent.turns.append(turn)
            agent.group.start_soon(agent.answer, agent, turn)
        case ConversationEnded():
            agent.pipe.to_engine.close()
        case _:
            pass


class Server:
    """Answers any number of calls in memory.

    Args:
        answer: what each turn gets.
        pong_delays: seconds until the first pongs of each call; later ones come at once.
    """

    def __init__(self, answer: Answer, pong_delays: tuple[float, ...] = ()) -> None:
        self.agents: list[Agent] = []
        self.dialled_at: list[float] = []
        self.open = self.peak = 0
        self._answer = answer
        self._pong_delays = pong_delays
        self._begun = anyio.current_time()
        self.group: TaskGroup

    @property
    def agent(self) -> Agent:
        (agent,) = self.agents
        return agent

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        self.dialled_at.append(anyio.current_time() - self._begun)
        agent = Agent(self._answer, self.group, list(self._pong_delays))
        self.agents.append(agent)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            async with agent.connect(url) as pipe:
                yield pipe
        finally:
            self.open -= 1

    async def load(self, *, stop: anyio.Event | None = None, **plan: Any) -> LoadReport:
        """Run a load that holds one call without pings or thinking, where it says nothing else."""
        quiet: dict[str, Any] = {"calls": 1, "ramp": 0, "think": 0, "interrupt": 0, "ping": None}
        async with anyio.create_task_group() as self.group:
            report = await run_load(
                "ws://memory/", LoadPlan(**{**quiet, **plan}), connect=self.connect, stop=stop
            )
            self.group.cancel_scope.cancel()
        assert self.open == 0
        return report


async def four_words(agent: Agent, turn: Turn) -> None:
    """Speak a word after 0.25 s, and three more every 0.1 s."""
    for pause, word in ((0.25, "a "), (0.1, "b "), (0.1, "c "), (0.1, "d ")):
        await anyio.sleep(pause)
        if turn is not agent.conn.turn:
            return
        await agent.say(turn, word)
    await agent.end(turn)


async def silent(agent: Agent, turn: Turn) -> None:
    """Say nothing."""


def about(seconds: float) -> Any:
    return pytest.approx(seconds, rel=0.001)


class TestTimes:
    async def test_first_word_and_terminator(self) -> None:
        server = Server(four_words)
        report = await server.load(calls=3, turns=4)
        assert report.first_word.count == report.terminator.count == 12
        for name in ("p50", "p90", "p99", "max"):
            assert getattr(report.first_word, name) == about(0.25)
            assert getattr(report.terminator, name) == about(0.55)
        assert report.pieces == 48
        assert (report.turns.asked, report.turns.finished, report.turns.interrupted) == (12, 12, 0)
        assert (report.calls.finished, report.errors.total) == (3, 0)
        assert report.seconds == about(4 * 0.55)

    async def test_interrupt_to_silence(self) -> None:
        async def talks_on(agent: Agent, turn: Turn) -> None:
            if turn.event_id == 1:
                await agent.say(turn, "one ")
                await anyio.sleep(0.1)
                await agent.raw("two ", 1)
                await anyio.sleep(0.3)
                await agent.raw("three ", 1)
            else:
                await anyio.sleep(1)
                await agent.say(turn, "Yes.")
                await agent.end(turn)

        server = Server(talks_on)
        report = await server.load(turns=2, interrupt=1, interrupt_pieces=1)
        assert (report.silence.count, report.silence.max) == (1, about(0.4))
        assert (report.turns.interrupted, report.turns.finished) == (1, 1)
        assert (report.pieces, report.errors.total) == (4, 0)
        assert [role for role, _ in server.agent.transcripts[1]] == ["user", "agent", "user"]
        assert server.agent.transcripts[1][1] == ("agent", "one ")  # what was heard, no more

    async def test_silence_at_once_is_zero(self) -> None:
        server = Server(four_words)
        report = await server.load(turns=5, interrupt=1, interrupt_pieces=3)
        assert (report.silence.count, report.silence.max) == (4, 0)
        assert (report.turns.interrupted, report.turns.finished) == (4, 1)
        assert report.errors.total == 0

    async def test_an_interruption_does_not_think_first(self) -> None:
        server = Server(four_words)
        await server.load(turns=3, think=10, interrupt=1, interrupt_pieces=1)
        starts = [at for at, name in server.agent.events if name == "TurnStarted"]
        assert [later - at for at, later in pairwise(starts)] == [about(0.25)] * 2

    async def test_a_reply_that_is_over_cannot_be_interrupted(self) -> None:
        report = await Server(four_words).load(turns=3, interrupt=1, interrupt_pieces=10**6)
        assert (report.turns.interrupted, report.turns.finished, report.turns.missed) == (0, 3, 2)

    async def test_pongs(self) -> None:
        server = Server(four_words, (0.03, 0.03))
        report = await server.load(turns=4, think=2, ping=1.5)
        pings = server.agent.names.count("PingReceived")
        assert report.pong.count == pings >= 3
        assert report.pong.max == about(0.03)

    async def test_a_pong_that_is_late_is_an_error_and_is_told_from_the_next(self) -> None:
        async def slow(agent: Agent, turn: Turn) -> None:
            await anyio.sleep(40)
            await agent.say(turn, "Yes.")
            await agent.end(turn)

        server = Server(slow, (14, 14))
        report = await server.load(turns=1, ping=1, turn_timeout=60)
        assert report.errors.kinds["no pong"] == 2
        assert report.pong.max == about(14)
        assert report.calls.finished == 1


class TestCourse:
    async def test_calls_begin_evenly_over_the_ramp(self) -> None:
        server = Server(four_words)
        await server.load(calls=5, ramp=10, turns=1)
        assert server.dialled_at == [0, 2, 4, 6, 8]

    async def test_so_many_are_open_at_once(self) -> None:
        server = Server(four_words)
        report = await server.load(calls=7, at_once=2, turns=2)
        assert server.peak == report.calls.peak == 2
        assert report.calls.finished == 7

    async def test_the_caller_thinks_between_turns(self) -> None:
        server = Server(four_words)
        report = await server.load(turns=20, think=2)
        starts = [at for at, name in server.agent.events if name == "TurnStarted"]
        pauses = [later - at - 0.55 for at, later in pairwise(starts)]
        assert 1 <= min(pauses) < 1.5 < 2.5 < max(pauses) <= 3.0001
        assert report.seconds == about(sum(pauses) + starts[0] + 20 * 0.55)

    async def test_the_history_grows(self) -> None:
        server = Server(four_words)
        await server.load(turns=3, history=3)
        roles = [[role for role, _ in transcript] for transcript in server.agent.transcripts]
        begin = ["agent", "user", "agent"]
        assert roles == [begin + ["user", "agent"] * n + ["user"] for n in range(3)]
        assert server.agent.transcripts[2][-2] == ("agent", "a b c d ")

    async def test_out_of_time_ends_turns_in_flight_and_begins_no_other(self) -> None:
        async def slow(agent: Agent, turn: Turn) -> None:
            await anyio.sleep(7)
            await agent.say(turn, "Yes.")
            await agent.end(turn)

        server = Server(slow)
        report = await server.load(calls=4, ramp=20, turns=9, max_seconds=9)
        assert report.stopped == "out of time"
        assert report.seconds == about(14)  # the first call's second turn
        assert (report.calls.begun, report.calls.cut, report.errors.total) == (2, 2, 0)
        assert report.turns.asked == report.turns.finished == 3
        assert [agent.names[-1] for agent in server.agents] == ["ConversationEnded"] * 2

    async def test_out_of_time_while_the_caller_thinks(self) -> None:
        server = Server(four_words)
        report = await server.load(calls=2, turns=2, think=100, max_seconds=10)
        assert (report.seconds, report.turns.asked, report.calls.cut) == (about(10), 0, 2)

    async def test_a_turn_that_was_to_interrupt_is_not_asked_once_out_of_time(self) -> None:
        report = await Server(four_words).load(
            turns=2, interrupt=1, interrupt_pieces=1, max_seconds=0.2
        )
        assert (report.turns.asked, report.silence.count) == (1, 0)

    async def test_stop_hangs_up_in_order(self) -> None:
        server = Server(silent)
        stop = anyio.Event()

        async def stop_after_a_while() -> None:
            await anyio.sleep(3)
            stop.set()

        async with anyio.create_task_group() as group:
            group.start_soon(stop_after_a_while)
            report = await server.load(calls=10, ramp=6, stop=stop)
        assert (report.stopped, report.seconds) == ("interrupted", about(3))
        assert report.calls.begun == report.calls.cut == len(server.agents) >= 5
        assert {agent.names[-1] for agent in server.agents} == {"ConversationEnded"}
        assert report.errors.total == 0

    async def test_cancelled_from_outside_it_leaves_no_call(self) -> None:
        server = Server(silent)
        with anyio.move_on_after(3) as scope:
            await server.load(calls=3)
        assert scope.cancelled_caught
        assert server.open == 0
        assert [agent.names[-1] for agent in server.agents] == ["ConversationEnded"] * 3

    async def test_an_error_of_our_own_ends_the_run(self) -> None:
        class Broken(Pipe):
            async def close(self, code: int = 1000, reason: str = "") -> None:
                raise RuntimeError("a bug")

        agents: list[MemoryAgent] = []

        @asynccontextmanager
        async def connect(url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
            agent = MemoryAgent(hear)
            agents.append(agent)
            with agent.pipe.to_engine, agent.pipe.inbox:
                agent.pipe = Broken(agent)
                with agent.pipe.to_engine, agent.pipe.inbox:
                    yield agent.pipe

        async def hear(agent: MemoryAgent, event: AgentEvent) -> None:
            pass

        with pytest.raises(RuntimeError, match="a bug"):
            await run_load("ws://memory/", LoadPlan(calls=3, turn_timeout=5), connect=connect)
        assert {agent.names[-1] for agent in agents} == {"ConversationEnded"}

    async def test_the_same_seed_makes_the_same_calls(self) -> None:
        said: list[Any] = []
        for seed in (1, 1, 2):
            server = Server(four_words)
            await server.load(calls=3, ramp=3, turns=6, think=1, interrupt=0.5, seed=seed)
            said += [[agent.transcripts for agent in server.agents]]
        repeats, differs = said[0] == said[1], said[0] != said[2]
        assert repeats  # without the two sides: to show how they differ would take minutes
        assert differs


class TestErrors:
    async def test_no_word(self) -> None:
        server = Server(silent)
        report = await server.load(calls=2, turns=3, turn_timeout=5)
        assert report.errors.kinds == {"no word": 2}
        assert report.errors.examples["no word"] == "expected a first word within 5 s, got none"
        assert (report.calls.failed, report.calls.finished, report.seconds) == (2, 0, about(5))
        assert server.agents[0].names[-1] == "ConversationEnded"

    async def test_no_terminator(self) -> None:
        async def forgetful(agent: Agent, turn: Turn) -> None:
            await agent.say(turn, "Well,")

        report = await Server(forgetful).load(turn_timeout=5)
        assert report.errors.kinds == {"no terminator": 1}
        assert "got 1 pieces and none" in report.errors.examples["no terminator"]

    async def test_an_empty_reply_is_counted_and_the_call_goes_on(self) -> None:
        async def mute(agent: Agent, turn: Turn) -> None:
            await agent.end(turn)

        report = await Server(mute).load(turns=3)
        assert report.errors.kinds == {"empty reply": 3}
        assert (report.calls.finished, report.calls.failed) == (1, 0)
        assert report.first_word.count == 0

    async def test_old_words_after_the_new_reply_has_begun(self) -> None:
        async def confused(agent: Agent, turn: Turn) -> None:
            assert turn.event_id is not None
            await agent.say(turn, "one ")
            if turn.event_id > 1:
                await agent.raw("old ", turn.event_id - 1)
                await agent.end(turn)

        report = await Server(confused).load(turns=2, interrupt=1, interrupt_pieces=1)
        assert report.errors.kinds == {"stale text": 1}
        assert "once that had begun" in report.errors.examples["stale text"]

    async def test_words_after_the_terminator(self) -> None:
        async def verbose(agent: Agent, turn: Turn) -> None:
            assert turn.event_id is not None
            if turn.event_id == 2:
                await agent.raw("old ", 1)  # before any word of the new one
            await agent.say(turn, "one ")
            await agent.end(turn)
            if turn.event_id == 2:
                await agent.raw("more ", 2)
            await anyio.sleep(1)

        report = await Server(verbose).load(turns=3, think=2)
        assert report.errors.kinds == {"stale text": 1, "protocol violation": 1}
        assert report.calls.finished == 1

    async def test_text_in_the_terminator(self) -> None:
        async def wordy(agent: Agent, turn: Turn) -> None:
            await agent.say(turn, "one ")
            frame = wire.encode(wire.AgentResponse("and bye", True, turn.event_id))
            await agent.pipe.to_engine.send(frame)

        report = await Server(wordy).load(turns=1)
        assert report.errors.kinds == {"protocol violation": 1}
        assert "7 characters" in report.errors.examples["protocol violation"]

    async def test_a_reply_without_end(self) -> None:
        async def flood(agent: Agent, turn: Turn) -> None:
            with suppress(anyio.ClosedResourceError):
                while True:
                    await agent.say(turn, "blah " * 1000)

        report = await Server(flood).load(turns=1)
        assert report.errors.kinds == {"reply too long": 1}
        assert report.calls.failed == 1

    async def test_a_socket_that_ends_while_the_caller_thinks(self) -> None:
        async def leaves(agent: Agent, turn: Turn) -> None:
            await agent.say(turn, "Bye.")
            await agent.end(turn)
            await anyio.sleep(1)
            agent.pipe.to_engine.close()

        report = await Server(leaves).load(turns=2, think=100)
        assert report.errors.kinds == {"lost": 1}
        assert report.calls.failed == 1
        assert report.turns.asked == report.turns.finished == 1

    async def test_an_agent_that_hangs_up_after_the_last_turn_is_no_error(self) -> None:
        async def leaves(agent: Agent, turn: Turn) -> None:
            await agent.say(turn, "Bye.")
            await agent.end(turn)
            agent.pipe.to_engine.close()

        report = await Server(leaves).load(turns=1)
        assert (report.calls.finished, report.errors.total) == (1, 0)

    async def test_no_word_of_a_conversation_is_in_the_examples(self) -> None:
        async def garbage(agent: Agent, turn: Turn) -> None:
            await agent.pipe.to_engine.send('{"type":"agent_response","content":["s3cret"]}')
            await agent.say(turn, "s3cret")
            await agent.end(turn)

        report = await Server(garbage).load(turns=2, say=("s3cret",))
        assert report.errors.kinds == {"protocol violation": 2}
        assert "s3cret" not in str(report)
        assert "s3cret" not in str(report.as_dict())
