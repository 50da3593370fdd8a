"""What ``speech-engine load`` does and shows."""

from __future__ import annotations

import gc
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speech_engine_transports._signals import stop_event

from .._dial import host_of
from .report import as_json, as_table
from .run import INTERRUPTED, run_load

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .measures import LoadProgress
    from .plan import LoadPlan

__all__ = ["check", "run"]

INTERRUPTED_CODE = 130


def check(url: str) -> None:
    """Raise ConnectError where the address is none of a WebSocket."""
    host_of(url)


async def run(url: str, plan: LoadPlan, *, api_key: str | None, json: bool) -> int:
    """Make the calls, print the report, and return the exit code.

    Raises:
        ValueError: the key cannot sign, or the process may not open so many sockets.
    """
    async with stop_event() as stopped:
        with _rare_collections(), _progress(plan.calls) as on_progress:
            report = await run_load(
                url, plan, api_key=api_key, on_progress=on_progress, stop=stopped
            )
    width = shutil.get_terminal_size((100, 24)).columns
    print(as_json(report) if json else as_table(report, width=width), flush=True)
    if report.stopped == INTERRUPTED:
        return INTERRUPTED_CODE
    return 0 if report.is_good else 1


@contextmanager
def _rare_collections() -> Generator[None]:
    """Collect garbage seldom: with 1,000 calls a full collection takes more than 100 ms.

    For so long no message is read, and all that wait are measured late.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def _progress(calls: int) -> Generator[Callable[[LoadProgress], None] | None]:
    """Show how far the run has come, on a terminal; elsewhere nothing, so that logs stay short."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("calling ...", total=calls)

        def show(now: LoadProgress) -> None:
            bar.update(task, completed=now.ended, description=_line(now))

        yield show


def _line(now: LoadProgress) -> str:
    return (
        f"{now.ended} of {now.planned} calls ended, {now.open} open, "
        f"{now.turns} turns, {now.pieces} pieces, {now.errors} errors"
    )
