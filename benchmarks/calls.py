"""Calls over real sockets: memory of a call, CPU time of a frame, and how soon a pong comes.

The server is a process of its own, a new one for each sample (see `server`); the calls are made
by this process, with the bare ``websockets`` client.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect

from .measure import Effort, Row, take_rounds
from .server import HOST, MAX_FRAME_BYTES
from .texts import INIT, PING, PONG, transcript

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["measure"]

KINDS = ("ours", "official", "raw")
REST_HISTORY = 200
"""Messages of the turn after which a call is at rest."""

FRAME_HISTORY = 10
PIECES_PER_TURN = 60
"""A reply of some three sentences."""

BUSY_CALLS = 200
BUSY_PAUSE = 0.05
"""Seconds between two pieces of each busy call: 20 words a second, some six times speech."""

PING_PAUSE = 0.002
WARM_UP_CALLS = 20
SETTLE = 0.3
"""Seconds in which a server finishes what it does after the last frame that we see."""


def measure(effort: Effort) -> list[Row]:
    """Return the rows of memory, CPU time and pongs."""
    return [
        _memory_row("an idle call", 3, effort, turns=0),
        _memory_row(f"a call at rest after a turn of {REST_HISTORY} messages", 8, effort, turns=1),
        _cpu_row(effort),
        _pong_row(effort),
    ]


def _memory_row(figure: str, goal: float, effort: Effort, *, turns: int) -> Row:
    samples = take_rounds(
        figure,
        effort.call_rounds,
        {kind: partial(_memory, kind, effort.calls, turns) for kind in KINDS},
    )
    return Row(
        figure=f"memory of {figure}",
        unit="KiB",
        samples=samples,
        against="raw",
        by="difference",
        goal=goal,
    )


def _cpu_row(effort: Effort) -> Row:
    turns = effort.frames // (PIECES_PER_TURN + 2)
    samples = take_rounds(
        "CPU per frame",
        effort.call_rounds,
        {kind: partial(_cpu, kind, turns) for kind in KINDS},
    )
    figure = "server CPU per frame, websockets"
    return Row(figure=figure, unit="µs", samples=samples, against="raw", goal=1.15)


def _pong_row(effort: Effort) -> Row:
    samples = take_rounds(
        "pongs",
        effort.call_rounds,
        {
            "idle": partial(_pongs, "ours", effort.pings, busy=False),
            "ours": partial(_pongs, "ours", effort.pings, busy=True),
            "official": partial(_pongs, "official", effort.pings, busy=True),
        },
    )
    figure = f"pong, p99, while {BUSY_CALLS} handlers talk"
    return Row(figure=figure, unit="ms", samples=samples, against="idle", by="difference", goal=5)


class _Server:
    """A server process, and how to ask it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"ws://{HOST}:{int(self._read())}"

    def ask(self, command: str) -> float:
        """Return what the server answers to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with status {self._process.wait()}")
        return float(json.loads(line))


@contextmanager
def _serving(kind: str, *options: str) -> Generator[_Server]:
    command = [sys.executable, "-m", "benchmarks.server", kind, *options]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield _Server(process)
        finally:
            process.kill()


async def _dial(stack: AsyncExitStack, url: str, calls: int) -> list[ClientConnection]:
    """Open calls, each with its ``init``, and see that all of them are served."""
    sockets = [
        await stack.enter_async_context(
            connect(
                url,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                ping_interval=None,
                close_timeout=0.1,
                proxy=None,
            )
        )
        for _ in range(calls)
    ]
    for socket in sockets:
        await socket.send(INIT)
        await socket.send(PING)
    for socket in sockets:
        await _until(socket, PONG)
    return sockets


async def _until(socket: ClientConnection, wanted: str) -> None:
    """Read until a frame that says the same as the given one."""
    while json.loads(await socket.recv()) != json.loads(wanted):
        pass


async def _hear_reply(socket: ClientConnection, frames: int) -> None:
    """Read a whole reply, without looking into it."""
    for _ in range(frames):
        await socket.recv(decode=False)


def _memory(kind: str, calls: int, turns: int) -> float:
    """Return KiB that Python holds per call."""

    async def hold(server: _Server) -> float:
        async with AsyncExitStack() as stack:
            await _to_rest(await _dial(stack, server.url, WARM_UP_CALLS), turns)
            before = server.ask("memory")
            await _to_rest(await _dial(stack, server.url, calls), turns)
            return (server.ask("memory") - before) / calls / 1024

    with _serving(kind, "--trace-memory") as server:
        return asyncio.run(hold(server))


async def _to_rest(sockets: list[ClientConnection], turns: int) -> None:
    for number in range(1, turns + 1):
        frame = transcript(REST_HISTORY, event_id=number)
        for socket in sockets:
            await socket.send(frame)
            await _hear_reply(socket, 2)
    await asyncio.sleep(SETTLE)


def _cpu(kind: str, turns: int) -> float:
    """Return microseconds of the server's CPU time per frame, read or written."""

    async def talk(server: _Server) -> float:
        async with AsyncExitStack() as stack:
            [socket] = await _dial(stack, server.url, 1)
            for event_id in range(1, 1 + turns // 10):
                await _hold_turn(socket, event_id)
            before = server.ask("cpu")
            for event_id in range(1 + turns // 10, 1 + turns // 10 + turns):
                await _hold_turn(socket, event_id)
            frames = turns * (PIECES_PER_TURN + 2)
            return (server.ask("cpu") - before) / frames * 1e6

    with _serving(kind, "--pieces", str(PIECES_PER_TURN)) as server:
        return asyncio.run(talk(server))


async def _hold_turn(socket: ClientConnection, event_id: int) -> None:
    await socket.send(transcript(FRAME_HISTORY, event_id))
    await _hear_reply(socket, PIECES_PER_TURN + 1)


def _pongs(kind: str, pings: int, *, busy: bool) -> float:
    """Return the 99th percentile of the time to a pong, in milliseconds, over all calls in turn."""

    async def call(server: _Server) -> float:
        async with AsyncExitStack() as stack:
            sockets = await _dial(stack, server.url, BUSY_CALLS)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            probes = [_Probe(socket) for socket in sockets]
            readers = [group.create_task(probe.read()) for probe in probes]
            if busy:
                for socket in sockets:
                    await socket.send(transcript(FRAME_HISTORY, event_id=1))
            await asyncio.sleep(SETTLE)
            for number in range(pings):
                await probes[number % BUSY_CALLS].ping()
                await asyncio.sleep(PING_PAUSE)
            await asyncio.sleep(SETTLE)
            for reader in readers:
                reader.cancel()
            times = sorted(took for probe in probes for took in probe.times)
            if len(times) != pings:
                raise RuntimeError(f"expected {pings} pongs, {len(times)} came")
            return times[len(times) * 99 // 100] * 1e3

    with _serving(kind, "--pieces", str(10**9), "--pause", str(BUSY_PAUSE)) as server:
        return asyncio.run(call(server))


class _Probe:
    """Pings on one call, and how long each pong took."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._sent: list[float] = []
        self.times: list[float] = []

    async def ping(self) -> None:
        """Send a ping and note when."""
        self._sent.append(time.perf_counter())
        await self._socket.send(PING)

    async def read(self) -> None:
        """Read for ever; pongs are answered in order."""
        while True:
            if b'"pong"' in await self._socket.recv(decode=False):
                self.times.append(time.perf_counter() - self._sent.pop(0))
