"""What a load run found out, for programs and for people."""

from __future__ import annotations

import io
import json
from typing import Any

import attrs

try:
    from rich import box
    from rich.console import Console
    from rich.table import Table
except ImportError as error:
    raise ImportError(
        "speech_engine_local.load needs rich: pip install 'speech-engine-proto[local]'", name="rich"
    ) from error

from .measures import Calls, Errors, Spread, Turns
from .plan import LoadPlan
from .watch import Generator

__all__ = ["LoadReport", "as_json", "as_table"]


@attrs.frozen(kw_only=True)
class LoadReport:
    """How a server did under load. Times are in seconds.

    Args:
        target: its address, without what may be secret in it.
        plan: what was to be done.
        seconds: how long the run took.
        stopped: ``"interrupted"`` or ``"out of time"`` where that ended the run before its plan was
            done, else None.
        calls: how calls went.
        turns: how turns went.
        pieces: pieces of replies that came, those for turns that were over included.
        errors: what went wrong, by kind.
        first_word: from a transcript to the first piece of its reply.
        terminator: from a transcript to the end of its reply.
        silence: from an interrupting transcript to the last piece of the interrupted reply; 0
            where none came any more.
        pong: from a ping to its pong.
        generator: how the process that made the calls was doing itself.
    """

    target: str
    plan: LoadPlan
    seconds: float
    stopped: str | None
    calls: Calls
    turns: Turns
    pieces: int
    errors: Errors
    first_word: Spread
    terminator: Spread
    silence: Spread
    pong: Spread
    generator: Generator

    @property
    def is_good(self) -> bool:
        """Whether there was no error."""
        return self.errors.total == 0

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain dicts, numbers, texts and None, for JSON."""
        document = attrs.asdict(self, recurse=True)
        document["errors"] = {"total": self.errors.total, **document["errors"]}
        document["errors"]["kinds"] = dict(self.errors.kinds.most_common())
        document["plan"]["say"] = len(self.plan.say)
        return document


def as_json(report: LoadReport) -> str:
    """Return the report as one JSON object."""
    return json.dumps(report.as_dict(), indent=2, ensure_ascii=False)


def as_table(report: LoadReport, *, width: int = 100) -> str:
    """Return the report as lines to read."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, highlight=False, markup=False)
    for line in (report.target, *_counts(report), ""):
        console.print(line)
    console.print(_times(report))
    if report.errors.total:
        console.print()
        console.print(_errors(report.errors))
    console.print()
    console.print(_verdict(report))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _counts(report: LoadReport) -> list[str]:
    calls, turns, generator = report.calls, report.turns, report.generator
    cut = f", {calls.cut} cut short" if calls.cut else ""
    missed = f", {turns.missed} over before the caller spoke" if turns.missed else ""
    rows = {
        "calls": f"{calls.begun} of {calls.planned}: {calls.finished} finished, "
        f"{calls.failed} failed{cut}; at most {calls.peak} at once",
        "turns": f"{turns.asked}: {turns.finished} finished, "
        f"{turns.interrupted} interrupted{missed}",
        "pieces": str(report.pieces),
        "errors": str(report.errors.total),
        "took": f"{report.seconds:.1f} s" + (f", {report.stopped}" if report.stopped else ""),
        "generator": f"{generator.cpu_share:.0%} of a core, "
        f"{_ms(generator.lag.p99)} ms late at p99",
    }
    return [f"  {name:11}{text}" for name, text in rows.items()]


def _times(report: LoadReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("milliseconds", no_wrap=True)
    for name in ("p50", "p90", "p99", "max", "count"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, spread in {
        "first word": report.first_word,
        "terminator": report.terminator,
        "interrupt to silence": report.silence,
        "pong": report.pong,
    }.items():
        figures = (spread.p50, spread.p90, spread.p99, spread.max)
        table.add_row(name, *map(_ms, figures), str(spread.count))
    return table


def _errors(errors: Errors) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("error", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("the first one")
    for kind, count in errors.kinds.most_common():
        table.add_row(kind, str(count), errors.examples[kind])
    return table


def _verdict(report: LoadReport) -> str:
    if report.generator.bottleneck is None:
        return "The load generator was not the bottleneck."
    return (
        f"THE LOAD GENERATOR WAS ITSELF THE BOTTLENECK: {report.generator.bottleneck}. "
        "Its own delays are part of the times above; make fewer calls, or run several of it."
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
