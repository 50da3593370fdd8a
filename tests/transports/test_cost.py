"""What the session costs, counted: a change that makes it dearer fails here, without a clock."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from speech_engine_transports import Limits, SpeechEngineSession
from speech_engine_transports._socket import Socket
from tests.counting import Budget, check_calls, check_figure, collector_off, garbage_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

HISTORY = 10

# Counts, by version of Python. Whoever makes something cheaper lowers its number.
PIECE_CALLS: Budget = {(3, 11): 10}
TURN_CALLS: Budget = {(3, 11): 190, (3, 12): 187, (3, 13): 185}
TURN_GARBAGE: Budget = {(3, 11): 0}
TURN_BLOCKS: Budget = {(3, 11): 4}

TURN_SLACK = 5
"""Calls that another version of anyio or of asyncio may make in a turn."""

UNTIMED = Limits(first_message_timeout=None, backlog_timeout=None)
"""Without the timer, whose looks depend on how long it all takes."""


def transcript(event_id: int) -> bytes:
    roles = ("user", "agent")
    history = [{"role": roles[n % 2], "content": f"Message {n}."} for n in range(HISTORY)]
    frame = {"type": "user_transcript", "user_transcript": history, "event_id": event_id}
    return json.dumps(frame).encode()


FRAMES = [transcript(number) for number in range(1, 31)]


class Script(Socket):
    """Hands over frames that are there, as bytes, and takes all frames at once."""

    def __init__(self, frames: list[bytes]) -> None:
        super().__init__()
        self._frames = iter(frames)
        self.sent = 0

    async def recv(self) -> bytes | None:
        return next(self._frames, None)

    async def send(self, frame: str) -> None:
        self.sent += 1

    async def close(self, code: int = 1000, reason: str = "") -> None:
        pass

    def abort(self) -> None:
        pass


async def words(count: int) -> AsyncGenerator[str]:
    for _ in range(count):
        yield "word "


def say(pieces: int) -> None:
    """Answer one transcript with a stream of that many words."""

    async def answer(_: Any) -> None:
        await session.send_response(words(pieces))

    socket = Script(FRAMES[:1])
    session = SpeechEngineSession(socket, limits=UNTIMED)
    session.on("user_transcript", answer)
    asyncio.run(session.run())
    assert socket.sent == pieces + 1


def hold(turns: int, blocks: list[int] | None = None) -> None:
    """Hold a call of that many turns, each answered with one text."""

    async def answer(_: Any) -> None:
        if blocks is not None:
            blocks.append(sys.getallocatedblocks())
        await session.send_response("Certainly.")

    socket = Script(FRAMES[:turns])
    session = SpeechEngineSession(socket, limits=UNTIMED)
    session.on("user_transcript", answer)
    asyncio.run(session.run())
    assert socket.sent == 2 * turns


def test_calls_of_a_piece() -> None:
    check_calls("piece", say, PIECE_CALLS)


def test_calls_of_a_turn() -> None:
    check_calls(f"turn of {HISTORY} messages", hold, TURN_CALLS, TURN_SLACK)


def test_what_a_turn_leaves_to_the_garbage_collector() -> None:
    check_figure("objects that a turn leaves to the collector", garbage_of(hold), TURN_GARBAGE)


def test_memory_blocks_that_a_turn_keeps() -> None:
    blocks: list[int] = []
    hold(30)
    with collector_off():
        hold(30, blocks)
    kept = (blocks[29] - blocks[9]) / 20
    check_figure("memory blocks that a turn keeps", kept, TURN_BLOCKS)
