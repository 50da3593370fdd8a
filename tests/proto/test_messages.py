"""One entry of a conversation."""

from __future__ import annotations

import copy
import gc
import pickle

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
    with pytest.raises(AttributeError):
        message.content = ""  # type: ignore[misc]


def test_a_copy_is_the_same() -> None:
    message = ConversationMessage("user", "Hi")
    for again in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert type(again) is ConversationMessage
        assert again == message


def test_the_garbage_collector_does_not_look_at_it() -> None:
    """Hundreds come with each turn: tracked, they alone would set off a collection each time."""
    assert not gc.is_tracked(ConversationMessage("user", "Hi"))


def test_the_dict_of_the_official_class() -> None:
    assert ConversationMessage("user", "Hi").model_dump() == {"role": "user", "content": "Hi"}


def test_the_repr_shows_no_words() -> None:
    message = ConversationMessage("user", "my number is 7")
    assert repr(message) == "ConversationMessage(role='user', content=<14 characters>)"
    shown_by_rich = [("role", "user"), ("content", "<14 characters>")]
    assert message.__rich_repr__() == shown_by_rich
    assert length_only("") == "<0 characters>"
