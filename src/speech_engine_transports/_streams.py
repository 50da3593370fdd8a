"""Sees which streams of an agent under test are left open."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

__all__ = ["TrackedStream", "is_open", "name_of", "streams"]


@contextmanager
def streams() -> Generator[list[AsyncGenerator[Any, Any]]]:
    """Note every async generator that is iterated within the block, in the running loop.

    They are kept alive, so that one which was dropped half-way stays open and is seen, instead of
    being closed by the garbage collector at a time that depends on the interpreter.
    """
    noted: list[AsyncGenerator[Any, Any]] = []
    hooks = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[Any, Any]) -> None:
        noted.append(generator)
        if hooks.firstiter is not None:
            hooks.firstiter(generator)

    sys.set_asyncgen_hooks(firstiter=note)
    try:
        yield noted
    finally:
        sys.set_asyncgen_hooks(firstiter=hooks.firstiter)


def is_open(generator: AsyncGenerator[Any, Any]) -> bool:
    """Tell whether an async generator has neither ended nor been closed."""
    return getattr(generator, "ag_frame", None) is not None


def name_of(generator: AsyncGenerator[Any, Any]) -> str:
    """Return the name of the function that made an async generator."""
    name: str = getattr(generator, "__qualname__", type(generator).__name__)
    return name.rpartition("<locals>.")[2]


class TrackedStream:
    """Passes everything on to a stream, and notes whether it was read to its end or closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.is_open = True

    @property
    def name(self) -> str:
        """How to name the stream to its author."""
        return type(self._stream).__name__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> TrackedStream:
        self._stream = aiter(self._stream)
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._stream)
        except StopAsyncIteration:
            self.is_open = False
            raise

    async def __aenter__(self) -> TrackedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> Any:
        self.is_open = False
        return await self._stream.__aexit__(*exc_info)

    async def aclose(self) -> None:
        """Close the stream by whichever verb it has."""
        self.is_open = False
        close = getattr(self._stream, "aclose", None) or getattr(self._stream, "close", None)
        result = None if close is None else close()
        if isawaitable(result):
            await result

    close = aclose
