"""Many calls at once: what a server does under load, as ``speech-engine load`` shows it.

::

    report = await run_load("ws://127.0.0.1:3001/ws", LoadPlan(calls=500, ramp=10))
    print(as_table(report))

Needs an asyncio event loop, unless ``connect`` opens the sockets of another.
"""

from .measures import Calls, Errors, LoadProgress, Spread, Turns
from .plan import LoadPlan
from .report import LoadReport, as_json, as_table
from .run import run_load
from .watch import Generator

__all__ = [
    "Calls",
    "Errors",
    "Generator",
    "LoadPlan",
    "LoadProgress",
    "LoadReport",
    "Spread",
    "Turns",
    "as_json",
    "as_table",
    "run_load",
]
