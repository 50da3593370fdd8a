"""The settings of an engine: defaults, what is refused, what a change touches."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_local.cloud import engines
from speech_engine_local.cloud._settings import DEFAULTS
from speech_engine_local.cloud.problems import ValidationProblem

AGENT = {"ws_url": "ws://127.0.0.1:3001/ws"}
SMALLEST: dict[str, Any] = {"speech_engine": AGENT}


def made(**body: Any) -> engines.Engine:
    return engines.create({**SMALLEST, **body}, now=100)


def mistakes(body: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Where a body to create an engine is wrong, and the sort of each mistake."""
    with pytest.raises(ValidationProblem) as refused:
        engines.create(body, now=100)
    for entry in refused.value.details:
        assert set(entry) == {"loc", "msg", "type"}
        assert entry["msg"]
    return [(tuple(entry["loc"]), entry["type"]) for entry in refused.value.details]


class TestDefaults:
    def test_an_address_is_enough(self) -> None:
        engine = made()
        assert re.fullmatch("seng_[a-z0-9]{28}", engine.engine_id)
        assert engine.settings == {
            **DEFAULTS,
            "speech_engine": {**AGENT, "request_headers": {}},
        }

    def test_they_are_those_of_the_fact_sheet(self) -> None:
        settings = made().settings
        assert settings["name"] == "Speech Engine"
        assert settings["language"] == "en"
        assert settings["cascade_timeout_seconds"] == 4
        assert settings["overrides"] == {"first_message": False}
        assert settings["auth"] == {"enable_auth": False}
        assert (settings["tags"], settings["vad"]) == ([], {})
        assert (
            settings["asr"].items()
            >= {
                "quality": "high",
                "provider": "scribe_realtime",
                "user_input_audio_format": "pcm_16000",
            }.items()
        )
        assert (
            settings["tts"].items()
            >= {
                "model_id": "eleven_flash_v2",
                "voice_id": "cjVigY5qzO86Huf0OWal",
                "agent_output_audio_format": "pcm_16000",
                "stability": 0.5,
                "speed": 1,
                "similarity_boost": 0.8,
                "expressive_mode": True,
                "text_normalisation_type": "system_prompt",
            }.items()
        )
        assert (
            settings["turn"].items()
            >= {
                "turn_timeout": 7,
                "initial_wait_time": None,
                "silence_end_call_timeout": -1,
                "turn_eagerness": "normal",
                "speculative_turn": False,
                "retranscribe_on_turn_timeout": False,
                "transcribe_on_disabled_interruptions": False,
            }.items()
        )
        assert (
            settings["conversation"].items()
            >= {
                "text_only": False,
                "max_duration_seconds": 600,
                "monitoring_enabled": False,
                "source_attribution": False,
            }.items()
        )
        assert {"audio", "interruption", "agent_response", "user_transcript"} <= set(
            settings["conversation"]["client_events"]
        )
        assert (
            settings["privacy"].items()
            >= {
                "record_voice": True,
                "retention_days": -1,
                "zero_retention_mode": False,
            }.items()
        )
        assert settings["call_limits"] == {
            "agent_concurrency_limit": -1,
            "daily_limit": 100_000,
            "bursting_enabled": True,
        }

    def test_one_engine_does_not_change_those_of_the_next(self) -> None:
        before = copy.deepcopy(DEFAULTS)
        made().settings["asr"]["keywords"].append("x")
        changed = engines.patch(made(), {"tts": {"supported_voices": [{}]}}, now=1)
        changed.settings["tts"]["supported_voices"].append("x")
        assert before == DEFAULTS

    def test_the_defaults_are_what_the_checks_accept(self) -> None:
        assert engines.create({**DEFAULTS, **SMALLEST}, now=100).settings["tts"] == DEFAULTS["tts"]

    def test_the_readable_side(self) -> None:
        engine = made(
            name="Ada",
            speech_engine={**AGENT, "request_headers": {"x": "1"}},
            cascade_timeout_seconds=2,
            overrides={"first_message": True},
            auth={"enable_auth": True},
            tts={"agent_output_audio_format": "ulaw_8000", "speed": 1.2},
            asr={"user_input_audio_format": "pcm_48000"},
            conversation={"text_only": True, "max_duration_seconds": 5, "client_events": ["audio"]},
            call_limits={"agent_concurrency_limit": 3},
        )
        assert (engine.name, engine.ws_url) == ("Ada", AGENT["ws_url"])
        assert engine.request_headers == {"x": "1"}
        assert (engine.cascade_timeout, engine.max_duration, engine.speed) == (2.0, 5, 1.2)
        assert engine.first_message_allowed
        assert engine.requires_auth
        assert engine.text_only
        assert (engine.output_format, engine.input_format) == ("ulaw_8000", "pcm_48000")
        assert (engine.concurrency_limit, engine.client_events) == (3, ("audio",))

    def test_no_header_is_in_the_repr(self) -> None:
        engine = made(speech_engine={**AGENT, "request_headers": {"authorization": "s3cret"}})
        assert "s3cret" not in repr(engine)


