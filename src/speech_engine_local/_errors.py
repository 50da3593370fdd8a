"""What can go wrong with a server under test, seen from the service's side."""

from __future__ import annotations

import enum

import attrs

__all__ = [
    "AgentLostError",
    "ConnectError",
    "ConversationOverError",
    "EngineError",
    "NoPongError",
    "NoReplyError",
    "NoTerminatorError",
    "ReplyTooLongError",
    "Rule",
    "Violation",
]


class EngineError(Exception):
    """The conversation could not begin, or could not go on."""


class ConnectError(EngineError, ConnectionError):
    """No conversation: nobody listens there, or the server refused the upgrade.

    Args:
        message: what happened and the likely cause, in words.
        status: the HTTP status of a refusal; None where no answer came.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConversationOverError(EngineError):
    """The conversation has ended: nothing can be asked any more."""


class AgentLostError(EngineError):
    """The socket ended while a reply was owed."""


class NoReplyError(EngineError):
    """Not a word came in time, however often the question was sent: the call was given up."""


class NoTerminatorError(EngineError):
    """A reply went silent and never got its terminator."""


class ReplyTooLongError(EngineError):
    """A reply went on past its bound: the call was given up."""


class NoPongError(EngineError):
    """A ping was not answered in time."""


class Rule(enum.Enum):
    """The rules that a server can break, as far as the service's side can see it."""

    MESSAGE = "each message is one that the protocol allows"
    TERMINATOR_LAST = "nothing follows the terminator of a reply"
    TERMINATOR_EMPTY = "the terminator carries no text"
    TERMINATOR_OWED = "each reply gets its terminator"
    REPLY_SIZE = "a reply keeps to its bound"
    WORD_IN_TIME = "the first word comes before the service gives up"
    PONG_IN_TIME = "each ping is answered"
    SOCKET_KEPT = "the socket stays open while a reply is owed"


@attrs.frozen
class Violation:
    """One rule that the server broke; `str` of it is a line to show.

    Args:
        rule: which one.
        detail: what was expected and what came, without a word of the conversation.
        event_id: the turn it concerns, where that is known.
    """

    rule: Rule
    detail: str
    event_id: int | None = None

    def __str__(self) -> str:
        where = "" if self.event_id is None else f" (turn {self.event_id})"
        return f"broken rule: {self.rule.value}: {self.detail}{where}"
