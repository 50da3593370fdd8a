"""Rounds, rows and verdicts: how figures are taken and compared.

The things compared take turns, and which goes first changes from round to round, so that whatever
else the machine does falls on all of them. What counts is the comparison within each round: the
median over the rounds, with the least and the most beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Effort", "Row", "Samples", "take_rounds"]

Samples = tuple[float, ...]


@attrs.frozen
class Effort:
    """How often things are done. Sizes that a figure names, such as 200 messages, never change.

    Args:
        rounds: rounds of everything within one process.
        pieces: pieces of one reply.
        turns: turns of one conversation.
        imports: rounds of fresh interpreters.
        call_rounds: rounds of server processes.
        calls: calls whose memory is measured.
        frames: frames that a server writes while its CPU time is measured.
        pings: pings whose answers are timed.
    """

    rounds: int
    pieces: int
    turns: int
    imports: int
    call_rounds: int
    calls: int
    frames: int
    pings: int

    @classmethod
    def full(cls) -> Effort:
        """Return what RESULTS.md is made with."""
        return cls(15, 5000, 200, 15, 5, 200, 9000, 2000)

    @classmethod
    def quick(cls) -> Effort:
        """Return what a first look needs."""
        return cls(5, 2000, 50, 5, 2, 100, 6000, 1000)


@attrs.frozen(kw_only=True)
class Row:
    """One figure: ours beside what it is compared with.

    Args:
        figure: what was measured.
        unit: of each sample.
        samples: one sample per round of everything that was measured: ``ours``, ``official`` (the
            SDK), ``raw`` (the WebSocket library alone), ``idle`` (ours without load).
        against: which of them the goal compares ours with.
        by: how they are compared.
        goal: the most that the comparison may come to, in ``unit`` where it is a difference.
    """

    figure: str
    unit: str
    samples: Mapping[str, Samples]
    against: Literal["official", "raw", "idle"] = "official"
    by: Literal["ratio", "difference"] = "ratio"
    goal: float

    @property
    def comparisons(self) -> Samples:
        """Ours compared with the other, round by round."""
        pairs = zip(self.samples["ours"], self.samples[self.against], strict=True)
        if self.by == "ratio":
            return tuple(ours / other for ours, other in pairs)
        return tuple(ours - other for ours, other in pairs)

    @property
    def is_met(self) -> bool:
        """Whether the median comparison is within the goal."""
        return median(self.comparisons) <= self.goal


def take_rounds(
    title: str, rounds: int, measures: Mapping[str, Callable[[], float]]
) -> dict[str, Samples]:
    """Call every measure once per round, in turn, and show progress.

    Args:
        title: what to show.
        rounds: how many rounds.
        measures: what to measure, by name; each returns one sample.
    """
    samples: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        _show(f"{title}: round {number + 1} of {rounds}")
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(measures[name]())
    _show(f"{title}: {rounds} rounds", end="\n")
    return {name: tuple(values) for name, values in samples.items()}


def _show(text: str, end: str = "") -> None:
    """Write over the line that is there, on a terminal; else only what is final."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}{end}")
    elif end:
        sys.stderr.write(text + end)
    sys.stderr.flush()
