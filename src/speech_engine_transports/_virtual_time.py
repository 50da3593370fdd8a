"""Runs an async function in virtual time, on asyncio or on trio, and sees what it leaves behind.

The clock stands still while anything can run, and then jumps to the next timer. That holds for
what happens in memory: nothing here sees what a worker thread or the kernel still works on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    import trio

__all__ = ["World", "world"]

CYCLES_TO_END = 100
"""Steps that cancelled asyncio tasks get to end before their loop is closed under them."""

END_TIMEOUT = 60.0
"""Virtual seconds that open async generators get to close at the end of an asyncio loop."""


class World(Protocol):
    """An event loop with a clock of its own."""

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``main`` to its end; what it leaves behind is cancelled."""
        ...

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that belongs to nobody; the function must not raise."""
        ...

    def tasks(self) -> set[Any]:
        """Return every task that has not ended."""
        ...

    def describe(self, task: Any) -> str:
        """Return how to name a task to its author."""
        ...


def world(backend: str) -> World:
    """Return the world of a backend.

    Raises:
        ValueError: there is no such backend.
        ImportError: what drives its clock is not installed.
    """
    match backend:
        case "asyncio":
            return _Asyncio()
        case "trio":
            return _Trio()
        case _:
            raise ValueError(f"backend: expected 'asyncio' or 'trio', got {backend!r}")


class _Asyncio:
    """asyncio with the clock of aiotools."""

    def __init__(self) -> None:
        try:
            from aiotools import VirtualClock
        except ImportError:
            raise ImportError(
                "backend 'asyncio' needs aiotools: pip install 'speech-engine-proto[testing]'"
            ) from None
        self._clock = VirtualClock()
        self._spawned: set[asyncio.Task[None]] = set()

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Not asyncio.Runner: it waits without end for a task that will not be cancelled.
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(self._run(main))
        finally:
            loop.close()

    async def _run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._clock.patch_loop():
            try:
                await main()
            finally:
                await _end_tasks()

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(function())
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)

    def tasks(self) -> set[Any]:
        return asyncio.all_tasks()

    def describe(self, task: asyncio.Task[Any]) -> str:
        return getattr(task.get_coro(), "__qualname__", task.get_name())


async def _end_tasks() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # what is left was found already
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    for _ in range(CYCLES_TO_END):
        if all(task.done() for task in left):
            break
        await asyncio.sleep(0)
    await asyncio.wait([loop.create_task(loop.shutdown_asyncgens())], timeout=END_TIMEOUT)


class _Trio:
    """trio with the clock of its own testing tools."""

    def __init__(self) -> None:
        try:
            import trio
            import trio.testing
        except ImportError:
            raise ImportError("backend 'trio' needs trio: pip install trio") from None
        self._trio = trio

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._trio.run(main, clock=self._trio.testing.MockClock(autojump_threshold=0))

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._trio.lowlevel.spawn_system_task(function)

    def tasks(self) -> set[Any]:
        root = self._trio.lowlevel.current_root_task()
        return set() if root is None else set(_below(root))

    def describe(self, task: trio.lowlevel.Task) -> str:
        return task.name.rpartition(".<locals>.")[2]


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from _below(child)