class TestRefused:
    @pytest.mark.parametrize("body", [None, [], "x", 1, True])
    def test_what_is_no_object(self, body: object) -> None:
        assert mistakes(body) == [(("body",), "dict_type")]

    def test_every_mistake_is_told_at_once(self) -> None:
        found = mistakes(
            {
                "name": 1,
                "speech_engine": {"request_headers": []},
                "asr": {"keywords": ["fine", 5], "quality": "low"},
                "tags": "x",
                "cascade_timeout_seconds": 16,
            }
        )
        assert sorted(found, key=str) == sorted(
            [
                (("body", "name"), "string_type"),
                (("body", "speech_engine", "ws_url"), "missing"),
                (("body", "speech_engine", "request_headers"), "dict_type"),
                (("body", "asr", "keywords", 1), "string_type"),
                (("body", "asr", "quality"), "enum"),
                (("body", "tags"), "list_type"),
                (("body", "cascade_timeout_seconds"), "less_than_equal"),
            ],
            key=str,
        )

    @pytest.mark.parametrize(
        ("agent", "where", "kind"),
        [
            (None, (), "dict_type"),
            ({}, ("ws_url",), "missing"),
            ({"ws_url": None}, ("ws_url",), "string_type"),
            ({"ws_url": 5}, ("ws_url",), "string_type"),
            ({"ws_url": ""}, ("ws_url",), "url_parsing"),
            ({"ws_url": "http://x"}, ("ws_url",), "url_scheme"),
            ({"ws_url": "HTTPS://x"}, ("ws_url",), "url_scheme"),
            ({"ws_url": "ftp://x"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "localhost:3001"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x:port"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x:0"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x:70000"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://[x/"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x/a b"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x/\r\nhost: y"}, ("ws_url",), "url_parsing"),
            ({"ws_url": "ws://x/#part"}, ("ws_url",), "url_parsing"),
        ],
    )
    def test_addresses_that_nobody_can_dial(self, agent: Any, where: Any, kind: str) -> None:
        assert mistakes({"speech_engine": agent}) == [(("body", "speech_engine", *where), kind)]

    def test_an_http_address_is_told_which_one_it_should_be(self) -> None:
        with pytest.raises(ValidationProblem) as refused:
            engines.create({"speech_engine": {"ws_url": "https://u:p4ss@x/ws"}}, now=1)
        (entry,) = refused.value.details
        assert entry["msg"] == "expected ws:// or wss://, got https://: did you mean wss://?"
        assert "p4ss" not in str(refused.value.details)

    @pytest.mark.parametrize("url", ["wss://x", "WS://X/ws", "ws://[::1]:3001/ws?a=1", "ws://ü/"])
    def test_addresses_that_are_fine(self, url: str) -> None:
        assert engines.create({"speech_engine": {"ws_url": url}}, now=1).ws_url == url

    @pytest.mark.parametrize(
        ("name", "value", "kind"),
        [
            ("a b", "x", "header_name"),
            ("", "x", "header_name"),
            ("é", "x", "header_name"),
            ("x", "a\r\nb: c", "header_value"),
            ("x", None, "header_value"),
            ("x", 5, "header_value"),
            ("x", {}, "header_value"),
            ("x", {"secret_id": 5}, "header_value"),
            ("x", {"variable_name": None}, "header_value"),
            ("x", {"secret_id": "a", "variable_name": "b"}, "header_value"),
            ("x", {"other": "a"}, "header_value"),
        ],
    )
    def test_headers_that_cannot_be_sent(self, name: str, value: Any, kind: str) -> None:
        body = {"speech_engine": {**AGENT, "request_headers": {name: value}}}
        assert mistakes(body) == [(("body", "speech_engine", "request_headers", name), kind)]

    def test_headers_that_are_fine(self) -> None:
        headers = {
            "authorization": "Bearer x\ty",
            "x-secret": {"secret_id": "s"},
            "x-caller": {"variable_name": "caller"},
        }
        engine = made(speech_engine={**AGENT, "request_headers": headers})
        assert engine.request_headers == headers

    @pytest.mark.parametrize("seconds", [2, 2.5, 15])
    def test_the_cascade_timeout_has_bounds(self, seconds: float) -> None:
        assert made(cascade_timeout_seconds=seconds).cascade_timeout == seconds
        for wrong, kind in (
            (1.99, "greater_than_equal"),
            (15.01, "less_than_equal"),
            (True, "float_type"),
            ("4", "float_type"),
        ):
            body = {**SMALLEST, "cascade_timeout_seconds": wrong}
            assert mistakes(body) == [(("body", "cascade_timeout_seconds"), kind)]

    @pytest.mark.parametrize(
        ("part", "field", "value"),
        [
            ("asr", "quality", "low"),
            ("asr", "provider", "whisper"),
            ("asr", "user_input_audio_format", "mp3_44100"),
            ("tts", "model_id", "eleven_monolingual_v1"),
            ("tts", "agent_output_audio_format", "pcm_1"),
            ("tts", "agent_output_audio_format", {}),
            ("tts", "optimize_streaming_latency", 5),
            ("tts", "optimize_streaming_latency", True),
            ("tts", "text_normalisation_type", "none"),
            ("turn", "turn_eagerness", "high"),
            ("turn", "spelling_patience", "on"),
            ("turn", "turn_model", "turn_v1"),
        ],
    )
    def test_enumerations(self, part: str, field: str, value: Any) -> None:
        assert mistakes({**SMALLEST, part: {field: value}}) == [(("body", part, field), "enum")]

    @pytest.mark.parametrize(
        ("part", "field", "value", "kind"),
        [
            ("conversation", "max_duration_seconds", 1.5, "int_type"),
            ("conversation", "max_duration_seconds", False, "int_type"),
            ("conversation", "max_duration_seconds", 0, "greater_than_equal"),
            ("conversation", "text_only", 1, "bool_type"),
            ("call_limits", "agent_concurrency_limit", -2, "greater_than_equal"),
            ("tts", "speed", 0, "greater_than_equal"),
            ("tts", "stability", 1.1, "less_than_equal"),
            ("auth", "enable_auth", "yes", "bool_type"),
            ("overrides", "first_message", "hello", "bool_type"),
        ],
    )
    def test_types_and_bounds(self, part: str, field: str, value: Any, kind: str) -> None:
        assert mistakes({**SMALLEST, part: {field: value}}) == [(("body", part, field), kind)]

    @pytest.mark.parametrize("part", [key for key in DEFAULTS if isinstance(DEFAULTS[key], dict)])
    def test_a_part_is_an_object(self, part: str) -> None:
        assert mistakes({**SMALLEST, part: 1}) == [(("body", part), "dict_type")]

    def test_a_value_is_not_repeated(self) -> None:
        with pytest.raises(ValidationProblem) as refused:
            engines.create({**SMALLEST, "tags": ["fine", {"s3cret": 1}], "language": 5}, now=1)
        assert "s3cret" not in str(refused.value.details)


