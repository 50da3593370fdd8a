"""`receive` never raises on what the peer sent, and a bad message never touches the turn."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speech_engine_proto import (
    AgentConnection,
    AgentEvent,
    ConversationMessage,
    EngineConnection,
    EngineEvent,
    Limits,
    MessageIgnored,
    ProtocolViolation,
    TurnResent,
    TurnStarted,
)
from tests.proto.corpus import (
    ACCEPTED,
    IGNORED,
    REFUSED,
    Nasty,
    check_accepted,
    check_ignored,
    check_refused,
    check_untouched,
)
from tests.proto.subject import snapshot


@pytest.mark.parametrize("nasty", REFUSED, ids=str)
def test_refused(nasty: Nasty) -> None:
    check_refused(nasty)


@pytest.mark.parametrize("nasty", IGNORED, ids=str)
def test_ignored(nasty: Nasty) -> None:
    check_ignored(nasty)


@pytest.mark.parametrize("nasty", ACCEPTED, ids=str)
def test_accepted(nasty: Nasty) -> None:
    check_accepted(nasty)


@pytest.mark.parametrize("event_id", [-1, -(2**63)])
def test_a_negative_id_is_an_id(event_id: int) -> None:
    connection = AgentConnection()
    event = connection.receive(
        json.dumps({"type": "user_transcript", "user_transcript": [], "event_id": event_id})
    )
    assert isinstance(event, TurnStarted)
    assert event.event_id == event_id


@pytest.mark.parametrize("as_text", [False, True])
def test_a_message_over_the_default_limit(as_text: bool) -> None:
    head, tail = b'{"type":"error","message":"', b'"}'
    room = Limits().max_frame_bytes - len(head) - len(tail)
    connection, turn, before = _in_turn()
    longer = head + b"x" * (room + 1) + tail
    event = connection.receive(longer.decode() if as_text else longer)
    assert isinstance(event, ProtocolViolation)
    assert str(event.error) == "expected at most 16777216 bytes, got 16777217 at $"
    assert event.error.excerpt == ""
    check_untouched(connection, turn, before)
    fits = head + b"x" * room + tail
    assert type(connection.receive(fits)).__name__ == "ErrorReceived"


def test_a_transcript_over_the_default_limit() -> None:
    connection, turn, before = _in_turn()
    entries = [{"role": "user", "content": ""}] * 10_001
    message = {"type": "user_transcript", "user_transcript": entries, "event_id": 9}
    event = connection.receive(json.dumps(message))
    assert isinstance(event, ProtocolViolation)
    assert (event.error.where, event.error.got) == ("$.user_transcript", "10001")
    check_untouched(connection, turn, before)


# NaN and Infinity are no JSON, though the json module writes them; the corpus has them.
_finite = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _finite | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_TYPES = ["init", "user_transcript", "error", "agent_response"]
_KEYS = ["conversation_id", "user_transcript", "event_id", "message", "content", "is_final", "role"]
_near_entry = st.dictionaries(st.sampled_from(["role", "content"]), _json, max_size=2)
_near_value = st.one_of(
    _json,
    st.lists(_near_entry, max_size=3),
    st.sampled_from([5, 6, 5.0, True, "5", None, 2**63, -1, [], {}]),
)


@st.composite
def _near_misses(draw: st.DrawFn) -> str:
    """Draw a message with the right type and whatever fields."""
    fields = draw(st.dictionaries(st.sampled_from(_KEYS), _near_value, max_size=4))
    return json.dumps({"type": draw(st.sampled_from(_TYPES)), **fields})


_anything = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=64),
    st.text(st.characters(categories=["Cs", "L"]), max_size=8),
    _json.map(json.dumps),
    _json.map(lambda value: json.dumps(value, ensure_ascii=False)),
    _near_misses(),
    _near_misses().map(str.encode),
)


@given(_anything)
@example('{"type":"user_transcript","user_transcript":[],"event_id":6}')
def test_the_agent_never_raises(data: bytes | str) -> None:
    connection, turn, before = _in_turn()
    event = connection.receive(data)
    assert isinstance(event, get_args(AgentEvent))
    if isinstance(event, TurnStarted):
        assert event.interrupted is turn
        assert connection.turn is event.turn
        return
    if isinstance(event, TurnResent):
        assert connection.turn is event.turn is turn
        return
    if isinstance(event, ProtocolViolation | MessageIgnored):
        assert event.reply is None
    check_untouched(connection, turn, before)


@given(_anything)
@example('{"type":"agent_response","content":"","is_final":true}')
def test_the_service_never_raises(data: bytes | str) -> None:
    connection = EngineConnection()
    connection.send_init("conv_1")
    connection.send_transcript([ConversationMessage("user", "Hi")])
    before = snapshot(connection)
    event = connection.receive(data)
    assert isinstance(event, get_args(EngineEvent))
    if isinstance(event, ProtocolViolation | MessageIgnored):
        assert snapshot(connection) == before


@given(_near_misses())
def test_what_is_accepted_was_right(data: str) -> None:
    """An oracle of its own says which transcripts may begin a turn."""
    event = AgentConnection().receive(data)
    if json.loads(data)["type"] == "user_transcript":
        assert isinstance(event, TurnStarted) == _is_transcript(json.loads(data))


def _is_transcript(fields: dict[str, Any]) -> bool:
    entries, event_id = fields.get("user_transcript"), fields.get("event_id")
    return (
        isinstance(entries, list)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("role"), str)
            and "content" in entry
            and isinstance(entry["content"], str | None)
            for entry in entries
        )
        and (event_id is None or (type(event_id) is int and -(2**63) <= event_id < 2**63))
    )


def _in_turn() -> tuple[AgentConnection, Any, Any]:
    connection = AgentConnection()
    connection.receive('{"type":"init","conversation_id":"conv_1"}')
    event = connection.receive('{"type":"user_transcript","user_transcript":[],"event_id":5}')
    assert isinstance(event, TurnStarted)
    return connection, event.turn, snapshot(connection)
