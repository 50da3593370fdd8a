"""The states of a conversation and of a turn, and every legal move between them.

Two rules hold for this module. Everything that decides whether a move is legal stands here, in
two tables; and nothing here knows which of the two roles is ours.

Theory of operation
-------------------

A *conversation* is one WebSocket. It opens when the socket does, gets its name from ``init``, and
is over in one of three ways: the service said ``close`` (`ENDED`), the socket went away without a
word (`LOST`), or our own side left (`CLOSED`). Over is over: no state leads out of these three.

A *turn* is one transcript and the reply to it. The agent owes it one terminator. Until its first
text has gone out it is `WAITING`; then it is `SPEAKING`; the terminator makes it `FINISHED`.
Whatever ends it earlier (a newer transcript, ``close``, the loss of the socket) makes it
`INTERRUPTED`, and then it gets no terminator: the service discards what it says for a turn that is
not current (fact sheet 1.2).

A table entry is a move that is legal. A missing entry is an error of whoever makes the move:
ours, and the verb raises and nothing changes; theirs, and the event says so and nothing changes.
`TOLERATED` names the moves that a receiver lets pass although a sender of ours may not make them.
"""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """The two ends of the WebSocket."""

    ENGINE = "engine"  # the service: it asks
    AGENT = "agent"  # the developer's server: it answers


class ConversationState(enum.Enum):
    """How far a conversation has come."""

    OPENING = "opening"  # the socket is there, `init` is not
    OPEN = "open"
    ENDED = "ended"  # the service said `close`
    LOST = "lost"  # the socket ended without `close`
    CLOSED = "closed"  # our own side left


class TurnState(enum.Enum):
    """How far the reply to one transcript has come."""

    WAITING = "waiting"  # no text has gone out
    SPEAKING = "speaking"
    FINISHED = "finished"  # its one terminator has gone out
    INTERRUPTED = "interrupted"


class Move(enum.Enum):
    """What can happen: a message of either role, or something without one."""

    INIT = "init"
    TRANSCRIPT = "user_transcript"
    PING = "ping"
    CLOSE = "close"
    ERROR = "error"
    PIECE = "piece"  # agent_response, is_final false
    TERMINATOR = "terminator"  # agent_response, is_final true
    PONG = "pong"
    RESEND = "re-send"  # the same question again, before any text
    INTERRUPT = "interrupt"  # a newer transcript, or the end of the conversation
    SOCKET_END = "socket end"
    LEAVE = "leave"  # our side ends it


SENDERS: dict[Move, Role] = {
    Move.INIT: Role.ENGINE,
    Move.TRANSCRIPT: Role.ENGINE,
    Move.PING: Role.ENGINE,
    Move.CLOSE: Role.ENGINE,
    Move.ERROR: Role.ENGINE,
    Move.PIECE: Role.AGENT,
    Move.TERMINATOR: Role.AGENT,
    Move.PONG: Role.AGENT,
}

_OPENING, _OPEN, _ENDED, _LOST, _CLOSED = ConversationState

_ASKING = (Move.TRANSCRIPT, Move.PING, Move.ERROR)
_ANSWERING = (Move.PIECE, Move.TERMINATOR, Move.PONG)
_LEAVING = {Move.CLOSE: _ENDED, Move.SOCKET_END: _LOST, Move.LEAVE: _CLOSED}

CONVERSATION_MOVES: dict[ConversationState, dict[Move, ConversationState]] = {
    _OPENING: {Move.INIT: _OPEN, **dict.fromkeys(_ASKING + _ANSWERING, _OPENING), **_LEAVING},
    _OPEN: {**dict.fromkeys(_ASKING + _ANSWERING, _OPEN), **_LEAVING},
    _ENDED: {Move.SOCKET_END: _ENDED, Move.LEAVE: _ENDED},
    _LOST: {Move.SOCKET_END: _LOST, Move.LEAVE: _LOST},
    _CLOSED: {Move.SOCKET_END: _CLOSED, Move.LEAVE: _CLOSED},
}

TOLERATED: frozenset[tuple[ConversationState, Move]] = frozenset({(_OPENING, Move.TRANSCRIPT)})

OVER: frozenset[ConversationState] = frozenset({_ENDED, _LOST, _CLOSED})

_WAITING, _SPEAKING, _FINISHED, _INTERRUPTED = TurnState

TURN_MOVES: dict[TurnState, dict[Move, TurnState]] = {
    _WAITING: {
        Move.RESEND: _WAITING,
        Move.PIECE: _SPEAKING,
        Move.TERMINATOR: _FINISHED,
        Move.INTERRUPT: _INTERRUPTED,
    },
    _SPEAKING: {
        Move.PIECE: _SPEAKING,
        Move.TERMINATOR: _FINISHED,
        Move.INTERRUPT: _INTERRUPTED,
    },
    _FINISHED: {},
    _INTERRUPTED: {},
}
