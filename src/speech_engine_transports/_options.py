"""The settings of a session, shared by all sessions of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from speech_engine_proto.llm import extract_text

from ._calls import Calls
from ._observer import Observer, guarded
from .limits import Limits

__all__ = ["Fallback", "SessionOptions"]

Fallback: TypeAlias = str | Callable[[Exception | None], str | None]
"""What to say for a handler that failed (it gets the error) or ended without a word (None)."""


@attrs.frozen(kw_only=True)
class SessionOptions:
    """How sessions behave; see `SpeechEngineSession` for what each field means."""

    debug: bool = False
    fallback: Fallback | None = None
    extract: Callable[[Any], str | None] = extract_text
    serialize_turns: bool = False
    adopt_resends: bool = True
    limits: Limits = attrs.field(factory=Limits)
    cancel_grace: float = 5.0
    observer: Observer | None = attrs.field(
        default=None, converter=attrs.converters.optional(guarded)
    )
    calls: Calls = attrs.field(
        init=False, default=attrs.Factory(lambda self: Calls(self.limits), takes_self=True)
    )

    def fallback_text(self, error: Exception | None) -> str | None:
        """Return what to say for a handler that raised ``error``, or said nothing."""
        if callable(self.fallback):
            return self.fallback(error)
        return self.fallback