class TestPatch:
    def test_touches_nothing_else(self) -> None:
        engine = made(name="A", tts={"voice_id": "v", "speed": 1.2}, tags=["x"])
        changed = engines.patch(engine, {"tts": {"speed": 0.7}}, now=200)
        expected = copy.deepcopy(engine.settings)
        expected["tts"]["speed"] = 0.7
        assert changed.settings == expected
        assert engine.settings["tts"]["speed"] == 1.2
        assert (changed.created_at, changed.updated_at) == (100, 200)
        assert changed.engine_id == engine.engine_id

    def test_the_agents_headers_without_its_address(self) -> None:
        # As ElevenLabs' own Twilio page sends it (fact sheet 4).
        body = {"speech_engine": {"request_headers": {"x": "1"}}}
        changed = engines.patch(made(), body, now=200)
        assert (changed.ws_url, changed.request_headers) == (AGENT["ws_url"], {"x": "1"})

    def test_maps_and_lists_are_replaced_whole(self) -> None:
        engine = made(
            speech_engine={**AGENT, "request_headers": {"a": "1", "b": "2"}}, tags=["x", "y"]
        )
        body = {"speech_engine": {"request_headers": {"c": "3"}}, "tags": ["z"]}
        changed = engines.patch(engine, body, now=200)
        assert (changed.request_headers, changed.settings["tags"]) == ({"c": "3"}, ["z"])

    def test_merges_at_every_depth(self) -> None:
        redaction = {"conversation_history_redaction": {"entities": ["name"]}}
        changed = engines.patch(made(privacy=redaction), {"privacy": redaction}, now=1)
        again = {"conversation_history_redaction": {"enabled": True}}
        changed = engines.patch(changed, {"privacy": again}, now=1)
        assert changed.settings["privacy"]["conversation_history_redaction"] == {
            "enabled": True,
            "entities": ["name"],
        }

    def test_null_in_a_part_is_the_default_and_beside_them_says_nothing(self) -> None:
        engine = made(name="A", tts={"speed": 1.2, "enable_phoneme_tags": True})
        body = {"name": None, "vad": None, "tts": {"speed": None, "enable_phoneme_tags": None}}
        changed = engines.patch(engine, body, now=1)
        assert changed.name == "A"
        assert changed.speed == 1
        assert changed.settings["tts"]["enable_phoneme_tags"] is None

    def test_an_address_stays_one(self) -> None:
        for url, kind in ((None, "string_type"), ("http://x", "url_scheme")):
            with pytest.raises(ValidationProblem) as refused:
                engines.patch(made(), {"speech_engine": {"ws_url": url}}, now=1)
            (entry,) = refused.value.details
            assert (entry["loc"], entry["type"]) == (["body", "speech_engine", "ws_url"], kind)

    def test_what_is_not_a_setting_is_left_out(self) -> None:
        # A client that sends back what it got must not rewrite what is not its own.
        body = engines.response(made(name="A")) | {"speech_engine_id": "x", "unknown": 1}
        engine = made()
        changed = engines.patch(engine, body, now=1)
        assert changed.engine_id == engine.engine_id
        assert set(changed.settings) == set(DEFAULTS)

    def test_fields_of_newer_clients_are_kept(self) -> None:
        changed = engines.patch(made(), {"tts": {"clone_strength": 0.5}}, now=1)
        assert changed.settings["tts"]["clone_strength"] == 0.5

    @given(
        st.dictionaries(
            st.sampled_from(["tts", "turn", "asr", "conversation", "privacy", "call_limits"]),
            st.fixed_dictionaries({}),
        )
    )
    def test_nothing_changes_nothing(self, body: dict[str, Any]) -> None:
        engine = made(name="A", tts={"speed": 1.2})
        assert engines.patch(engine, body, now=1).settings == engine.settings

    def test_what_was_answered_can_be_sent_back(self) -> None:
        engine = made(name="A", tts={"speed": 1.2}, tags=["x"])
        assert engines.patch(engine, engines.response(engine), now=1).settings == engine.settings


