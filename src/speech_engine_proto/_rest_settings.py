"""Checks of what goes into a management request, before anything is sent.

Every error is a ``ValueError`` that names the field, what was expected and what came. Values are
shown only where they cannot be a secret: request headers and the query of ``ws_url`` may be one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypedDict, cast
from urllib.parse import quote, urlsplit

CASCADE_TIMEOUT_SECONDS = (2, 15)
"""The bounds of ``cascade_timeout_seconds`` (facts sheet, section 1.2)."""

PAGE_SIZE = (1, 100)
"""The bounds of ``page_size`` (facts sheet, section 4)."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUES: tuple[set[str], ...] = ({"secret_id"}, {"variable_name"})


class HasModelDump(Protocol):
    """An object that can turn itself into a dict, as the models of the official SDK do."""

    def model_dump(self) -> Any:
        """Return the object as a dict."""
        ...


SettingsObject: TypeAlias = Mapping[str, Any] | HasModelDump
"""A JSON object: a mapping, or an object with ``model_dump``."""


class EngineSettings(TypedDict, total=False):
    """The settings that creating and updating a Speech Engine take, besides ``speech_engine``.

    A key that is left out is not sent; None is sent as ``null``. What each holds, and the
    service's defaults: facts sheet, section 4.
    """

    name: str | None
    asr: SettingsObject | None
    tts: SettingsObject | None
    turn: SettingsObject | None
    vad: SettingsObject | None
    conversation: SettingsObject | None
    privacy: SettingsObject | None
    call_limits: SettingsObject | None
    auth: SettingsObject | None
    language: str | None
    cascade_timeout_seconds: float | None
    tags: list[str] | tuple[str, ...] | None
    overrides: SettingsObject | None


class EngineChanges(EngineSettings, total=False):
    """What updating a Speech Engine takes."""

    speech_engine: SettingsObject | None


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as plain JSON values.

    Raises:
        TypeError: a name that is no setting.
        ValueError: a value that the service would refuse, or that JSON cannot hold.
    """
    known = EngineChanges.__annotations__
    if unknown := sorted(settings.keys() - known.keys()):
        raise TypeError(f"unknown setting {unknown[0]!r}; expected one of {', '.join(known)}")
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        checked[name] = plain(name, value)
        if checked[name] is not None:
            _CHECKS.get(name, _check_object)(name, checked[name])
    return checked


def path_segment(where: str, value: object) -> str:
    """Percent-encode an id so that it is exactly one segment of a path.

    ``.`` and ``..`` have no encoding that a proxy would not undo, so they are refused.
    """
    text = checked_id(where, value)
    if text in (".", ".."):
        raise expected(where, "an id", repr(text))
    return quote(text, safe="")


def checked_id(where: str, value: object) -> str:
    """Return an id that is not empty."""
    text = checked_text(where, value)
    if not text.strip():
        raise expected(where, "an id", "an empty one")
    return text


def checked_text(where: str, value: object) -> str:
    """Return a text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise expected(where, "text", type(value).__name__)
    if not _is_unicode(value):
        raise expected(where, "valid Unicode", "a lone surrogate")
    return value


def checked_page_size(value: object) -> int:
    """Return a page size within its bounds."""
    low, high = PAGE_SIZE
    if type(value) is not int or not low <= value <= high:
        raise expected("page_size", f"an int from {low} to {high}", _shown(value))
    return value


