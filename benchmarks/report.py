"""The table of figures, as text for the terminal and as the page RESULTS.md."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .measure import Effort, Row, Samples

__all__ = ["as_markdown", "as_text"]

HEADINGS = ("figure", "ours", "official", "raw library", "compared with", "result", "goal", "met")
MEASURED = ("speech-engine-proto", "elevenlabs", "websockets", "anyio", "msgspec", "pydantic")

PAGE = """\
# Results

Written by `make bench`. Read the ratios: the figures themselves are those of one machine, at one
time. Each is the median of the rounds; a result is the median of the comparisons within each
round, with the least and the most of them in brackets.

{table}

## Machine

{machine}

## Method

- What is compared takes turns within each round, and every other round goes the other way, so that
  whatever else the machine does falls on all of it. The official SDK is measured in the same run.
- A piece and a turn: both sessions run over the same socket in memory, which hands over frames and
  counts what is sent. {rounds} rounds of a reply of {pieces} words, and of a call of {turns} turns,
  each with its whole history and a reply of one text; CPU time of the process. "Core alone" is
  `AgentConnection.send_text` without a session, compared with a piece through the official session.
- The import: {imports} rounds of fresh interpreters, CPU time of the import statement.
- Memory, CPU and pongs: real sockets, a new server process per sample, {call_rounds} rounds. All
  servers listen with the same settings of `websockets` (no compression, the same limits and pings).
  The official session runs on that listener too, in place of its own server. "Raw library" is a
  handler that reads the same messages and writes the same frames, made beforehand.
- Memory: bytes that Python holds per call, by `tracemalloc`, over {calls} calls after a warm-up.
- CPU per frame: the server's CPU time for transcripts of 10 messages and replies of 60 words, over
  the frames read and written.
- Pongs: 200 calls, each handler sending a word every 50 ms without end; the time from ping to pong
  is taken by the client, its own work included. "Idle" is the same without transcripts.
"""


def as_text(rows: list[Row]) -> str:
    """Return the table in columns."""
    table = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    )


def as_markdown(rows: list[Row], effort: Effort) -> str:
    """Return the whole page."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(_cells(row) for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return PAGE.format(
        table=table,
        machine=_machine(),
        rounds=effort.rounds,
        pieces=effort.pieces,
        turns=effort.turns,
        imports=effort.imports,
        call_rounds=effort.call_rounds,
        calls=effort.calls,
    )


def _cells(row: Row) -> tuple[str, ...]:
    comparisons = row.comparisons
    unit = f" {row.unit}" if row.by == "difference" else ""
    sign = "+" if row.by == "difference" else ""
    digits = 1 if row.by == "difference" else 2
    low, middle, high = (
        f"{value:{sign}.{digits}f}"
        for value in (min(comparisons), median(comparisons), max(comparisons))
    )
    return (
        row.figure,
        *(_figure(row.samples.get(name), row.unit) for name in ("ours", "official", "raw")),
        _other(row),
        f"{middle}{unit} ({low} .. {high})",
        f"at most {sign}{row.goal:g}{unit}",
        "yes" if row.is_met else "**no**",
    )


def _other(row: Row) -> str:
    if row.against == "idle":
        return f"ours idle, {_figure(row.samples['idle'], row.unit)}"
    return "official" if row.against == "official" else "raw library"


def _figure(samples: Samples | None, unit: str) -> str:
    if samples is None:
        return ""
    value = median(samples)
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in MEASURED)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}; {packages}."
    )
