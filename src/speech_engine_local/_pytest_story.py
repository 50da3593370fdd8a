"""What happened in a call, to be read by whoever wrote the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._reply import Reply

__all__ = ["Story"]

LONGEST = 300
"""Characters of one utterance that are shown."""


class _Line(NamedTuple):
    at: float
    who: str
    text: str


class _Reply(NamedTuple):
    at: float
    reply: Reply


class Story:
    """Notes who did what and when, and tells it."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._notes: list[_Line | _Reply] = []

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        if self._begun is None:
            self._begun = anyio.current_time()
        return anyio.current_time() - self._begun

    def note(self, who: str, text: str) -> None:
        """Note that somebody did something."""
        self._notes.append(_Line(self.now, who, text))

    def asked(self, text: str, reply: Reply, running: Reply | None) -> None:
        """Note a question, the reply that it gets, and the one that it interrupted."""
        self.note("you", _quote(text) + (" (interrupts)" if _was_cut(running) else ""))
        self._notes.append(_Reply(self.now, reply))

    def greeted(self, reply: Reply) -> None:
        """Note what was said first."""
        self._notes.append(_Reply(self.now, reply))

    def tell(self) -> list[str]:
        """Return a line for each thing that happened, in order of time."""
        lines = [line for note in self._notes for line in _lines_of(note)]
        lines.sort(key=lambda line: line.at)
        return [f"{line.at:8.2f} s  {line.who:<6} {line.text}" for line in lines]


def _lines_of(note: _Line | _Reply) -> Iterator[_Line]:
    if isinstance(note, _Line):
        yield note
        return
    reply = note.reply
    if reply.attempts > 1:
        yield _Line(note.at, "call", f"the question was sent {reply.attempts} times")
    first = reply.first_word_after
    if first is None:
        yield _Line(note.at + (reply.took or 0), "agent", f"not a word ({_end_of(reply)})")
        return
    yield _Line(note.at + first, "agent", _quote(reply.text))
    if reply.took is None or not reply.finished or _was_cut(reply):
        yield _Line(note.at + max(first, reply.took or 0), "agent", f"({_end_of(reply)})")


def _was_cut(reply: Reply | None) -> bool:
    return reply is not None and reply.interrupted


def _end_of(reply: Reply) -> str:
    if reply.error is not None:
        return f"failed: {reply.error}"
    if _was_cut(reply):
        return f"interrupted; heard: {_quote(reply.heard)}"
    if reply.finished:
        return "ended"
    return "still to come"


def _quote(text: str) -> str:
    shown = text if len(text) <= LONGEST else text[:LONGEST]
    more = "" if shown is text else f" ... ({len(text)} characters)"
    return f"{shown!r}{more}"
