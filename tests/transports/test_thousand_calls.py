"""A thousand calls at once on each transport, and what is left of them: nothing.

The callers are here; the server is a process of its own, which counts (see `counting_server`).
A first round fills what is filled once: caches, and the memory that an allocator keeps. The two
rounds after it must leave the process as it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.asyncio.client import connect

from speech_engine_proto import (
    ConversationMessage,
    EngineConnection,
    PongReceived,
    ReplyFinished,
    ReplyText,
    StaleReply,
)

from .caller import token
from .counting_server import WHOLE, WORDS, Figures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from websockets.asyncio.client import ClientConnection

    from speech_engine_proto import EngineEvent

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the figures are those of Linux's /proc"),
]

ROOT = Path(__file__).parents[2]
TRANSPORTS = ["asyncio", "aiohttp", "trio", "asgi", "picows"]

CALLS = 1_000
INTERRUPTED = 3
"""Turns of each call that are cut in mid reply by a newer one."""

DIALLING = 50
"""Callers who dial at the same time: fewer than a listener's backlog."""

CACHED = 20
"""Objects that a round may add: a race brings a type for the first time, and `abc` notes it."""

ROUNDS = 3
"""One to warm up, and two to compare."""

MOST_ROUNDS = 5
"""Further ones where the last has swollen the process: what leaks does so each time, while what
the allocator cannot give back in pieces does not."""

LINE_BYTES = 1 << 20
"""Room for an answer of the server in one line."""


class Ending(Enum):
    """How a caller leaves, in or after the last turn."""

    ANSWERED = "after the whole reply, with a close message"
    HUNG_UP = "in mid reply, with a close message"
    GONE = "in mid reply, without a word"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """The server's process, and how to ask it."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.url = f"ws://127.0.0.1:{port}/ws"

    async def ask(self, command: str) -> Any:
        """Return what the server answers to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await read_line(self._process)


