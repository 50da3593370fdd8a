"""A piece and a turn through the session, without a network.

Both sessions run over the same socket in memory, which only hands over frames and counts them, so
what is measured is the work between the socket and the handler. CPU time of the process, not wall
time: another process on the same machine does not count.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from typing import TYPE_CHECKING, Any

from elevenlabs.speech_engine import SpeechEngineSession as OfficialSession

from speech_engine_proto import AgentConnection, TurnStarted
from speech_engine_transports.session import SpeechEngineSession

from .measure import Effort, Findings, Row, take_rounds
from .texts import INIT, PIECES, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["measure"]

HISTORIES = {200: 0.4, 500: 0.25}
"""Messages of history in a turn, and the goal for each."""


def measure(effort: Effort) -> Findings:
    """Return the rows of one piece and of one turn."""
    _warm_up()
    pieces = take_rounds(
        "one piece",
        effort.rounds,
        {
            "core": lambda: _piece_of_core(effort.pieces),
            "ours": lambda: asyncio.run(_piece(SpeechEngineSession, effort.pieces)),
            "official": lambda: asyncio.run(_piece(OfficialSession, effort.pieces)),
        },
    )
    core = {"ours": pieces["core"], "official": pieces["official"]}
    return Findings(
        rows=[
            Row(figure="one piece, core alone", unit="µs", samples=core, goal=0.15),
            Row(figure="one piece, through the session", unit="µs", samples=pieces, goal=0.3),
            *(_turn_row(messages, goal, effort) for messages, goal in HISTORIES.items()),
        ]
    )


def _warm_up() -> None:
    """Let everything be imported that is imported on first use."""
    _piece_of_core(100)
    for session_class in (SpeechEngineSession, OfficialSession):
        asyncio.run(_piece(session_class, 100))


def _turn_row(messages: int, goal: float, effort: Effort) -> Row:
    figure = f"a turn with {messages} messages of history"
    frames = [transcript(messages, number) for number in range(1, effort.turns + 1)]
    turns = take_rounds(
        figure,
        effort.rounds,
        {
            "ours": lambda: asyncio.run(_turn(SpeechEngineSession, frames)),
            "official": lambda: asyncio.run(_turn(OfficialSession, frames)),
        },
    )
    return Row(figure=figure, unit="µs", samples=turns, goal=goal)


class _Stopwatch:
    """CPU time of the process while the block runs, in microseconds."""

    def __enter__(self) -> _Stopwatch:
        gc.collect()
        self._began = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.microseconds = (time.process_time() - self._began) * 1e6


class _MemorySocket:
    """``recv``, ``send`` and ``close`` over frames that are there already."""

    def __init__(self, frames: list[str]) -> None:
        self._frames = iter(frames)
        self.sent = 0

    async def recv(self) -> str:
        """Return the next frame; at the end raise, as a closed socket does."""
        for frame in self._frames:
            return frame
        raise ConnectionError("the script is over")

    async def send(self, frame: str) -> None:
        """Count the frame."""
        self.sent += 1

    async def close(self) -> None:
        """Do nothing."""


def _words(count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(PIECES), count)


async def _stream(count: int) -> AsyncGenerator[str]:
    for word in _words(count):
        yield word


def _piece_of_core(count: int) -> float:
    """Time frames that are made and not sent anywhere; microseconds per piece."""
    connection = AgentConnection()
    event = connection.receive(transcript(1, event_id=1))
    assert isinstance(event, TurnStarted)
    turn = event.turn
    with _Stopwatch() as watch:
        for word in _words(count):
            connection.send_text(turn, word)
    return watch.microseconds / count


async def _piece(session_class: Callable[..., Any], count: int) -> float:
    """Time one streamed reply of many pieces; microseconds per piece."""
    socket = _MemorySocket([INIT, transcript(1, event_id=1)])
    session = session_class(socket)
    watch = _Stopwatch()

    async def answer(_: object) -> None:
        with watch:
            await session.send_response(_stream(count))

    session.on("user_transcript", answer)
    await session.run()
    _check(socket, count + 1)
    return watch.microseconds / count


async def _turn(session_class: Callable[..., Any], frames: list[str]) -> float:
    """Time turns from the transcript's arrival to the terminator; microseconds per turn."""
    socket = _MemorySocket([INIT, *frames])
    session = session_class(socket)

    async def answer(_: object) -> None:
        await session.send_response("Certainly.")

    session.on("user_transcript", answer)
    with _Stopwatch() as watch:
        await session.run()
    _check(socket, 2 * len(frames))
    return watch.microseconds / len(frames)


def _check(socket: _MemorySocket, frames: int) -> None:
    if socket.sent != frames:
        raise RuntimeError(f"expected {frames} frames, {socket.sent} were sent")
