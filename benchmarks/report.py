"""The tables of figures, as text for the terminal and as the page RESULTS.md."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING

from .method import METHOD

if TYPE_CHECKING:
    from .measure import Effort, Findings, Idle, Load, Row, Samples, Spread

__all__ = ["as_markdown", "as_text"]

Table = list[tuple[str, ...]]

HEADINGS = ("figure", "ours", "official", "raw library", "compared with", "result", "goal", "met")
IDLE_HEADINGS = (
    "server",
    "calls held",
    "memory of a call (RSS)",
    "ping all of them",
    "CPU per ping",
    "ended in order",
    "end all of them",
)
LOAD_HEADINGS = ("server", "its CPU", "CPU of the calling side", "timers of the calling side, p99")
MEASURED = (
    "speech-engine-proto",
    "elevenlabs",
    "websockets",
    "aiohttp",
    "picows",
    "anyio",
    "msgspec",
    "pydantic",
    "uvloop",
)

PAGE = """\
# Results

Written by `make bench`. Read the ratios: the figures themselves are those of one machine, at one
time. Each is the median of the rounds; a result is the median of the comparisons within each
round, with the least and the most of them in brackets.

{rows}

![Ratios and their goals](plots/ratios.svg)

## Ten thousand idle calls in one process

{idle}

## How latencies spread

{spreads}

![Latencies, by percentile](plots/latency.svg)

Whether the calling side was the bottleneck, while it took those (100 % is one core):

{loads}

## Memory of a call

![Memory of a call](plots/memory.svg)

{tried}

## Machine

{machine}

## Method

{method}"""


def as_text(findings: Findings) -> str:
    """Return the tables in columns."""
    return "\n\n".join(_columns(table) for table in _tables(findings) if len(table) > 1)


def as_markdown(findings: Findings, effort: Effort, tried: str) -> str:
    """Return the whole page.

    Args:
        findings: of a whole run.
        effort: with which they were found.
        tried: the sections written by hand: what was tried, and what stands in the way.
    """
    rows, idle, spreads, loads = (_pipes(table) for table in _tables(findings))
    return PAGE.format(
        rows=rows,
        idle=idle,
        spreads=spreads,
        loads=loads,
        tried=tried.strip(),
        machine=_machine(),
        method=METHOD.format(effort=effort),
    )


def _tables(findings: Findings) -> tuple[Table, Table, Table, Table]:
    percentiles = list(findings.spreads[0].milliseconds) if findings.spreads else []
    return (
        [HEADINGS, *map(_row_cells, findings.rows)],
        [IDLE_HEADINGS, *map(_idle_cells, findings.idle)],
        [
            ("figure", "server", *(f"p{per_cent}" for per_cent in percentiles)),
            *map(_spread_cells, findings.spreads),
        ],
        [LOAD_HEADINGS, *map(_load_cells, findings.loads)],
    )


def _idle_cells(idle: Idle) -> tuple[str, ...]:
    return (
        idle.server,
        f"{idle.calls:,}",
        f"{idle.kibibytes:.1f} KiB",
        f"{idle.ping_seconds:.2f} s",
        f"{idle.cpu_per_ping:.0f} µs",
        f"{idle.ended:,}",
        f"{idle.end_seconds:.1f} s",
    )


def _spread_cells(spread: Spread) -> tuple[str, ...]:
    values = (f"{value:.2f} ms" for value in spread.milliseconds.values())
    return (spread.figure, spread.server, *values)


def _load_cells(load: Load) -> tuple[str, ...]:
    return (load.server, f"{load.server_share:.0%}", f"{load.share:.0%}", f"{load.late:.1f} ms")


def _columns(table: Table) -> str:
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    )


def _pipes(table: Table) -> str:
    lines = [table[0], ("---",) * len(table[0]), *table[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row_cells(row: Row) -> tuple[str, ...]:
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
        "" if row.goal is None else f"at most {sign}{row.goal:g}{unit}",
        {True: "yes", False: "**no**", None: ""}[row.is_met],
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
