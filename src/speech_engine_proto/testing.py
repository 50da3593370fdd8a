"""Hypothesis strategies and machines for code that is built on the protocol.

- `messages`, `frames`, `garbage`, `conversations`: what a peer may send, and what none may.
- `ConnectionPair`: both roles wired together in memory, each message as late as you like.
- `ProtocolMachine`: fuzzes *your* code as the service would talk to it, and says in words which
  rule it broke.

Needs Hypothesis: the extra ``testing``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
except ImportError:
    raise ImportError(
        "speech_engine_proto.testing needs hypothesis: pip install 'speech-engine-proto[testing]'"
    ) from None

from . import wire
from ._agent import AgentConnection
from ._engine import EngineConnection
from ._errors import RemoteProtocolError
from ._events import MessageIgnored, PongReceived, ProtocolViolation
from ._testing_strategies import (
    Service,
    conversations,
    frames,
    garbage,
    garbage_texts,
    messages,
    unknown_types,
)

if TYPE_CHECKING:
    from ._events import AgentEvent, EngineEvent
    from ._messages import ConversationMessage
    from ._testing_strategies import Question
    from ._turns import Turn

__all__ = [
    "Agent",
    "ConnectionPair",
    "ProtocolMachine",
    "conversations",
    "frames",
    "garbage",
    "messages",
]

MOST_ADVANCES = 10_000


class ConnectionPair:
    """An agent and an engine wired together in memory, with a lagging queue each way.

    What a verb writes is under way until it is delivered, so every crossing of messages that a
    network can bring about can be staged. A reply that an event carries (the pong) is put under
    way at once. The verbs are those of the two connections::

        pair = ConnectionPair()
        pair.send_init("conv_1")
        pair.send_transcript([ConversationMessage("user", "Hello?")])
        pair.deliver_all()
        turn = pair.agent.turn
        pair.send_text(turn, "Hello!")       # on its way
        pair.send_transcript([...])          # the caller cuts in meanwhile
        pair.deliver_to_engine()             # StaleReply: the engine has moved on

    Args:
        agent: the connection under the agent; by default a new one.
        engine: the connection under the service; by default a new one.
    """

    def __init__(
        self, agent: AgentConnection | None = None, engine: EngineConnection | None = None
    ) -> None:
        self.agent: AgentConnection = agent or AgentConnection()
        self.engine: EngineConnection = engine or EngineConnection()
        self.to_agent: deque[str] = deque()
        """Frames on their way to the agent, the oldest first."""
        self.to_engine: deque[str] = deque()
        """Frames on their way to the engine, the oldest first."""
        self.agent_events: list[AgentEvent] = []
        """All that the agent's side has told, in order."""
        self.engine_events: list[EngineEvent] = []
        """All that the engine's side has told, in order."""

    def send_init(self, conversation_id: str) -> None:
        """The engine names the conversation."""
        self.to_agent.append(self.engine.send_init(conversation_id))

    def send_transcript(
        self, transcript: Iterable[ConversationMessage], event_id: int | None = None
    ) -> None:
        """The engine asks for a reply; an ``event_id`` that was used before re-sends."""
        self.to_agent.append(self.engine.send_transcript(transcript, event_id))

    def send_ping(self) -> None:
        """The engine asks whether the agent is there."""
        self.to_agent.append(self.engine.send_ping())

    def send_error(self, message: str) -> None:
        """The engine reports an error."""
        self.to_agent.append(self.engine.send_error(message))

    def send_close(self) -> None:
        """The engine ends the conversation in order."""
        self.to_agent.append(self.engine.send_close())

    def send_text(self, turn: Turn, text: str) -> None:
        """The agent sends a piece of its reply to ``turn``."""
        self.to_engine.append(self.agent.send_text(turn, text))

    def end_turn(self, turn: Turn) -> None:
        """The agent ends its reply to ``turn``."""
        self.to_engine.append(self.agent.end_turn(turn))

    def deliver_to_agent(self) -> AgentEvent | None:
        """Let the oldest frame arrive at the agent; None where none is under way."""
        if not self.to_agent:
            return None
        event = self.agent.receive(self.to_agent.popleft())
        self.agent_events.append(event)
        if event.reply is not None:
            self.to_engine.append(event.reply)
        return event

    def deliver_to_engine(self) -> EngineEvent | None:
        """Let the oldest frame arrive at the engine; None where none is under way."""
        if not self.to_engine:
            return None
        event = self.engine.receive(self.to_engine.popleft())
        self.engine_events.append(event)
        return event

    def deliver_all(self) -> None:
        """Let everything arrive that is under way, what is answered to it included."""
        while self.deliver_to_agent() or self.deliver_to_engine():
            pass

    def receive_eof(self) -> None:
        """End the socket: what is under way is lost, and both sides are told."""
        self.to_agent.clear()
        self.to_engine.clear()
        self.agent_events.append(self.agent.receive_eof())
        self.engine_events.append(self.engine.receive_eof())


