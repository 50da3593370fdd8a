"""SIGINT and SIGTERM, taken while a server of ours serves, and given back after."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["stop_signals"]

logger = logging.getLogger("speech_engine_transports")


@asynccontextmanager
async def stop_signals(enabled: bool, stopped: anyio.Event) -> AsyncGenerator[None]:
    """Set ``stopped`` at the first SIGINT or SIGTERM.

    After the block the signals do what they did before: a second Ctrl-C, while the server still
    ends its conversations, interrupts it. Only the main thread can take signals; elsewhere, and
    where that is not wanted, nothing is taken.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return
    async with anyio.create_task_group() as group:
        await group.start(_watch, stopped)
        yield
        group.cancel_scope.cancel()


async def _watch(
    stopped: anyio.Event,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for received in signals:
            logger.info("%s: stopping", signal.Signals(received).name)
            stopped.set()
            return
