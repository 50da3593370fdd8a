"""The task of one handler: cancelled once, and only once.

An anyio cancel scope on asyncio cancels again at every await. Under it, clean-up with an await in
it is cut off at once, and a handler that swallows its cancellation is cancelled tens of thousands
of times a second. So on asyncio a handler's own task is cancelled, one single time, and the scope
around it is a shield: it keeps away the scopes further out, those of the code that calls
`SpeechEngineSession.run` among them. On trio, cancellation is a scope's by nature.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

from ._handlers import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from ._handlers import Handler

__all__ = ["HandlerTask"]


class HandlerTask:
    """One handler at work, in a task of its own.

    Args:
        name: how to name it in a warning: what the user wrote.
    """

    __slots__ = (
        "_awaited",
        "_cancelled",
        "_id",
        "_scope",
        "_spared",
        "_started",
        "_task",
        "ended",
        "name",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._awaited: anyio.Event | None = None
        self._started: anyio.Event | None = None
        self._cancelled = self._spared = False
        self._task: asyncio.Task[Any] | None = None
        self._id = 0
        self._scope: anyio.CancelScope | None = None

    async def start(self, group: TaskGroup, body: Callable[[], Awaitable[None]]) -> None:
        """Run ``body`` in a task of the group; its first step is made before this returns.

        It is not ``group.start``: whoever is cancelled in there cancels the new task too, and
        does so again and again.
        """
        if _asyncio_task() is not None:
            self.launch(group, body)
            await asyncio.sleep(0)  # asyncio makes first steps in the order of the tasks' making
        else:
            self._started = anyio.Event()
            self.launch(group, body)
            await self._started.wait()

    async def wait(self) -> None:
        """Wait until it has ended."""
        if not self.ended:
            self._awaited = self._awaited or anyio.Event()
            await self._awaited.wait()

    def launch(self, group: TaskGroup, body: Callable[[], Awaitable[None]]) -> None:
        """Run ``body`` in a task of the group, soon."""
        group.start_soon(self._run, body)

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
            self._task.cancel()
        elif self._scope is not None:
            self._scope.cancel()

    def spare_if_current(self) -> None:
        """Do not cancel it, if it is the one that runs at this moment."""
        if self._task is not None:  # in a callback of the loop no task runs, and anyio raises
            is_current = _asyncio_task() is self._task
        else:
            is_current = self._scope is not None and self._id == anyio.get_current_task().id
        self._spared = self._spared or is_current

    def give_up(self) -> None:
        """Leave it to the scopes further out, which cancel for as long as it runs."""
        self._spared = False
        self.cancel()  # where it was spared
        if self._task is not None and self._scope is not None:
            self._scope.shield = False

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
        task = self._task = _asyncio_task()
        try:
            with anyio.CancelScope(shield=task is not None) as self._scope:
                self._id = anyio.get_current_task().id if task is None else id(task)
                if self._started is not None:
                    self._started.set()
                if not self._cancelled:
                    await body()
        except asyncio.CancelledError:
            pass  # it ends here: let out, it would end the whole group
        finally:
            self.ended = True
            if self._awaited is not None:
                self._awaited.set()


def _error_in(group: BaseExceptionGroup[BaseException]) -> Exception:
    """Return the errors of a handler's own task group that was cancelled and failed, on trio.

    Raises:
        BaseExceptionGroup: there is no error in it, or more than errors.
    """
    _, rest = group.split(anyio.get_cancelled_exc_class())
    if not isinstance(rest, Exception):
        raise group
    return rest


def _asyncio_task() -> asyncio.Task[Any] | None:
    """Return the running asyncio task; None under trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