class Agent(Protocol):
    """What `ProtocolMachine` fuzzes: the part of your code between the socket and the handler.

    Two more methods are called where they are there. ``advance() -> Iterable[str]`` does a little
    more work, one more piece for instance, and returns the frames of it, none when idle.
    ``receive_eof() -> None`` is told that the socket has ended.
    """

    def receive(self, frame: str) -> Iterable[str]:
        """Take one message and return the frames to write, in order; a generator is fine."""
        ...


def _a_turn_was_asked(machine: ProtocolMachine) -> bool:
    return machine.service.current is not None


def _agent_advances(machine: ProtocolMachine) -> bool:
    return hasattr(machine.agent, "advance")


class ProtocolMachine(RuleBasedStateMachine):
    """Plays the service to your agent, and fails where the agent breaks a rule.

    Say which agent, and let pytest or unittest run it::

        class MyMachine(ProtocolMachine):
            make_agent = MyAgent  # called without arguments; a function goes into staticmethod()

        TestMyAgent = MyMachine.TestCase

    The machine sends init, transcripts, re-sends, pings, errors, unknown types, garbage, close
    and the end of the socket in every order that is legal. Frames are exchanged in lockstep, one
    by one: nothing crosses on the way, so a stale reply is the agent's fault. It checks that:

    - a ping is answered at once, with exactly one pong, and nothing else is;
    - each reply names the turn that is current when it is written;
    - each turn that stays current gets exactly one terminator, empty, and nothing after it;
    - nothing is written after the end;
    - nothing is written that the service would refuse or not know.

    Whatever the agent raises is a failure too. An agent without ``advance`` is taken to be idle
    whenever ``receive`` has returned. A subclass may add rules, which find the agent in
    ``self.agent``; one that overrides ``teardown`` calls it on ``super()``, since the last turn is
    checked there.
    """

    make_agent: Callable[[], Agent]

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(self, "make_agent"):
            raise TypeError(f"{type(self).__name__}.make_agent: expected a factory, got nothing")
        self.agent: Agent
        self.service: Service
        # Whether teardown has something to settle: a failure within a step must not be hidden by
        # a second one.
        self._between_steps = False

    @initialize(early_ping=st.booleans())
    def call_begins(self, early_ping: bool) -> None:
        """The service names the conversation; a ping may come even before that."""
        self.agent = self.make_agent()
        self.service = Service()
        if early_ping:
            self.service_pings()
        self._exchange("receive", self.service.connection.send_init("conv_1"))

    @rule(text=st.text(min_size=1, max_size=20))
    def caller_says(self, text: str) -> None:
        """The caller speaks: a new turn, which interrupts the one in flight."""
        self._exchange("receive", self.service.ask(text))

    @precondition(_a_turn_was_asked)
    @rule()
    def resend_same_id(self) -> None:
        """The service asks the current turn again as it was."""
        self._exchange("receive", self.service.repeat())

    @precondition(_a_turn_was_asked)
    @rule()
    def resend_oldest_id(self) -> None:
        """The service asks its first turn again, however old that is."""
        self._exchange("receive", self.service.repeat_oldest())

    @precondition(_a_turn_was_asked)
    @rule()
    def resend_under_new_id(self) -> None:
        """The service asks the current turn again under the next id."""
        self._exchange("receive", self.service.repeat_under_new_id())

    @rule()
    def service_pings(self) -> None:
        """The service asks whether the agent is there."""
        self._exchange("receive", self.service.connection.send_ping(), pongs=1)

    @rule(message=st.text(max_size=20))
    def service_reports_error(self, message: str) -> None:
        """The service reports an error; the conversation goes on."""
        self._exchange("receive", self.service.connection.send_error(message))

    @rule(name=unknown_types())
    def service_sends_unknown_type(self, name: str) -> None:
        """The service sends what a later version of the protocol may hold."""
        self._exchange("receive", wire.encode(wire.Unknown(name)))

    @rule(frame=garbage_texts())
    def service_sends_garbage(self, frame: str) -> None:
        """The service sends what is no message; the turn in flight is not touched by it."""
        self._exchange("receive", frame)

    @rule(with_close=st.booleans())
    def call_ends(self, with_close: bool) -> None:
        """The call ends, in order or not; a new agent takes the next one."""
        if with_close:
            self._exchange("receive", self.service.connection.send_close())
            self._settle()
        self.service.connection.receive_eof()
        if hasattr(self.agent, "receive_eof"):  # else it cannot know, and is not blamed
            self._exchange("receive_eof")
            self._settle()
        self.call_begins(early_ping=False)

    @precondition(_agent_advances)
    @rule()
    def agent_advances(self) -> None:
        """The agent does a little more of its work."""
        self._exchange("advance")

    @rule()
    def settle(self) -> None:
        """The agent works until it is idle, with a ping between any two advances.

        By then it has ended the turn that is current.
        """
        self._settle()

    def teardown(self) -> None:
        """Settle once more, unless a check has failed already."""
        if self._between_steps:
            self._settle()

    def _settle(self) -> None:
        if _agent_advances(self):
            for _ in range(MOST_ADVANCES):
                if not self._exchange("advance"):
                    break
                self.service_pings()
            else:
                self._between_steps = False
                raise AssertionError(f"the agent still writes after {MOST_ADVANCES} advances")
        self._check_idle()

    def _check_idle(self) -> None:
        """Check what must hold of an agent that has nothing left to do."""
        turn = self.service.current
        if self.service.connection.is_open and turn is not None and not turn.finished:
            self._between_steps = False
            fault = "was answered but never terminated" if turn.reply else "got no terminator"
            raise AssertionError(f"turn {turn.event_id} {fault}")

    def _exchange(self, verb: str, *arguments: str, pongs: int = 0) -> int:
        """Let the agent act, check each frame as it is written, and return how many there were."""
        self._between_steps = False
        written = pongs_written = 0
        for frame in _iterable(getattr(self.agent, verb)(*arguments), verb):
            written += 1
            pongs_written += self._check(frame)
        if pongs and pongs_written != 1:
            raise AssertionError(
                f"a ping is answered at once with exactly one pong, got {pongs_written}"
            )
        if pongs_written > pongs:
            raise AssertionError("the agent wrote a pong where there was no ping")
        self._between_steps = True
        if not _agent_advances(self):
            self._check_idle()
        return written

    def _check(self, frame: object) -> bool:
        """Check one frame as the service would see it; True where it is a pong."""
        if not isinstance(frame, str):
            raise TypeError(f"a frame: expected a str, got {type(frame).__name__}")
        reply = _as_reply(frame)
        kind = "a frame" if reply is None else "a terminator" if reply.is_final else "a piece"
        if not self.service.connection.is_open:
            raise AssertionError(f"the agent wrote {kind} after the end of the conversation")
        if reply is not None and self.service.current is not None:
            _check_reply(reply, kind, self.service.current)
        match self.service.connection.receive(frame):
            case ProtocolViolation(error):
                raise AssertionError(f"the agent wrote {kind} that breaks the protocol: {error}")
            case MessageIgnored(name):
                raise AssertionError(f"the agent wrote a {name!r}, which no agent sends")
            case event:
                return isinstance(event, PongReceived)


