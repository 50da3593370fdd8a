"""What a frame costs the server: its own CPU time, over the frames that it read and wrote."""

from __future__ import annotations

import asyncio
from functools import partial

import attrs

from .client import Call, dialled
from .measure import Effort, Findings, Row, Samples, take_rounds
from .processes import Server, run, serving
from .texts import transcript

__all__ = ["measure"]

PIECES = 60
"""A reply of some three sentences."""

FRAMES_OF_TURN = PIECES + 2
SHORT_HISTORY = 10

LIBRARIES = {"asyncio": ("websockets", 1.15), "aiohttp": ("aiohttp", 1.3), "picows": ("picows", 2)}
"""Of each of our transports: its library, and the goal over it."""

SERVER_GOALS = {"asyncio": 0.65, "picows": 0.25}
"""Of each of our servers: the goal over the official SDK's server."""

CALLS = 20
TURNS = 15
"""Of a whole call: its history grows from 1 to 29 messages."""


@attrs.frozen
class _Talks:
    """What the caller does while CPU time is measured.

    Args:
        calls: how many talk at once.
        turns: of each, the histories in messages.
        offer_compression: as the ``websockets`` client does by default.
        options: further ones of the server.
    """

    calls: int
    turns: tuple[int, ...]
    offer_compression: bool = False
    options: tuple[str, ...] = ()


def measure(effort: Effort) -> Findings:
    """Return the rows over the bare libraries, and those over the official server."""
    short = _Talks(1, (SHORT_HISTORY,) * (effort.frames // FRAMES_OF_TURN))
    whole = _Talks(CALLS, tuple(range(1, 2 * TURNS, 2)), offer_compression=True)
    plain = attrs.evolve(whole, offer_compression=False)
    slow = attrs.evolve(whole, options=("--one-by-one",))
    return Findings(
        rows=[
            *_over_libraries(effort, short),
            *_over_official(effort, whole, ""),
            *_over_official(effort, plain, ", no compression"),
            *_over_official(effort, slow, ", word by word"),
        ]
    )


def _over_libraries(effort: Effort, talks: _Talks) -> list[Row]:
    kinds = [f"{side}-{transport}" for transport in LIBRARIES for side in ("ours", "raw")]
    samples = _take("CPU per frame, over the library", effort, [*kinds, "official-session"], talks)
    rows: list[Row] = []
    for transport, (library, goal) in LIBRARIES.items():
        compared = {side: samples[f"{side}-{transport}"] for side in ("ours", "raw")}
        if transport == "asyncio":
            compared["official"] = samples["official-session"]
        figure = f"server CPU per frame, {library}"
        rows.append(Row(figure=figure, unit="µs", samples=compared, against="raw", goal=goal))
    return rows


def _over_official(effort: Effort, talks: _Talks, note: str) -> list[Row]:
    ours = [f"ours-{transport}" for transport in SERVER_GOALS]
    samples = _take(f"CPU per frame of whole calls{note}", effort, [*ours, "official"], talks)
    return [
        Row(
            figure=f"server CPU per frame, {transport} server, whole calls{note}",
            unit="µs",
            samples={"ours": samples[f"ours-{transport}"], "official": samples["official"]},
            goal=goal,
        )
        for transport, goal in SERVER_GOALS.items()
    ]


def _take(title: str, effort: Effort, kinds: list[str], talks: _Talks) -> dict[str, Samples]:
    measures = {kind: partial(_cpu, kind, talks) for kind in kinds}
    return take_rounds(title, effort.call_rounds, measures)


def _cpu(kind: str, talks: _Talks) -> float:
    """Return microseconds of the server's CPU time per frame, read or written."""

    async def talk(server: Server) -> float:
        offer = talks.offer_compression
        async with dialled(server.url, talks.calls, offer_compression=offer) as calls:
            warm_up = talks.turns[: max(1, len(talks.turns) // 10)]
            await _hold(calls, warm_up, first_id=1)
            before = server.ask("cpu")
            await _hold(calls, talks.turns, first_id=1 + len(warm_up))
            frames = len(calls) * len(talks.turns) * FRAMES_OF_TURN
            return float(server.ask("cpu") - before) / frames * 1e6

    with serving(kind, "--pieces", str(PIECES), *talks.options) as server:
        return run(talk(server))


async def _hold(calls: list[Call], turns: tuple[int, ...], first_id: int) -> None:
    """Hold the turns of all calls, each call at its own pace."""
    frames = [transcript(messages, event_id) for event_id, messages in enumerate(turns, first_id)]
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(_hold_turns(call, frames))


async def _hold_turns(call: Call, frames: list[str]) -> None:
    for frame in frames:
        reply = call.hear(PIECES + 1)
        call.send(frame)
        await reply
