"""The task group of a session, and one exception in the place of a group of them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from anyio.abc import TaskGroup

__all__ = ["Group", "asyncio_task", "raise_single", "session_group", "single_exception"]


class Group(Protocol):
    """What a session needs of a task group."""

    def start_soon(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> object:
        """Run a call in a task of its own.

        Raises:
            RuntimeError: the group was cancelled, and takes no more tasks. Only on asyncio.
        """
        ...

    async def start(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run a call in a task of its own, whose first step is made before this returns.

        It is not a nursery's ``start``: whoever is cancelled in there cancels the new task too.
        """
        ...


def session_group() -> AbstractAsyncContextManager[Group]:
    """Return a new group: asyncio's own under asyncio, and a nursery under trio.

    Each turn has a task. In asyncio's group one costs a fifth of what anyio's takes, and what is
    in it is cancelled once, not again at every await by the scopes further out.
    """
    return _TrioGroup() if asyncio_task() is None else _AsyncioGroup()


def asyncio_task() -> asyncio.Task[Any] | None:
    """Return the running asyncio task; None under trio, and in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class _AsyncioGroup(asyncio.TaskGroup):
    def start_soon(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> object:
        usual = asyncio.get_running_loop().get_task_factory() is None
        coroutine = call(*args) if usual else _soon(call, *args)
        try:
            return self.create_task(coroutine)
        except RuntimeError:
            coroutine.close()
            raise

    async def start(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self.start_soon(call, *args)
        await asyncio.sleep(0)  # asyncio makes first steps in the order of the tasks' making


async def _soon(call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    """Make a call as any task makes it: an eager task would begin here and now."""
    await asyncio.sleep(0)
    await call(*args)


class _TrioGroup:
    def __init__(self) -> None:
        self._group: TaskGroup = anyio.create_task_group()

    def start_soon(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> object:
        return self._group.start_soon(call, *args)

    async def start(self, call: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        started = anyio.Event()

        async def begin() -> None:
            started.set()
            await call(*args)

        self._group.start_soon(begin)
        await started.wait()

    async def __aenter__(self) -> _TrioGroup:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._group.__aexit__(kind, error, traceback)


@contextmanager
def single_exception() -> Generator[None]:
    """Let out the first exception of a group in its place."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise_single(group)


def raise_single(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise the first exception of a group in its place, with its own traceback and cause."""
    error = _first(group)
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # the group, which says nothing to a user, is not shown
        del error, context


def _first(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        return _first(error.exceptions[0])  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return error
