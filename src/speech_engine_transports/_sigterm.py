"""SIGTERM in a process that somebody else's server runs: we drain, then that server hears of it.

uvicorn closes every live WebSocket with 1012 the moment it gets the signal, before its lifespan
tells anybody, and gunicorn's workers of it do the same. So our handler goes in front of theirs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["drain_before_sigterm"]

logger = logging.getLogger("speech_engine_transports")


@asynccontextmanager
async def drain_before_sigterm(
    enabled: bool, drain: Callable[[], Awaitable[object]]
) -> AsyncGenerator[None]:
    """Call ``drain`` at the first SIGTERM while the block runs, and then whoever waits for it.

    A second one goes there at once. Nothing is taken outside the main thread, nor where nobody
    waits for the signal: the process would have ended, and now would not.
    """
    found: Any = signal.getsignal(signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    if not (enabled and in_main and callable(found)):
        yield
        return
    asked = anyio.Event()
    wake = _from_signal_handler(asked.set)
    came = False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal came
        if came:
            found(number, frame)
        else:
            came = True
            wake()

    async def work() -> None:
        await asked.wait()
        logger.info("SIGTERM: draining")
        await drain()
        found(signal.SIGTERM, None)

    signal.signal(signal.SIGTERM, on_signal)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            yield
            group.cancel_scope.cancel()
    finally:
        if signal.getsignal(signal.SIGTERM) is on_signal:
            signal.signal(signal.SIGTERM, found)


def _from_signal_handler(function: Callable[[], None]) -> Callable[[], object]:
    """Return what calls the function in the running event loop, from a handler of a signal."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            token = trio.lowlevel.current_trio_token()
            return lambda: token.run_sync_soon(function)
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(function)
