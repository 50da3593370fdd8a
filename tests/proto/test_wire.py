"""Bytes to messages and back; the corpus of nasty inputs has a test file of its own."""

from __future__ import annotations

import json
from array import array
from typing import Any

import attrs
import pytest

from speech_engine_proto import ConversationMessage, Limits, RemoteProtocolError, wire
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
MESSAGES: list[tuple[Message, str]] = [
    (Init("conv_1"), '{"type":"init","conversation_id":"conv_1"}'),
    (
        UserTranscript((HELLO,), 1),
        '{"type":"user_transcript","user_transcript":[{"role":"user","content":"Hello?"}],"event_id":1}',
    ),
    (Ping(), '{"type":"ping"}'),
    (Close(), '{"type":"close"}'),
    (Error("cascade"), '{"type":"error","message":"cascade"}'),
    (
        AgentResponse("Yes?", False, 1),
        '{"type":"agent_response","content":"Yes?","is_final":false,"event_id":1}',
    ),
    (Pong(), '{"type":"pong"}'),
    (Unknown("vad_score"), '{"type":"vad_score"}'),
]


def refusal(data: Any, limits: Limits | None = None) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize(("message", "frame"), MESSAGES)
def test_written_and_read(message: Message, frame: str) -> None:
    assert encode(message) == frame
    for data in (frame, frame.encode(), bytearray(frame.encode()), memoryview(frame.encode())):
        assert decode(data) == message


@pytest.mark.parametrize(("message", "_"), MESSAGES)
def test_frozen_and_without_words_in_the_repr(message: Message, _: str) -> None:
    assert not any(words in repr(message) for words in ("Hello?", "Yes?", "cascade"))
    for field in attrs.fields(type(message)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(message, field.name, None)


def test_what_may_be_missing() -> None:
    assert decode('{"type":"user_transcript","user_transcript":[]}') == UserTranscript(())
    reply = decode('{"type":"agent_response","content":"","is_final":true}')
    assert reply == AgentResponse("", True)


def test_content_null_is_empty() -> None:
    data = {"type": "user_transcript", "user_transcript": [{"role": "agent", "content": None}]}
    assert decode(json.dumps({**data, "event_id": 3})) == UserTranscript(
        (ConversationMessage("agent", ""),), 3
    )


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (Init("\ud83d"), '{"type": "init", "conversation_id": "\ufffd"}'),
        (Error("\ude00\ud83d\ude00"), '{"type": "error", "message": "\ufffd\U0001f600"}'),
        (
            AgentResponse("a\ud83d", False, None),
            '{"type":"agent_response","content":"a\ufffd","is_final":false,"event_id":null}',
        ),
        (
            UserTranscript((ConversationMessage("user", 'x"\udfff'),), None),
            '{"type": "user_transcript", "user_transcript": '
            '[{"role": "user", "content": "x\\"\ufffd"}], "event_id": null}',
        ),
        (Unknown("\ud83d"), '{"type": "\ufffd"}'),
    ],
)
def test_half_a_pair_is_written_as_a_replacement(message: Message, frame: str) -> None:
    assert encode(message) == frame
    frame.encode()


def test_half_a_pair_is_read_as_a_replacement() -> None:
    assert decode(rb'{"type":"error","message":"a\ud83d \\ud83d \ud83d\ude00"}') == Error(
        "a\ufffd \\ud83d \U0001f600"
    )


@pytest.mark.parametrize("text", ["plain", "h\u00e9", "\U0001f600", '"\\\b\0', "\u2028\x7f"])
def test_valid_text_is_kept(text: str) -> None:
    assert decode(wire.agent_response(text, False, 1)) == AgentResponse(text, False, 1)


def test_a_subclass_of_str_is_text() -> None:
    class Words(str):
        __slots__ = ()

    assert json.loads(wire.agent_response(Words("a\ud83d"), False, 1))["content"] == "a\ufffd"


def test_the_limit_counts_bytes() -> None:
    frame = '{"type":"x","y":"é"}'
    assert decode(frame, Limits(max_frame_bytes=21)) == Unknown("x")
    assert decode(frame.encode(), Limits(max_frame_bytes=21)) == Unknown("x")
    for data in (frame, frame.encode()):
        error = refusal(data, Limits(max_frame_bytes=20))
        assert (error.expected, error.got, error.excerpt) == ("at most 20 bytes", "21", "")
    assert refusal(frame, Limits(max_frame_bytes=19)).got == "20"


def test_the_limit_counts_all_of_a_wide_view() -> None:
    wide = memoryview(array("I", b'{"type":"ping"} '))
    assert decode(wide) == Ping()
    assert refusal(wide, Limits(max_frame_bytes=15)).got == "16"


def test_the_limit_of_messages() -> None:
    frame = encode(UserTranscript((HELLO, HELLO), 1))
    assert decode(frame, Limits(max_messages=2)) == UserTranscript((HELLO, HELLO), 1)
    error = refusal(frame, Limits(max_messages=1))
    assert str(error) == "expected at most 1 messages, got 2 at $.user_transcript"
    assert error.excerpt == frame


@pytest.mark.parametrize("data", [None, 5, ["x"], {"type": "ping"}, object()])
def test_what_is_no_message_at_all_is_the_callers_mistake(data: Any) -> None:
    expected = f"expected bytes, bytearray, memoryview or str, got {type(data).__name__}"
    with pytest.raises(TypeError, match=expected):
        decode(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            b'{"type":"error","message":"\xff"}',
            "expected UTF-8, got an invalid byte at position 27 at $",
        ),
        ('{"type":"\ud83d"}', "expected valid Unicode, got a lone surrogate at $"),
        ('{"type":"x","y":' + "[" * 100_000, "expected modest nesting, got nesting too deep at $"),
        ("null", "expected `object`, got `null` at $"),
        ('{"type":"init"}', "expected field `conversation_id`, got nothing at $"),
        (
            '{"type":"user_transcript","user_transcript":[{"role":"user","content":1}]}',
            "expected `str | null`, got `int` at $.user_transcript[0].content",
        ),
        (
            '{"type":"user_transcript","user_transcript":[],"event_id":true}',
            "expected `int | null`, got `bool` at $.event_id",
        ),
        ("close", "expected a JSON object, got invalid character (byte 0) at $"),
        ('{"type":', "expected a JSON object, got input data was truncated at $"),
    ],
)
def test_a_refusal_says_what_and_where(data: bytes | str, text: str) -> None:
    assert str(refusal(data)) == text


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**70])
def test_an_id_that_does_not_fit(number: int) -> None:
    frame = json.dumps({"type": "user_transcript", "user_transcript": [], "event_id": number})
    error = refusal(frame)
    assert (error.got, error.where) == ("a number out of range", "$.event_id")


def test_the_excerpt_is_the_beginning() -> None:
    data = '{"type":"error","message":[' + "é" * 1000
    assert refusal(data).excerpt == data[:200]
    assert refusal(b"\xff" + b"x" * 1000).excerpt == "\ufffd" + "x" * 199


def test_only_messages_are_written() -> None:
    with pytest.raises(AssertionError):
        encode("ping")  # type: ignore[arg-type]


def test_the_public_names() -> None:
    assert all(hasattr(wire, name) for name in wire.__all__)
