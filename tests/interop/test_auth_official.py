"""Tokens and verdicts beside those of the official `elevenlabs` package, and real header types."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_proto.auth import (
    AUTHORIZATION_HEADER,
    AuthenticationError,
    find_token,
    sign_token,
    verify_speech_engine_jwt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

resource = pytest.importorskip("elevenlabs.speech_engine.resource")

KEY = "sk_0123456789abcdef"
HOUR = 3600
HEADER = b'{"alg":"HS256","typ":"JWT"}'


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_of(payload: bytes, header: bytes = HEADER) -> str:
    signed = f"{b64(header)}.{b64(payload)}"
    secret = hashlib.sha256(KEY.encode()).digest()
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def claims(**changes: Any) -> bytes:
    now = int(time.time())
    good = {
        "iss": "https://api.elevenlabs.io/convai/speech-engine",
        "sub": "convai_speech_engine_upstream",
        "iat": now,
        "exp": now + 300,
    }
    return json.dumps(good | changes).encode()


@pytest.mark.parametrize("key", [KEY, f"{KEY}_residency_in", f" {KEY}\n", "sk_ключ"])
def test_our_tokens_are_accepted(key: str) -> None:
    token = sign_token(key, now=time.time(), claims={"jti": "1"})
    accepted = resource.verify_speech_engine_jwt(f"Bearer {token}", key)
    assert accepted == verify_speech_engine_jwt(f"Bearer {token}", key)


# Tokens are made when they are checked: a whole test run may lie between these lines and that.
SAME_VERDICT: list[tuple[Callable[[], str], str | None]] = [
    (lambda: token_of(claims()), None),
    (lambda: f"bearer  {token_of(claims())} ", None),
    (lambda: token_of(claims(aud="x", nbf=2**40, jti=5)), None),
    (lambda: token_of(claims(exp=time.time() - 10)), None),
    (lambda: token_of(claims(iat=time.time() + 30)), None),
    (lambda: token_of(claims(exp=time.time() - HOUR)), "token has expired"),
    (lambda: token_of(claims(iat=time.time() + HOUR)), "iat is in the future"),
    (lambda: token_of(claims(exp=None)), "missing exp"),
    (lambda: token_of(claims(exp="soon")), "missing exp"),
    (lambda: token_of(claims(iat=None)), "missing iat"),
    (lambda: token_of(claims(iss="elsewhere")), "expected issuer"),
    (lambda: token_of(claims(iss=None)), "expected issuer"),
    (lambda: token_of(claims(sub=["x"])), "expected subject"),
    (lambda: token_of(claims(exp=0, iss="elsewhere")), "expected issuer"),
    (lambda: sign_token("sk_other", now=time.time()), "signature mismatch"),
    (lambda: token_of(claims()).rpartition(".")[0] + ".", "signature mismatch"),
    (lambda: "", "expected 3 parts"),
    (lambda: "a.b", "expected 3 parts"),
    (lambda: f"{token_of(claims())}, {token_of(claims())}", "expected 3 parts"),
    (lambda: token_of(b"{"), "failed to decode payload"),
]


@pytest.mark.parametrize(("make", "phrase"), SAME_VERDICT)
def test_the_verdict_is_the_same(make: Callable[[], str], phrase: str | None) -> None:
    token = make()
    if phrase is None:
        assert resource.verify_speech_engine_jwt(token, KEY) == verify_speech_engine_jwt(token, KEY)
        return
    for verify in (resource.verify_speech_engine_jwt, verify_speech_engine_jwt):
        with pytest.raises(ValueError, match=phrase):
            verify(token, KEY)


STRICTER: dict[str, Callable[[], str]] = {
    "alg none": lambda: token_of(claims(), b'{"alg":"none"}'),
    "another alg": lambda: token_of(claims(), b'{"alg":"RS256"}'),
    "header is no JSON": lambda: token_of(claims(), b"hello"),
    "exp NaN": lambda: token_of(claims(exp=float("nan"))),
    "exp infinite": lambda: token_of(claims(exp=float("inf"))),
    "iat true": lambda: token_of(claims(iat=True)),
    "payload in UTF-16": lambda: token_of(claims().decode().encode("utf-16")),
    "over 16 KiB": lambda: token_of(claims(extra="x" * 20_000)),
}


@pytest.mark.parametrize("make", STRICTER.values(), ids=STRICTER)
def test_where_ours_is_stricter(make: Callable[[], str]) -> None:
    token = make()
    resource.verify_speech_engine_jwt(token, KEY)
    with pytest.raises(AuthenticationError):
        verify_speech_engine_jwt(token, KEY)


def test_a_blank_key_signs_nothing_here() -> None:
    digest_of_nothing = hashlib.sha256(b"").digest()
    signed = f"{b64(HEADER)}.{b64(claims())}"
    token = f"{signed}.{b64(hmac.new(digest_of_nothing, signed.encode(), 'sha256').digest())}"
    resource.verify_speech_engine_jwt(token, "_residency_in")
    with pytest.raises(AuthenticationError, match="blank"):
        verify_speech_engine_jwt(token, "_residency_in")


def test_a_payload_that_is_a_list_is_a_clean_verdict_here() -> None:
    token = token_of(b"[]")
    with pytest.raises(AttributeError):
        resource.verify_speech_engine_jwt(token, KEY)
    with pytest.raises(AuthenticationError, match="expected a JSON object"):
        verify_speech_engine_jwt(token, KEY)


# --- the header types of real libraries

NAME = AUTHORIZATION_HEADER


def test_headers_of_websockets() -> None:
    headers = pytest.importorskip("websockets.datastructures").Headers
    # Another header may come twice; this type raises when it is asked for one that did.
    others = [("Via", "a"), ("Via", "b")]
    assert find_token(headers([*others, (NAME.lower(), "t")])) == "t"
    with pytest.raises(AuthenticationError, match="repeated"):
        find_token(headers([*others, (NAME, "t"), (NAME.lower(), "t")]))


def test_headers_of_aiohttp() -> None:
    headers = pytest.importorskip("multidict").CIMultiDict
    assert find_token(headers([("Via", "a"), ("Via", "b"), (NAME.lower(), "t")])) == "t"
    with pytest.raises(AuthenticationError, match="repeated"):
        find_token(headers([(NAME, "t"), (NAME, "u")]))
