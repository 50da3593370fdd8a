"""The live conversations of one server, and how all of them end together."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import anyio

from ._watch import Watch

if TYPE_CHECKING:
    from .limits import Limits

__all__ = ["Calls", "Until"]

Until: TypeAlias = Literal["turn", "finish"]
"""What a server that drains waits for: the end of each call's turn, or of the call."""

logger = logging.getLogger("speech_engine_transports")


class _Call(Protocol):
    def leave(self, code: int = 1001) -> None: ...

    async def close_socket(self, code: int = 1000, reason: str = "") -> None: ...


class Calls:
    """What the sessions of one server share while they run.

    Args:
        limits: the bounds of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.watch = Watch(limits)
        self.exceeded: Counter[str] = Counter()
        self.draining: Until | None = None
        self._live: dict[_Call, None] = {}
        self._changed: anyio.Event | None = None

    def __len__(self) -> int:
        return len(self._live)

    def begin(self, call: _Call) -> None:
        """Count a call; one that comes late is told to leave."""
        self._live[call] = None
        if self.draining == "turn":
            call.leave()

    def end(self, call: _Call) -> None:
        """Count a call no more."""
        del self._live[call]
        if self._changed is not None:
            self._changed.set()

    async def close_all(self, code: int = 1001, reason: str = "going away") -> None:
        """Close the socket of every call at once."""
        async with anyio.create_task_group() as group:
            for call in self._live:
                group.start_soon(call.close_socket, code, reason)

    async def drain(self, seconds: float | None, until: Until) -> bool:
        """Let the calls end by themselves; tell whether they did in time."""
        self.draining = until
        logger.info("draining: %d calls", len(self._live))
        if until == "turn":
            for call in list(self._live):
                call.leave()
        with anyio.move_on_after(seconds):
            while self._live:
                self._changed = anyio.Event()
                await self._changed.wait()
        left = len(self._live)
        if left:
            logger.warning("drain: %d calls cut off after %g s", left, seconds or 0)
            await self.close_all()
        return not left