@asynccontextmanager
async def serving(transport: str) -> AsyncGenerator[Server]:
    """Run a server while the block runs; it must end by itself and in silence."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Werror::ResourceWarning",
        "-m",
        "tests.transports.counting_server",
        transport,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=LINE_BYTES,
    )
    try:
        yield Server(process, await read_line(process))
        _, errors = await process.communicate(b"")  # the end of its stdin
        assert (process.returncode, errors.decode()) == (0, "")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def read_line(process: Process) -> Any:
    assert process.stdout is not None
    assert process.stderr is not None
    line = await process.stdout.readline()
    assert line, (await process.stderr.read()).decode()
    return json.loads(line)


class Call:
    """One caller: asks, interrupts, and sees that nothing old comes after anything new."""

    def __init__(self, number: int, ws: ClientConnection) -> None:
        self._name = f"call {number}"
        self._ws = ws
        self._engine = EngineConnection()
        self._history: list[ConversationMessage] = []
        self._heard = ""

    async def begin(self) -> None:
        await self._ws.send(self._engine.send_init(self._name))

    async def talk(self, ending: Ending) -> None:
        """Interrupt reply after reply, and leave."""
        for turn in range(INTERRUPTED):
            await self._ask(f"turn {turn}")
            await self._hear_first_word()
        match ending:
            case Ending.ANSWERED:
                await self._ask(WHOLE)
                await self._hear_to_the_end()
                assert await self._hang_up() == 0
            case Ending.HUNG_UP:
                await self._ask("turn cut short")
                await self._hear_first_word()
                await self._hang_up()
            case Ending.GONE:
                await self._ask("turn cut off")
                await self._hear_first_word()
                self._ws.transport.abort()

    async def _ask(self, text: str) -> None:
        self._heard = ""
        self._history.append(ConversationMessage("user", f"{self._name}, {text}"))
        await self._ws.send(self._engine.send_transcript(self._history))

    async def _hear_first_word(self) -> None:
        event = await self._event()
        assert isinstance(event, ReplyText)
        assert self._heard == self._word

    async def _hear_to_the_end(self) -> None:
        while isinstance(event := await self._event(), ReplyText):
            pass
        assert event == ReplyFinished(INTERRUPTED + 1, "")
        assert self._heard == self._word * WORDS
        await self._ws.send(self._engine.send_ping())
        assert isinstance(await self._event(), PongReceived)

    async def _event(self) -> EngineEvent:
        """Return the next event of the current turn."""
        while True:
            event = self._engine.receive(await self._ws.recv(decode=False))
            if not isinstance(event, StaleReply):
                break
            assert event.text, "an interrupted turn got a terminator"
            assert not self._heard, "an old word came after a new one"
        if isinstance(event, ReplyText):
            self._heard += event.text
        return event

    async def _hang_up(self) -> int:
        """Leave in order; return how many messages still came."""
        await self._ws.send(self._engine.send_close())
        messages = [message async for message in self._ws]
        assert self._ws.close_code == 1000
        return len(messages)

    @property
    def _word(self) -> str:
        return f"{self._history[-1].content}; "


def ending_of(number: int) -> Ending:
    return list(Ending)[number % len(Ending)]


async def hold_calls(server: Server) -> Figures:
    """Hold all calls at once; return what is left of them in the server's process."""
    dialling = anyio.CapacityLimiter(DIALLING)
    everybody_is_in = anyio.Event()

    async def hold(number: int) -> None:
        async with dialling:
            ws = await connect(
                server.url,
                additional_headers=[token()],
                compression=None,
                proxy=None,
                open_timeout=None,
                ping_interval=None,
            )
        call = Call(number, ws)
        await call.begin()
        await everybody_is_in.wait()
        await call.talk(ending_of(number))
        await ws.wait_closed()

    async with asyncio.TaskGroup() as group:
        for number in range(CALLS):
            group.create_task(hold(number))
        assert await server.ask(f"open {CALLS}") == CALLS
        everybody_is_in.set()
    return Figures(**await server.ask("rest"))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_is_left_of_a_thousand_calls(transport: str) -> None:
    async with serving(transport) as server:
        idle = Figures(**await server.ask("rest"))
        rounds: list[Figures] = []
        while len(rounds) < ROUNDS or (len(rounds) < MOST_ROUNDS and has_swollen(*rounds[-2:])):
            rounds.append(await hold_calls(server))
            check_round(idle, rounds[-1])
    check_memory(*rounds[-2:])


def check_round(idle: Figures, after: Figures) -> None:
    """Assert that a round went without an error, and has left no task, stream or socket."""
    endings = Counter(ending_of(number) for number in range(CALLS))
    streams = CALLS * (INTERRUPTED + 1)
    assert after.complaints == []
    assert after.counts == {
        "init": CALLS,
        **dict.fromkeys(["streams opened", "streams closed"], streams),
        **dict.fromkeys(["readers opened", "readers closed"], streams),
        "close": endings[Ending.ANSWERED] + endings[Ending.HUNG_UP],
        "disconnect": endings[Ending.GONE],
    }
    assert after.calls == 0
    assert (after.tasks, after.threads) == (idle.tasks, idle.threads)
    assert sorted(after.descriptors) == sorted(idle.descriptors)


def check_memory(first: Figures, second: Figures) -> None:
    """Assert that a round has left no more in memory than the one before."""
    grown = {
        name: (first.types.get(name, 0), count)
        for name, count in second.types.items()
        if count > first.types.get(name, 0)
    }
    assert second.objects <= first.objects + CACHED, grown
    assert len(second.descriptors) <= len(first.descriptors)
    assert second.blocks - first.blocks < CALLS, "something that is no object is kept per call"
    assert not has_swollen(first, second)


def has_swollen(first: Figures, second: Figures) -> bool:
    """Tell whether the process holds over 5 % more memory of the system than a round before."""
    return second.rss > first.rss * 1.05
