"""SIGINT and SIGTERM, taken while a server of ours serves, and given back after."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from ._groups import single_exception

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["stop_event", "stop_signals"]

logger = logging.getLogger("speech_engine_transports")


@asynccontextmanager
async def stop_signals(
    enabled: bool, on_signal: Callable[[signal.Signals], None]
) -> AsyncGenerator[None]:
    """Call ``on_signal`` with each SIGINT and SIGTERM that comes while the block runs.

    After the block the signals do what they did before: a Ctrl-C while the server still ends its
    conversations interrupts it. Only the main thread can take signals; elsewhere, and where that
    is not wanted, nothing is taken.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return
    with single_exception():
        async with anyio.create_task_group() as group:
            await group.start(_watch, on_signal)
            yield
            group.cancel_scope.cancel()


@asynccontextmanager
async def stop_event() -> AsyncGenerator[anyio.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; see `stop_signals`."""
    stopped = anyio.Event()
    async with stop_signals(True, lambda _: stopped.set()):
        yield stopped


async def _watch(
    on_signal: Callable[[signal.Signals], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            received = signal.Signals(number)
            logger.info("%s received", received.name)
            on_signal(received)