def _check_reply(reply: wire.AgentResponse, kind: str, turn: Question) -> None:
    """Hold a reply against the turn that is current, and note it."""
    if reply.event_id is None:
        raise AssertionError(f"the agent wrote {kind} without the id of turn {turn.event_id}")
    if reply.event_id != turn.event_id:
        current = f"turn {turn.event_id} is current"
        raise AssertionError(f"the agent wrote {kind} for turn {reply.event_id} while {current}")
    if turn.finished and reply.is_final:
        raise AssertionError(f"turn {turn.event_id} got a second terminator")
    if turn.finished:
        raise AssertionError(f"turn {turn.event_id} got a piece after its terminator")
    if reply.is_final and reply.content:
        raise AssertionError(
            f"the terminator of turn {turn.event_id} carries text: it must be empty"
        )
    turn.reply += reply.content
    turn.finished = reply.is_final


def _as_reply(frame: str) -> wire.AgentResponse | None:
    try:
        message = wire.decode(frame)
    except RemoteProtocolError:
        return None
    return message if isinstance(message, wire.AgentResponse) else None


def _iterable(answer: object, verb: str) -> Iterable[object]:
    if answer is None and verb == "receive_eof":
        return ()
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        got = type(answer).__name__
        raise TypeError(f"{verb}(): expected a list or generator of frames, got {got}")
    return cast("Iterable[object]", answer)
