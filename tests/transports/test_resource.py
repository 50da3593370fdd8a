"""The resource: verify, create a session, keep what it was given."""

from __future__ import annotations

import time
from typing import Any

import pytest

from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token
from speech_engine_transports import SpeechEngineResource, SpeechEngineSession

KEY = "sk_test"


def signed(key: str = KEY) -> str:
    return sign_token(key, now=time.time(), lifetime=86_400)  # made long before it is used


@pytest.mark.parametrize(
    "headers",
    [
        {"x-elevenlabs-speech-engine-authorization": signed()},
        {AUTHORIZATION_HEADER: signed()},
        {AUTHORIZATION_HEADER.upper(): f"Bearer {signed()}"},
        {AUTHORIZATION_HEADER: [signed()]},
        [("Host", "x"), (AUTHORIZATION_HEADER, signed())],
        [(b"host", b"x"), (AUTHORIZATION_HEADER.lower().encode(), signed().encode())],
    ],
)
def test_verify_request_finds_the_header_in_any_case(headers: Any) -> None:
    """Weakness 16 of the official SDK: only a lower-case key was found."""
    assert SpeechEngineResource("seng_1", api_key=KEY).verify_request(headers) is True


@pytest.mark.parametrize(
    "headers",
    [
        {},
        [],
        {AUTHORIZATION_HEADER: signed("sk_other")},
        {AUTHORIZATION_HEADER: []},
        {AUTHORIZATION_HEADER: [signed(), signed()]},
        [(AUTHORIZATION_HEADER, signed()), (AUTHORIZATION_HEADER.lower(), signed())],
        {AUTHORIZATION_HEADER: None},
    ],
)
def test_verify_request_refuses_the_rest(headers: Any) -> None:
    assert SpeechEngineResource("seng_1", api_key=KEY).verify_request(headers) is False


def test_the_key_may_be_one_of_several_or_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = {AUTHORIZATION_HEADER: signed()}
    assert SpeechEngineResource("seng_1", api_key=["sk_new", KEY]).verify_request(headers)
    resource = SpeechEngineResource("seng_1")
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    assert not resource.verify_request(headers)
    monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
    assert resource.verify_request(headers)


def test_it_keeps_what_it_was_given_and_shows_no_key() -> None:
    config = object()
    resource = SpeechEngineResource("seng_1", api_key=KEY, config=config)
    assert resource.engine_id == "seng_1"
    assert resource.config is config
    assert repr(resource) == "SpeechEngineResource('seng_1')"


def test_create_session_wraps_any_socket() -> None:
    class Nothing:
        recv = send = close = print

    session = SpeechEngineResource("seng_1").create_session(Nothing(), fallback="Sorry.")
    assert isinstance(session, SpeechEngineSession)
    assert session.conversation_id is None
    assert session.is_open
    assert session.turn is None
