"""Ten thousand calls in one process: held, pinged all at once, and ended in order."""

from __future__ import annotations

import asyncio
import resource
import time

from .client import Call, dialled
from .measure import Effort, Findings, Idle, show
from .processes import Server, run, serving
from .texts import CLOSE, PING, PONG_MARK

__all__ = ["measure"]

CALLS = 10_000
WARM_UP_CALLS = 100
DESCRIPTORS = CALLS + WARM_UP_CALLS + 100
SERVERS = ("ours-asyncio", "official", "ours-picows", "ours-aiohttp")
NORMAL = 1000
SETTLE = 1.0
"""Seconds in which a server finishes what it does after the last frame that we see."""

MOST_SECONDS = 60.0


def measure(effort: Effort) -> Findings:
    """Return what each server did.

    Raises:
        RuntimeError: this machine does not give a process that many descriptors.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < DESCRIPTORS:
        raise RuntimeError(f"ulimit -n: expected at least {DESCRIPTORS}, got {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    findings = Findings()
    for kind in SERVERS[: effort.idle_servers]:
        show(f"{CALLS:,} idle calls: {kind}")
        findings.idle.append(_hold(kind))
    show(f"{CALLS:,} idle calls: {len(findings.idle)} servers", end="\n")
    return findings


def _hold(kind: str) -> Idle:
    async def hold(server: Server) -> Idle:
        async with asyncio.timeout(MOST_SECONDS), dialled(server.url, WARM_UP_CALLS) as first:
            await asyncio.sleep(SETTLE)
            before = server.ask("rss")
            async with dialled(server.url, CALLS) as calls:
                await asyncio.sleep(SETTLE)
                added = server.ask("rss") - before
                cpu = server.ask("cpu")
                ping_seconds = await _ping_all(calls)
                cpu = server.ask("cpu") - cpu
                end_seconds, closed = await _end_all([*first, *calls])
                return Idle(
                    server=kind,
                    calls=CALLS,
                    kibibytes=added / CALLS / 1024,
                    ping_seconds=ping_seconds,
                    cpu_per_ping=cpu / CALLS * 1e6,
                    ended=min(closed, server.ask("ended")) - len(first),
                    end_seconds=end_seconds,
                )

    with serving(kind) as server:
        return run(hold(server))


async def _ping_all(calls: list[Call]) -> float:
    began = time.monotonic_ns()
    pongs = [call.hear(1, PONG_MARK) for call in calls]
    for call in calls:
        call.send(PING)
    last = max(times[0] for times in await asyncio.gather(*pongs))
    return (last - began) / 1e9


async def _end_all(calls: list[Call]) -> tuple[float, int]:
    """End every call as the service does; return how long it took and how many closed well."""
    began = time.monotonic()
    for call in calls:
        call.send(CLOSE)
    await asyncio.gather(*(call.over for call in calls))
    return time.monotonic() - began, sum(call.close_code == NORMAL for call in calls)
