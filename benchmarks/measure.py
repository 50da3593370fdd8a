"""Rounds, rows and verdicts: how figures are taken and compared.

The things compared take turns, and which goes first changes from round to round, so that whatever
else the machine does falls on all of them. What counts is the comparison within each round: the
median over the rounds, with the least and the most beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Effort",
    "Findings",
    "Idle",
    "Load",
    "Row",
    "Samples",
    "Spread",
    "percentile",
    "show",
    "take_rounds",
    "take_turns",
]

Samples = tuple[float, ...]
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Effort:
    """How often things are done. Sizes that a figure names, such as 200 messages, never change.

    Args:
        rounds: rounds of everything within one process.
        pieces: pieces of one reply.
        turns: turns of one conversation.
        imports: rounds of fresh interpreters.
        call_rounds: rounds of server processes.
        calls: calls whose memory is measured.
        frames: frames that a server writes while its CPU time is measured, at least.
        pings: pings whose answers are timed.
        probes: transcripts whose first piece is timed, and as many interruptions.
        idle_servers: how many of the servers hold the idle calls.
    """

    rounds: int
    pieces: int
    turns: int
    imports: int
    call_rounds: int
    calls: int
    frames: int
    pings: int
    probes: int
    idle_servers: int

    @classmethod
    def full(cls) -> Effort:
        """Return what RESULTS.md is made with."""
        return cls(
            rounds=15,
            pieces=5000,
            turns=200,
            imports=15,
            call_rounds=5,
            calls=200,
            frames=9000,
            pings=1000,
            probes=1000,
            idle_servers=4,
        )

    @classmethod
    def quick(cls) -> Effort:
        """Return what a first look needs."""
        return cls(
            rounds=5,
            pieces=2000,
            turns=50,
            imports=5,
            call_rounds=2,
            calls=100,
            frames=6000,
            pings=1000,
            probes=500,
            idle_servers=2,
        )


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
        goal: the most that the comparison may come to, in ``unit`` where it is a difference; None
            where the figure is only told.
    """

    figure: str
    unit: str
    samples: Mapping[str, Samples]
    against: Literal["official", "raw", "idle"] = "official"
    by: Literal["ratio", "difference"] = "ratio"
    goal: float | None

    @property
    def comparisons(self) -> Samples:
        """Ours compared with the other, round by round."""
        pairs = zip(self.samples["ours"], self.samples[self.against], strict=True)
        if self.by == "ratio":
            return tuple(ours / other for ours, other in pairs)
        return tuple(ours - other for ours, other in pairs)

    @property
    def is_met(self) -> bool | None:
        """Whether the median comparison is within the goal; None without one."""
        return None if self.goal is None else median(self.comparisons) <= self.goal


@attrs.frozen(kw_only=True)
class Idle:
    """How one server process held many calls at once.

    Args:
        server: which.
        calls: how many were open at once.
        kibibytes: resident memory that each added.
        ping_seconds: from the first ping to the last pong, all calls pinged at once.
        cpu_per_ping: microseconds of the server's CPU time for each.
        ended: calls that the server closed with 1000 after ``close``, and told its handler of.
        end_seconds: from the first ``close`` to the last end.
    """

    server: str
    calls: int
    kibibytes: float
    ping_seconds: float
    cpu_per_ping: float
    ended: int
    end_seconds: float


@attrs.frozen(kw_only=True)
class Load:
    """What the calling process did while it timed a server: whether it was the bottleneck.

    Args:
        server: which it called.
        share: of one core that it used.
        server_share: of one core that the server used.
        late: milliseconds by which its own timers were late, 99th percentile.
    """

    server: str
    share: float
    server_share: float
    late: float

    @classmethod
    def median_of(cls, loads: Sequence[Load]) -> Load:
        """Return the median of each figure over the rounds of one server."""
        return cls(
            server=loads[0].server,
            share=median(load.share for load in loads),
            server_share=median(load.server_share for load in loads),
            late=median(load.late for load in loads),
        )


@attrs.frozen(kw_only=True)
class Spread:
    """How a latency spreads: the medians, over the rounds, of its percentiles.

    Args:
        figure: what was timed.
        server: where.
        milliseconds: by percentile.
    """

    figure: str
    server: str
    milliseconds: Mapping[int, float]


@attrs.define
class Findings:
    """All that a run found."""

    rows: list[Row] = attrs.field(factory=list[Row])
    idle: list[Idle] = attrs.field(factory=list[Idle])
    loads: list[Load] = attrs.field(factory=list[Load])
    spreads: list[Spread] = attrs.field(factory=list[Spread])

    def __iadd__(self, other: Findings) -> Findings:
        """Add what another group of figures found."""
        self.rows += other.rows
        self.idle += other.idle
        self.loads += other.loads
        self.spreads += other.spreads
        return self


def percentile(values: Sequence[float], per_cent: float) -> float:
    """Return the value that so many per cent of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("values: expected at least one, got none")
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * per_cent // 100) - 1)]


def take_rounds(
    title: str, rounds: int, measures: Mapping[str, Callable[[], float]]
) -> dict[str, Samples]:
    """Call every measure once per round, in turn, and show progress.

    Args:
        title: what to show.
        rounds: how many rounds.
        measures: what to measure, by name; each returns one sample.
    """
    return {name: tuple(values) for name, values in take_turns(title, rounds, measures).items()}


def take_turns(
    title: str, rounds: int, measures: Mapping[str, Callable[[], T]]
) -> dict[str, list[T]]:
    """Do as `take_rounds`, with measures that return anything."""
    samples: dict[str, list[T]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            show(f"{title}: round {number + 1} of {rounds}, {name}")
            samples[name].append(measures[name]())
    show(f"{title}: {rounds} rounds", end="\n")
    return samples


def show(text: str, end: str = "") -> None:
    """Write over the line that is there, on a terminal; else only what is final."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}{end}")
    elif end:
        sys.stderr.write(text + end)
    sys.stderr.flush()
