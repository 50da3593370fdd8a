"""Half an hour of conversation between both sides, on a clock that does not wait."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local import LocalEngine
from speech_engine_local.agent import speak
from speech_engine_proto import wire
from speech_engine_transports import create_session
from speech_engine_transports._socket import Socket

from ..transports.clock import BACKENDS, virtual

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from speech_engine_local import Reply
    from speech_engine_transports import SpeechEngineSession

TURNS = 120
EVERY = 15.013
"""Seconds from one turn to the next: 120 of them are 30 minutes.

No word falls on the instant of a ping: which of two timers of one instant is first is the loop's.
"""
INTERRUPTED = 3
"""Each third turn is spoken into."""

Wire = list[tuple[float, str, str]]
"""Time in seconds, who wrote, and what."""


class End(Socket):
    """One end of a link in memory, which notes what it writes."""

    def __init__(
        self,
        name: str,
        inbox: MemoryObjectReceiveStream[str],
        outbox: MemoryObjectSendStream[str],
        noted: Wire,
    ) -> None:
        super().__init__()
        self._name, self._inbox, self._outbox, self._noted = name, inbox, outbox, noted

    async def recv(self) -> str | None:
        try:
            return await self._inbox.receive()
        except anyio.EndOfStream:
            return None

    async def send(self, frame: str) -> None:
        self._noted.append((anyio.current_time(), self._name, frame))
        self._outbox.send_nowait(frame)

    def try_send(self, frame: str) -> bool:
        self._noted.append((anyio.current_time(), self._name, frame))
        self._outbox.send_nowait(frame)
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self._outbox.close()

    def abort(self) -> None:
        self._outbox.close()


async def on_transcript(transcript: list[Any], session: SpeechEngineSession) -> None:
    """Think for half a second, then say twenty words at four words per second."""
    await anyio.sleep(0.5)
    said = transcript[-1].content
    await session.send_response(speak(f"{said}: " + "word " * 20, words_per_second=4))


@asynccontextmanager
async def call(noted: Wire) -> AsyncGenerator[LocalEngine]:
    """Both sides, each with its own half of the package."""
    to_agent, agents = anyio.create_memory_object_stream[str](1000)
    to_engine, engines = anyio.create_memory_object_stream[str](1000)

    @asynccontextmanager
    async def connect(url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        with to_agent, engines:
            yield End("engine", engines, to_agent, noted)

    session = create_session(End("agent", agents, to_engine, noted))
    session.on("user_transcript", lambda transcript: on_transcript(transcript, session))
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        async with LocalEngine("ws://memory/", conversation_id="c", connect=connect) as engine:
            yield engine
        with agents, to_engine:
            pass


async def converse(noted: Wire) -> None:
    begun = anyio.current_time()
    async with call(noted) as engine:
        for turn in range(1, TURNS + 1):
            reply = await engine.ask(f"turn {turn}")
            if turn % INTERRUPTED:
                await reply.wait()
                await anyio.sleep_until(begun + EVERY * turn)
            else:  # the next question comes while this reply is being said
                await hear(reply, seconds=2.117)
        assert engine.violations == ()
    noted[:] = [(round(at - begun, 6), who, frame) for at, who, frame in noted]


async def hear(reply: Reply, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await reply.wait()


def wire_of(backend: str) -> Wire:
    noted: Wire = []
    name, options = virtual(backend)
    anyio.run(converse, noted, backend=name, backend_options=dict(options))
    return noted


@pytest.fixture(scope="module")
def wires() -> dict[str, Wire]:
    return {backend: wire_of(backend) for backend in BACKENDS}


def test_half_an_hour_is_the_same_on_every_loop(wires: dict[str, Wire]) -> None:
    assert all(wires[backend] == wires["trio"] for backend in BACKENDS)


def test_every_turn_is_ended_or_interrupted(wires: dict[str, Wire]) -> None:
    noted = wires["trio"]
    assert noted[-1][0] >= 30 * 60 - EVERY
    pieces: dict[int, int] = {}
    ended = []
    for _, who, frame in noted:
        message = wire.decode(frame)
        if who == "agent" and isinstance(message, wire.AgentResponse):
            assert message.event_id is not None
            assert message.event_id not in ended
            if message.is_final:
                ended.append(message.event_id)
            else:
                assert message.event_id >= max(pieces, default=0)  # nothing old after new
                pieces[message.event_id] = pieces.get(message.event_id, 0) + 1
    assert sorted(pieces) == list(range(1, TURNS + 1))
    cut = set(pieces) - set(ended)
    assert cut == {turn for turn in pieces if turn % INTERRUPTED == 0}
    assert len(cut) == 40


def test_the_history_keeps_what_was_heard(wires: dict[str, Wire]) -> None:
    asked = [wire.decode(frame) for _, who, frame in wires["trio"] if who == "engine"]
    last = next(m for m in reversed(asked) if isinstance(m, wire.UserTranscript))
    words = [len(re.findall("word", m.content)) for m in last.user_transcript if m.role == "agent"]
    assert len(words) == TURNS - 1
    assert all(count == 20 for turn, count in enumerate(words, 1) if turn % INTERRUPTED)
    assert all(count < 20 for turn, count in enumerate(words, 1) if turn % INTERRUPTED == 0)
