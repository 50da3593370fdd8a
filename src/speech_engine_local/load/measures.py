"""What a load run counts and measures, in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

try:
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        "speech_engine_local.load needs hdrhistogram: pip install 'speech-engine-proto[local]'",
        name="hdrhistogram",
    ) from error

__all__ = ["Calls", "Errors", "Histogram", "LoadProgress", "Measures", "Spread", "Turns"]

MICROSECONDS = 1_000_000
LONGEST = 24 * 3600 * MICROSECONDS
DIGITS = 3
"""A figure is at most 0.1 % off."""


@attrs.frozen
class Spread:
    """How a measured time is spread. All in seconds; None where nothing was measured.

    Args:
        count: how often it was measured.
        p50: half of them took at most this.
        p90: nine of ten took at most this.
        p99: 99 of 100 took at most this.
        max: the longest.
    """

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Histogram:
    """Takes any number of times and keeps their spread."""

    def __init__(self) -> None:
        self._counts: Any = HdrHistogram(1, LONGEST, DIGITS)
        self._longest = 0.0

    def record(self, seconds: float) -> None:
        """Add a time."""
        self._counts.record_value(min(max(round(seconds * MICROSECONDS), 0), LONGEST))
        self._longest = max(self._longest, seconds)

    def spread(self) -> Spread:
        """Return how the times so far are spread."""
        count = int(self._counts.get_total_count())
        if not count:
            return Spread(0, None, None, None, None)
        found: dict[float, int] = self._counts.get_percentile_to_value_dict([50, 90, 99])
        # A bucket is told by its upper end, which may lie beyond the longest time in it.
        p50, p90, p99 = (min(found[p] / MICROSECONDS, self._longest) for p in (50, 90, 99))
        return Spread(count, p50, p90, p99, self._longest)


@attrs.define
class Calls:
    """How calls went.

    Args:
        planned: how many the plan has.
        begun: were dialled.
        connected: were taken by the server.
        finished: said all that was planned.
        failed: were refused, lost, or given up.
        cut: were ended by the run before they were finished: it was stopped, or out of time.
        peak: the most that were open at the same time.
    """

    planned: int
    begun: int = 0
    connected: int = 0
    finished: int = 0
    failed: int = 0
    cut: int = 0
    peak: int = 0


@attrs.define
class Turns:
    """How turns went.

    Args:
        asked: transcripts sent.
        finished: their terminator came.
        interrupted: the caller spoke into the reply.
        missed: of those finished, to be interrupted but over before that.
    """

    asked: int = 0
    finished: int = 0
    interrupted: int = 0
    missed: int = 0


@attrs.define
class Errors:
    """What went wrong.

    Args:
        kinds: how often, by kind.
        examples: of each kind, what was seen the first time; never a word of a conversation.
    """

    kinds: Counter[str] = attrs.field(factory=lambda: Counter[str]())
    examples: dict[str, str] = attrs.field(factory=lambda: dict[str, str]())

    @property
    def total(self) -> int:
        """How many errors there were."""
        return self.kinds.total()

    def add(self, kind: str, example: str) -> None:
        """Count an error."""
        self.kinds[kind] += 1
        self.examples.setdefault(kind, example)


@attrs.frozen
class LoadProgress:
    """How far a run has come.

    Args:
        seconds: since it began.
        planned: calls in the plan.
        begun: calls dialled so far.
        open: calls that are connected.
        ended: calls that are over, however they ended.
        turns: transcripts sent.
        pieces: pieces of replies received.
        errors: errors of all kinds.
    """

    seconds: float
    planned: int
    begun: int
    open: int
    ended: int
    turns: int
    pieces: int
    errors: int


class Measures:
    """All figures of a run, while it runs.

    Args:
        planned: how many calls the plan has.
    """

    def __init__(self, planned: int) -> None:
        self.calls = Calls(planned)
        self.turns = Turns()
        self.errors = Errors()
        self.pieces = 0
        self.open = 0
        self.ended = 0
        self.first_word = Histogram()
        self.terminator = Histogram()
        self.silence = Histogram()
        self.pong = Histogram()

    def connect(self) -> None:
        """Note that a call is open."""
        self.calls.connected += 1
        self.open += 1
        self.calls.peak = max(self.calls.peak, self.open)

    def progress(self, seconds: float) -> LoadProgress:
        """Return how far the run has come after so many seconds."""
        return LoadProgress(
            seconds,
            self.calls.planned,
            self.calls.begun,
            self.open,
            self.ended,
            self.turns.asked,
            self.pieces,
            self.errors.total,
        )
