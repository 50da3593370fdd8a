"""What the core costs, counted: a change that makes it dearer fails here, without a clock."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from speech_engine_proto import AgentConnection, TurnStarted
from tests.counting import Budget, check_calls, check_figure, collector_off, garbage_of

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORY = 10

# Exact counts, by version of Python. Whoever makes something cheaper lowers its number.
PIECE_CALLS: Budget = {(3, 11): 7}
TURN_CALLS: Budget = {(3, 11): 67, (3, 12): 66}
MESSAGE_CALLS: Budget = {(3, 11): 0}
TURN_GARBAGE: Budget = {(3, 11): 0}
PIECE_BLOCKS: Budget = {(3, 11): 0.1}
MESSAGE_BLOCKS: Budget = {(3, 11): 3}


def transcript(event_id: int, messages: int = HISTORY) -> bytes:
    roles = ("user", "agent")
    history = [{"role": roles[n % 2], "content": f"Message {n}."} for n in range(messages)]
    frame = {"type": "user_transcript", "user_transcript": history, "event_id": event_id}
    return json.dumps(frame).encode()


def say(pieces: int) -> None:
    conn = AgentConnection()
    started = conn.receive(transcript(1))
    assert isinstance(started, TurnStarted)
    for _ in range(pieces):
        conn.send_text(started.turn, "word ")


FRAMES = [transcript(number) for number in range(1, 31)]


def hold(turns: int) -> None:
    conn = AgentConnection()
    for frame in FRAMES[:turns]:
        started = conn.receive(frame)
        assert isinstance(started, TurnStarted)
        conn.send_text(started.turn, "Certainly.")
        conn.end_turn(started.turn)


HISTORIES = {messages: transcript(1, messages) for messages in (10, 30)}


def read(messages: int) -> None:
    AgentConnection().receive(HISTORIES[messages])


def test_calls_of_a_piece() -> None:
    check_calls("piece", say, PIECE_CALLS)


def test_calls_of_a_turn() -> None:
    check_calls(f"turn of {HISTORY} messages", hold, TURN_CALLS)


def test_calls_of_a_message_of_history() -> None:
    check_calls("message of history", read, MESSAGE_CALLS)


def test_a_turn_leaves_nothing_to_the_garbage_collector() -> None:
    check_figure("objects that a turn leaves to the collector", garbage_of(hold), TURN_GARBAGE)


def test_memory_blocks_that_a_piece_keeps() -> None:
    conn = AgentConnection()
    started = conn.receive(transcript(1))
    assert isinstance(started, TurnStarted)
    kept = blocks_of(lambda: [conn.send_text(started.turn, "word ") for _ in range(100)] and None)
    check_figure("memory blocks that a piece keeps", kept / 100, PIECE_BLOCKS)


def test_memory_blocks_of_a_message_of_history() -> None:
    few, many = HISTORIES
    kept = blocks_of(lambda: AgentConnection().receive(HISTORIES[many]))
    kept -= blocks_of(lambda: AgentConnection().receive(HISTORIES[few]))
    check_figure("memory blocks of a message", kept / (many - few), MESSAGE_BLOCKS)


def blocks_of(work: Callable[[], object]) -> int:
    """Return how many blocks of memory are held at the end of the work, with what it returns."""
    work()
    with collector_off():
        before = sys.getallocatedblocks()
        result = work()
        after = sys.getallocatedblocks()
        del result
    return after - before
