"""Runs an async function in virtual time, on asyncio or on trio, and sees what it leaves behind.

Where sockets are real, so is the time. In virtual time the clock stands still while anything can
run, and then jumps to the next timer. While a worker thread works it goes as on the wall; what the
kernel still works on is not seen from here.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from ._virtual_threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractContextManager

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


def world(backend: str, *, virtual: bool = True) -> World:
    """Return the world of a backend.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
        virtual: whether time jumps; False is the time of the machine.

    Raises:
        ValueError: there is no such backend.
        ImportError: what drives its clock is not installed.
    """
    match backend:
        case "asyncio":
            return _Asyncio(virtual)
        case "trio":
            return _Trio(virtual)
        case _:
            raise ValueError(f"backend: expected 'asyncio' or 'trio', got {backend!r}")


class _Asyncio:
    """asyncio, in virtual time with the clock of aiotools."""

    def __init__(self, virtual: bool) -> None:
        self._clock = _virtual_clock() if virtual else nullcontext
        self._spawned: set[asyncio.Task[None]] = set()

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Not asyncio.Runner: it waits without end for a task that will not be cancelled.
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(self._run(main))
        finally:
            loop.close()

    async def _run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._clock():
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
        coroutine: Any = task.get_coro()
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None and frame.f_globals.get("__name__", "").startswith("anyio."):
            return task.get_name()  # a child of a task group: anyio has named it for its function
        return getattr(coroutine, "__qualname__", task.get_name())


def _virtual_clock() -> Callable[[], AbstractContextManager[None]]:
    """Return what makes the running loop's time virtual while its block runs."""
    try:
        from aiotools import VirtualClock
    except ImportError:
        raise ImportError(
            "backend 'asyncio' needs aiotools: pip install 'speech-engine-proto[testing]'"
        ) from None
    clock, threads = VirtualClock(), Threads()

    @contextmanager
    def virtual() -> Generator[None]:
        loop: Any = asyncio.get_running_loop()
        selector: Any = loop._selector
        wait = selector.select
        with clock.patch_loop(), threads.watch():
            jump = selector.select

            def select(timeout: float | None = None) -> Any:
                if not threads.working:
                    return jump(timeout)
                begun = time.monotonic()
                ready = wait(timeout)
                clock.vtime += time.monotonic() - begun
                return ready

            threads.watch_loop(loop)
            selector.select = select
            yield

    return virtual


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
    """trio, in virtual time with the clock of its own testing tools."""

    def __init__(self, virtual: bool) -> None:
        try:
            import trio
            import trio.testing
        except ImportError:
            raise ImportError("backend 'trio' needs trio: pip install trio") from None
        self._trio = trio
        self._virtual = virtual

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._virtual:
            return self._trio.run(main)
        clock = self._trio.testing.MockClock(autojump_threshold=0)

        def go(works: bool) -> None:
            clock.rate, clock.autojump_threshold = (1, math.inf) if works else (0, 0)

        with Threads(go).watch(self._trio.to_thread):
            return self._trio.run(main, clock=clock)

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
