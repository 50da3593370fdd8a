"""One timer for all conversations of a server: it sees who is silent and who does not read.

No conversation has a clock, a timer or a task of its own for that. Each counts what it has
received and written; the timer compares the counts with those of its last look. So a bound of
time trips up to one look later than it says.
"""

from __future__ import annotations

import math
from typing import Protocol

import anyio
import attrs

from ._groups import Group
from .errors import LimitExceeded
from .limits import Limits

__all__ = ["Watch", "Watched"]

LOOKS_PER_LIMIT = 10
"""How often it looks within the shortest bound, but once a second is often enough."""


class Watched(Protocol):
    """What the timer knows of a conversation."""

    @property
    def received(self) -> int:
        """Messages that have come."""
        ...

    @property
    def written(self) -> int:
        """Writes that have ended."""
        ...

    @property
    def is_writing(self) -> bool:
        """Whether a write waits at this moment."""
        ...

    def exceed(self, error: LimitExceeded, code: int | None) -> None:
        """End the conversation with a close code, or without one: abort the connection."""
        ...


@attrs.define(eq=False)
class _Seen:
    """What a conversation looked like when it last changed."""

    group: Group
    heard_at: float
    moved_at: float
    received: int = 0
    written: int = 0


@attrs.define(eq=False)
class Watch:
    """The timer of one server.

    It runs in the task group of one of the conversations, because those are always there when it
    is needed, whatever listens; when that one ends, the next takes it over.
    """

    _limits: Limits
    _seen: dict[Watched, _Seen] = attrs.field(factory=dict["Watched", _Seen], init=False)
    _host: Watched | None = attrs.field(default=None, init=False)
    _scope: anyio.CancelScope | None = attrs.field(default=None, init=False)

    def begin(self, watched: Watched, group: Group) -> None:
        """Watch a conversation; ``group`` is its own."""
        if self._period == math.inf:
            return
        now = anyio.current_time()
        self._seen[watched] = _Seen(group, now, now)
        if self._host is None:
            self._start(watched)

    def end(self, watched: Watched) -> None:
        """Watch a conversation no more."""
        self._seen.pop(watched, None)
        if self._host is watched:
            self._hand_over()

    @property
    def _period(self) -> float:
        limits = self._limits
        bounds = (limits.first_message_timeout, limits.idle_timeout, limits.backlog_timeout)
        shortest = min((bound for bound in bounds if bound is not None), default=math.inf)
        return shortest if shortest == math.inf else min(1.0, shortest / LOOKS_PER_LIMIT)

    def _start(self, host: Watched) -> None:
        self._host = host
        self._scope = anyio.CancelScope()
        self._seen[host].group.start_soon(self._look_on, self._scope, self._period)

    def _hand_over(self) -> None:
        assert self._scope is not None
        self._scope.cancel()
        self._host = self._scope = None
        for heir in self._seen:
            self._start(heir)
            break

    async def _look_on(self, scope: anyio.CancelScope, period: float) -> None:
        with scope:
            while True:
                await anyio.sleep(period)
                now = anyio.current_time()
                for watched, seen in list(self._seen.items()):
                    self._look(watched, seen, now)

    def _look(self, watched: Watched, seen: _Seen, now: float) -> None:
        limits = self._limits
        if watched.received != seen.received:
            seen.received, seen.heard_at = watched.received, now
        if not watched.is_writing or watched.written != seen.written:
            seen.written, seen.moved_at = watched.written, now
        silent = now - seen.heard_at
        if _over(now - seen.moved_at, limits.backlog_timeout):
            self._trip(watched, seen, now, "backlog_timeout", None)
        elif seen.received == 0 and _over(silent, limits.first_message_timeout):
            self._trip(watched, seen, now, "first_message_timeout", 1008)
        elif seen.received and _over(silent, limits.idle_timeout):
            self._trip(watched, seen, now, "idle_timeout", 1001)

    def _trip(
        self, watched: Watched, seen: _Seen, now: float, limit: str, code: int | None
    ) -> None:
        seen.heard_at = seen.moved_at = now  # once, and again only if that did not end it
        watched.exceed(LimitExceeded(limit, getattr(self._limits, limit)), code)


def _over(seconds: float, bound: float | None) -> bool:
    return bound is not None and seconds >= bound
