"""The two roles wired together, with a queue each way that lags.

Each side does whatever its API allows, at any time. Then neither may ever see a violation, what
one writes is exactly what the other reads, and once the queues are empty both agree on the reply.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from speech_engine_proto import (
    AgentConnection,
    ConversationMessage,
    ConversationStarted,
    ConversationState,
    EngineConnection,
    ErrorReceived,
    LocalProtocolError,
    MessageIgnored,
    MessageIgnoredReason,
    PingReceived,
    PongReceived,
    ReplyFinished,
    ReplyText,
    StaleReply,
    TranscriptIgnored,
    Turn,
    TurnResent,
    TurnStarted,
    TurnState,
    wire,
)

_texts = st.text(max_size=6)
_words = st.text(min_size=1, max_size=6)
_entries = st.builds(ConversationMessage, st.sampled_from(["user", "agent"]), _texts)


class PairMachine(RuleBasedStateMachine):
    """One conversation, both ends of it, and what is on the way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = EngineConnection()
        self.agent = AgentConnection()
        self.to_agent: deque[tuple[str, wire.Message]] = deque()
        self.to_engine: deque[tuple[str, wire.Message]] = deque()
        self.asked: list[tuple[ConversationMessage, ...]] = []
        self.turns: list[Turn] = []
        self.heard: dict[int, str] = {}

    @initialize(adopts=st.booleans())
    def start(self, adopts: bool) -> None:
        self.agent = AgentConnection(adopt_resends=adopts)
        self.ask_wire(self.engine.send_init("conv_1"), wire.Init("conv_1"))

    # The service asks.

    @precondition(lambda self: self.engine.is_open)
    @rule(transcript=st.lists(_entries, min_size=1, max_size=3).map(tuple))
    def ask(self, transcript: tuple[ConversationMessage, ...]) -> None:
        frame = self.engine.send_transcript(transcript)
        self.asked.append(transcript)
        self.ask_wire(frame, self.transcript(transcript, self.engine.event_id))

    @precondition(lambda self: self.engine.is_open and self.asked)
    @rule(back=st.integers(0, 2), new_id=st.booleans())
    def ask_again(self, back: int, new_id: bool) -> None:
        """Re-send what was asked, under its own id, under an old one, or under a new one."""
        transcript, current = self.asked[-1], self.engine.event_id
        assert current is not None
        event_id = None if new_id else max(1, current - back)
        frame = self.engine.send_transcript(transcript, event_id)
        self.ask_wire(frame, self.transcript(transcript, event_id or self.engine.event_id))

    @precondition(lambda self: self.engine.is_open)
    @rule(text=_texts)
    def complain(self, text: str) -> None:
        self.ask_wire(self.engine.send_error(text), wire.Error(text))

    @precondition(lambda self: self.engine.is_open)
    @rule()
    def ping(self) -> None:
        self.ask_wire(self.engine.send_ping(), wire.Ping())

    # The agent answers, also for turns of long ago.

    @precondition(lambda self: self.turns)
    @rule(text=_words, back=st.sampled_from([1, 1, 1, 2, 3]))
    def speak(self, text: str, back: int) -> None:
        turn = self.turns[-min(back, len(self.turns))]
        current = turn is self.agent.turn
        try:
            frame = self.agent.send_text(turn, text)
        except LocalProtocolError:
            assert not current
        else:
            assert current
            self.answer_wire(frame, wire.AgentResponse(text, False, turn.event_id))

    @precondition(lambda self: self.turns)
    @rule(back=st.sampled_from([1, 1, 1, 2, 3]))
    def finish(self, back: int) -> None:
        turn = self.turns[-min(back, len(self.turns))]
        current = turn is self.agent.turn
        try:
            frame = self.agent.end_turn(turn)
        except LocalProtocolError:
            assert not current
        else:
            assert current
            self.answer_wire(frame, wire.AgentResponse("", True, turn.event_id))

    # What is on the way arrives.

    @precondition(lambda self: self.to_agent)
    @rule(count=st.integers(1, 3))
    def reach_agent(self, count: int) -> None:
        for _ in range(min(count, len(self.to_agent))):
            frame, sent = self.to_agent.popleft()
            was_open = self.agent.is_open
            event = self.agent.receive(frame)
            if not was_open:
                assert event == MessageIgnored(None, MessageIgnoredReason.AFTER_END)
                continue
            self.agent_sees(event, sent)
            if event.reply:
                self.answer_wire(event.reply, wire.Pong())

    @precondition(lambda self: self.to_engine)
    @rule(count=st.integers(1, 3))
    def reach_engine(self, count: int) -> None:
        for _ in range(min(count, len(self.to_engine))):
            frame, sent = self.to_engine.popleft()
            was_open = self.engine.is_open
            event = self.engine.receive(frame)
            if not was_open:
                assert event == MessageIgnored(None, MessageIgnoredReason.AFTER_END)
                continue
            self.engine_sees(event, sent)

    # The end comes late, if it comes.

    @precondition(lambda self: len(self.asked) > 3 and self.engine.is_open)
    @rule()
    def hang_up(self) -> None:
        self.ask_wire(self.engine.send_close(), wire.Close())

    @precondition(lambda self: len(self.asked) > 3)
    @rule()
    def agent_leaves(self) -> None:
        self.agent.close()

    @precondition(lambda self: self.asked)
    @invariant()
    def at_most_one_turn_is_in_flight(self) -> None:
        in_flight = [turn for turn in self.turns if turn.in_flight]
        assert in_flight == ([] if self.agent.turn is None else [self.agent.turn])

    def teardown(self) -> None:
        """Let everything arrive, and compare what the two ends believe."""
        while self.to_agent or self.to_engine:
            self.reach_agent(len(self.to_agent))
            self.reach_engine(len(self.to_engine))
        if not (self.engine.is_open and self.agent.is_open and self.turns):
            return
        turn = self.turns[-1]
        assert turn.event_id is not None
        assert turn.event_id == self.engine.event_id
        said = "".join(t.text_sent for t in self.turns if t.event_id == turn.event_id)
        assert self.heard.get(turn.event_id, "") == said
        state = self.engine.turn_state
        if turn.text_sent:
            assert state is turn.state
        elif turn.state is TurnState.FINISHED:
            # A re-send may have crossed the empty reply: then the service still waits.
            assert state in (TurnState.FINISHED, TurnState.WAITING)
        else:
            assert state is TurnState.WAITING

    def agent_sees(self, event: Any, sent: wire.Message) -> None:
        """What the agent is told is what the service wrote."""
        match sent:
            case wire.Init(name):
                assert event == ConversationStarted(name)
            case wire.Ping():
                assert event == PingReceived()
            case wire.Error(text):
                assert event == ErrorReceived(text)
            case wire.Close():
                assert self.agent.state is ConversationState.ENDED
            case wire.UserTranscript(transcript, event_id):
                assert isinstance(event, TurnStarted | TurnResent | TranscriptIgnored)
                assert event.event_id == event_id
                if not isinstance(event, TranscriptIgnored):
                    assert event.turn.transcript == transcript
                if isinstance(event, TurnStarted):
                    self.turns.append(event.turn)

    def engine_sees(self, event: Any, sent: wire.Message) -> None:
        """What the service is told is what the agent wrote, and whether it came too late."""
        if isinstance(sent, wire.Pong):
            assert event == PongReceived()
            return
        assert isinstance(sent, wire.AgentResponse)
        current = self.engine.event_id
        assert sent.event_id is not None
        assert current is not None
        if sent.event_id < current:
            assert event == StaleReply(sent.event_id, sent.content)
            return
        kind = ReplyFinished if sent.is_final else ReplyText
        assert event == kind(current, sent.content)
        self.heard[current] = self.heard.get(current, "") + sent.content

    def ask_wire(self, frame: str, message: wire.Message) -> None:
        """Put what the service wrote on the way."""
        assert wire.decode(frame) == message
        self.to_agent.append((frame, message))

    def answer_wire(self, frame: str, message: wire.Message) -> None:
        """Put what the agent wrote on the way."""
        assert wire.decode(frame) == message
        self.to_engine.append((frame, message))

    @staticmethod
    def transcript(
        entries: tuple[ConversationMessage, ...], event_id: int | None
    ) -> wire.UserTranscript:
        """Return the message that the service must have written."""
        return wire.UserTranscript(entries, event_id)


