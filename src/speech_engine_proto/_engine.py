"""The service's side of a conversation: it asks.

Strict out: what only a tolerant reader would take is never written (Rule 6). Tolerant in: a reply
is matched to the turn it answers, and one that comes too late is told apart, not refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import attrs

from . import _events as events  # pyright: ignore[reportPrivateUsage]
from . import wire
from ._errors import ConnectionClosedError, LocalProtocolError, RemoteProtocolError
from ._limits import Limits
from ._states import (
    CONVERSATION_MOVES,
    OVER,
    TOLERATED,
    TURN_MOVES,
    ConversationState,
    Move,
    TurnState,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._messages import ConversationMessage


_PONG_RECEIVED = events.PongReceived()
_WRONG_DIRECTION = events.MessageIgnoredReason.WRONG_DIRECTION
_AFTER_END = events.MessageIgnored(None, events.MessageIgnoredReason.AFTER_END)


class EngineConnection:
    """One conversation, seen from the service. No I/O, no clock.

    Args:
        limits: the bounds on what the agent may send (Rule 7).
    """

    __slots__ = ("_asked", "_end", "_limits", "_state")

    def __init__(self, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._state = ConversationState.OPENING
        self._asked: _Asked | None = None
        self._end: events.ConversationEnded | events.ConnectionLost | None = None

    @property
    def state(self) -> ConversationState:
        """How far the conversation has come."""
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether frames may still be sent."""
        return self._state not in OVER

    @property
    def event_id(self) -> int | None:
        """The id of the current turn; None before the first transcript."""
        return None if self._asked is None else self._asked.event_id

    @property
    def turn_state(self) -> TurnState | None:
        """How far the reply to the current turn has come; None before the first transcript."""
        return None if self._asked is None else self._asked.state

    def send_init(self, conversation_id: str) -> str:
        """Return the frame that names the conversation: the first one.

        Raises:
            LocalProtocolError: it has a name already.
            ConnectionClosedError: the conversation is over.
            ValueError: ``conversation_id`` is empty.
        """
        following = self._after(Move.INIT)
        if not conversation_id:
            raise ValueError("conversation_id: expected at least one character, got an empty str")
        frame = wire.encode(wire.Init(conversation_id))
        self._state = following
        return frame

    def send_transcript(
        self, transcript: Iterable[ConversationMessage], event_id: int | None = None
    ) -> str:
        """Return the frame that asks for a reply: the conversation so far.

        Args:
            transcript: all messages in order, the caller's newest words last.
            event_id: None is one more than the last; the current id, or an older one, re-sends.

        Raises:
            LocalProtocolError: before ``send_init``.
            ConnectionClosedError: the conversation is over.
            ValueError: the transcript is empty or holds a role other than user and agent, or the
                id does not fit into 64 bits.
        """
        following = self._after(Move.TRANSCRIPT)
        messages = _checked(transcript)
        number = self._next_id() if event_id is None else _checked_id(event_id)
        frame = wire.encode(wire.UserTranscript(messages, number))
        self._state = following
        self._ask(number)
        return frame

    def send_ping(self) -> str:
        """Return a ping; raises ConnectionClosedError when the conversation is over."""
        self._state = self._after(Move.PING)
        return wire.PING_FRAME

    def send_error(self, message: str) -> str:
        """Return an error report; raises ConnectionClosedError when the conversation is over."""
        self._state = self._after(Move.ERROR)
        return wire.encode(wire.Error(message))

    def send_close(self) -> str:
        """Return the last frame of the conversation.

        Raises:
            ConnectionClosedError: the conversation is over.
        """
        self._state = self._after(Move.CLOSE)
        self._end = events.ConversationEnded()
        self._interrupt()
        return wire.CLOSE_FRAME

    def receive(self, message: bytes | bytearray | memoryview | str) -> events.EngineEvent:
        """Take one whole WebSocket message and tell what it means; never raises on its content.

        Raises:
            TypeError: ``message`` is neither bytes nor str.
        """
        if self._state in OVER:
            return _AFTER_END
        try:
            parsed = wire.decode(message, self._limits)
        except RemoteProtocolError as error:
            return events.ProtocolViolation(error)
        match parsed:
            case wire.AgentResponse():
                return self._on_reply(parsed)
            case wire.Pong():
                return _PONG_RECEIVED
            case wire.Unknown(name):
                return events.MessageIgnored(name, events.MessageIgnoredReason.UNKNOWN_TYPE)
            case wire.Init() | wire.UserTranscript() | wire.Ping() | wire.Close() | wire.Error():
                return events.MessageIgnored(parsed.type, _WRONG_DIRECTION)
            case _:
                assert_never(parsed)

    def receive_eof(self) -> events.ConversationEnded | events.ConnectionLost:
        """Note that the socket has ended: in order after ``send_close``, else lost."""
        if self._end is None:
            self._state = CONVERSATION_MOVES[self._state][Move.SOCKET_END]
            self._end = events.ConnectionLost()
            self._interrupt()
        return self._end

    def _after(self, move: Move) -> ConversationState:
        """Return the state after a message of ours, or raise because it is not legal."""
        if self._state in OVER:
            raise ConnectionClosedError(f"session is closed: conversation {self._state.value}")
        following = CONVERSATION_MOVES[self._state].get(move)
        if following is None or (self._state, move) in TOLERATED:
            raise LocalProtocolError(f"{move.value} may not be sent while {self._state.value}")
        return following

    def _next_id(self) -> int:
        return 1 if self._asked is None else _checked_id(self._asked.event_id + 1)

    def _ask(self, event_id: int) -> None:
        asked = self._asked
        if asked is None or event_id > asked.event_id:
            self._asked = _Asked(event_id)
        elif event_id == asked.event_id:
            asked.ask_again()

    def _interrupt(self) -> None:
        if self._asked is not None:
            self._asked.interrupt()

    def _on_reply(self, reply: wire.AgentResponse) -> events.EngineEvent:
        asked = self._asked
        if asked is None:
            return _out_of_place("a reply after a transcript", "one before any")
        event_id = asked.event_id if reply.event_id is None else reply.event_id
        if event_id > asked.event_id:
            return _out_of_place(f"an event_id of at most {asked.event_id}", str(event_id))
        if event_id < asked.event_id:
            # "Responses with an outdated id are silently discarded" (fact sheet 1.2).
            return events.StaleReply(event_id, reply.content)
        if not asked.take(reply):
            return _out_of_place("nothing after the terminator", "more of the same reply")
        if reply.is_final:
            return events.ReplyFinished(event_id, reply.content)
        return events.ReplyText(event_id, reply.content)


