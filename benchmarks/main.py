"""The command: which groups of figures to measure, and where the results go."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from . import calls, imports, sessions
from .measure import Effort, Row
from .report import as_markdown, as_text

RESULTS = Path(__file__).with_name("RESULTS.md")

GROUPS = {
    "sessions": sessions.measure,
    "imports": imports.measure,
    "calls": calls.measure,
}


def main() -> None:
    """Measure, print the table, and write it to ``benchmarks/RESULTS.md``."""
    arguments = _parser().parse_args()
    effort = Effort.quick() if arguments.quick else Effort.full()
    began = time.monotonic()
    rows: list[Row] = []
    for name in arguments.only or GROUPS:
        rows += GROUPS[name](effort)
    print(as_text(rows))
    if arguments.quick or arguments.only:
        print("a quick or partial run: RESULTS.md is left as it is")
        return
    RESULTS.write_text(as_markdown(rows, effort))
    print(f"wrote {RESULTS.name} after {time.monotonic() - began:.0f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Measure what a piece, a turn, a frame and a call cost, beside the official "
        "SDK and the raw WebSocket library, and write benchmarks/RESULTS.md.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds of the same sizes, for a first look; RESULTS.md is not written",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(GROUPS),
        help="measure one group of figures (may be repeated); RESULTS.md is not written",
    )
    return parser
