"""Which settings an engine has, their defaults, and what each may be (fact sheet 4).

Where the service's own bounds are not known, these only keep a conversation possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._checks import (
    anything,
    boolean,
    fields,
    integer,
    items,
    number,
    one_of,
    request_headers,
    text,
    ws_url,
)

if TYPE_CHECKING:
    from ._checks import Check

__all__ = ["CREATE", "DEFAULTS", "DUPLICATE", "UPDATE"]

DEFAULTS: dict[str, Any] = {
    "name": "Speech Engine",
    "speech_engine": {"request_headers": {}},
    "asr": {
        "quality": "high",
        "provider": "scribe_realtime",
        "user_input_audio_format": "pcm_16000",
        "keywords": [],
    },
    "tts": {
        "model_id": "eleven_flash_v2",
        "voice_id": "cjVigY5qzO86Huf0OWal",
        "supported_voices": [],
        "expressive_mode": True,
        "suggested_audio_tags": [],
        "agent_output_audio_format": "pcm_16000",
        "stability": 0.5,
        "speed": 1.0,
        "similarity_boost": 0.8,
        "text_normalisation_type": "system_prompt",
        "pronunciation_dictionary_locators": [],
    },
    "turn": {
        "turn_timeout": 7.0,
        "initial_wait_time": None,
        "silence_end_call_timeout": -1.0,
        "turn_eagerness": "normal",
        "spelling_patience": "auto",
        "speculative_turn": False,
        "retranscribe_on_turn_timeout": False,
        "turn_model": "turn_v3",
        "interruption_ignore_terms": [],
        "interruption_ignore_term_languages": [],
        "merge_with_default_ignore_terms": False,
        "transcribe_on_disabled_interruptions": False,
    },
    "vad": {},
    "conversation": {
        "text_only": False,
        "max_duration_seconds": 600,
        # The documented example, and what a client needs to show a reply as it was heard.
        "client_events": [
            "audio",
            "interruption",
            "agent_response",
            "user_transcript",
            "agent_response_correction",
            "agent_chat_response_part",
        ],
        "monitoring_enabled": False,
        "monitoring_events": [],
        "source_attribution": False,
    },
    "privacy": {
        "record_voice": True,
        "retention_days": -1,
        "delete_transcript_and_pii": False,
        "delete_audio": False,
        "apply_to_existing_conversations": False,
        "zero_retention_mode": False,
        "conversation_history_redaction": {"enabled": False, "entities": []},
    },
    "call_limits": {
        "agent_concurrency_limit": -1,
        "daily_limit": 100_000,
        "bursting_enabled": True,
    },
    "auth": {"enable_auth": False},
    "language": "en",
    "cascade_timeout_seconds": 4.0,  # as one operator of the service saw it (fact sheet 1.2)
    "tags": [],
    "overrides": {"first_message": False},
}
"""What an engine has where nobody said otherwise; only ``ws_url`` has no default."""

_AUDIO_FORMAT = one_of(
    "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000", "ulaw_8000"
)

_MANY = 2**31 - 1

_FIELDS: dict[str, Check] = {
    "name": text,
    "asr": fields(
        {
            "quality": one_of("high"),
            "provider": one_of("elevenlabs", "scribe_realtime", "scribe_v2_turbo"),
            "user_input_audio_format": _AUDIO_FORMAT,
            "keywords": items(text),
        }
    ),
    "tts": fields(
        {
            "model_id": one_of(
                "eleven_turbo_v2",
                "eleven_turbo_v2_5",
                "eleven_flash_v2",
                "eleven_flash_v2_5",
                "eleven_multilingual_v2",
                "eleven_v3_conversational",
                "eleven_v4",
                "eleven_v4_turbo",
            ),
            "voice_id": text,
            "supported_voices": items(fields({})),
            "expressive_mode": boolean,
            "suggested_audio_tags": items(fields({})),
            "agent_output_audio_format": _AUDIO_FORMAT,
            # Strings in the docs, numbers in the SDKs; it does nothing.
            "optimize_streaming_latency": one_of(0, 1, 2, 3, 4, "0", "1", "2", "3", "4"),
            "stability": number(0, 1),
            "speed": number(0.7, 1.2),
            "similarity_boost": number(0, 1),
            "text_normalisation_type": one_of("system_prompt", "elevenlabs"),
            "pronunciation_dictionary_locators": items(fields({})),
            "enable_phoneme_tags": boolean,
        }
    ),
    "turn": fields(
        {
            "turn_timeout": number(),
            "initial_wait_time": number(),
            "silence_end_call_timeout": number(-1),
            "turn_eagerness": one_of("patient", "normal", "eager"),
            "spelling_patience": one_of("auto", "off"),
            "speculative_turn": boolean,
            "retranscribe_on_turn_timeout": boolean,
            "turn_model": one_of("turn_v2", "turn_v3"),
            "interruption_ignore_terms": items(text),
            "interruption_ignore_term_languages": items(text),
            "merge_with_default_ignore_terms": boolean,
            "transcribe_on_disabled_interruptions": boolean,
        }
    ),
    "vad": fields({}),
    "conversation": fields(
        {
            "text_only": boolean,
            "max_duration_seconds": integer(1, _MANY),
            "client_events": items(text),
            "monitoring_enabled": boolean,
            "monitoring_events": items(text),
            "file_input": fields({}),
            "dtmf_input_settings": fields({}),
            "background_sound": anything,
            "source_attribution": boolean,
        }
    ),
    "privacy": fields(
        {
            "record_voice": boolean,
            "retention_days": integer(-1, _MANY),
            "delete_transcript_and_pii": boolean,
            "delete_audio": boolean,
            "apply_to_existing_conversations": boolean,
            "zero_retention_mode": boolean,
            "conversation_history_redaction": fields({"enabled": boolean, "entities": items(text)}),
        }
    ),
    "call_limits": fields(
        {
            "agent_concurrency_limit": integer(-1, _MANY),
            "daily_limit": integer(0, _MANY),
            "bursting_enabled": boolean,
        }
    ),
    "auth": fields({"enable_auth": boolean}),
    "language": text,
    "cascade_timeout_seconds": number(2, 15),
    "tags": items(text),
    "overrides": fields({"first_message": boolean}),
}

_AGENT: dict[str, Check] = {"ws_url": ws_url, "request_headers": request_headers}

CREATE = fields(
    {"speech_engine": fields(_AGENT, required=("ws_url",)), **_FIELDS}, required=("speech_engine",)
)
UPDATE = fields({"speech_engine": fields(_AGENT, never_null=("ws_url",)), **_FIELDS})
DUPLICATE = fields({"name": text})
