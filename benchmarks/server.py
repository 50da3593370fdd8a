"""One server in a process of its own, one of those in `servers`.

Commands come as lines on stdin, answers as JSON on stdout, the port first:

- ``memory``: bytes that Python holds; needs ``--trace-memory``
- ``rss``: bytes of the process that are in memory
- ``cpu``: seconds of CPU time
- ``ended``: conversations whose end was told to the handler
- ``interruptions``: nanoseconds of each, see `Talk.interruptions`

The end of stdin ends the server.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import time
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .servers import SERVERS
from .talk import Talk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def _traced_memory() -> int:
    await _collect()
    return tracemalloc.get_traced_memory()[0]


async def _resident_memory() -> int:
    await _collect()
    statm = await anyio.Path("/proc/self/statm").read_text()
    return int(statm.split()[1]) * resource.getpagesize()


async def _collect() -> None:
    """Free what only the garbage collector frees; what it finalizes may need the loop to end."""
    for _ in range(3):
        gc.collect()
        await anyio.sleep(0.01)


async def _cpu() -> float:
    return time.process_time()


async def _ended(talk: Talk) -> int:
    return talk.ended


async def _interruptions(talk: Talk) -> list[int]:
    return talk.interruptions()


async def _main(kind: str, talk: Talk) -> None:
    answers: dict[str, Callable[[], Awaitable[object]]] = {
        "memory": _traced_memory,
        "rss": _resident_memory,
        "cpu": _cpu,
        "ended": partial(_ended, talk),
        "interruptions": partial(_interruptions, talk),
    }
    async with SERVERS[kind](talk) as port:
        print(json.dumps(port), flush=True)
        while command := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            print(json.dumps(await answers[command]()), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(SERVERS))
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--one-by-one", action="store_true")
    parser.add_argument("--trace-memory", action="store_true")
    return parser


if __name__ == "__main__":
    options = _parser().parse_args()
    # Ten thousand calls are as many descriptors, and the usual soft limit is 1,024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.trace_memory:
        tracemalloc.start(1)
    anyio.run(
        _main,
        options.kind,
        Talk(options.pieces, options.pause, options.one_by_one),
        backend="trio" if options.kind.endswith("-trio") else "asyncio",
    )
