"""Errors for the log, without their own words: those may be the user's or the agent's."""

from __future__ import annotations

import traceback
from typing import cast

__all__ = ["without_words"]


def without_words(error: BaseException) -> str:
    """Tell the kind of an error and where it was raised; of a group, each of its errors."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return "\n".join(map(without_words, group.exceptions))
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{type(error).__name__}\n{frames}"
