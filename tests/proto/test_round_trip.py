"""What is written is read back as it was, and looks on the wire as the fact sheet says (1.1)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto import AgentConnection, ConversationMessage, EngineConnection, TurnStarted
from speech_engine_proto.wire import (
    AgentResponse,
    Close,
    Error,
    Init,
    Message,
    Ping,
    Pong,
    Unknown,
    UserTranscript,
    decode,
    encode,
)

HELLO = ConversationMessage("user", "Hello?")

# Typed by hand: each message as it must stand on the wire, to the byte.
GOLDEN: list[tuple[Message, str]] = [
    (Init("conv_1"), '{"type":"init","conversation_id":"conv_1"}'),
    (
        UserTranscript((HELLO,), 1),
        '{"type":"user_transcript","user_transcript":[{"role":"user","content":"Hello?"}],"event_id":1}',
    ),
    (
        UserTranscript((HELLO, ConversationMessage("agent", 'Hé "you"\n')), 2),
        '{"type":"user_transcript","user_transcript":[{"role":"user","content":"Hello?"},'
        '{"role":"agent","content":"Hé \\"you\\"\\n"}],"event_id":2}',
    ),
    (UserTranscript(()), '{"type":"user_transcript","user_transcript":[],"event_id":null}'),
    (Ping(), '{"type":"ping"}'),
    (Close(), '{"type":"close"}'),
    (Error("cascade"), '{"type":"error","message":"cascade"}'),
    (
        AgentResponse("Hello", False, 3),
        '{"type":"agent_response","content":"Hello","is_final":false,"event_id":3}',
    ),
    (
        AgentResponse("", True, None),
        '{"type":"agent_response","content":"","is_final":true,"event_id":null}',
    ),
    (
        AgentResponse("\0\x1f\x7f\u2028\U0001f600", False, -(2**63)),
        '{"type":"agent_response","content":"\\u0000\\u001f\x7f\u2028\U0001f600","is_final":false,'
        '"event_id":-9223372036854775808}',
    ),
    (Pong(), '{"type":"pong"}'),
    (Unknown("vad_score"), '{"type":"vad_score"}'),
]

_ids = st.none() | st.integers(-(2**63), 2**63 - 1)
_text = st.text()
_entries = st.builds(ConversationMessage, st.sampled_from(["user", "agent"]) | _text, _text)
_known = ["init", "user_transcript", "ping", "close", "error", "agent_response", "pong"]
_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Init, _text),
    st.builds(UserTranscript, st.lists(_entries, max_size=5).map(tuple), _ids),
    st.builds(Ping),
    st.builds(Close),
    st.builds(Error, _text),
    st.builds(AgentResponse, _text, st.booleans(), _ids),
    st.builds(Pong),
    st.builds(Unknown, _text.filter(lambda name: name not in _known)),
)


@pytest.mark.parametrize(("message", "frame"), GOLDEN)
def test_golden(message: Message, frame: str) -> None:
    assert encode(message) == frame
    assert decode(frame) == decode(frame.encode()) == message


@given(_messages)
def test_what_is_written_is_read_back(message: Message) -> None:
    frame = encode(message)
    assert decode(frame) == message
    assert decode(frame.encode()) == message
    assert decode(bytearray(frame.encode())) == message
    assert decode(memoryview(frame.encode())) == message


@given(_messages, st.booleans(), st.sampled_from([None, 1]))
def test_another_writer_makes_no_difference(
    message: Message, escape: bool, indent: int | None
) -> None:
    """Order of keys, white space, escapes and unknown keys do not count."""
    fields = json.loads(encode(message))
    shuffled = dict(reversed([("later", {"type": "x"}), *fields.items(), ("extra", [1.5])]))
    other = json.dumps(shuffled, ensure_ascii=escape, indent=indent)
    assert decode(other) == message


@given(st.text(st.characters(), min_size=1))
def test_any_text_can_be_said(text: str) -> None:
    """What a reply holds, half a pair too, makes a frame of valid UTF-8 with the same words."""
    connection = AgentConnection()
    event = connection.receive(encode(UserTranscript((HELLO,), 1)))
    assert isinstance(event, TurnStarted)
    frame = connection.send_text(event.turn, text)
    told = decode(frame.encode())
    plain = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert told == AgentResponse(plain, False, 1)


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_can_be_asked(role: str, content: str) -> None:
    engine, agent = EngineConnection(), AgentConnection()
    engine.send_init("conv_1")
    agent.receive(engine.send_transcript([ConversationMessage("user", content)]).encode())
    assert agent.turn is not None
    assert "\ud800" not in agent.turn.transcript[0].content
    agent.receive(encode(UserTranscript((ConversationMessage(role, content),), 2)).encode())
    assert agent.turn.event_id == 2
