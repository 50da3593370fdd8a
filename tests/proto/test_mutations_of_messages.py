"""A million broken messages: valid ones with a few bytes changed, the same ones in every run.

Both roles read them in the middle of a reply. A violation, an ignored message and a ping must leave
every field as it was; what is accepted must be a legal event.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, get_args

import pytest

from speech_engine_proto import (
    AgentConnection,
    AgentEvent,
    ConversationEnded,
    ConversationMessage,
    EngineConnection,
    EngineEvent,
    ReplyFinished,
    TurnStarted,
    TurnState,
)
from tests.proto.subject import snapshot

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSCRIPT = (
    b'{"type":"user_transcript","user_transcript":[{"role":"user","content":"Caf\xc3\xa9?"},'
    b'{"role":"agent","content":null},{"role":"user","content":"\\ud83d\\ude00"}],"event_id":7}'
)
PIECE = b'{"type":"agent_response","content":"Well, \\u00e9","is_final":false,"event_id":7}'
VALID = (
    TRANSCRIPT,
    TRANSCRIPT.replace(b'"event_id":7', b'"event_id":null'),
    TRANSCRIPT.replace(b'"event_id":7', b'"event_id":8'),
    PIECE,
    PIECE.replace(b"false", b"true"),
    b'{"type":"ping"}',
    b'{"type":"pong"}',
    b'{"type":"close"}',
    b'{"type":"error","message":"cascade"}',
    b'{"type":"init","conversation_id":"conv_1"}',
)
LETTERS = b"0123456789abcdefghijklmnopqrstuvwxyz "
PARTS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"null", b"true", b"-1", b"1e9"),
    *(b"9" * 20, b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud83d", b"\\ude00"),
    *(b'"event_id":', b'"type":', b'"close"', b'"content":', b"user_transcript"),
)


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield valid messages with one to three changes: a letter, a bit, a part, a cut, a copy."""
    random = Random(seed).random
    for _ in range(count):
        data = bytearray(VALID[int(random() * len(VALID))])
        for _ in range(1 + int(random() * random() * 3)):
            place = int(random() * len(data)) if data else 0
            match int(random() * 7):
                case 0 | 1 | 2 if data:
                    data[place] = LETTERS[int(random() * len(LETTERS))]
                case 3 if data:
                    data[place] ^= 1 << int(random() * 8)
                case 4:
                    data[place : place + int(random() * 4)] = PARTS[int(random() * len(PARTS))]
                case 5:
                    del data[place : place + 1 + int(random() * 8)]
                case _:
                    data[place:place] = data[int(random() * len(data)) :][:12]
        yield bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_the_agent_reads_a_hundred_thousand_mutations(seed: int) -> None:
    legal, kinds = frozenset(get_args(AgentEvent)), Counter[str]()
    connection, turn, before = _agent()
    for data in mutations(seed, 100_000):
        event = connection.receive(data)
        kinds[type(event).__name__] += 1
        assert type(event) in legal
        if isinstance(event, TurnStarted):
            assert event.interrupted is turn
            assert connection.turn is event.turn
            connection, turn, before = _agent()
        elif isinstance(event, ConversationEnded):
            assert event.interrupted is turn
            assert connection.turn is None
            connection, turn, before = _agent()
        else:
            assert connection.turn is turn
            assert snapshot(connection) == before, data
    assert set(kinds) == _HARMLESS | {"ProtocolViolation", "TurnStarted", "ConversationEnded"}
    assert kinds["ProtocolViolation"] > 50_000
    assert min(kinds.values()) > 10


@pytest.mark.parametrize("seed", range(5, 10))
def test_the_service_reads_a_hundred_thousand_mutations(seed: int) -> None:
    legal, kinds = frozenset(get_args(EngineEvent)), Counter[str]()
    connection, before = _engine()
    for data in mutations(seed, 100_000):
        event = connection.receive(data)
        kinds[type(event).__name__] += 1
        assert type(event) in legal
        if isinstance(event, ReplyFinished):
            assert connection.turn_state is TurnState.FINISHED
            connection, before = _engine()
        else:
            assert snapshot(connection) == before, data
    assert set(kinds) == {
        "ReplyText",
        "ReplyFinished",
        "StaleReply",
        "PongReceived",
        "MessageIgnored",
        "ProtocolViolation",
    }
    assert kinds["ProtocolViolation"] > 50_000
    assert min(kinds.values()) > 10


_HARMLESS = {"PingReceived", "ErrorReceived", "MessageIgnored", "TranscriptIgnored"}


def _agent() -> tuple[AgentConnection, Any, Any]:
    connection = AgentConnection()
    connection.receive(b'{"type":"init","conversation_id":"conv_1"}')
    turn = connection.receive(TRANSCRIPT).turn  # type: ignore[union-attr]
    connection.send_text(turn, "Well,")
    return connection, turn, snapshot(connection)


def _engine() -> tuple[EngineConnection, Any]:
    connection = EngineConnection()
    connection.send_init("conv_1")
    connection.send_transcript([ConversationMessage("user", "Hello?")], 7)
    connection.receive(PIECE)
    return connection, snapshot(connection)
