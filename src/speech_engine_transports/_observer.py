"""What a program can watch of its conversations: counts, times and turns, for metrics and traces.

Where nobody watches, that costs one comparison with None for each thing that happens, and nothing
for a piece of a reply.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from speech_engine_proto import (
    ConnectionLost,
    ConversationEnded,
    PingReceived,
    TurnResent,
    TurnStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from speech_engine_proto import AgentEvent, ConversationState, Turn

    from .errors import LimitExceeded
    from .session import SpeechEngineSession

__all__ = ["Observer", "guarded", "tell"]

logger = logging.getLogger("speech_engine_transports")


class Observer:
    """Told what happens in all conversations of a server; override what you want to know.

    One object serves all of them, so a session comes first. Every method is called at the moment
    that it speaks of, in the event loop, and must return at once. What one raises is logged, and
    the conversation goes on.

    A turn ends with exactly one of `turn_finished` and `turn_interrupted`, whatever its handler
    does. `speech_engine_transports.otel.OpenTelemetry` is one of these.
    """

    def conversation_started(self, session: SpeechEngineSession) -> None:
        """The session runs; ``init`` has not come, so there is no ``conversation_id`` yet.

        Called in the task of `SpeechEngineSession.run`: context variables that are set here are
        seen by every handler.
        """

    def conversation_ended(self, session: SpeechEngineSession, state: ConversationState) -> None:
        """The socket is closed and the handlers have ended; the same task as at the start.

        Args:
            session: the session.
            state: ``ENDED`` by a ``close`` message, ``LOST`` with the socket, or ``CLOSED`` by us.
        """

    def turn_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        """A transcript came that asks for a reply."""

    def handler_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        """The handlers of a turn are about to be called: later, where ``on_init`` still runs.

        Called in their task: context variables that are set here are seen by them, and by no
        other turn. A turn may end before this is called.
        """

    def turn_resent(self, session: SpeechEngineSession, turn: Turn) -> None:
        """The service asked the same again under a new id, and the turn goes on (Rule 3)."""

    def first_word(self, session: SpeechEngineSession, turn: Turn) -> None:
        """The first piece of a reply is handed to the socket."""

    def turn_finished(self, session: SpeechEngineSession, turn: Turn) -> None:
        """The terminator of a reply is handed to the socket."""

    def turn_interrupted(self, session: SpeechEngineSession, turn: Turn, by: Turn | None) -> None:
        """A turn ended before its terminator.

        Args:
            session: the session.
            turn: the turn that ended.
            by: the turn that takes its place, or None: the conversation is over.
        """

    def error(self, session: SpeechEngineSession, error: Exception, turn: Turn | None) -> None:
        """Something failed that ``on_error`` or the log is told of, except a limit.

        Args:
            session: the session.
            error: the exception. Its message may hold words of the conversation.
            turn: the turn it belongs to, where there is one. It may be over.
        """

    def limit_exceeded(
        self, session: SpeechEngineSession | None, error: LimitExceeded, turn: Turn | None
    ) -> None:
        """A bound was passed; see `Limits`.

        Args:
            session: the session; None where there is none yet: ``max_sessions`` and
                ``handshake_timeout``.
            error: which bound, and its value.
            turn: the turn it belongs to, where it is one's.
        """

    def ping_received(self, session: SpeechEngineSession) -> None:
        """The service sent a ping of the protocol."""

    def pong_sent(self, session: SpeechEngineSession) -> None:
        """The answer to the oldest ping without one is written."""


def tell(observer: Observer, session: SpeechEngineSession, event: AgentEvent) -> None:
    """Tell an observer what an event of the core means to it, before anything is done about it."""
    match event:
        case TurnStarted(turn, interrupted=interrupted):
            if interrupted is not None:
                observer.turn_interrupted(session, interrupted, turn)
            observer.turn_started(session, turn)
        case TurnResent(turn):
            observer.turn_resent(session, turn)
        case PingReceived():
            observer.ping_received(session)
        case ConversationEnded(interrupted) | ConnectionLost(interrupted):
            if interrupted is not None:
                observer.turn_interrupted(session, interrupted, None)
        case _:
            pass  # what is wrong is reported, and the observer told with it


def guarded(observer: Observer) -> Observer:
    """Return an observer that passes everything on, and logs what is raised there.

    Raises:
        TypeError: it is no observer.
    """
    if not isinstance(observer, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"observer: expected an Observer, got {type(observer).__name__}")
    return observer if isinstance(observer, _Guarded) else _Guarded(observer)


class _Guarded(Observer):
    def __init__(self, observer: Observer) -> None:
        for name in _METHODS:
            setattr(self, name, _logging_errors(name, getattr(observer, name)))


_METHODS = [name for name in vars(Observer) if not name.startswith("_")]


def _logging_errors(name: str, method: Callable[..., None]) -> Callable[..., None]:
    def call(*args: object) -> None:
        try:
            method(*args)
        except Exception:
            logger.exception("the observer failed in %s", name)

    return call