@attrs.define
class _Asked:
    """The current turn as the service sees it."""

    event_id: int
    state: TurnState = TurnState.WAITING
    resends: int = 0
    wordless: bool = True

    def ask_again(self) -> None:
        """Note a re-send: after a reply without a word it asks for a new attempt (Rule 2)."""
        if self.state is TurnState.FINISHED and self.wordless:
            self.state = TurnState.WAITING
        else:
            self.resends += 1

    def take(self, reply: wire.AgentResponse) -> bool:
        """Note a reply to this turn; False where it comes after the terminator."""
        if reply.is_final:
            return self._finish(bool(reply.content))
        # An empty piece says nothing: whether the reply "carried any text" is still open.
        if reply.content or self.state not in (TurnState.WAITING, TurnState.SPEAKING):
            return self._move(Move.PIECE)
        return True

    def interrupt(self) -> None:
        """Note that the conversation is over."""
        self._move(Move.INTERRUPT)

    def _finish(self, with_text: bool) -> bool:
        wordless = self.state is TurnState.WAITING and not with_text
        if not self._move(Move.TERMINATOR):
            return False
        self.wordless = wordless
        if self.wordless and self.resends:
            # The question was asked again meanwhile, and a reply without a word does not settle
            # it: the agent may make a new attempt under the same id.
            self.resends -= 1
            self.state = TurnState.WAITING
        return True

    def _move(self, move: Move) -> bool:
        following = TURN_MOVES[self.state].get(move)
        if following is not None:
            self.state = following
        return following is not None


def _out_of_place(expected: str, got: str) -> events.ProtocolViolation:
    return events.ProtocolViolation(RemoteProtocolError(expected, got, "$.event_id"))


def _checked(transcript: Iterable[ConversationMessage]) -> tuple[ConversationMessage, ...]:
    messages = tuple(transcript)
    if not messages:
        raise ValueError("transcript: expected at least one message, got none")
    for index, message in enumerate(messages):
        if message.role not in ("user", "agent"):
            raise ValueError(
                f"transcript[{index}].role: expected 'user' or 'agent', got {message.role!r}"
            )
    return messages


def _checked_id(event_id: int) -> int:
    if type(event_id) is not int or not wire.EVENT_ID_MIN <= event_id <= wire.EVENT_ID_MAX:
        raise ValueError(f"event_id: expected a 64-bit int, got {event_id!r}")
    return event_id
