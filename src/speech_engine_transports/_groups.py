"""Task groups raise groups of exceptions; users of this package never see one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["single_exception"]


@contextmanager
def single_exception() -> Generator[None]:
    """Raise the first exception of a group in its place, with its own traceback and cause."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = _first(group)
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # the group, which says nothing to a user, is not shown
            del error, context


def _first(error: BaseException) -> BaseException:
    if isinstance(error, BaseExceptionGroup):
        return _first(error.exceptions[0])  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return error
