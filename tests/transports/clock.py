"""Event loops without waiting: time jumps to the next timer as soon as nothing can run.

For sockets in memory only: what a thread or the kernel still works on is not seen from here.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Mapping

EAGER = sys.version_info >= (3, 12)
"""Whether this interpreter has eager tasks."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock only moves when nothing else can happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting_for_idle: list[asyncio.Future[None]] = []
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        idle, self._loop.waiting_for_idle = self._loop.waiting_for_idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)
        if not idle:
            if timeout is None:
                raise RuntimeError("deadlock: no task can run, and no timer is set")
            self._loop.now += timeout
        return []


def eager(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def eager_virtual_loop() -> asyncio.AbstractEventLoop:
    return eager(VirtualLoop())


def eager_loop() -> asyncio.AbstractEventLoop:
    return eager(asyncio.new_event_loop())


ASYNCIO = ["asyncio", *(["asyncio-eager"] if EAGER else [])]
BACKENDS = [*ASYNCIO, "trio"]


def virtual(backend: str) -> tuple[str, Mapping[str, Any]]:
    """Return a backend for anyio's pytest plugin, in virtual time."""
    match backend:
        case "asyncio":
            return "asyncio", {"loop_factory": VirtualLoop}
        case "asyncio-eager":
            return "asyncio", {"loop_factory": eager_virtual_loop}
        case _:
            return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def real(backend: str) -> tuple[str, Mapping[str, Any]]:
    """Return a backend for anyio's pytest plugin, in the time of the machine."""
    if backend == "asyncio-eager":
        return "asyncio", {"loop_factory": eager_loop}
    return backend, {}


async def settle() -> None:
    """Wait until nothing can run unless time passes or the test does something (virtual only)."""
    if trio.lowlevel.in_trio_run():
        await trio.testing.wait_all_tasks_blocked()
        return
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    future: asyncio.Future[None] = loop.create_future()
    loop.waiting_for_idle.append(future)
    await future
