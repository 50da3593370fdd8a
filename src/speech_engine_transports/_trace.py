"""What ``debug=True`` shows on stdout: the only place that ever writes what was said."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from speech_engine_proto import Turn

__all__ = ["enable", "event", "replied", "started"]


class _StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stdout`` is when a record comes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The standard output of this moment."""
        return sys.stdout


_logger = logging.getLogger("speech_engine_transports.debug")


def enable() -> None:
    """Show traces on stdout. They go nowhere else: no other handler of yours gets them."""
    if not _logger.handlers:
        handler = _StdoutHandler()
        handler.setFormatter(logging.Formatter("[SpeechEngine] %(message)s"))
        _logger.addHandler(handler)
        _logger.setLevel(logging.DEBUG)
        _logger.propagate = False


def started(turn: Turn) -> None:
    """Show what a transcript adds: its last message."""
    messages = turn.transcript
    last = f"{messages[-1].role}: {messages[-1].content}" if messages else "(empty)"
    _logger.debug("turn %s, transcript of %d: %s", turn.event_id, len(messages), last)


def replied(turn: Turn) -> None:
    """Show what was sent as the reply to a turn, once it is over."""
    _logger.debug("turn %s, %s: %s", turn.event_id, turn.state.value, turn.text_sent)


def event(name: str, detail: object = "") -> None:
    """Show anything else that happened."""
    _logger.debug("%s %s", name, detail)
