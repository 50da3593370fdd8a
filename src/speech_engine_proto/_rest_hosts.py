"""Where the management API is, and with which key: checked before the first request."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from ._rest_settings import expected

_RESIDENCY: Final = re.compile(r"_residency_([a-z0-9]+)\Z")


class ElevenLabsEnvironment(Enum):
    """The service's hosts; those with data residency keep data in their region.

    Source: facts sheet, section 4; the names are those of the official SDK.
    """

    PRODUCTION = "https://api.elevenlabs.io"
    PRODUCTION_US = "https://api.us.elevenlabs.io"
    PRODUCTION_EU = "https://api.eu.residency.elevenlabs.io"
    PRODUCTION_INDIA = "https://api.in.residency.elevenlabs.io"
    PRODUCTION_SINGAPORE = "https://api.sg.residency.elevenlabs.io"


_REGIONS: Final = {
    "us": ElevenLabsEnvironment.PRODUCTION_US,
    "eu": ElevenLabsEnvironment.PRODUCTION_EU,
    "in": ElevenLabsEnvironment.PRODUCTION_INDIA,
    "sg": ElevenLabsEnvironment.PRODUCTION_SINGAPORE,
}


def resolve_base_url(
    *, base_url: str | None = None, environment: Enum | str | None = None, api_key: str = ""
) -> str:
    """Return the URL that the paths of requests are put behind.

    Args:
        base_url: an ``http://`` or ``https://`` URL, which outranks all else.
        environment: a member of `ElevenLabsEnvironment` (the official SDK's will do), or a
            region: ``"us"``, ``"eu"``, ``"in"``, ``"sg"``.
        api_key: with neither of them, the region that the key's suffix ``_residency_...``
            names; it is used for nothing else. Without a suffix it is the global host.

    Raises:
        ValueError: no such region or a malformed URL; never shows the key.
    """
    if base_url:
        return _checked_url("base_url", base_url)
    if isinstance(environment, Enum):
        return _checked_url("environment", environment.value)
    if environment is not None:
        return _host_of("environment", environment).value
    suffix = _RESIDENCY.search(api_key)
    if suffix is None:
        return ElevenLabsEnvironment.PRODUCTION.value
    return _host_of("api_key, its _residency_ suffix", suffix[1]).value


def check_api_key(api_key: object) -> str:
    """Return the key without white space around it.

    Raises:
        ValueError: it is missing, or no header can hold it; never shows the key.
    """
    if not api_key:
        raise expected("api_key", "a key", "none; pass api_key= or set ELEVENLABS_API_KEY")
    if not isinstance(api_key, str):
        raise expected("api_key", "text", type(api_key).__name__)
    key = api_key.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise expected("api_key", "printable ASCII without spaces", "something else")
    return key


def _host_of(where: str, region: str) -> ElevenLabsEnvironment:
    host = _REGIONS.get(region)
    if host is None:
        regions = ", ".join(_REGIONS)
        raise expected(where, f"one of {regions}", f"{region!r}; for another host pass base_url=")
    return host


def _checked_url(where: str, value: object) -> str:
    what = "an http:// or https:// URL"
    if not isinstance(value, str):
        raise expected(where, what, type(value).__name__)
    text = value.strip()
    if any(character <= " " for character in text):
        raise expected(where, what, "one with white space or control characters in it")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise expected(where, what, "one with a broken host or port") from None
    if parts.scheme not in ("http", "https"):
        raise expected(where, what, f"scheme {parts.scheme!r}")
    if not host:
        raise expected(where, what, "one without a host")
    if parts.query or parts.fragment or parts.username is not None:
        raise expected(where, f"{what} without user, query and fragment", "one with such a part")
    return text.rstrip("/")
