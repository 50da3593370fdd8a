"""What callbacks told, in order, and a way to wait for the next one."""

from __future__ import annotations

import asyncio
from typing import Any

PATIENCE = 30.0
"""Seconds to wait for something that must come: a guard against hanging, not a measure."""


class Diary:
    """Notes from callbacks in any thread, read by the test's loop.

    Each kind is read on its own, in its order: what one test does not ask for stays in `notes`.
    """

    def __init__(self) -> None:
        self.notes: list[tuple[str, tuple[Any, ...]]] = []
        self._read: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def note(self, kind: str, *values: Any) -> None:
        """Write one note; from any thread."""
        self._loop.call_soon_threadsafe(self._write, kind, values)

    def all(self, kind: str) -> list[tuple[Any, ...]]:
        """Return the values of every note of a kind so far."""
        return [values for each, values in self.notes if each == kind]

    def kinds(self) -> list[str]:
        """Return the kinds of all notes so far, in order."""
        return [kind for kind, _ in self.notes]

    async def next(self, kind: str) -> tuple[Any, ...]:
        """Return the values of the next note of a kind that was not returned before."""
        index = self._read.get(kind, 0)
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.all(kind)) <= index:
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"expected another {kind!r}, got {self.notes}") from None
        self._read[kind] = index + 1
        return self.all(kind)[index]

    async def until(self, kind: str, *values: Any) -> None:
        """Return when a note of a kind with exactly these values has come."""
        while await self.next(kind) != values:
            pass

    def _write(self, kind: str, values: tuple[Any, ...]) -> None:
        self.notes.append((kind, values))
        self._changed.set()
        self._changed = asyncio.Event()
