"""What events carry, and what they do not show."""

from __future__ import annotations

from typing import Any, get_args

import attrs
import pytest

import speech_engine_proto as core
from speech_engine_proto import (
    AgentEvent,
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    ConversationStarted,
    EngineEvent,
    ErrorReceived,
    MessageIgnored,
    MessageIgnoredReason,
    PingReceived,
    PongReceived,
    ProtocolViolation,
    RemoteProtocolError,
    ReplyFinished,
    ReplyText,
    StaleReply,
    TranscriptIgnored,
    TranscriptIgnoredReason,
    Turn,
    TurnResent,
    TurnStarted,
)

TURN = Turn(5, (ConversationMessage("user", "secret"),))
EVENTS: list[Any] = [
    ConversationStarted("conv_1"),
    TurnStarted(TURN, 5, TURN.transcript, None),
    TurnResent(TURN, 6, 5),
    TranscriptIgnored(4, TranscriptIgnoredReason.OLDER),
    PingReceived(),
    PongReceived(),
    ErrorReceived("secret"),
    MessageIgnored("vad_score", MessageIgnoredReason.UNKNOWN_TYPE),
    ProtocolViolation(RemoteProtocolError("a", "b", "$", "secret")),
    ConversationEnded(TURN),
    ConnectionLost(),
    ReplyText(5, "secret"),
    ReplyFinished(5, "secret"),
    StaleReply(5, "secret"),
]


def test_the_unions_are_closed() -> None:
    """Each event belongs to one of the two unions, and each member of a union is exported."""
    members = set(get_args(AgentEvent)) | set(get_args(EngineEvent))
    assert members == {type(event) for event in EVENTS}
    assert all(getattr(core, kind.__name__) is kind for kind in members)
    assert len(get_args(AgentEvent)) == 10
    assert len(get_args(EngineEvent)) == 8


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_only_a_ping_has_a_reply(event: Any) -> None:
    assert event.reply == ('{"type":"pong"}' if isinstance(event, PingReceived) else None)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_frozen_and_without_words_in_the_repr(event: Any) -> None:
    assert attrs.has(type(event))
    assert "secret" not in repr(event)
    for field in attrs.fields(type(event)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, field.name, None)


def test_the_repr_tells_the_length() -> None:
    assert repr(EVENTS[1]).endswith("event_id=5, transcript=<1 messages>, interrupted=None)")
    assert repr(ReplyText(5, "secret")) == "ReplyText(event_id=5, text=<6 characters>)"


def test_the_reasons() -> None:
    assert set(TranscriptIgnoredReason.__members__) == {"DUPLICATE", "ALREADY_ANSWERED", "OLDER"}
    assert set(MessageIgnoredReason.__members__) == {
        "UNKNOWN_TYPE",
        "WRONG_DIRECTION",
        "AFTER_END",
    }


def test_nothing_was_interrupted_by_default() -> None:
    assert ConversationEnded().interrupted is None
    assert ConnectionLost().interrupted is None
