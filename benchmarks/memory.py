"""What a call holds in the server's memory, beside the bare library and the official session."""

from __future__ import annotations

import asyncio
from functools import partial

from .client import Call, dialled
from .measure import Effort, Findings, Row, take_rounds
from .processes import Server, run, serving
from .texts import transcript

__all__ = ["measure"]

KINDS = {"ours": "ours-asyncio", "official": "official-session", "raw": "raw-asyncio"}
REST_HISTORY = 200
"""Messages of the turn after which a call is at rest."""

WARM_UP_CALLS = 20
SETTLE = 0.3
"""Seconds in which a server finishes what it does after the last frame that we see."""


def measure(effort: Effort) -> Findings:
    """Return the rows of an idle call and of a call at rest."""
    at_rest = f"a call at rest after a turn of {REST_HISTORY} messages"
    return Findings(
        rows=[
            _row("an idle call", 3, effort, turns=0),
            _row(at_rest, 8, effort, turns=1),
        ]
    )


def _row(figure: str, goal: float, effort: Effort, *, turns: int) -> Row:
    samples = take_rounds(
        f"memory of {figure}",
        effort.call_rounds,
        {name: partial(_memory, kind, effort.calls, turns) for name, kind in KINDS.items()},
    )
    return Row(
        figure=f"memory of {figure}",
        unit="KiB",
        samples=samples,
        against="raw",
        by="difference",
        goal=goal,
    )


def _memory(kind: str, calls: int, turns: int) -> float:
    """Return KiB that Python holds per call."""

    async def hold(server: Server) -> float:
        async with dialled(server.url, WARM_UP_CALLS) as first:
            await _to_rest(first, turns)
            before = server.ask("memory")
            async with dialled(server.url, calls) as sockets:
                await _to_rest(sockets, turns)
                return float(server.ask("memory") - before) / calls / 1024

    with serving(kind, "--trace-memory") as server:
        return run(hold(server))


async def _to_rest(calls: list[Call], turns: int) -> None:
    for number in range(1, turns + 1):
        frame = transcript(REST_HISTORY, event_id=number)
        for call in calls:
            reply = call.hear(2)
            call.send(frame)
            await reply
    await asyncio.sleep(SETTLE)
