"""Lets virtual time pass as on the wall while a worker thread works.

A clock that jumps when no task can run would jump while a thread reads a blocking stream, and
every deadline would be over before its first word.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio.to_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

__all__ = ["Threads"]


class Threads:
    """Counts the calls that worker threads are at.

    Args:
        changed: called when the first begins, with True, and when the last has ended, with False.
    """

    def __init__(self, changed: Callable[[bool], None] | None = None) -> None:
        self.working = 0
        self._changed = changed

    def begin(self) -> None:
        """Note that a call begins."""
        self.working += 1
        if self.working == 1 and self._changed is not None:
            self._changed(True)

    def end(self, _: object = None) -> None:
        """Note that a call has ended, or that nobody waits for it any more."""
        self.working -= 1
        if self.working == 0 and self._changed is not None:
            self._changed(False)

    @contextmanager
    def watch(self, *modules: Any) -> Generator[None]:
        """Count the calls of ``anyio.to_thread.run_sync``, and of those modules' ``run_sync``."""
        places: tuple[Any, ...] = (anyio.to_thread, *modules)
        watched = [(module, module.run_sync) for module in places]
        for module, run_sync in watched:
            module.run_sync = self._counting(run_sync)
        try:
            yield
        finally:
            for module, run_sync in watched:
                module.run_sync = run_sync

    def watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count the calls of a loop's executors, ``asyncio.to_thread`` among them."""
        run = loop.run_in_executor

        def run_in_executor(executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
            future: asyncio.Future[Any] = run(executor, function, *args)
            self.begin()
            future.add_done_callback(self.end)
            return future

        vars(loop)["run_in_executor"] = run_in_executor

    def _counting(self, run_sync: Callable[..., Any]) -> Callable[..., Any]:
        async def counting(*args: Any, **options: Any) -> Any:
            self.begin()
            try:
                return await run_sync(*args, **options)
            finally:
                self.end()

        return counting
