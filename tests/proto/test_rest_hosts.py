"""Which host a client talks to, and which keys it takes."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from speech_engine_proto.rest import ElevenLabsEnvironment, check_api_key, resolve_base_url

GLOBAL = "https://api.elevenlabs.io"
EU = "https://api.eu.residency.elevenlabs.io"
INDIA = "https://api.in.residency.elevenlabs.io"


class OfficialEnvironment(Enum):
    """Stands for the official SDK's class."""

    PRODUCTION_EU = EU


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ({}, GLOBAL),
        ({"base_url": ""}, GLOBAL),
        ({"api_key": "sk_1"}, GLOBAL),
        ({"api_key": "sk_1_residency_in"}, INDIA),
        ({"api_key": "sk_residency_eu_1"}, GLOBAL),
        ({"environment": "eu"}, EU),
        ({"environment": "us"}, "https://api.us.elevenlabs.io"),
        ({"environment": "sg"}, "https://api.sg.residency.elevenlabs.io"),
        ({"environment": "eu", "api_key": "sk_1_residency_in"}, EU),
        ({"environment": ElevenLabsEnvironment.PRODUCTION}, GLOBAL),
        ({"environment": OfficialEnvironment.PRODUCTION_EU}, EU),
        ({"base_url": "http://127.0.0.1:8787", "environment": "eu"}, "http://127.0.0.1:8787"),
        ({"base_url": " https://a.example/under/ "}, "https://a.example/under"),
        ({"base_url": "http://[::1]:80", "api_key": "sk_1_residency_in"}, "http://[::1]:80"),
    ],
)
def test_where_the_api_is(arguments: Any, url: str) -> None:
    assert resolve_base_url(**arguments) == url


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"environment": "mars"}, "environment: expected one of us, eu, in, sg, got 'mars'"),
        ({"api_key": "sk_1_residency_mars"}, "suffix: expected one of .*, got 'mars'; .* base_url"),
        ({"base_url": "ws://a"}, "base_url: expected an http:// or https:// URL, got scheme 'ws'"),
        ({"base_url": "a.example"}, "got scheme ''"),
        ({"base_url": "https://"}, "got one without a host"),
        ({"base_url": "https://a:b"}, "got one with a broken host or port"),
        ({"base_url": "https://[a"}, "got one with a broken host or port"),
        ({"base_url": "https://a b"}, "got one with white space"),
        ({"base_url": "https://a?b=c"}, "without user, query and fragment"),
        ({"base_url": "https://a#b"}, "without user, query and fragment"),
        ({"base_url": "https://user:s3cret@a"}, "without user, query and fragment"),
        ({"base_url": 1}, "base_url: expected an http:// or https:// URL, got int"),
        ({"environment": Enum("Odd", {"A": 1}).A}, "environment: expected an http:// .*, got int"),  # type: ignore[attr-defined]
    ],
)
def test_what_is_no_host(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        resolve_base_url(**arguments)
    assert "s3cret" not in str(caught.value)
    assert "sk_1" not in str(caught.value)


def test_the_key_is_taken_without_white_space_around_it() -> None:
    assert check_api_key(" sk_1\n") == "sk_1"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "api_key: expected a key, got none; pass api_key= or set ELEVENLABS_API_KEY"),
        ("", "api_key: expected a key, got none"),
        (5, "api_key: expected text, got int"),
        ("  ", "api_key: expected printable ASCII"),
        ("s3cret\nX-Other: a", "api_key: expected printable ASCII"),
        ("s3crét", "api_key: expected printable ASCII"),
    ],
)
def test_what_is_no_key(key: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        check_api_key(key)
    assert "s3cr" not in str(caught.value)
