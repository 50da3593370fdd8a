"""How soon the first piece comes, and an interruption is over, while 200 calls stream.

The first piece is stamped by this process where it reads the socket. An interruption ends inside
the server: the transcript carries when it was sent, and the server notes when the stream of the
older turn was closed and its handler had ended. Both read the system's monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from statistics import median

import attrs

from .client import Call, dialled
from .load import watched
from .measure import Effort, Findings, Load, Row, Spread, percentile, take_turns
from .processes import Server, run, serving
from .talk import Order
from .texts import transcript

__all__ = ["measure"]

CALLS = 200
PAUSE = 0.05
"""Seconds between two pieces of each call: 20 words a second, some six times speech."""

ASKING_CALLS = 20
"""Calls beside them, whose agent is silent when its caller asks."""

HISTORIES = (11, 201)
"""Messages of each transcript: of calls that have just begun, and of long ones."""

FOREVER = 10**9
ANSWER = Order(pieces=3, pause=0)
ANSWER_FRAMES = 4
PROBE_PAUSE = 0.002
SETTLE = 0.3
"""Seconds in which all calls have begun to stream."""

PERCENTILES = (50, 90, 99)
GOAL = 0.5
KINDS = {
    "asyncio server": "ours-asyncio",
    "picows server": "ours-picows",
    "official": "official",
    "by hand on websockets": "bare-asyncio",
}
OURS = ("asyncio server", "picows server")
ROWS = {"first piece": ("first", (50, 99)), "interruption": ("over", (99,))}


@attrs.frozen
class _Probed:
    """Milliseconds of each kind, and how busy the calling side was."""

    first: list[float]
    over: list[float]
    load: Load


def measure(effort: Effort) -> Findings:
    """Return the rows and the spreads of both, over the official SDK's own server."""
    findings = [_with_history(messages, effort) for messages in HISTORIES]
    return Findings(
        rows=[row for each in findings for row in each.rows],
        spreads=[spread for each in findings for spread in each.spreads],
        loads=[load for each in findings for load in each.loads],
    )


def _with_history(messages: int, effort: Effort) -> Findings:
    situation = f"{CALLS} calls streaming, {messages} messages each"
    probed = take_turns(
        f"first pieces and interruptions, {situation}",
        effort.call_rounds,
        {name: partial(_probe, kind, effort.probes, messages) for name, kind in KINDS.items()},
    )
    return Findings(
        rows=_rows(probed, situation),
        spreads=[
            Spread(
                figure=f"{figure}, {situation}",
                server=name,
                milliseconds={p: median(_samples(probed[name], what, p)) for p in PERCENTILES},
            )
            for figure, (what, _) in ROWS.items()
            for name in probed
        ],
        loads=[Load.median_of([each.load for each in probed[name]]) for name in probed],
    )


def _rows(probed: dict[str, list[_Probed]], situation: str) -> list[Row]:
    return [
        Row(
            figure=f"{figure}, p{per_cent}, {situation}, {name}",
            unit="ms",
            samples={
                "ours": _samples(probed[name], what, per_cent),
                "official": _samples(probed["official"], what, per_cent),
                "raw": _samples(probed["by hand on websockets"], what, per_cent),
            },
            goal=GOAL,
        )
        for name in OURS
        for figure, (what, percentiles) in ROWS.items()
        for per_cent in percentiles
    ]


def _samples(probed: list[_Probed], what: str, per_cent: float) -> tuple[float, ...]:
    return tuple(percentile(getattr(each, what), per_cent) for each in probed)


def _probe(kind: str, probes: int, messages: int) -> _Probed:
    async def call(server: Server) -> _Probed:
        async with dialled(server.url, CALLS + ASKING_CALLS, offer_compression=True) as calls:
            streaming, asking = calls[:CALLS], calls[CALLS:]
            turns = [0] * CALLS
            for number, each in enumerate(streaming):  # spread over a pause, as callers are
                _interrupt(each, number, turns, messages)
                await asyncio.sleep(PAUSE / CALLS)
            await asyncio.sleep(SETTLE)
            async with watched(f"{kind}, {messages} messages each", server) as load:
                first = await _probe_all(streaming, asking, turns, probes, messages)
            over = [nanoseconds / 1e6 for nanoseconds in server.ask("interruptions")]
            if len(over) != probes:
                raise RuntimeError(f"expected {probes} interruptions, {len(over)} ended")
            return _Probed(first, over, load())

    with serving(kind) as server:
        return run(call(server))


async def _probe_all(
    streaming: list[Call], asking: list[Call], turns: list[int], probes: int, messages: int
) -> list[float]:
    """Interrupt and ask by turns, and return the milliseconds to each first piece."""
    began: list[int] = []
    replies: list[asyncio.Future[list[int]]] = []
    for number in range(probes):
        _interrupt(streaming[number % CALLS], number % CALLS, turns, messages)
        await asyncio.sleep(PROBE_PAUSE)
        if number >= ASKING_CALLS:
            await replies[number - ASKING_CALLS]
        call = asking[number % ASKING_CALLS]
        replies.append(call.hear(ANSWER_FRAMES))
        began.append(time.monotonic_ns())
        call.send(transcript(messages, event_id=number + 1, last=ANSWER.as_text()))
        await asyncio.sleep(PROBE_PAUSE)
    first = [times[0] for times in await asyncio.gather(*replies)]
    await asyncio.sleep(SETTLE)
    return [(came - sent) / 1e6 for came, sent in zip(first, began, strict=True)]


def _interrupt(call: Call, number: int, turns: list[int], messages: int) -> None:
    turns[number] += 1
    turn = turns[number]
    order = Order(FOREVER, PAUSE, number, turn, sent=time.monotonic_ns())
    call.send(transcript(messages, event_id=turn, last=order.as_text()))
