"""Frames of one burst in one write: what replies say within one turn of the event loop.

An LLM's stream often brings several pieces at once, and a terminator follows the last of them.
Each written by itself costs a system call, which is most of what a frame costs.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Cork", "CorkedTransport"]

TOGETHER = 0.0001
"""Seconds. A write this soon after the one before belongs to the same burst."""

LET_PASS = 32
"""Writes that are not held after one that was held for nothing: it was a burst of its own."""

MAX_BYTES = 32 * 1024
"""How much may wait; the high-water mark at which ``websockets`` tells a writer to wait."""


class Cork:
    """Joins writes that follow each other at once.

    The first of a burst is made without delay. Those that follow are made as one when the loop
    turns: before whoever reads the socket is woken, so no text gets out after an interruption that
    would have been kept in without this. Code that blocks the loop holds them back meanwhile.

    Args:
        transport: where the bytes go; what waits when it closes is dropped.
    """

    __slots__ = ("_last", "_loop", "_passing", "_transport", "_waiting", "size")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._passing = 0
        self._waiting: list[bytes] = []
        self.size = 0
        """How many bytes wait."""

    def takes(self) -> bool:
        """Decide about one write: whether it is to be `add`-ed, or made by whoever asks."""
        if self._waiting:
            return True
        if self._passing:
            self._passing -= 1
            return False
        before, self._last = self._last, self._loop.time()
        return self._last - before < TOGETHER

    def add(self, data: bytes) -> None:
        """Take bytes, to be written at the end of the loop's turn at the latest."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self.size += len(data)
        if self.size > MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        if len(self._waiting) == 1:
            self._passing = LET_PASS
        data = b"".join(self._waiting)
        self._waiting.clear()
        self.size = 0
        if not self._transport.is_closing():  # uvloop would raise, in nobody's task
            self._transport.write(data)


class CorkedTransport:
    """A transport of asyncio, in whose place a library writes; frames that are held are joined.

    Only what is written while ``holding`` is set may wait. All else, such as a library's pings and
    its closing handshake, is written at once, after what waits. The rest is the transport's own.

    Args:
        transport: the transport.
    """

    __slots__ = ("_cork", "_transport", "high", "holding", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._cork = Cork(transport)
        self.is_closing = transport.is_closing  # asked before each write
        self.holding = False
        self.high: int = transport.get_write_buffer_limits()[1]
        """How much may be in the transport before writers are told to wait, in bytes."""

    @classmethod
    def around(cls, transport: asyncio.Transport | CorkedTransport) -> CorkedTransport:
        """Return the transport with a cork, the same one if it has one."""
        return transport if isinstance(transport, CorkedTransport) else cls(transport)

    def write(self, data: bytes) -> None:
        """Write bytes; while ``holding``, perhaps at the end of the loop's turn."""
        if self.holding and self._cork.takes():
            self._cork.add(data)
        else:
            self._cork.flush()
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait, here and in the transport."""
        return self._cork.size + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        """Write what waits, and end the writing side."""
        self._cork.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Write what waits, and close."""
        self._cork.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
