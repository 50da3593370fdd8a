"""The token: found in any headers, checked claim by claim, signed as the service signs.

The tokens here are signed with `hmac` and `hashlib` alone, from the facts sheet (section 2), so
that signing and checking cannot be wrong in the same way.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto.auth import (
    AUTHORIZATION_HEADER,
    AuthenticationError,
    find_token,
    sign_token,
    verify_speech_engine_jwt,
    verify_token,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000
KEY = "sk_0123456789abcdef"
GOOD: dict[str, Any] = {
    "iss": "https://api.elevenlabs.io/convai/speech-engine",
    "sub": "convai_speech_engine_upstream",
    "iat": NOW,
    "exp": NOW + 300,
}
HEADER = {"alg": "HS256", "typ": "JWT"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token_of(payload: bytes, *, header: bytes | None = None, key: str = KEY) -> str:
    """Sign whatever bytes, as long as the signature itself is right."""
    signed = f"{b64(json.dumps(HEADER).encode() if header is None else header)}.{b64(payload)}"
    secret = hashlib.sha256(key.encode()).digest()
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def token_with(**claims: Any) -> str:
    return token_of(json.dumps(GOOD | claims).encode())


def token_without(claim: str) -> str:
    return token_of(json.dumps({k: v for k, v in GOOD.items() if k != claim}).encode())


def refused(token: Any, phrase: str, keys: Any = KEY, now: float = NOW) -> None:
    with pytest.raises(AuthenticationError, match=re.escape(phrase)):
        verify_token(token, keys, now=now)


# --- what passes


def test_a_good_token_gives_its_claims() -> None:
    assert verify_token(token_with(aud="anyone"), KEY, now=NOW) == GOOD | {"aud": "anyone"}


@pytest.mark.parametrize("around", ["{}", "  {}\r\n", "Bearer {}", "bEaReR   {} ", " BEARER {}"])
def test_white_space_and_bearer_are_taken_off(around: str) -> None:
    assert verify_token(around.format(token_with()), KEY, now=NOW) == GOOD


@pytest.mark.parametrize(
    "key", [KEY, f"  {KEY}\n", f"{KEY}_residency_in", f" {KEY}_residency_eu2 "]
)
def test_a_key_is_stripped_of_space_and_region(key: str) -> None:
    assert verify_token(token_with(), key, now=NOW) == GOOD
    assert sign_token(key, now=NOW) == sign_token(KEY, now=NOW)


@pytest.mark.parametrize(
    "key", [f"{KEY}_residency_", f"{KEY}_residency_IN", f"_residency_in{KEY}-", f"{KEY}_in"]
)
def test_only_a_region_at_the_end_is_taken_off(key: str) -> None:
    refused(token_with(), "signature mismatch", key)


def test_one_region_is_taken_off_at_most() -> None:
    twice = f"{KEY}_residency_in_residency_us"
    token = token_of(json.dumps(GOOD).encode(), key=f"{KEY}_residency_in")
    assert verify_token(token, twice, now=NOW) == GOOD


def test_any_of_several_keys_will_do() -> None:
    keys: Iterator[str] = iter(["sk_old", "sk_older", KEY])
    assert verify_token(token_with(), keys, now=NOW) == GOOD


# --- times


@pytest.mark.parametrize("exp", [NOW - 60, NOW - 59.5, NOW, 10**400, 1e300])
def test_exp_passes_up_to_the_leeway(exp: float) -> None:
    assert verify_token(token_with(exp=exp), KEY, now=NOW)["exp"] == exp


@pytest.mark.parametrize("exp", [NOW - 61, NOW - 60.5, 0, -(10**400), -1e300])
def test_exp_fails_past_the_leeway(exp: float) -> None:
    refused(token_with(exp=exp), "token has expired")


@pytest.mark.parametrize("iat", [NOW + 60, NOW + 59.5, 0, -1, -(10**400)])
def test_iat_passes_up_to_the_leeway(iat: float) -> None:
    assert verify_token(token_with(iat=iat), KEY, now=NOW)["iat"] == iat


@pytest.mark.parametrize("iat", [NOW + 61, NOW + 60.5, 10**400, 1e300])
def test_iat_fails_past_the_leeway(iat: float) -> None:
    refused(token_with(iat=iat), "iat is in the future")


def test_the_leeway_is_an_argument() -> None:
    late = NOW + 301
    assert verify_token(token_with(), KEY, now=late, leeway=1) == GOOD
    with pytest.raises(AuthenticationError, match="token has expired"):
        verify_token(token_with(), KEY, now=late, leeway=0.5)


@pytest.mark.parametrize("claim", ["exp", "iat"])
@pytest.mark.parametrize(
    "value",
    [None, True, False, "1700000000", [NOW], {}, float("nan"), float("inf"), float("-inf")],
)
def test_a_time_is_a_finite_number(claim: str, value: object) -> None:
    refused(token_with(**{claim: value}), f"missing {claim}")


@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_a_missing_time(claim: str) -> None:
    refused(token_without(claim), f"missing {claim}")


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_clock_lets_nobody_in(now: float) -> None:
    with pytest.raises(AuthenticationError):
        verify_token(token_with(), KEY, now=now)


# --- other claims


@pytest.mark.parametrize("value", ["", "https://api.elevenlabs.io/convai", None, 7, [GOOD["iss"]]])
def test_issuer(value: object) -> None:
    refused(token_with(iss=value), f'expected issuer "{GOOD["iss"]}"')


@pytest.mark.parametrize("value", ["", "CONVAI_SPEECH_ENGINE_UPSTREAM", None, True, {}])
def test_subject(value: object) -> None:
    refused(token_with(sub=value), f'expected subject "{GOOD["sub"]}"')


def test_missing_names() -> None:
    refused(token_without("iss"), "expected issuer")
    refused(token_without("sub"), "expected subject")


def test_a_long_wrong_issuer_is_shown_in_part() -> None:
    with pytest.raises(AuthenticationError) as caught:
        verify_token(token_with(iss="x" * 5000), KEY, now=NOW)
    assert len(str(caught.value)) < 300


# --- tokens that are none


@pytest.mark.parametrize("token", ["", "  ", "Bearer", "Bearer ", "a.b", "a.b.c.d", "....."])
def test_number_of_parts(token: str) -> None:
    refused(token, "expected 3 parts")


def test_a_token_joined_with_another_is_refused() -> None:
    refused(f"{token_with()}, {token_with()}", "expected 3 parts")


@pytest.mark.parametrize(
    "payload",
    [b"[]", b'"text"', b"null", b"7", b"NaN", b"true", b'[["iss", 1]]'],
)
def test_a_payload_is_an_object(payload: bytes) -> None:
    refused(token_of(payload), "expected a JSON object")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode("utf-16"),
        b"[" * 9_000,
        b'{"exp": ' + b"9" * 5_000 + b"}",
    ],
    ids=["empty", "cut", "two", "no utf-8", "bom", "utf-16", "deep", "5,000 digits"],
)
def test_a_payload_is_json_in_utf8(payload: bytes) -> None:
    refused(token_of(payload), "failed to decode payload")


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS512", "hs256", "RS256", None, 5, []]
)
def test_the_algorithm_is_hs256(alg: object) -> None:
    payload = json.dumps(GOOD).encode()
    refused(token_of(payload, header=json.dumps({"alg": alg}).encode()), "expected alg HS256")


def test_an_algorithm_is_named() -> None:
    refused(token_of(json.dumps(GOOD).encode(), header=b"{}"), "expected alg HS256")


def test_none_without_a_signature() -> None:
    header = b64(b'{"alg":"none"}')
    refused(f"{header}.{b64(json.dumps(GOOD).encode())}.", "expected alg HS256")


@pytest.mark.parametrize(
    "header",
    [b"", b"[]", b"{", b"\xff", b"[" * 9_000, b"9" * 5_000],
    ids=["empty", "list", "cut", "no utf-8", "deep", "5,000 digits"],
)
def test_a_header_is_a_json_object(header: bytes) -> None:
    refused(token_of(json.dumps(GOOD).encode(), header=header), "JSON header")


def test_bad_base64() -> None:
    header, payload, signature = token_with().split(".")
    refused(f"{header}.{payload}.{signature[:-1]}", "Invalid JWT")
    refused(f"{header}.{payload}.!!!!", "Invalid JWT")
    refused(f"{header}.{payload} .{signature}", "Invalid JWT")
    refused(f"!!!!.{payload}.{signature}", "Invalid JWT")


def test_a_signature_is_needed() -> None:
    header, payload, signature = token_with().split(".")
    refused(f"{header}.{payload}.", "signature mismatch")
    refused(f"{header}.{b64(json.dumps(GOOD | {'exp': NOW * 2}).encode())}.{signature}", "mismatch")
    refused(token_with(), "signature mismatch", ["sk_one", "sk_two"])


def test_the_signature_counts_before_the_claims() -> None:
    refused(token_with(iss="elsewhere"), "signature mismatch", "sk_other")


def test_the_secret_is_the_raw_digest() -> None:
    hexadecimal = hashlib.sha256(KEY.encode()).hexdigest()
    signed = token_with().rpartition(".")[0]
    for secret in (hexadecimal.encode(), KEY.encode()):
        wrong = b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())
        refused(f"{signed}.{wrong}", "signature mismatch")


def test_a_token_has_a_bounded_length() -> None:
    refused("a" * 1_000_000, "expected at most 16384 characters")
    refused(" " * 16_385, "expected at most 16384 characters")
    refused(" " * 16_384, "expected 3 parts")
    honest = token_with(extra="x" * 8_000)
    assert verify_token(honest, KEY, now=NOW)["extra"] == "x" * 8_000


@pytest.mark.parametrize("token", ["ä.b.c", "\ud800.b.c", "a.b.c\N{ZERO WIDTH SPACE}"])
def test_a_token_is_ascii(token: str) -> None:
    refused(token, "expected ASCII")


@pytest.mark.parametrize("token", [None, 5, b"a.b.c", ["a.b.c"]])
def test_a_token_is_text(token: object) -> None:
    refused(token, "expected text")


# --- keys


@pytest.mark.parametrize("keys", [[], (), set[str](), iter(())])
def test_no_keys(keys: Any) -> None:
    refused(token_with(), "expected at least one", keys)


@pytest.mark.parametrize("key", ["", "  ", "\n", "_residency_in", " _residency_eu "])
def test_a_blank_key_is_no_key(key: str) -> None:
    digest_of_nothing = token_of(json.dumps(GOOD).encode(), key="")
    refused(digest_of_nothing, "blank", key)
    refused(digest_of_nothing, "blank", [KEY, key])
    with pytest.raises(AuthenticationError, match="API key"):
        sign_token(key, now=NOW)


@pytest.mark.parametrize("keys", [None, 5, [None], b"sk", [b"sk"]])
def test_a_key_is_text(keys: Any) -> None:
    refused(token_with(), "API key: expected text", keys)


def test_keys_and_tokens_are_in_no_error() -> None:
    token = token_with()
    cut, secret_key = token[:-1], "sk_very_secret"
    attempts: list[tuple[str, str]] = [
        (token, secret_key),
        (cut, secret_key),
        (token, secret_key + "\ud800"),
        ("5" * 300 + ".b.c", secret_key),
        (token_of(b"{" + KEY.encode()), KEY),
        (token_of(b"{}", header=KEY.encode()), KEY),
    ]
    for value, key in attempts:
        with pytest.raises(AuthenticationError) as caught:
            verify_token(value, key, now=NOW)
        shown = repr(caught.value) + "".join(traceback.format_exception(caught.value))
        for hidden in (secret_key, KEY, value, value.split(".")[1], b64(KEY.encode())):
            assert len(hidden) < 3 or hidden not in shown


def test_a_key_with_a_lone_surrogate() -> None:
    refused(token_with(), "API key: expected valid Unicode", "sk\udc80")


# --- signing


def test_a_signed_token_is_a_plain_hs256_jwt() -> None:
    token = sign_token(KEY, now=NOW + 0.75)
    header, payload, _ = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == HEADER
    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == GOOD
    signed, _, signature = token.rpartition(".")
    assert token_signature(signed) == signature


def token_signature(signed: str) -> str:
    secret = hashlib.sha256(KEY.encode()).digest()
    return b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())


def test_lifetime_and_claims() -> None:
    token = sign_token(KEY, now=NOW, lifetime=10, claims={"sub": "x", "jti": "1"})
    with pytest.raises(AuthenticationError, match="expected subject"):
        verify_token(token, KEY, now=NOW)
    token = sign_token(KEY, now=NOW, lifetime=10, claims={"jti": "1"})
    assert verify_token(token, KEY, now=NOW + 70)["jti"] == "1"
    refused(token, "token has expired", now=NOW + 71)


@pytest.mark.parametrize("exp", [float("nan"), float("inf"), True])
def test_times_that_are_no_numbers_can_be_signed_to_test_with(exp: object) -> None:
    refused(sign_token(KEY, now=NOW, claims={"exp": exp}), "missing exp")


def test_the_official_name_asks_the_clock() -> None:
    now = time.time()
    assert verify_speech_engine_jwt(sign_token(KEY, now=now), KEY)["iat"] == int(now)
    with pytest.raises(AuthenticationError, match="has expired"):
        verify_speech_engine_jwt(sign_token(KEY, now=now - 10_000), KEY)
    with pytest.raises(AuthenticationError, match="iat is in the future"):
        verify_speech_engine_jwt(sign_token(KEY, now=now + 10_000), KEY)


def test_an_authentication_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="signature mismatch"):
        verify_speech_engine_jwt(token_with(), "sk_other")


# --- headers

NAME = AUTHORIZATION_HEADER


class Undecided(dict[str, str]):
    """A mapping like that of `websockets`: asked for a header that came twice, it raises."""

    def __init__(self, repeated: str) -> None:
        super().__init__({NAME: "t", "Via": "a"})
        self._repeated = repeated

    def __getitem__(self, name: str) -> str:
        if name == self._repeated:
            raise KeyError(name)
        return super().__getitem__(name)

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class Multi(dict[str, str]):
    """A mapping like that of `multidict`: a repeated header shows in `items()` alone."""

    def items(self) -> Any:
        return [(NAME, "t"), (NAME, "u")]


@pytest.mark.parametrize(
    "headers",
    [
        {NAME: "t"},
        {NAME.lower(): "t", "Host": "x"},
        {NAME.upper(): ["t"]},
        {NAME: ("t",)},
        {NAME.encode(): b"t"},
        {b"x-elevenlabs-speech-engine-authorization": [b"t"], 5: "odd"},
        [("Host", "x"), (NAME, "t"), ("Host", "y")],
        [(NAME.lower().encode(), b"t")],
        iter([(NAME, "t")]),
        {"a": 1, NAME: "t"}.items(),
        Undecided("Via"),
    ],
)
def test_the_token_is_found(headers: Any) -> None:
    assert find_token(headers) == "t"


def test_the_value_is_left_as_it_stands() -> None:
    assert find_token({NAME: " Bearer a.b.c "}) == " Bearer a.b.c "
    assert find_token({NAME: b"\xe4"}) == "ä"


@pytest.mark.parametrize(
    "headers", [{}, [], {"Authorization": "t"}, {NAME: []}, {NAME: ()}, [(f"{NAME}s", "t")]]
)
def test_a_missing_header(headers: Any) -> None:
    with pytest.raises(AuthenticationError, match=f"missing header {NAME}"):
        find_token(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(NAME, "t"), (NAME, "t")],
        [(NAME, "t"), (NAME.lower().encode(), b"u")],
        {NAME: "t", NAME.lower(): "t"},
        {NAME: ["t", "u"]},
        {NAME: ("t", "t")},
        Undecided(NAME),
        Multi({NAME: "t"}),
    ],
)
def test_a_repeated_header(headers: Any) -> None:
    with pytest.raises(AuthenticationError, match="repeated"):
        find_token(headers)


@pytest.mark.parametrize("value", [None, 5, [None], {}])
def test_a_header_is_text(value: object) -> None:
    with pytest.raises(AuthenticationError, match="expected text"):
        find_token({NAME: value})


# --- properties

keys = st.text(min_size=1).map(lambda text: f"sk_{text}").filter(lambda key: key.isprintable())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(key=keys, now=st.floats(0, 2**40), lifetime=st.floats(0, 10_000))
def test_what_is_signed_verifies(key: str, now: float, lifetime: float) -> None:
    token = sign_token(key, now=now, lifetime=lifetime)
    assert verify_token(f"Bearer {token}", [KEY, key], now=now)["iat"] == int(now)


@given(data=st.data(), now=st.integers(0, 2**40))
def test_a_changed_token_never_verifies(data: st.DataObject, now: int) -> None:
    token = sign_token(KEY, now=now)
    # Not the last letter: two of its bits stand for nothing, and not every PyJWT looks at them.
    at = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.characters().filter(lambda other: other != token[at]))
    with pytest.raises(AuthenticationError):
        verify_token(f"{token[:at]}{letter}{token[at + 1 :]}", KEY, now=now)


@given(
    value=st.text()
    | st.text("abc.=-_ ")
    | st.tuples(st.binary(), st.binary(), st.binary()).map(lambda parts: ".".join(map(b64, parts)))
    | st.binary().map(lambda payload: token_of(payload))
    | st.binary().map(lambda header: token_of(b"{}", header=header)),
    key=st.text() | st.lists(st.text()),
)
def test_garbage_raises_nothing_else(value: str, key: str | list[str]) -> None:
    for api_keys in (key, KEY):
        with pytest.raises(AuthenticationError):
            verify_token(value, api_keys, now=NOW)


@given(claims=st.dictionaries(st.sampled_from(sorted(GOOD)) | st.text(), json_values))
def test_any_claims_pass_or_raise_the_one_error(claims: dict[str, Any]) -> None:
    token = sign_token(KEY, now=NOW, claims=claims)
    try:
        verified = verify_token(token, KEY, now=NOW)
    except AuthenticationError:
        assert claims.keys() & GOOD.keys() or len(token) > 16_384
    else:
        assert verified["iss"] == GOOD["iss"]


@given(
    headers=st.lists(
        st.tuples(
            st.text() | st.binary() | st.sampled_from([NAME, NAME.lower(), NAME.encode()]),
            st.text() | st.binary() | st.none() | st.lists(st.text()),
        )
    )
)
def test_any_headers_give_text_or_the_one_error(headers: list[tuple[Any, Any]]) -> None:
    for some in (headers, dict(headers)):
        try:
            found = find_token(some)
        except AuthenticationError:
            found = ""
        assert isinstance(found, str)
