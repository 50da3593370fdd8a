"""The command: which groups of figures to measure, and where the results go."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from . import frames, idle, imports, latency, memory, plots, pongs, sessions
from .measure import Effort, Findings, show
from .report import as_markdown, as_text

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
PLOTS = HERE / "plots"

GROUPS = {
    "sessions": sessions.measure,
    "imports": imports.measure,
    "memory": memory.measure,
    "frames": frames.measure,
    "latency": latency.measure,
    "pongs": pongs.measure,
    "idle": idle.measure,
}


def main() -> None:
    """Measure, print the tables, and write them and the plots beside this module."""
    arguments = _parser().parse_args()
    effort = Effort.quick() if arguments.quick else Effort.full()
    began = time.monotonic()
    findings = Findings()
    try:
        for name in arguments.only or GROUPS:
            findings += GROUPS[name](effort)
            show(f"  {name}: after {time.monotonic() - began:.0f} s", end="\n")
    except KeyboardInterrupt:
        print("\ninterrupted: RESULTS.md is left as it is")
        raise SystemExit(130) from None
    print(as_text(findings))
    if arguments.quick or arguments.only:
        print("a quick or partial run: RESULTS.md is left as it is")
    else:
        RESULTS.write_text(as_markdown(findings, effort, tried=(HERE / "tried.md").read_text()))
        plots.write(findings, PLOTS)
        print(f"wrote {RESULTS.name} and {PLOTS.name}/")
    print(f"{time.monotonic() - began:.0f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Measure what a piece, a turn, a frame and a call cost, beside the official "
        "SDK and the raw WebSocket libraries; write benchmarks/RESULTS.md and benchmarks/plots.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds of the same sizes, for a first look; nothing is written",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(GROUPS),
        metavar="GROUP",
        help="measure one group of rows (may be repeated); nothing is written; "
        f"one of {', '.join(GROUPS)}",
    )
    return parser
