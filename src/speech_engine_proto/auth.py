"""The token that the service sends with each upgrade request: find it, check it, sign one.

The service proves itself with a compact JWT in the header :data:`AUTHORIZATION_HEADER`, signed
with HS256. The secret is the raw SHA-256 digest of the API key, without the suffix that a
data-residency key carries (facts sheet, section 2).

PyJWT checks the signature and the algorithm. The claims are checked here, since PyJWT lets NaN
and booleans pass for times, and because the official SDK's words for each failure are kept.
Every failure is an :class:`AuthenticationError`; no message holds a key or a token.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

from jwt import InvalidAlgorithmError, InvalidSignatureError, PyJWS, PyJWTError

__all__ = [
    "AUTHORIZATION_HEADER",
    "AuthenticationError",
    "find_token",
    "sign_token",
    "verify_speech_engine_jwt",
    "verify_token",
]

AUTHORIZATION_HEADER: Final = "X-Elevenlabs-Speech-Engine-Authorization"
"""The request header that carries the token; its name is compared without regard to case."""

Headers: TypeAlias = Mapping[str, Any] | Mapping[bytes, Any] | Iterable[tuple[str | bytes, Any]]

_ISSUER: Final = "https://api.elevenlabs.io/convai/speech-engine"
_SUBJECT: Final = "convai_speech_engine_upstream"
_ALGORITHM: Final = "HS256"
_LEEWAY_SECONDS: Final = 60.0
_RESIDENCY_SUFFIX: Final = re.compile(r"_residency_[a-z0-9]+\Z")

# A token of the service is a few hundred characters, and common HTTP servers stop a header line
# at 8 KiB. Twice that refuses no honest token, and keeps a stranger from having a megabyte
# decoded, and hashed once per key, before the signature is known to be wrong.
_MAX_TOKEN_CHARACTERS: Final = 16 * 1024

# Knows one algorithm, so `alg: none` and public-key algorithms do not even exist for it.
_JWS: Final = PyJWS(algorithms=[_ALGORITHM])


class AuthenticationError(ValueError):
    """The request does not prove that it comes from the service; the message says why.

    It is a ``ValueError``, because that is what the official SDK raises.
    """


def find_token(headers: Headers) -> str:
    """Find the value of the authorization header.

    Args:
        headers: a mapping, or an iterable of ``(name, value)`` pairs. Names and values may be
            ``str`` or ``bytes``. A value may be a list or tuple that holds exactly one item.

    Returns:
        The value as it stands: :func:`verify_token` takes off white space and ``Bearer``.

    Raises:
        AuthenticationError: the header is missing, is there more than once (which of two
            tokens counts is nothing to guess at), or is not text.
    """
    found = _header_values(headers)
    if not found:
        raise AuthenticationError(f"missing header {AUTHORIZATION_HEADER}")
    if len(found) > 1:
        raise _repeated()
    value = found[0]
    if isinstance(value, bytes):
        return value.decode("latin-1")  # how HTTP reads header bytes; it cannot fail
    if isinstance(value, str):
        return value
    raise AuthenticationError(
        f"header {AUTHORIZATION_HEADER}: expected text, got {type(value).__name__}"
    )


def verify_token(
    value: str, api_keys: str | Iterable[str], *, now: float, leeway: float = _LEEWAY_SECONDS
) -> dict[str, Any]:
    """Check a token, and return its claims.

    Args:
        value: what stands in the header. White space around it and a leading ``Bearer`` (in any
            case) are taken off.
        api_keys: the key, or several while keys are being rotated: one that fits is enough.
        now: the time, in seconds since 1970 (UTC). There is no clock in here.
        leeway: how far the two clocks may be apart, in seconds.

    Raises:
        AuthenticationError: names the first thing that is wrong.

    Source: facts sheet, section 2. The engine's id is not in the token, and nothing marks a
    token as used: any engine of the same key, and a replay until ``exp`` plus the leeway, pass.
    """
    token = _bare_token(value)
    claims = _claims(_signed_payload(token, _secrets(api_keys)))
    _check_name("issuer", claims.get("iss"), _ISSUER)
    _check_name("subject", claims.get("sub"), _SUBJECT)
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    # Asked as "is it still good", so that a `now` of NaN refuses. The leeway is on the side of
    # `now`, since an integer of 400 digits compares with a float but cannot be added to one.
    if not expires >= now - leeway:
        raise AuthenticationError("Invalid JWT: token has expired")
    if not issued <= now + leeway:
        raise AuthenticationError("Invalid JWT: iat is in the future")
    return claims


def verify_speech_engine_jwt(value: str, api_key: str) -> dict[str, Any]:
    """Check a token against the clock of this machine, under the official SDK's name.

    Args:
        value: what stands in the header.
        api_key: the API key.

    Raises:
        AuthenticationError: as :func:`verify_token`.
    """
    # The one clock in the package: the official signature has no room for the time, and code
    # that is moved over must keep working. ``datetime``, because no module imports ``time``.
    return verify_token(value, api_key, now=datetime.now(UTC).timestamp())


def sign_token(
    api_key: str, *, now: float, lifetime: float = 300, claims: Mapping[str, Any] | None = None
) -> str:
    """Sign a token as the service does.

    Args:
        api_key: the API key that the receiving server checks with.
        now: the time of issue, in seconds since 1970 (UTC).
        lifetime: seconds until the token expires; the service's own value is not published.
        claims: more claims, or other values for ``iss``, ``sub``, ``iat`` and ``exp``.

    Raises:
        AuthenticationError: the key is blank or no text.
    """
    secret = _secret(api_key)
    payload = {
        "iss": _ISSUER,
        "sub": _SUBJECT,
        "iat": int(now),
        "exp": int(now + lifetime),
        **(claims or {}),
    }
    return _JWS.encode(json.dumps(payload).encode(), secret, algorithm=_ALGORITHM)


def _header_values(headers: Headers) -> list[object]:
    found: list[object] = []
    for name, value in _pairs(headers):
        if _is_authorization(name):
            found += _flat(value)
    return found


def _pairs(headers: Headers) -> Iterable[tuple[object, object]]:
    if not isinstance(headers, Mapping):
        return headers
    mapping = cast("Mapping[object, object]", headers)
    try:
        return list(mapping.items())  # multidicts list a repeated header here, and only here
    except LookupError:
        # Raised by mappings that will not choose between two values, of whichever header. Then
        # only the one in question is asked for.
        try:
            return [(name, mapping[name]) for name in mapping if _is_authorization(name)]
        except LookupError:
            raise _repeated() from None


def _is_authorization(name: object) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    return isinstance(name, str) and name.lower() == AUTHORIZATION_HEADER.lower()


def _flat(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return list(cast("Iterable[object]", value))
    return [value]


def _repeated() -> AuthenticationError:
    return AuthenticationError(f"header {AUTHORIZATION_HEADER}: expected it once, got it repeated")


def _bare_token(value: object) -> str:
    """Take off what may stand around a token, and refuse what cannot be one."""
    if not isinstance(value, str):
        raise AuthenticationError(f"Invalid JWT: expected text, got {type(value).__name__}")
    if len(value) > _MAX_TOKEN_CHARACTERS:
        raise AuthenticationError(
            f"Invalid JWT: expected at most {_MAX_TOKEN_CHARACTERS} characters, got {len(value)}"
        )
    if not value.isascii():
        raise AuthenticationError("Invalid JWT: expected ASCII, got other characters")
    token = value.strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
    parts = token.count(".") + 1
    if parts != 3:
        raise AuthenticationError(f"Invalid JWT: expected 3 parts, got {parts}")
    return token


def _secrets(api_keys: object) -> list[bytes]:
    if isinstance(api_keys, str):
        return [_secret(api_keys)]
    if not isinstance(api_keys, Iterable):
        raise AuthenticationError(f"API key: expected text, got {type(api_keys).__name__}")
    secrets = [_secret(key) for key in cast("Iterable[object]", api_keys)]
    if not secrets:
        raise AuthenticationError("API key: expected at least one, got none")
    return secrets


def _secret(api_key: object) -> bytes:
    """Make the HMAC secret out of an API key: SHA-256 of the key without its region."""
    if not isinstance(api_key, str):
        raise AuthenticationError(f"API key: expected text, got {type(api_key).__name__}")
    key = _RESIDENCY_SUFFIX.sub("", api_key.strip())
    if not key:
        # The digest of nothing is known to everyone, so it must never be a secret.
        raise AuthenticationError("API key: expected a key, got a blank one")
    try:
        return hashlib.sha256(key.encode()).digest()
    except UnicodeEncodeError:  # its message and its `object` hold the key
        raise AuthenticationError("API key: expected valid Unicode, got a lone surrogate") from None


def _signed_payload(token: str, secrets: list[bytes]) -> bytes:
    """Return the payload's bytes once one of the secrets has proved the signature."""
    for secret in secrets:
        try:
            return cast("bytes", _JWS.decode(token, secret, algorithms=[_ALGORITHM]))
        except InvalidSignatureError:
            continue
        except InvalidAlgorithmError:
            raise AuthenticationError(
                f"Invalid JWT: expected alg {_ALGORITHM} in the header, got another"
            ) from None
        except (PyJWTError, ValueError, RecursionError):
            # PyJWT's own words may quote the header. Its older releases let the JSON decoder's
            # errors through.
            raise AuthenticationError(
                "Invalid JWT: expected base64url parts with a JSON header, got something else"
            ) from None
    raise AuthenticationError(
        "Invalid JWT: signature mismatch; the API key of this server must be the one that the"
        " engine was created with"
    )


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        # Decoded first, because `json.loads` guesses UTF-16 and UTF-32 from bytes.
        claims: object = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise AuthenticationError("Invalid JWT: failed to decode payload as JSON") from None
    if not isinstance(claims, dict):
        raise AuthenticationError(
            f"Invalid JWT: expected a JSON object as payload, got {type(claims).__name__}"
        )
    return cast("dict[str, Any]", claims)


def _check_name(claim: str, got: object, expected: str) -> None:
    if got != expected:
        shown = repr(got[:100]) if isinstance(got, str) else type(got).__name__
        raise AuthenticationError(f'Invalid JWT: expected {claim} "{expected}", got {shown}')


def _time(claims: dict[str, Any], name: str) -> float:
    """Read a time: a real, finite number. NaN would pass every comparison, `true` is an int."""
    value: object = claims.get(name)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    got = value if type(value) is float else type(value).__name__
    raise AuthenticationError(f"Invalid JWT: missing {name} claim: expected a number, got {got}")
