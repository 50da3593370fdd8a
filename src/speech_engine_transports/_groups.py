"""Task groups raise groups of exceptions; users of this package never see one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["single_exception"]


@contextmanager
def single_exception() -> Generator[None]:
    """Raise the first exception of a group in its place, with its own traceback."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        return _first(error.exceptions[0])  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return error
