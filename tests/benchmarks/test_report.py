"""RESULTS.md, the tables on the terminal and the plots, from figures that are given."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from benchmarks.measure import Effort, Findings
from benchmarks.report import as_markdown, as_text

from benchmarks import plots

from .findings import some_findings

if TYPE_CHECKING:
    from pathlib import Path

TRIED = "## What was tried\n\nThis and that.\n"


def page() -> str:
    return as_markdown(some_findings(), Effort.full(), TRIED)


@pytest.mark.parametrize(
    "line",
    [
        "| one piece | 2.00 µs | 4.00 µs |  | official | 0.50 (0.25 .. 0.75) | at most 0.4 "
        "| **no** |",
        "| memory of a call | 20.5 KiB | 30.0 KiB | 15.0 KiB | raw library | +5.5 KiB "
        "(+5.0 .. +6.0) | at most +8 KiB | yes |",
        "| only told | 4.00 ms | 2.00 ms |  | official | 2.00 (2.00 .. 2.00) |  |  |",
        "| ours-asyncio | 10,000 | 19.5 KiB | 0.50 s | 41 µs | 10,000 | 2.0 s |",
        "| transcript to first piece | ours | 0.50 ms | 2.50 ms |",
        "| ours-asyncio | 30% | 10% | 1.5 ms |",
        "This and that.",
    ],
)
def test_the_page_tells_every_figure(line: str) -> None:
    assert line in page().splitlines()


def test_the_page_tells_the_method_with_its_numbers() -> None:
    assert "15 rounds of a reply of 5000 words" in page()
    assert "{" not in page()


def test_the_page_links_plots_that_are_written(tmp_path: Path) -> None:
    plots.write(some_findings(), tmp_path)
    linked = {part.partition(")")[0] for part in page().split("](plots/")[1:]}
    assert linked == {path.name for path in tmp_path.iterdir()}


def test_the_terminal_shows_only_tables_with_figures_in_them() -> None:
    found = some_findings()
    found.idle.clear()
    text = as_text(found)
    assert "one piece" in text
    assert "calls held" not in text
    assert as_text(Findings()) == ""


def test_the_same_figures_give_the_same_plots(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        plots.write(some_findings(), tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        text = path.read_text()
        assert text == (tmp_path / "b" / path.name).read_text()
        ET.fromstring(text)
        assert "<text" in text  # readable without the fonts of the machine that drew it
        assert "dc:date" not in text
