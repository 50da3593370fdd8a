"""A server in a process of its own that counts what its calls leave behind.

``python -m tests.transports.counting_server TRANSPORT`` writes its port. Then it obeys lines on
stdin, and answers each with a line of JSON:

- ``open N``: answered when N calls have begun since the last report, with how many are live;
- ``rest``: answered when nothing of a call is left, or will not go: `Figures`.

The end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
import trio.lowlevel

from speech_engine_transports import SpeechEngineServer

from .caller import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from speech_engine_transports import ConversationMessage, SpeechEngineSession

WHOLE = "and that is all"
"""A question that ends so gets a reply that ends; every other reply goes on for ever."""

WORDS = 3
"""Pieces of a reply that ends."""

PACE = 0.3
"""Seconds between the words of a reply: 1,000 calls that all talk shall not keep a core busy."""

PATIENCE = 10.0
"""Seconds to wait for what does not end; only a leak takes that long."""


@attrs.frozen(kw_only=True)
class Figures:
    """What a process holds when its server should be at rest.

    Args:
        objects: what the garbage collector knows, after a collection.
        types: the same by type.
        blocks: all of Python's blocks of memory: objects that the collector does not know, too.
        descriptors: what each open one is.
        rss: bytes of memory that the process has in use.
        tasks: of the event loop.
        threads: of the process.
        calls: that the server says are live.
        counts: events since the last report, by name.
        complaints: errors, and warnings of whatever library.
    """

    objects: int
    types: dict[str, int]
    blocks: int
    descriptors: list[str]
    rss: int
    tasks: int
    threads: int
    calls: int
    counts: dict[str, int]
    complaints: list[str]


class Agent:
    """Answers every question word by word, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._awaited = 0
        self._opened = anyio.Event()

    async def opened(self, calls: int) -> None:
        """Return when so many calls have begun since the last report."""
        self._awaited, self._opened = calls, anyio.Event()
        if self.counts["init"] < calls:
            await self._opened.wait()

    def on_init(self, conversation_id: str, session: SpeechEngineSession) -> None:
        self.counts["init"] += 1
        if self.counts["init"] == self._awaited:
            self._opened.set()

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        await session.send_response(Reply(transcript[-1].content, self.counts))

    def on_close(self, session: SpeechEngineSession) -> None:
        self.counts["close"] += 1

    def on_disconnect(self, session: SpeechEngineSession) -> None:
        self.counts["disconnect"] += 1

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        self.complaints.append(f"on_error: {error!r}")


class Reply:
    """A stream such as that of an LLM's SDK: a generator reads it, and it is closed by itself."""

    def __init__(self, question: str, counts: Counter[str]) -> None:
        self._question = question
        self._counts = counts
        counts["streams opened"] += 1

    async def __aiter__(self) -> AsyncGenerator[str]:
        self._counts["readers opened"] += 1
        try:
            yield f"{self._question}; "
            whole = self._question.endswith(WHOLE)
            for _ in range(1, WORDS) if whole else itertools.count(1):
                await anyio.sleep(PACE)
                yield f"{self._question}; "
        finally:
            self._counts["readers closed"] += 1

    async def aclose(self) -> None:
        """Close, as an HTTP stream does: with an await."""
        await anyio.lowlevel.checkpoint()
        self._counts["streams closed"] += 1


class Complaints(logging.Handler):
    """Keeps the text of every warning that is logged, and of errors that nobody can catch."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept
        logging.getLogger().addHandler(self)
        sys.unraisablehook = self._on_unraisable

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))

    def _on_unraisable(self, unraisable: Any) -> None:
        self._kept.append(f"{unraisable.err_msg or 'ignored'}: {unraisable.exc_value!r}")


class Counting:
    """Counts what the process holds; made before the first call, it knows what is its own."""

    def __init__(self, server: SpeechEngineServer, agent: Agent) -> None:
        self._server = server
        self._agent = agent
        self._own = (_tasks(), len(_descriptors()))

    async def figures(self) -> Figures:
        """Return the figures as soon as the server is at rest."""
        with anyio.move_on_after(PATIENCE):
            while self._is_busy:
                await anyio.lowlevel.checkpoint()
        # An event loop keeps cancelled timers that are behind a live one, such as the one above,
        # and trio all of them until nothing can run.
        await anyio.wait_all_tasks_blocked()
        agent = self._agent
        counts, agent.counts = agent.counts, Counter()
        while gc.collect():
            pass
        types = Counter(
            f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
        )
        return Figures(
            objects=types.total(),
            types=types,
            blocks=sys.getallocatedblocks(),
            descriptors=_descriptors(),
            rss=_rss(),
            tasks=_tasks(),
            threads=threading.active_count(),
            calls=self._server.health["calls"],
            counts=counts,
            complaints=agent.complaints,
        )

    @property
    def _is_busy(self) -> bool:
        own_tasks, own_descriptors = self._own
        return (
            self._server.health["calls"] > 0
            or _tasks() > own_tasks
            or len(_descriptors()) > own_descriptors
        )


def _tasks() -> int:
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


def _descriptors() -> list[str]:
    found: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # that of the listing itself
        found.append(f"{number} {target}")
    return found


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


async def _obey(server: SpeechEngineServer, agent: Agent) -> None:
    counting = Counting(server, agent)
    while True:
        await anyio.wait_readable(sys.stdin)
        match sys.stdin.readline().split():
            case ["open", calls]:
                await agent.opened(int(calls))
                _say(server.health["calls"])
            case ["rest"]:
                _say(attrs.asdict(await counting.figures()))
            case _:
                return


async def _main(transport: str) -> None:
    agent = Agent()
    Complaints(agent.complaints)
    server = SpeechEngineServer(
        host="127.0.0.1",
        port=0,
        transport=transport,
        api_key=KEY,
        on_init=agent.on_init,
        on_transcript=agent.on_transcript,
        on_close=agent.on_close,
        on_disconnect=agent.on_disconnect,
        on_error=agent.on_error,
    )
    async with server:
        _say(server.port)
        await _obey(server, agent)


if __name__ == "__main__":
    [transport] = sys.argv[1:]
    anyio.run(_main, transport, backend="trio" if transport == "trio" else "asyncio")
