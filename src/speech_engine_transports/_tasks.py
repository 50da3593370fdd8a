"""The task of one handler: cancelled once, and only once.

An anyio cancel scope on asyncio cancels again at every await. Under it, clean-up with an await in
it is cut off at once, and a handler that swallows its cancellation is cancelled tens of thousands
of times a second. So on asyncio a handler's own task is cancelled, one single time; it belongs to
a group of asyncio's own, where the scopes further out do not reach it, those of the code that calls
`SpeechEngineSession.run` among them. On trio, cancellation is a scope's by nature.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from ._groups import asyncio_task
from ._handlers import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from ._groups import Group
    from ._handlers import Handler

__all__ = ["HandlerTask", "uncut", "wait_for"]

logger = logging.getLogger("speech_engine_transports")


class HandlerTask:
    """One handler at work, in a task of its own.

    Args:
        name: how to name it in a warning: what the user wrote.
    """

    __slots__ = (
        "_awaited",
        "_cancelled",
        "_held",
        "_id",
        "_scope",
        "_spared",
        "_task",
        "ended",
        "name",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._awaited: anyio.Event | None = None
        self._cancelled = self._spared = False
        self._task: asyncio.Task[Any] | None = None
        self._id = self._held = 0
        self._scope: anyio.CancelScope | None = None

    async def start(self, group: Group, body: Callable[[], Awaitable[None]]) -> None:
        """Run ``body`` in a task of the group; its first step is made before this returns."""
        await group.start(self._run, body)

    def launch(self, group: Group, body: Callable[[], Awaitable[None]]) -> None:
        """Run ``body`` in a task of the group, soon; RuntimeError where that takes no more."""
        group.start_soon(self._run, body)

    async def wait(self) -> None:
        """Wait until it has ended."""
        if not self.ended:
            self._awaited = self._awaited or anyio.Event()
            await self._awaited.wait()

    @property
    def left_over(self) -> bool:
        """Whether it was cancelled and has not ended."""
        return self._cancelled and not self.ended

    def cancel(self) -> None:
        """Cancel it, unless that was done before, or it is spared."""
        if self._cancelled or self._spared or self.ended:
            return
        self._cancelled = True
        if self._task is not None:
            if not self._held:
                self._task.cancel()
        elif self._scope is not None:
            self._scope.cancel()

    def spare_if_current(self) -> None:
        """Do not cancel it, if it is the one that runs at this moment."""
        if self._task is not None:  # in a callback of the loop no task runs, and anyio raises
            is_current = asyncio_task() is self._task
        else:
            is_current = self._scope is not None and self._id == anyio.get_current_task().id
        self._spared = self._spared or is_current

    def give_up(self) -> None:
        """Cancel it also where it was spared, and leave the rest to its group."""
        self._spared = False
        self.cancel()

    @contextmanager
    def holding(self) -> Generator[None]:
        """Be cancelled only after the block, if this is its own task; see `uncut`."""
        if self._task is not asyncio_task() or self._cancelled:
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._cancelled and not self._held:
                raise asyncio.CancelledError  # where the task itself would be told too late

    async def attempt(self, handler: Handler, *args: object) -> Exception | None:
        """Call a handler, and return what it raised; only our own cancellation comes through.

        Any other is an error like the rest: the handler awaited a task that somebody cancelled,
        or had itself cancelled. It must not end the conversation.
        """
        try:
            await call(handler, *args)
            if self._task is not None and self._task.cancelling() and not self._cancelled:
                await asyncio.sleep(0)  # one that it has asked for and not yet met
        except Exception as error:
            return error
        except asyncio.CancelledError:
            if self._cancelled and self._task is not None:
                raise
            return RuntimeError(f"{self.name} was cancelled, or awaited a task that was")
        except BaseExceptionGroup as group:
            return _error_in(group)
        return None

    async def _run(self, body: Callable[[], Awaitable[None]]) -> None:
        self._task = asyncio_task()
        _current.set(self)
        try:
            if self._task is None:
                await self._run_in_scope(body)
            elif not self._cancelled:
                await body()
        except asyncio.CancelledError:
            pass  # it ends here: let out, it would end the whole group
        finally:
            self.ended = True
            self._task = None  # whose context may hold this again
            if self._awaited is not None:
                self._awaited.set()

    async def _run_in_scope(self, body: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as self._scope:
            self._id = anyio.get_current_task().id
            if not self._cancelled:
                await body()


async def wait_for(
    tasks: list[HandlerTask], seconds: float, context: dict[str, object]
) -> list[HandlerTask]:
    """Wait for handlers that were cancelled; warn of those left, and return them.

    Args:
        tasks: the handlers.
        seconds: how long.
        context: what the warning's log record carries.
    """
    with anyio.move_on_after(seconds):
        for task in tasks:
            await task.wait()
    left = [task for task in tasks if not task.ended]
    for task in left:
        text = "%s still runs %g s after its cancellation"
        logger.warning(text, task.name, seconds, extra=context)
    return left


_current: ContextVar[HandlerTask | None] = ContextVar("speech_engine_handler", default=None)


@contextmanager
def uncut() -> Generator[None]:
    """Let the handler that runs this be cancelled only after the block.

    A shield of anyio keeps scopes away, not the cancellation of a task. On trio there is no other
    than that of scopes, and nothing to do here.
    """
    handler = _current.get()
    if handler is None or asyncio_task() is None:
        yield
        return
    with handler.holding():
        yield


def _error_in(group: BaseExceptionGroup[BaseException]) -> Exception:
    """Return the errors of a handler's own task group that was cancelled and failed, on trio.

    Raises:
        BaseExceptionGroup: there is no error in it, or more than errors.
    """
    _, rest = group.split(anyio.get_cancelled_exc_class())
    if not isinstance(rest, Exception):
        raise group
    return rest
