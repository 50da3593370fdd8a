"""The browser's protocol: each frame read and written as the fact sheet has it (5.2, 5.3)."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_local.cloud import convai
from speech_engine_local.cloud.convai import (
    POLICY,
    PROTOCOL,
    AudioChunk,
    FrameError,
    Ignored,
    Initiation,
    Pong,
    UserMessage,
    parse,
)

INITIATION = "conversation_initiation_client_data"


def read(**frame: Any) -> convai.ClientFrame:
    return parse(json.dumps(frame))


class TestParse:
    def test_what_the_browser_sends_first(self) -> None:
        overrides: dict[str, Any] = {"agent": {}, "tts": {}, "conversation": {}}
        source = {"source": "js_sdk", "version": "1.25.0"}
        frame = read(type=INITIATION, conversation_config_override=overrides, source_info=source)
        assert frame == Initiation()

    def test_what_the_python_client_sends_first(self) -> None:
        frame = read(
            type=INITIATION,
            custom_llm_extra_body={},
            conversation_config_override={"text_only": True},
            dynamic_variables={},
            source_info={"source": "python_sdk", "version": "2.78.0"},
            user_id="u1",
        )
        assert frame == Initiation(text_only=True)

    @pytest.mark.parametrize("overrides", [None, {}, {"agent": {"first_message": None}}])
    def test_null_is_not_set(self, overrides: object) -> None:
        frame = read(
            type=INITIATION, conversation_config_override=overrides, dynamic_variables=None
        )
        assert frame == Initiation()

    def test_all_that_may_be_set(self) -> None:
        overrides = {"agent": {"first_message": "Hi"}, "conversation": {"text_only": False}}
        variables = {"text": "a", "yes": True, "no": False, "int": 7, "float": 0.5, "null": None}
        frame = read(
            type=INITIATION, conversation_config_override=overrides, dynamic_variables=variables
        )
        assert isinstance(frame, Initiation)
        assert frame.first_message == "Hi"
        assert frame.text_only is False
        assert frame.refused == ()
        assert frame.variables == {
            "text": "a",
            "yes": "true",
            "no": "false",
            "int": "7",
            "float": "0.5",
        }

    def test_all_else_is_named(self) -> None:
        overrides = {
            "agent": {"prompt": {"prompt": "x", "llm": None}, "language": "de"},
            "tts": {"voice_id": "v"},
            "asr": {"keywords": []},
            "other": 1,
            "x" * 100: 1,
        }
        frame = read(type=INITIATION, conversation_config_override=overrides)
        assert isinstance(frame, Initiation)
        assert sorted(frame.refused) == [
            "keywords",
            "language",
            "other",
            "prompt",
            "voice_id",
            "x" * 64,
        ]

    def test_no_depth_of_overrides_is_too_much(self) -> None:
        deep = '{"a":' * 900 + "1" + "}" * 900
        frame = parse(f'{{"type":"{INITIATION}","conversation_config_override":{deep}}}')
        assert isinstance(frame, Initiation)
        assert frame.refused == ("a",)

    @pytest.mark.parametrize(
        ("field", "value", "told"),
        [
            ("conversation_config_override", [], "expected an object, got an array"),
            ("dynamic_variables", "x", "expected an object, got a string"),
            ("dynamic_variables", {"a": {}}, "numbers and booleans, got an object among them"),
            ("dynamic_variables", {"a": [1]}, "numbers and booleans, got an array among them"),
            (
                "conversation_config_override",
                {"agent": {"first_message": 5}},
                "first_message: expected a string, got a number",
            ),
            (
                "conversation_config_override",
                {"conversation": {"text_only": "yes"}},
                "text_only: expected true or false, got a string",
            ),
        ],
    )
    def test_a_wrong_first_frame(self, field: str, value: object, told: str) -> None:
        with pytest.raises(FrameError, match=told) as caught:
            read(**{"type": INITIATION, field: value})
        assert caught.value.code == PROTOCOL

    def test_messages(self) -> None:
        assert read(type="user_message", text=" hi ") == UserMessage(" hi ")
        assert read(type="user_message", text="hi", rich_content_id="r") == UserMessage("hi")
        inner = {"type": "user_message", "text": "hi"}
        assert read(type="multimodal_message", text=inner, file=None) == UserMessage("hi")
        alone = read(type="multimodal_message", text=None, file={"file_id": "f"})
        assert alone == Ignored("multimodal_message")

    def test_half_an_emoji_is_mended(self) -> None:
        assert parse('{"type":"user_message","text":"a\\ud83d"}') == UserMessage("a\ufffd")
        assert parse('{"type":"user_message","text":"\\ud83d\\ude00"}') == UserMessage("\U0001f600")

    def test_sound(self) -> None:
        chunk = base64.b64encode(bytes(1024)).decode()
        assert read(user_audio_chunk=chunk) == AudioChunk(1024)
        assert read(user_audio_chunk="") == AudioChunk(0)

    def test_pongs(self) -> None:
        assert read(type="pong", event_id=7) == Pong(7)

    @pytest.mark.parametrize(
        "name", ["user_activity", "feedback", "what_may_come", "", INITIATION[:5]]
    )
    def test_the_rest_is_ignored(self, name: str) -> None:
        assert read(type=name, text=5) == Ignored(name)

    @pytest.mark.parametrize(
        ("message", "told", "code"),
        [
            (b"{}", "expected text, got a binary message", PROTOCOL),
            ("", "expected JSON", PROTOCOL),
            ("{", "expected JSON", PROTOCOL),
            ("[" * 200_000, "expected JSON", PROTOCOL),
            ("9" * 5_000, "expected JSON", PROTOCOL),
            ("null", "expected an object, got null", PROTOCOL),
            ("true", "expected an object, got a boolean", PROTOCOL),
            ("7", "expected an object, got a number", PROTOCOL),
            ("{}", "type: expected a string, got nothing", PROTOCOL),
            ('{"type":null}', "type: expected a string, got null", PROTOCOL),
            ('{"type":"user_message","text":null}', "text: expected a string, got null", PROTOCOL),
            ('{"type":"user_message","text":""}', "at least one character, got none", POLICY),
            ('{"type":"multimodal_message","text":"x"}', "expected an object", PROTOCOL),
            ('{"type":"pong","event_id":true}', "an integer, got a boolean", PROTOCOL),
            ('{"type":"pong","event_id":1.5}', "an integer, got a number", PROTOCOL),
            ('{"user_audio_chunk":null}', "expected a string, got null", PROTOCOL),
            ('{"user_audio_chunk":"ü"}', "expected base64", PROTOCOL),
            ('{"user_audio_chunk":"abc"}', "expected base64", PROTOCOL),
            (" " * (convai.MAX_FRAME_BYTES + 1), "expected at most 1048576 bytes", POLICY),
            ("ü" * (convai.MAX_FRAME_BYTES // 2 + 1), "at most 1048576 bytes", POLICY),
            ("\ud800" * (convai.MAX_FRAME_BYTES // 2), "at most 1048576 bytes", POLICY),
        ],
    )
    def test_what_is_no_frame(self, message: str | bytes, told: str, code: int) -> None:
        with pytest.raises(FrameError, match=told) as caught:
            parse(message)
        assert caught.value.code == code

    def test_the_longest_frame(self) -> None:
        empty = len('{"type":"user_message","text":""}')
        text = "x" * (convai.MAX_FRAME_BYTES - empty)
        assert parse(f'{{"type":"user_message","text":"{text}"}}') == UserMessage(text)

    @given(st.one_of(st.text(), st.binary()))
    def test_raises_nothing_else(self, message: str | bytes) -> None:
        with suppress(FrameError):
            parse(message)

    @pytest.mark.parametrize(
        "frame",
        [
            UserMessage("secret"),
            Initiation("secret", None, ("secret",), {"secret": "secret"}),
            Ignored("secret"),
        ],
    )
    def test_reprs_hide_what_was_said(self, frame: convai.ClientFrame) -> None:
        assert "secret" not in repr(frame)


class TestBuild:
    @pytest.mark.parametrize(
        ("frame", "body"),
        [
            (
                convai.metadata("conv_1", output_format="ulaw_8000", input_format="pcm_16000"),
                {
                    "type": "conversation_initiation_metadata",
                    "conversation_initiation_metadata_event": {
                        "conversation_id": "conv_1",
                        "agent_output_audio_format": "ulaw_8000",
                        "user_input_audio_format": "pcm_16000",
                    },
                },
            ),
            (
                convai.audio(b"\x01\x02", 3),
                {"type": "audio", "audio_event": {"audio_base_64": "AQI=", "event_id": 3}},
            ),
            (
                convai.agent_response("Hi “you”", 3),
                {
                    "type": "agent_response",
                    "agent_response_event": {"agent_response": "Hi “you”", "event_id": 3},
                },
            ),
            (
                convai.correction("Hi you", "Hi", 3),
                {
                    "type": "agent_response_correction",
                    "agent_response_correction_event": {
                        "original_agent_response": "Hi you",
                        "corrected_agent_response": "Hi",
                        "event_id": 3,
                    },
                },
            ),
            (
                convai.response_part("Hi", "delta", 3),
                {
                    "type": "agent_chat_response_part",
                    "text_response_part": {"text": "Hi", "type": "delta", "event_id": 3},
                },
            ),
            (
                convai.interruption(4),
                {"type": "interruption", "interruption_event": {"event_id": 4}},
            ),
            (convai.ping(5, 20), {"type": "ping", "ping_event": {"event_id": 5, "ping_ms": 20}}),
            (
                convai.error(1008, "no"),
                {"type": "error", "error_event": {"code": 1008, "message": "no"}},
            ),
            (
                convai.error(1000, "late", "max_duration_exceeded"),
                {
                    "type": "error",
                    "error_event": {
                        "code": 1000,
                        "message": "late",
                        "error_type": "max_duration_exceeded",
                    },
                },
            ),
        ],
    )
    def test_frames(self, frame: str, body: dict[str, Any]) -> None:
        assert json.loads(frame) == body

    def test_half_an_emoji_does_not_kill_the_socket(self) -> None:
        frame = convai.agent_response("a\ud83d", 1)
        assert frame.encode()
        assert "a\ufffd" in frame

    @given(st.text(st.characters(codec=None)))
    def test_a_close_reason_fits_and_is_cut_between_characters(self, text: str) -> None:
        reason = convai.close_reason(text)
        assert len(reason.encode()) <= 123
        assert reason == text[: len(reason)] or "\ufffd" in reason

    def test_a_close_reason_is_as_long_as_it_may_be(self) -> None:
        assert convai.close_reason("x" * 200) == "x" * 123
        assert convai.close_reason("ü" * 100) == "ü" * 61
