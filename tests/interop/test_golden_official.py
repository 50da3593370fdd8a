"""The official SDK's own types accept every frame of ours, and find nothing in it they lack.

The models are generated from the service's API definition (fact sheet 1.1).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto import AgentConnection, ConversationMessage, EngineConnection, TurnStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

types = pytest.importorskip("elevenlabs.types")
pydantic = pytest.importorskip("pydantic")

MODELS: dict[str, Any] = {
    "init": types.InitPayload,
    "user_transcript": types.UserTranscriptPayload,
    "ping": types.PingPayload,
    "close": types.ClosePayload,
    "error": types.ErrorPayload,
    "agent_response": types.AgentResponsePayload,
    "pong": types.PongPayload,
}


def check(frame: str) -> Any:
    """Read a frame with the official model of its type; strict, and without extras."""
    model = MODELS[json.loads(frame)["type"]].model_validate_json(frame, strict=True)
    assert not model.model_extra
    assert model.model_dump() == json.loads(frame)
    return model


def conversation() -> Iterator[str]:
    """Yield every kind of frame of both roles."""
    engine, agent = EngineConnection(), AgentConnection()
    transcript = [
        ConversationMessage("user", "Héllo?"),
        ConversationMessage("agent", ""),
        ConversationMessage("user", "\U0001f600"),
    ]
    for frame in (
        engine.send_init("conv_1"),
        engine.send_ping(),
        engine.send_transcript(transcript),
        engine.send_error("cascade"),
    ):
        yield frame
        event = agent.receive(frame)
        if event.reply:
            yield event.reply
        if isinstance(event, TurnStarted):
            yield agent.send_text(event.turn, 'Well, "yes"\n')
            yield agent.end_turn(event.turn)
    event = agent.receive('{"type":"user_transcript","user_transcript":[]}')
    assert isinstance(event, TurnStarted)
    yield agent.send_text(event.turn, "to a turn without an id")
    yield agent.end_turn(event.turn)
    yield engine.send_close()


def test_every_frame_is_accepted() -> None:
    frames = list(conversation())
    for frame in frames:
        check(frame)
    assert {json.loads(frame)["type"] for frame in frames} == set(MODELS)


@given(
    st.lists(
        st.builds(ConversationMessage, st.sampled_from(["user", "agent"]), st.text()),
        min_size=1,
        max_size=4,
    ),
    st.integers(-(2**63), 2**63 - 1),
)
def test_every_transcript_is_accepted(transcript: list[ConversationMessage], event_id: int) -> None:
    engine = EngineConnection()
    engine.send_init("conv_1")
    model = check(engine.send_transcript(transcript, event_id))
    assert model.event_id == event_id
    told = [(entry.role, entry.content) for entry in model.user_transcript]
    assert told == [(entry.role, entry.content) for entry in transcript]


@given(st.text(st.characters(), min_size=1), st.none() | st.integers(-(2**63), 2**63 - 1))
def test_every_reply_is_accepted(text: str, event_id: int | None) -> None:
    agent = AgentConnection()
    asked = '{"type":"user_transcript","user_transcript":[],"event_id":%s}'
    event = agent.receive(asked % json.dumps(event_id))
    assert isinstance(event, TurnStarted)
    piece = check(agent.send_text(event.turn, text))
    end = check(agent.end_turn(event.turn))
    assert (piece.event_id, piece.is_final) == (event_id, False)
    assert (end.event_id, end.is_final, end.content) == (event_id, True, "")


def test_the_models_do_check() -> None:
    with pytest.raises(pydantic.ValidationError):
        check('{"type":"agent_response","content":null,"is_final":true}')
    with pytest.raises(pydantic.ValidationError):
        check('{"type":"agent_response","content":"","is_final":1,"event_id":null}')


def test_what_the_official_models_write_is_read() -> None:
    """The other way: the service's messages as the models write them, fields left out too."""
    entry = types.TranscriptMessage(role="user", content="Hello?")
    for fields in ({"event_id": 7}, {}, {"event_id": None}):
        written = types.UserTranscriptPayload(user_transcript=[entry], **fields).json()
        event = AgentConnection().receive(written)
        assert isinstance(event, TurnStarted)
        assert event.event_id == fields.get("event_id")
        assert event.transcript == (ConversationMessage("user", "Hello?"),)
    written = types.AgentResponsePayload(content="Yes.", is_final=False).json()
    engine = EngineConnection()
    engine.send_init("conv_1")
    engine.send_transcript([ConversationMessage("user", "Hello?")])
    assert type(engine.receive(written)).__name__ == "ReplyText"
