"""`ConnectionPair` and `ProtocolMachine`: a good agent passes, and each seeded bug is named."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from speech_engine_proto import (
    AgentConnection,
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    ConversationStarted,
    EngineConnection,
    ErrorReceived,
    MessageIgnored,
    PingReceived,
    PongReceived,
    ProtocolViolation,
    ReplyFinished,
    ReplyText,
    StaleReply,
    Turn,
    TurnResent,
    TurnStarted,
    TurnState,
    testing,
    wire,
)
from speech_engine_proto.testing import Agent, ConnectionPair, ProtocolMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HELLO = (ConversationMessage("user", "Hello?"),)
# What a `TestCase` has by default, but always with the same examples.
DEFAULT = settings(
    settings.get_profile("default"),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# To find is enough here: shrinking shows the same fault in fewer steps, and takes its time.
# Hypothesis draws on the constants of whatever modules are loaded, so what comes within the default
# number of examples depends on which tests run beside these. The first finding ends the search.
FIND = settings(DEFAULT, phases=(Phase.generate,), report_multiple_bugs=False, max_examples=3_000)


def machine_of(factory: Callable[[], Agent]) -> type[ProtocolMachine]:
    class Machine(ProtocolMachine):
        make_agent = staticmethod(factory)

    return Machine


# ConnectionPair


def test_pair_crosses_a_reply_and_a_barge_in() -> None:
    pair = ConnectionPair()
    pair.send_init("conv_1")
    pair.send_transcript(HELLO)
    pair.deliver_all()
    turn = pair.agent.turn
    assert turn is not None
    pair.send_text(turn, "Hello!")
    pair.send_transcript([*HELLO, ConversationMessage("user", "Wait!")])

    assert pair.deliver_to_engine() == StaleReply(1, "Hello!")
    started = pair.deliver_to_agent()

    assert isinstance(started, TurnStarted)
    assert started.interrupted is turn
    pair.send_text(started.turn, "Yes?")
    pair.end_turn(started.turn)
    pair.deliver_all()
    assert pair.engine_events[1:] == [ReplyText(2, "Yes?"), ReplyFinished(2, "")]
    assert isinstance(pair.agent_events[0], ConversationStarted)


def test_pair_sends_the_reply_of_an_event_and_a_resend() -> None:
    pair = ConnectionPair()
    pair.send_init("conv_1")
    pair.send_ping()
    pair.send_error("late")
    pair.send_transcript(HELLO)
    pair.send_transcript(HELLO, 2)
    assert len(pair.to_agent) == 5
    pair.deliver_all()
    kinds = [type(event) for event in pair.agent_events]
    assert kinds == [ConversationStarted, PingReceived, ErrorReceived, TurnStarted, TurnResent]
    assert pair.engine_events == [PongReceived()]


def test_pair_with_nothing_under_way() -> None:
    agent, engine = AgentConnection(), EngineConnection()
    pair = ConnectionPair(agent, engine)
    assert pair.agent is agent
    assert pair.engine is engine
    assert pair.deliver_to_agent() is None
    assert pair.deliver_to_engine() is None
    pair.deliver_all()
    assert pair.agent_events == []
    assert pair.engine_events == []


def test_pair_closes() -> None:
    pair = ConnectionPair()
    pair.send_close()
    pair.deliver_all()
    pair.receive_eof()
    assert pair.agent_events == [ConversationEnded(), ConversationEnded()]
    assert pair.engine_events == [ConversationEnded()]


def test_pair_loses_what_is_under_way() -> None:
    pair = ConnectionPair()
    pair.send_init("conv_1")
    pair.send_ping()
    pair.deliver_to_agent()
    pair.deliver_to_agent()
    pair.send_transcript(HELLO)
    pair.receive_eof()
    assert not pair.to_agent
    assert not pair.to_engine
    assert pair.agent_events[-1] == ConnectionLost()
    assert pair.engine_events == [ConnectionLost()]


# ProtocolMachine: agents that keep the rules


class EchoAgent:
    """Answers at once, and has no more to do than that."""

    def __init__(self) -> None:
        self.conn = AgentConnection()

    def receive(self, frame: str) -> Iterator[str]:
        event = self.conn.receive(frame)
        if event.reply:
            yield event.reply
        if isinstance(event, TurnStarted):
            yield from self.answer(event.turn)

    def answer(self, turn: Turn) -> Iterator[str]:
        yield self.conn.send_text(turn, turn.transcript[-1].content)
        yield self.conn.end_turn(turn)


class StreamingAgent:
    """Answers in two pieces and a terminator, one each time that it advances."""

    adopt_resends = True

    def __init__(self) -> None:
        self.conn = AgentConnection(adopt_resends=self.adopt_resends)
        self.words: list[str] = []

    def receive(self, frame: str) -> Iterable[str]:
        event = self.conn.receive(frame)
        if isinstance(event, TurnStarted):
            self.words = ["You said", event.transcript[-1].content]
        return [event.reply] if event.reply else []

    def advance(self) -> Iterable[str]:
        turn = self.conn.turn
        if turn is None:
            return []
        if self.words:
            return [self.conn.send_text(turn, self.words.pop(0))]
        return [self.conn.end_turn(turn)]

    def receive_eof(self) -> None:
        self.conn.receive_eof()


class WithoutAdoption(StreamingAgent):
    adopt_resends = False


class Wordless(StreamingAgent):
    """Ends each turn without a word, so that the same id asked again is a new attempt."""

    def advance(self) -> Iterable[str]:
        self.words = []
        return super().advance()


class WithoutEof:
    """Streams, and is not told when the socket ends."""

    def __init__(self) -> None:
        agent = StreamingAgent()
        self.receive, self.advance = agent.receive, agent.advance


@pytest.mark.parametrize(
    "agent", [EchoAgent, StreamingAgent, WithoutAdoption, Wordless, WithoutEof]
)
def test_a_good_agent_passes(agent: Callable[[], Agent]) -> None:
    run_state_machine_as_test(machine_of(agent), settings=DEFAULT)


# ProtocolMachine: agents with a seeded bug


class EndsOnlyShortConversations(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        yield self.conn.send_text(turn, turn.transcript[-1].content)
        if len(turn.transcript) < 3:
            yield self.conn.end_turn(turn)


class NeverAnswers(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        return iter(())


class EndsTwice(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        end = self.conn.end_turn(turn)
        return iter([end, end])


class SpeaksAfterTheEndOfTheTurn(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        piece = self.conn.send_text(turn, "Hello!")
        return iter([piece, self.conn.end_turn(turn), piece])


class TextInTheTerminator(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        yield wire.encode(wire.AgentResponse("Hello!", True, turn.event_id))


class WithoutId(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        yield wire.encode(wire.AgentResponse("Hello!", False))


class WrongId(EchoAgent):
    def answer(self, turn: Turn) -> Iterator[str]:
        yield wire.encode(wire.AgentResponse("Hello!", False, 7))


class AnswersTheInit(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        if wire.encode(wire.Init("conv_1")) == frame:
            yield wire.encode(wire.AgentResponse("Hello!", False, 1))
        yield from super().receive(frame)


class NoPongWhileSpeaking(StreamingAgent):
    def receive(self, frame: str) -> Iterable[str]:
        turn = self.conn.turn
        speaking = turn is not None and turn.state is TurnState.SPEAKING
        return [] if speaking and frame == '{"type":"ping"}' else super().receive(frame)


class PongsLate(StreamingAgent):
    def __init__(self) -> None:
        super().__init__()
        self.late: list[str] = []

    def receive(self, frame: str) -> Iterable[str]:
        self.late.extend(super().receive(frame))
        return []

    def advance(self) -> Iterable[str]:
        late, self.late = self.late, []
        return late or super().advance()


class PongsTwice(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        for written in super().receive(frame):
            yield written
            if "pong" in written:
                yield written


class PongsAtErrors(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        yield from super().receive(frame)
        if isinstance(AgentConnection().receive(frame), ErrorReceived):
            yield wire.encode(wire.Pong())


class Queueing(StreamingAgent):
    """Makes its frames when a turn begins, so that nothing checks them when they are written."""

    forgets_at_the_end: tuple[type, ...] = (ConversationEnded, ConnectionLost)
    forgets_at_a_turn = False

    def __init__(self) -> None:
        super().__init__()
        self.queue: list[str] = []

    def receive(self, frame: str) -> Iterable[str]:
        event = self.conn.receive(frame)
        if isinstance(event, self.forgets_at_the_end):
            self.queue.clear()
        if isinstance(event, TurnStarted):
            if self.forgets_at_a_turn:
                self.queue.clear()
            self.queue.append(self.conn.send_text(event.turn, "Hello!"))
            self.queue.append(self.conn.end_turn(event.turn))
        return [event.reply] if event.reply else []

    def advance(self) -> Iterable[str]:
        return [self.queue.pop(0)] if self.queue else []

    def receive_eof(self) -> None:
        if isinstance(self.conn.receive_eof(), self.forgets_at_the_end):
            self.queue.clear()


class SpeaksAfterClose(Queueing):
    forgets_at_a_turn = True
    forgets_at_the_end = (ConnectionLost,)


class SpeaksAfterEof(Queueing):
    forgets_at_a_turn = True
    forgets_at_the_end = (ConversationEnded,)


class DropsTheTurnOnGarbage(StreamingAgent):
    def receive(self, frame: str) -> Iterable[str]:
        event = self.conn.receive(frame)
        if isinstance(event, ProtocolViolation) and self.conn.turn is not None:
            self.conn.end_turn(self.conn.turn)
        if isinstance(event, TurnStarted):
            self.words = ["Hello!"]
        return [event.reply] if event.reply else []


class CrashesOnGarbage(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        json.loads(frame)
        return super().receive(frame)


class CrashesOnUnknownTypes(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        if isinstance(AgentConnection().receive(frame), MessageIgnored):
            raise NotImplementedError("this type")
        return super().receive(frame)


class WritesPings(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        yield wire.encode(wire.Ping())


class WritesNoise(EchoAgent):
    def receive(self, frame: str) -> Iterator[str]:
        yield "Hello!"


class WritesBytes(EchoAgent):
    def receive(self, frame: str) -> Iterator[Any]:
        yield b'{"type":"pong"}'


class ReturnsAFrame(EchoAgent):
    def receive(self, frame: str) -> Any:
        return '{"type":"pong"}'


class ReturnsNone(EchoAgent):
    def receive(self, frame: str) -> Any:
        list(super().receive(frame))


class ReturnsNoneWhenItAdvances(StreamingAgent):
    def advance(self) -> Any:
        return None


SEEDED_BUGS: list[tuple[Callable[[], Agent], type[Exception], str]] = [
    (EndsOnlyShortConversations, AssertionError, r"turn \d+ was answered but never terminated"),
    (NeverAnswers, AssertionError, "turn 1 got no terminator"),
    (EndsTwice, AssertionError, "turn 1 got a second terminator"),
    (SpeaksAfterTheEndOfTheTurn, AssertionError, "turn 1 got a piece after its terminator"),
    (TextInTheTerminator, AssertionError, "the terminator of turn 1 carries text"),
    (WithoutId, AssertionError, "a piece without the id of turn 1"),
    (WrongId, AssertionError, "a piece for turn 7 while turn 1 is current"),
    (AnswersTheInit, AssertionError, "a piece that breaks the protocol: expected a reply after"),
    (NoPongWhileSpeaking, AssertionError, "exactly one pong, got 0"),
    (PongsLate, AssertionError, "answered at once with exactly one pong, got 0"),
    (PongsTwice, AssertionError, "exactly one pong, got 2"),
    (PongsAtErrors, AssertionError, "a pong where there was no ping"),
    (Queueing, AssertionError, r"for turn \d+ while turn \d+ is current"),
    (SpeaksAfterClose, AssertionError, "after the end of the conversation"),
    (SpeaksAfterEof, AssertionError, "after the end of the conversation"),
    (DropsTheTurnOnGarbage, AssertionError, r"turn \d+ (was answered but never|got no) term"),
    (CrashesOnGarbage, json.JSONDecodeError, r"line 1 column \d+"),
    (CrashesOnUnknownTypes, NotImplementedError, "this type"),
    (WritesPings, AssertionError, "a 'ping', which no agent sends"),
    (WritesNoise, AssertionError, "a frame that breaks the protocol: expected a JSON object"),
    (WritesBytes, TypeError, "a frame: expected a str, got bytes"),
    (ReturnsAFrame, TypeError, r"receive\(\): expected a list or generator of frames, got str"),
    (ReturnsNone, TypeError, r"receive\(\): expected a list or generator of frames, got NoneType"),
    (ReturnsNoneWhenItAdvances, TypeError, r"advance\(\): expected a list or generator of frames"),
]


@pytest.mark.parametrize(
    ("agent", "error", "words"), SEEDED_BUGS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_seeded_bug_is_found_and_named(
    agent: Callable[[], Agent], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run_state_machine_as_test(machine_of(agent), settings=FIND)


def test_an_agent_that_is_never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    class NeverIdle(StreamingAgent):
        def advance(self) -> Iterable[str]:
            turn = self.conn.turn
            return [] if turn is None else [self.conn.send_text(turn, "and")]

    monkeypatch.setattr(testing, "MOST_ADVANCES", 20)
    with pytest.raises(AssertionError, match="still writes after 20 advances"):
        run_state_machine_as_test(machine_of(NeverIdle), settings=FIND)


def test_a_machine_without_an_agent() -> None:
    with pytest.raises(TypeError, match=r"ProtocolMachine.make_agent: expected a factory"):
        run_state_machine_as_test(ProtocolMachine, settings=FIND)


def test_the_failing_example_reads_like_a_story() -> None:
    """What the README shows: default settings find the bug and shrink it to these steps."""

    class EchoMachine(ProtocolMachine):
        make_agent = EndsOnlyShortConversations

    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(EchoMachine, settings=DEFAULT)
    assert str(caught.value) == "turn 2 was answered but never terminated"
    told = "\n".join(caught.value.__notes__).splitlines()
    steps = [line for line in told if line.startswith("state")]
    # Hypothesis may leave a step in that changes nothing, such as a ping.
    needed = [line for line in steps if line.partition("(")[0] != "state.service_pings"]
    assert needed == [
        "state = EchoMachine()",
        "state.call_begins(early_ping=False)",
        "state.caller_says(text='0')",
        "state.caller_says(text='0')",
        "state.teardown()",
    ]


def test_without_hypothesis_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "speech_engine_proto.testing")
    with pytest.raises(ImportError, match=r"speech-engine-proto\[testing\]"):
        importlib.import_module("speech_engine_proto.testing")


def test_public_names() -> None:
    assert set(testing.__all__) == {
        *("Agent", "ConnectionPair", "ProtocolMachine"),
        *("conversations", "frames", "garbage", "messages"),
    }
    assert all(hasattr(testing, name) for name in testing.__all__)