TestPair = PairMachine.TestCase


def test_a_new_attempt_after_an_empty_reply() -> None:
    """The re-send may leave before or after the empty reply arrives; both are in order."""
    for crosses in (False, True):
        engine, agent = EngineConnection(), AgentConnection()
        agent.receive(engine.send_init("conv_1"))
        entries = [ConversationMessage("user", "Hello?")]
        first = agent.receive(engine.send_transcript(entries))
        assert isinstance(first, TurnStarted)
        empty = agent.end_turn(first.turn)
        if not crosses:
            engine.receive(empty)
        again = engine.send_transcript(entries, 1)
        if crosses:
            engine.receive(empty)
        second = agent.receive(again)
        assert isinstance(second, TurnStarted)
        assert second.turn.attempt == 2
        assert engine.receive(agent.send_text(second.turn, "Yes.")) == ReplyText(1, "Yes.")
        assert engine.receive(agent.end_turn(second.turn)) == ReplyFinished(1, "")
        assert engine.turn_state is TurnState.FINISHED


@pytest.mark.parametrize("left", ["engine", "agent"])
def test_the_end_is_the_same_for_both(left: str) -> None:
    engine, agent = EngineConnection(), AgentConnection()
    agent.receive(engine.send_init("conv_1"))
    agent.receive(engine.send_transcript([ConversationMessage("user", "Hello?")]))
    if left == "engine":
        assert agent.receive(engine.send_close()) == agent.receive_eof()
        assert type(engine.receive_eof()).__name__ == "ConversationEnded"
    else:
        agent.close()
        assert type(engine.receive_eof()).__name__ == "ConnectionLost"
    assert not engine.is_open
    assert not agent.is_open
