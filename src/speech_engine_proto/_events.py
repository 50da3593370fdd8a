"""What a connection tells about a message that came: one message in, exactly one event out.

Every event has ``reply``: a frame to write as it stands, or None. Match the unions with a final
``case _: assert_never(event)``, and the type checker tells what is left out.
"""

from __future__ import annotations

import enum
from typing import ClassVar, TypeAlias

import attrs

from ._errors import RemoteProtocolError
from ._messages import ConversationMessage, length_only
from ._turns import Turn
from .wire import PONG_FRAME


class TranscriptIgnoredReason(enum.Enum):
    """Why a transcript began no turn (Rule 2)."""

    DUPLICATE = "the turn with this id is in flight"
    ALREADY_ANSWERED = "the reply to this id has carried text"
    OLDER = "a transcript with a higher id has come"


class MessageIgnoredReason(enum.Enum):
    """Why a well-formed message means nothing here."""

    UNKNOWN_TYPE = "this version does not know the type"
    WRONG_DIRECTION = "only our side sends this type"
    AFTER_END = "the conversation is over"


@attrs.frozen
class ConversationStarted:
    """The service has named the conversation."""

    conversation_id: str
    reply: ClassVar[None] = None


@attrs.frozen
class TurnStarted:
    """The caller has spoken: answer this turn.

    Args:
        turn: the handle to answer with.
        event_id: the id of the turn when it began.
        transcript: the conversation so far.
        interrupted: the turn in flight that this one ends, or None.
    """

    turn: Turn
    event_id: int | None
    transcript: tuple[ConversationMessage, ...] = attrs.field(
        repr=lambda entries: f"<{len(entries)} messages>"
    )
    interrupted: Turn | None
    reply: ClassVar[None] = None


@attrs.frozen
class TurnResent:
    """The service asks the same again under a new id; the turn goes on under it (Rule 3)."""

    turn: Turn
    event_id: int
    previous_event_id: int
    reply: ClassVar[None] = None


@attrs.frozen
class TranscriptIgnored:
    """A transcript that asks nothing new; nothing changes."""

    event_id: int
    reason: TranscriptIgnoredReason
    reply: ClassVar[None] = None


@attrs.frozen
class PingReceived:
    """The service asks whether the agent is there: write the reply."""

    reply: ClassVar[str] = PONG_FRAME


@attrs.frozen
class PongReceived:
    """The agent is there."""

    reply: ClassVar[None] = None


@attrs.frozen
class ErrorReceived:
    """The service reports an error; the conversation goes on until it says otherwise."""

    message: str = attrs.field(repr=length_only)
    reply: ClassVar[None] = None


@attrs.frozen
class MessageIgnored:
    """A message without meaning here.

    Args:
        type: its type; None after the end, where messages are not read.
        reason: why it is ignored.
    """

    type: str | None
    reason: MessageIgnoredReason
    reply: ClassVar[None] = None


@attrs.frozen
class ProtocolViolation:
    """The peer broke the protocol; nothing changes, the turn in flight goes on (Rule 4)."""

    error: RemoteProtocolError
    reply: ClassVar[None] = None


@attrs.frozen
class ConversationEnded:
    """The conversation is over, in order.

    Args:
        interrupted: the turn in flight that this ends, or None.
    """

    interrupted: Turn | None = None
    reply: ClassVar[None] = None


@attrs.frozen
class ConnectionLost:
    """The socket ended and nobody had said ``close``.

    Args:
        interrupted: the turn in flight that this ends, or None.
    """

    interrupted: Turn | None = None
    reply: ClassVar[None] = None


@attrs.frozen
class ReplyText:
    """A piece of the reply to the current turn."""

    event_id: int
    text: str = attrs.field(repr=length_only)
    reply: ClassVar[None] = None


@attrs.frozen
class ReplyFinished:
    """The terminator of the current turn; ``text`` is what it carried, by the protocol ``""``."""

    event_id: int
    text: str = attrs.field(repr=length_only)
    reply: ClassVar[None] = None


@attrs.frozen
class StaleReply:
    """A reply to an earlier turn, to be discarded: normal where messages cross on the way."""

    event_id: int
    text: str = attrs.field(repr=length_only)
    reply: ClassVar[None] = None


AgentEvent: TypeAlias = (
    ConversationStarted
    | TurnStarted
    | TurnResent
    | TranscriptIgnored
    | PingReceived
    | ErrorReceived
    | MessageIgnored
    | ProtocolViolation
    | ConversationEnded
    | ConnectionLost
)
"""What `AgentConnection.receive` and `receive_eof` return."""

EngineEvent: TypeAlias = (
    ReplyText
    | ReplyFinished
    | StaleReply
    | PongReceived
    | MessageIgnored
    | ProtocolViolation
    | ConversationEnded
    | ConnectionLost
)
"""What `EngineConnection.receive` and `receive_eof` return."""
