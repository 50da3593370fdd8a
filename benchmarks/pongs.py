"""How soon a pong comes while the handlers of 200 calls talk, over how soon it comes without."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from .client import dialled
from .measure import Effort, Findings, Row, percentile, take_rounds
from .processes import Server, run, serving
from .texts import PING, PONG_MARK, transcript

__all__ = ["measure"]

CALLS = 200
HISTORY = 10
PAUSE = 0.05
"""Seconds between two pieces of each call: 20 words a second, some six times speech."""

PING_PAUSE = 0.001
SETTLE = 0.3
"""Seconds in which all calls have begun to talk."""


def measure(effort: Effort) -> Findings:
    """Return the row of the pongs."""
    samples = take_rounds(
        "pongs",
        effort.call_rounds,
        {
            "idle": partial(_pongs, "ours-asyncio", effort.pings, busy=False),
            "ours": partial(_pongs, "ours-asyncio", effort.pings, busy=True),
            "official": partial(_pongs, "official-session", effort.pings, busy=True),
        },
    )
    figure = f"pong, p99, while {CALLS} handlers talk"
    row = Row(figure=figure, unit="ms", samples=samples, against="idle", by="difference", goal=5)
    return Findings(rows=[row])


def _pongs(kind: str, pings: int, *, busy: bool) -> float:
    """Return the 99th percentile of the time to a pong, in milliseconds, over all calls in turn."""

    async def call(server: Server) -> float:
        async with dialled(server.url, CALLS) as calls:
            if busy:
                for each in calls:
                    each.send(transcript(HISTORY, event_id=1))
            await asyncio.sleep(SETTLE)
            began: list[int] = []
            pongs: list[asyncio.Future[list[int]]] = []
            for number in range(pings):
                if number >= CALLS:
                    await pongs[number - CALLS]
                each = calls[number % CALLS]
                pongs.append(each.hear(1, PONG_MARK))
                began.append(time.monotonic_ns())
                each.send(PING)
                await asyncio.sleep(PING_PAUSE)
            came = [times[0] for times in await asyncio.gather(*pongs)]
            took = [(end - begin) / 1e6 for end, begin in zip(came, began, strict=True)]
            return percentile(took, 99)

    with serving(kind, "--pieces", str(10**9), "--pause", str(PAUSE)) as server:
        return run(call(server))