class TestDuplicate:
    def test_keeps_all_but_the_identity(self) -> None:
        engine = made(name="A", tags=["x"])
        second = engines.duplicate(engine, None, now=300)
        assert second.settings == engine.settings
        assert second.engine_id != engine.engine_id
        assert (second.created_at, second.updated_at) == (300, 300)

    @pytest.mark.parametrize("body", [{}, {"name": None}, None])
    def test_without_a_name_it_has_the_same(self, body: Any) -> None:
        assert engines.duplicate(made(name="A"), body, now=1).name == "A"

    def test_a_name_and_nothing_else_is_taken(self) -> None:
        second = engines.duplicate(made(), {"name": "B", "tags": ["x"]}, now=1)
        assert (second.name, second.settings["tags"]) == ("B", [])

    @pytest.mark.parametrize("body", [[], 1, {"name": 1}])
    def test_wrong_bodies(self, body: Any) -> None:
        with pytest.raises(ValidationProblem):
            engines.duplicate(made(), body, now=1)


class TestBodies:
    def test_an_engine_has_every_key_that_the_typescript_sdk_insists_on(self) -> None:
        assert set(engines.response(made())) == {
            *("speech_engine_id", "name", "speech_engine", "asr", "tts", "turn", "vad"),
            *("conversation", "privacy", "call_limits", "auth", "language", "tags", "overrides"),
            *("cascade_timeout_seconds", "metadata", "access_info"),
        }

    def test_a_summary_has_every_key(self) -> None:
        told = engines.summary(made(tts={"voice_id": "v"}, tags=["x"]))
        assert told.keys() == {
            *("speech_engine_id", "name", "voice_id", "tags", "access_info"),
            *("created_at_unix_secs", "updated_at_unix_secs"),
        }
        assert (told["voice_id"], told["tags"], told["created_at_unix_secs"]) == ("v", ["x"], 100)

    def test_they_share_nothing_with_the_engine(self) -> None:
        engine = made()
        before = json.dumps(engine.settings)
        engines.response(engine)["tts"]["speed"] = 3
        engines.summary(engine)["tags"].append("x")
        assert json.dumps(engine.settings) == before

    def test_both_prefixes_name_the_same_engine(self) -> None:
        engine_id = made().engine_id
        assert engines.normal_id(engine_id.replace("seng_", "agent_")) == engine_id
        assert engines.normal_id(engine_id) == engine_id
        assert engines.normal_id("other_x") == "other_x"
