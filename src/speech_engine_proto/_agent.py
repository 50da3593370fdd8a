"""The developer's side of a conversation: it answers.

Rules 1 to 7 of the agent's side are named above the branch that keeps each of them; Rule 7 is
kept by `wire` and `_limits`.
"""

from __future__ import annotations

from typing import assert_never

import attrs

from . import _events as events  # pyright: ignore[reportPrivateUsage]
from . import wire
from ._errors import (
    ConnectionClosedError,
    LocalProtocolError,
    RemoteProtocolError,
    StaleTurnError,
    TurnFinishedError,
)
from ._limits import Limits
from ._states import CONVERSATION_MOVES, OVER, ConversationState, Move, TurnState
from ._turns import SentReply, Turn

_PING_RECEIVED = events.PingReceived()
_WRONG_DIRECTION = events.MessageIgnoredReason.WRONG_DIRECTION
_AFTER_END = events.MessageIgnored(None, events.MessageIgnoredReason.AFTER_END)


class AgentConnection:
    """One conversation, seen from the server that answers it. No I/O, no clock.

    One message in, exactly one event out; one verb in, one frame out.

    Args:
        adopt_resends: keep a reply that has not said a word yet when the service asks the same
            again under a new id (Rule 3). Switch it off and each new id interrupts.
        limits: the bounds on what the service may send (Rule 7).
    """

    __slots__ = (
        "_adopt_resends",
        "_conversation_id",
        "_end",
        "_limits",
        "_newest",
        "_previous",
        "_state",
        "_turn",
    )

    def __init__(self, *, adopt_resends: bool = True, limits: Limits | None = None) -> None:
        self._adopt_resends = adopt_resends
        self._limits = limits or Limits()
        self._state = ConversationState.OPENING
        self._conversation_id: str | None = None
        self._turn: Turn | None = None
        self._newest: _Newest | None = None
        self._previous: SentReply | None = None
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
    def conversation_id(self) -> str | None:
        """The name the service gave the conversation; None before ``init``."""
        return self._conversation_id

    @property
    def turn(self) -> Turn | None:
        """The turn that is owed a reply, or None."""
        return self._turn

    def receive(self, message: bytes | bytearray | memoryview | str) -> events.AgentEvent:
        """Take one whole WebSocket message and tell what it means.

        Never raises on what the peer sent: what breaks the protocol is a `ProtocolViolation`.

        Raises:
            TypeError: ``message`` is neither bytes nor str.
        """
        if self._state in OVER:
            return _AFTER_END
        try:
            parsed = wire.decode(message, self._limits)
        except RemoteProtocolError as error:
            # Rule 4: a bad message never touches the turn in flight.
            return events.ProtocolViolation(error)
        match parsed:
            case wire.Ping():
                # Rule 5: a ping is answered in every open state, and nothing is sent after the end.
                return _PING_RECEIVED
            case wire.UserTranscript():
                return self._on_transcript(parsed)
            case wire.Init():
                return self._on_init(parsed)
            case wire.Close():
                return self._finish(Move.CLOSE)
            case wire.Error(text):
                return events.ErrorReceived(text)
            case wire.AgentResponse() | wire.Pong():
                return events.MessageIgnored(parsed.type, _WRONG_DIRECTION)
            case wire.Unknown(name):
                return events.MessageIgnored(name, events.MessageIgnoredReason.UNKNOWN_TYPE)
            case _:
                assert_never(parsed)

    def receive_eof(self) -> events.ConversationEnded | events.ConnectionLost:
        """Note that the socket has ended; the same event again if repeated."""
        if self._end is None:
            return self._finish(Move.SOCKET_END)
        return self._end

    def send_text(self, turn: Turn, text: str) -> str:
        """Return the frame for a piece of the reply to ``turn``.

        Args:
            turn: the turn that is answered.
            text: what to say; lone surrogates in it become U+FFFD (Rule 7).

        Raises:
            StaleTurnError: the turn was interrupted.
            TurnFinishedError: the turn has its terminator.
            ConnectionClosedError: the conversation is over.
            ValueError: ``text`` is empty, which on the wire says nothing.
            TypeError: ``text`` is no str, or ``turn`` no Turn.
        """
        # Rule 1: the gate. What is checked is the turn, when the frame is made.
        if self._turn is None or turn is not self._turn:
            raise self._refusal(turn)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"text: expected str, got {type(text).__name__}")
        if not text:
            raise ValueError("text: expected at least one character, got an empty str")
        return turn.add_piece(text)

    def end_turn(self, turn: Turn) -> str:
        """Return the frame that ends the reply to ``turn``: its one terminator.

        Raises:
            StaleTurnError: the turn was interrupted.
            TurnFinishedError: the turn has its terminator.
            ConnectionClosedError: the conversation is over.
            TypeError: ``turn`` is no Turn.
        """
        # Rule 1: exactly one terminator, with nothing in it (fact sheet 1.1).
        if self._turn is None or turn is not self._turn:
            raise self._refusal(turn)
        frame = wire.agent_response("", True, turn.event_id)
        turn.move(Move.TERMINATOR)
        self._retire(turn)
        return frame

    def close(self) -> None:
        """End the conversation from our side: no event, and nothing may be sent after."""
        if self._state not in OVER:
            self._finish(Move.LEAVE)

    def _on_init(self, message: wire.Init) -> events.AgentEvent:
        following = CONVERSATION_MOVES[self._state].get(Move.INIT)
        if following is None:
            # Rule 6: a second init is a violation that changes nothing.
            return events.ProtocolViolation(
                RemoteProtocolError("one init", "a second init", "$.type")
            )
        self._state = following
        self._conversation_id = message.conversation_id
        return events.ConversationStarted(message.conversation_id)

    def _on_transcript(self, message: wire.UserTranscript) -> events.AgentEvent:
        # Rule 6: before init, without an id, or empty, a transcript is a transcript.
        event_id, newest = message.event_id, self._newest
        if event_id is None or newest is None:
            return self._begin(message, attempt=1, previous=self._previous)
        # Rule 2: a higher id interrupts; lower and equal ids are compared with the highest seen.
        if event_id < newest.event_id:
            return events.TranscriptIgnored(event_id, events.TranscriptIgnoredReason.OLDER)
        if event_id == newest.event_id:
            return self._on_same_id(message, newest)
        if self._is_resend(message):
            return self._adopt(event_id)
        return self._begin(message, attempt=1, previous=self._previous)

    def _on_same_id(self, message: wire.UserTranscript, newest: _Newest) -> events.AgentEvent:
        if newest.in_flight:
            return events.TranscriptIgnored(
                newest.event_id, events.TranscriptIgnoredReason.DUPLICATE
            )
        if newest.answered:
            return events.TranscriptIgnored(
                newest.event_id, events.TranscriptIgnoredReason.ALREADY_ANSWERED
            )
        previous = self._previous or newest.previous
        return self._begin(message, attempt=newest.attempt + 1, previous=previous)

    def _is_resend(self, message: wire.UserTranscript) -> bool:
        # Rule 3: the same question again, while not a word of the answer has gone out.
        turn = self._turn
        return (
            self._adopt_resends
            and turn is not None
            and turn.state is TurnState.WAITING
            and turn.event_id is not None
            and turn.transcript == message.user_transcript
        )

    def _adopt(self, event_id: int) -> events.TurnResent:
        turn, newest = self._turn, self._newest
        assert turn is not None
        assert newest is not None
        previous_event_id = newest.event_id
        turn.resend_as(event_id)
        newest.event_id = event_id
        newest.attempt = turn.attempt
        return events.TurnResent(turn, event_id, previous_event_id)

    def _begin(
        self, message: wire.UserTranscript, *, attempt: int, previous: SentReply | None
    ) -> events.TurnStarted:
        interrupted = self._interrupt()
        if interrupted is not None:
            previous = self._previous
        event_id, transcript = message.event_id, message.user_transcript
        turn = Turn(event_id, transcript, attempt=attempt, previous=previous)
        self._turn = turn
        if event_id is not None:
            self._newest = _Newest(event_id, attempt, previous)
        return events.TurnStarted(turn, event_id, transcript, interrupted)

    def _finish(self, move: Move) -> events.ConversationEnded | events.ConnectionLost:
        """End the conversation; whoever leaves first decides what the socket's end will mean."""
        self._state = CONVERSATION_MOVES[self._state][move]
        interrupted = self._interrupt()
        lost = self._state is ConversationState.LOST
        self._end = (
            events.ConnectionLost(interrupted) if lost else events.ConversationEnded(interrupted)
        )
        return self._end

    def _interrupt(self) -> Turn | None:
        turn = self._turn
        if turn is not None:
            turn.move(Move.INTERRUPT)
            self._retire(turn)
        return turn

    def _retire(self, turn: Turn) -> None:
        """Let go of a turn that is over, keeping only what a later transcript is compared with."""
        self._turn = None
        self._previous = turn.sent_reply()
        if turn.event_id is not None and self._newest is not None:
            self._newest.in_flight = False
            self._newest.answered = self._previous is not None

    def _refusal(self, turn: Turn) -> LocalProtocolError | TypeError:
        """Say why nothing can be sent for a turn that is not current."""
        if not isinstance(turn, Turn):  # pyright: ignore[reportUnnecessaryIsInstance]
            return TypeError(f"turn: expected a Turn, got {type(turn).__name__}")
        if self._state in OVER:
            return ConnectionClosedError(f"session is closed: conversation {self._state.value}")
        if turn.state is TurnState.FINISHED:
            return TurnFinishedError(f"turn {turn.event_id} already has its terminator")
        return StaleTurnError(f"turn {turn.event_id} is no longer current: it was interrupted")


@attrs.define
class _Newest:
    """What must be known of the turn with the highest id, also when it is over."""

    event_id: int
    attempt: int
    previous: SentReply | None
    in_flight: bool = True
    answered: bool = False
