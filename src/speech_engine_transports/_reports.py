"""How an error reaches ``on_error``, or the log where nobody listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from speech_engine_proto import ERROR

from ._tasks import HandlerTask

if TYPE_CHECKING:
    from collections import Counter

    from speech_engine_proto import Turn

    from ._groups import Group
    from ._handlers import Handlers
    from ._observer import Observer
    from .errors import LimitExceeded

__all__ = ["Reports"]

MAX_WAITING = 64
"""Errors that wait for a slow ``on_error``; further ones only reach the log."""

logger = logging.getLogger("speech_engine_transports")


class Reports:
    """Calls the error handlers beside everything else, one error at a time, in order."""

    __slots__ = ("_exceeded", "_handlers", "_observer", "_session", "_waiting", "task")

    def __init__(
        self,
        session: Any,
        handlers: Handlers,
        exceeded: Counter[str],
        observer: Observer | None,
    ) -> None:
        self._session = session
        self._observer = observer
        self._exceeded = exceeded
        self._handlers = handlers
        self._waiting: list[Exception] = []
        self.task: HandlerTask | None = None

    def report(self, error: Exception, group: Group, *, turn: Turn | None = None) -> None:
        """Hand an error over; the handlers are called soon, in a task of their own."""
        self.observe(error, turn)
        self._hand_over(error, group, turn)

    def observe(self, error: Exception, turn: Turn | None = None) -> None:
        """Tell the observer of an error that only the log gets."""
        if self._observer is not None:
            self._observer.error(self._session, error, turn)

    def _hand_over(self, error: Exception, group: Group, turn: Turn | None) -> None:
        if not self._handlers.has(ERROR):
            logger.error("unhandled error", exc_info=error, extra=self.context(turn))
        elif len(self._waiting) == MAX_WAITING:
            logger.error("on_error is too slow", exc_info=error, extra=self.context(turn))
        else:
            self._waiting.append(error)
            if self.task is None:
                self._start(group)

    def exceeded(self, error: LimitExceeded, group: Group, *, turn: Turn | None = None) -> None:
        """Count a bound that was passed, log it, and tell who listens to errors."""
        self._exceeded[error.limit] += 1
        logger.warning("limit exceeded: %s", error, extra=self.context(turn))
        if self._observer is not None:
            self._observer.limit_exceeded(self._session, error, turn)
        if self._handlers.has(ERROR):
            self._hand_over(error, group, turn)

    def context(self, turn: Turn | None = None) -> dict[str, object]:
        """Return what every log record of this session carries."""
        event_id = None if turn is None else turn.event_id
        return {"conversation_id": self._session.conversation_id, "event_id": event_id}

    def _start(self, group: Group) -> None:
        self.task = HandlerTask("on_error")
        try:
            self.task.launch(group, self._work)
        except RuntimeError:  # our caller was cancelled, and no further handler is called
            self.task = None
            self._log_waiting()

    async def _work(self) -> None:
        assert self.task is not None
        try:
            while self._waiting:
                error = self._waiting.pop(0)
                for handler, args in self._handlers.take(ERROR, self._session, error):
                    failure = await self.task.attempt(handler, *args)
                    if failure is not None:
                        self.observe(failure)
                        logger.error("on_error failed", exc_info=failure, extra=self.context())
        finally:
            self.task = None
            self._log_waiting()  # where it was cut off

    def _log_waiting(self) -> None:
        for error in self._waiting:
            logger.error("unhandled error", exc_info=error, extra=self.context())
        self._waiting.clear()
