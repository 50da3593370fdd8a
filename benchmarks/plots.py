"""The plots beside RESULTS.md: ratios with their goals, latencies, memory.

They are SVG with text as text, and the same figures give the same bytes.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .measure import Findings, Row

__all__ = ["write"]

GREEN, RED, GREY, BLUE, DARK = "#2a9d6f", "#c8553d", "#9aa0a6", "#3b6fb6", "#333333"
LIGHT = "#d3d6da"
COLOURS = {"asyncio server": GREEN, "picows server": BLUE, "official": GREY}
WIDTH = 9.0
ROW_HEIGHT = 0.3
MOST = 2.2
"""Where the ratios' axis ends; a longer bar says its figure."""

SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "speech-engine-proto",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def write(findings: Findings, folder: Path) -> None:
    """Write the plots that the findings have figures for."""
    import matplotlib as mpl

    mpl.use("svg")
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(SETTINGS):
        _write_ratios([row for row in findings.rows if row.by == "ratio"], folder)
        _write_latency(findings, folder)
        _write_memory(findings, folder)


def _figure(height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(WIDTH, height), layout="constrained")


def _save(figure: Any, folder: Path, name: str) -> None:
    from matplotlib import pyplot

    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def _write_ratios(rows: Sequence[Row], folder: Path) -> None:
    if not rows:
        return
    figure, axes = _figure(0.9 + ROW_HEIGHT * len(rows))
    for place, row in enumerate(rows):
        middle = median(row.comparisons)
        colour = GREY if row.goal is None else GREEN if row.is_met else RED
        axes.barh(place, min(middle, MOST), color=colour, height=0.62)
        low, high = min(row.comparisons), min(max(row.comparisons), MOST)
        axes.plot([min(low, MOST), high], [place, place], color=DARK, linewidth=0.8)
        if row.goal is not None:
            axes.plot([min(row.goal, MOST)] * 2, [place - 0.42, place + 0.42], color=DARK, lw=2)
        axes.text(MOST * 1.02, place, f"{middle:.2f}", va="center")
    axes.set_yticks(range(len(rows)), [f"{row.figure} / {row.against}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, MOST)
    axes.set_xlabel("ratio (thick mark: goal; thin line: spread)")
    _save(figure, folder, "ratios")


def _write_latency(findings: Findings, folder: Path) -> None:
    figures = sorted({spread.figure for spread in findings.spreads}, reverse=True)
    if not figures:
        return
    figure, all_axes = _figure(2.8, columns=len(figures))
    for axes, name in zip(all_axes, figures, strict=True):
        spreads = [spread for spread in findings.spreads if spread.figure == name]
        for number, spread in enumerate(spreads):
            places = [place + 0.21 * number for place in range(len(spread.milliseconds))]
            values = list(spread.milliseconds.values())
            colour = COLOURS.get(spread.server, LIGHT)
            axes.bar(places, values, width=0.19, color=colour, label=spread.server)
        labels = [f"p{per_cent}" for per_cent in spreads[0].milliseconds]
        axes.set_xticks([place + 0.26 for place in range(len(labels))], labels)
        axes.set_title(name.replace(", ", ",\n"), fontsize=8)
        axes.set_yscale("log")
    all_axes[0].set_ylabel("ms, logarithmic")
    all_axes[0].legend(frameon=False)
    _save(figure, folder, "latency")


def _write_memory(findings: Findings, folder: Path) -> None:
    rows = [row for row in findings.rows if row.unit == "KiB"]
    bars = [
        (f"{row.figure.removeprefix('memory of ')}: {name}", median(row.samples[name]), name)
        for row in rows
        for name in ("raw", "ours", "official")
    ]
    bars += [
        (f"one of {idle.calls:,} idle calls (RSS): {idle.server}", idle.kibibytes, idle.server)
        for idle in findings.idle
    ]
    if not bars:
        return
    figure, axes = _figure(0.9 + ROW_HEIGHT * len(bars))
    for place, (_, kibibytes, name) in enumerate(bars):
        axes.barh(place, kibibytes, color=GREEN if "ours" in name else GREY, height=0.62)
        axes.text(kibibytes, place, f" {kibibytes:.1f}", va="center")
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("KiB")
    _save(figure, folder, "memory")
