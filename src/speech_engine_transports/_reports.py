"""How an error reaches ``on_error``, or the log where nobody listens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from speech_engine_proto import ERROR

from ._tasks import HandlerTask

if TYPE_CHECKING:
    from collections import Counter

    from anyio.abc import TaskGroup

    from ._handlers import Handlers
    from .errors import LimitExceeded

__all__ = ["Reports"]

MAX_WAITING = 64
"""Errors that wait for a slow ``on_error``; further ones only reach the log."""

logger = logging.getLogger("speech_engine_transports")


class Reports:
    """Calls the error handlers beside everything else, one error at a time, in order."""

    __slots__ = ("_exceeded", "_handlers", "_session", "_waiting", "task")

    def __init__(self, session: Any, handlers: Handlers, exceeded: Counter[str]) -> None:
        self._session = session
        self._exceeded = exceeded
        self._handlers = handlers
        self._waiting: list[Exception] = []
        self.task: HandlerTask | None = None

    def report(self, error: Exception, group: TaskGroup, *, event_id: int | None = None) -> None:
        """Hand an error over; the handlers are called soon, in a task of their own."""
        if not self._handlers.has(ERROR):
            logger.error("unhandled error", exc_info=error, extra=self.context(event_id))
        elif len(self._waiting) == MAX_WAITING:
            logger.error("on_error is too slow", exc_info=error, extra=self.context(event_id))
        else:
            self._waiting.append(error)
            if self.task is None:
                self.task = HandlerTask("on_error")
                self.task.launch(group, self._work)

    def exceeded(
        self, error: LimitExceeded, group: TaskGroup, *, event_id: int | None = None
    ) -> None:
        """Count a bound that was passed, log it, and tell who listens to errors."""
        self._exceeded[error.limit] += 1
        logger.warning("limit exceeded: %s", error, extra=self.context(event_id))
        if self._handlers.has(ERROR):
            self.report(error, group, event_id=event_id)

    def context(self, event_id: int | None = None) -> dict[str, object]:
        """Return what every log record of this session carries."""
        return {"conversation_id": self._session.conversation_id, "event_id": event_id}

    async def _work(self) -> None:
        assert self.task is not None
        try:
            while self._waiting:
                error = self._waiting.pop(0)
                for handler, args in self._handlers.take(ERROR, self._session, error):
                    failure = await self.task.attempt(handler, *args)
                    if failure is not None:
                        logger.error("on_error failed", exc_info=failure, extra=self.context())
        finally:
            self.task = None
