"""One entry of a conversation."""

from __future__ import annotations

import attrs
import pytest

import speech_engine_proto
from speech_engine_proto import ConversationMessage
from speech_engine_proto._messages import length_only


def test_the_names_of_the_events_are_the_official_ones() -> None:
    names = {
        name: getattr(speech_engine_proto, name)
        for name in ("INIT", "USER_TRANSCRIPT", "CLOSE", "DISCONNECTED", "ERROR")
    }
    assert names == {
        "INIT": "init",
        "USER_TRANSCRIPT": "user_transcript",
        "CLOSE": "close",
        "DISCONNECTED": "disconnected",
        "ERROR": "error",
    }


def test_two_of_the_same_are_equal() -> None:
    message = ConversationMessage("user", "Hi")
    assert message == ConversationMessage(role="user", content="Hi")
    assert hash(message) == hash(ConversationMessage("user", "Hi"))
    assert message != ConversationMessage("agent", "Hi")


def test_frozen() -> None:
    message = ConversationMessage("user", "Hi")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message.content = ""  # type: ignore[misc]


def test_the_dict_of_the_official_class() -> None:
    assert ConversationMessage("user", "Hi").model_dump() == {"role": "user", "content": "Hi"}


def test_the_repr_shows_no_words() -> None:
    message = ConversationMessage("user", "my number is 7")
    assert repr(message) == "ConversationMessage(role='user', content=<14 characters>)"
    assert length_only("") == "<0 characters>"
