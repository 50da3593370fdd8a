"""Whether the calling side was the bottleneck: what it used of a core, and how late it was."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .measure import Load, percentile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from .processes import Server

__all__ = ["watched"]

TICK = 0.005


@asynccontextmanager
async def watched(kind: str, server: Server) -> AsyncGenerator[Callable[[], Load]]:
    """Watch this process and the server while the block runs; what is yielded tells of it after."""
    late: list[float] = []
    ticking = asyncio.create_task(_tick(late))
    began = time.monotonic()
    ours, theirs = time.process_time(), server.ask("cpu")
    loads: list[Load] = []
    try:
        yield lambda: loads[0]
        took = time.monotonic() - began
        loads.append(
            Load(
                server=kind,
                share=(time.process_time() - ours) / took,
                server_share=(server.ask("cpu") - theirs) / took,
                late=percentile(late, 99) * 1e3,
            )
        )
    finally:
        ticking.cancel()


async def _tick(late: list[float]) -> None:
    """Note by how many seconds each of our own timers is late."""
    while True:
        due = time.monotonic() + TICK
        await asyncio.sleep(TICK)
        late.append(max(0.0, time.monotonic() - due))