def query_text(where: str, value: object) -> str:
    """Write a value of a query."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else checked_text(where, value)


def plain(where: str, value: object) -> Any:
    """Turn mappings, sequences, enums and objects with ``model_dump`` into plain JSON values.

    Raises:
        ValueError: what JSON cannot hold (NaN, bytes, a key that is no text, ...).
    """
    try:
        return _plain(where, value)
    except RecursionError:
        raise expected(where, "JSON", "too many nested values") from None


def expected(where: str, what: str, got: str) -> ValueError:
    """Make the one kind of error that this module raises."""
    return ValueError(f"{where}: expected {what}, got {got}")


def _plain(where: str, value: object) -> Any:
    match value:
        case Enum():
            return _plain(where, value.value)
        case str():
            return checked_text(where, value)
        case None | bool() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise expected(where, "a finite number", repr(value))
            return value
        case Mapping():
            return _plain_object(where, cast("Mapping[object, object]", value))
        case list() | tuple():
            items = cast("list[object]", value)
            return [_plain(f"{where}[{index}]", item) for index, item in enumerate(items)]
        case _:
            return _plain(where, _dumped(where, value))


def _plain_object(where: str, value: Mapping[object, object]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str) or not _is_unicode(key):
            raise expected(where, "keys that are text", _shown(key))
    return {str(key): _plain(f"{where}.{key}", item) for key, item in value.items()}


def _dumped(where: str, value: object) -> object:
    dump: Callable[..., object] | None = getattr(value, "model_dump", None)
    if dump is None:
        raise expected(where, "a value for JSON", type(value).__name__)
    try:
        # pydantic: what was not set is not sent, as the official SDK does it.
        return dump(mode="json", by_alias=True, exclude_unset=True)
    except TypeError:
        return dump()


def _check_object(where: str, value: object) -> None:
    if not isinstance(value, dict):
        raise expected(where, "an object (a dict or a model)", type(value).__name__)


def _check_text(where: str, value: object) -> None:
    checked_text(where, value)


def _check_tags(where: str, value: object) -> None:
    if not isinstance(value, list):
        raise expected(where, "a list of text", type(value).__name__)
    for index, tag in enumerate(cast("list[object]", value)):
        checked_text(f"{where}[{index}]", tag)


def _check_cascade_timeout(where: str, value: object) -> None:
    low, high = CASCADE_TIMEOUT_SECONDS
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise expected(where, f"a number of seconds from {low} to {high}", _shown(value))


def _check_switch(key: str) -> Callable[[str, object], None]:
    """Make a check of an object with one boolean in it."""

    def check(where: str, value: object) -> None:
        _check_object(where, value)
        flag = cast("dict[str, object]", value).get(key)
        if flag is not None and not isinstance(flag, bool):
            raise expected(f"{where}.{key}", "true or false", _shown(flag))

    return check


def _check_speech_engine(where: str, value: object) -> None:
    _check_object(where, value)
    config = cast("dict[str, object]", value)
    if config.get("ws_url") is not None:
        _check_ws_url(f"{where}.ws_url", config["ws_url"])
    headers = config.get("request_headers")
    if headers is not None:
        _check_request_headers(f"{where}.request_headers", headers)


def _check_ws_url(where: str, value: object) -> None:
    text = checked_text(where, value)
    what = "a WebSocket URL (ws:// or wss://)"
    scheme, separator, _ = text.partition("://")
    if scheme.lower() in ("http", "https") and separator:
        fix = "wss" if scheme.lower() == "https" else "ws"
        raise expected(where, what, f"{scheme}://; write {fix}:// instead of {scheme}://")
    if any(character <= " " or character == "\x7f" for character in text):
        raise expected(where, what, "one with white space or control characters in it")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise expected(where, what, "one with a broken host or port") from None
    if parts.scheme not in ("ws", "wss"):
        raise expected(where, what, f"scheme {parts.scheme!r}" if separator else "no scheme")
    if not host:
        raise expected(where, what, "one without a host")
    if parts.fragment:  # RFC 6455, 3: a WebSocket URL has none
        raise expected(where, what, "one with a fragment (#...)")


def _check_request_headers(where: str, value: object) -> None:
    _check_object(where, value)
    for name, item in cast("dict[str, object]", value).items():
        if not _HEADER_NAME.fullmatch(name):
            raise expected(where, "names of HTTP headers", repr(name))
        if isinstance(item, str):
            if any(character in "\r\n\0" for character in item):
                raise expected(f"{where}.{name}", "one line", "several")
        elif _keys(item) not in _HEADER_VALUES:
            raise expected(
                f"{where}.{name}",
                'text, {"secret_id": ...} or {"variable_name": ...}',
                type(item).__name__,
            )


def _keys(value: object) -> set[str]:
    return set(cast("dict[str, object]", value)) if isinstance(value, dict) else set()


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, int | float) else type(value).__name__


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "name": _check_text,
    "language": _check_text,
    "tags": _check_tags,
    "cascade_timeout_seconds": _check_cascade_timeout,
    "auth": _check_switch("enable_auth"),
    "overrides": _check_switch("first_message"),
    "speech_engine": _check_speech_engine,
}
