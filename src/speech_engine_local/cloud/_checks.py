"""What a request body may hold, as small checks that are put together; each finds every mistake."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .problems import detail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Details = Iterator[dict[str, Any]]
    Loc = tuple[str | int, ...]
    Check = Callable[[object, Loc], Details]

__all__ = [
    "anything",
    "boolean",
    "fields",
    "integer",
    "items",
    "number",
    "one_of",
    "request_headers",
    "text",
    "ws_url",
]


def anything(_: object, __: Loc) -> Details:
    """Accept any value."""
    yield from ()


def text(value: object, loc: Loc) -> Details:
    """Accept a string."""
    if not isinstance(value, str):
        yield _wrong(loc, "a string", value, "string_type")


def boolean(value: object, loc: Loc) -> Details:
    """Accept true and false."""
    if not isinstance(value, bool):
        yield _wrong(loc, "true or false", value, "bool_type")


def number(low: float | None = None, high: float | None = None) -> Check:
    """Accept a number, from ``low`` to ``high``."""

    def check(value: object, loc: Loc) -> Details:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield _wrong(loc, "a number", value, "float_type")
        else:
            yield from _range(value, low, high, loc)

    return check


def integer(low: int | None = None, high: int | None = None) -> Check:
    """Accept a whole number, from ``low`` to ``high``."""

    def check(value: object, loc: Loc) -> Details:
        if isinstance(value, bool) or not isinstance(value, int):
            yield _wrong(loc, "a whole number", value, "int_type")
        else:
            yield from _range(value, low, high, loc)

    return check


def one_of(*allowed: str | int) -> Check:
    """Accept one of these values."""

    def check(value: object, loc: Loc) -> Details:
        if isinstance(value, bool) or value not in allowed:
            names = ", ".join(map(repr, allowed))
            yield _wrong(loc, f"one of {names}", value, "enum")

    return check


def items(each: Check) -> Check:
    """Accept a list whose items each pass."""

    def check(value: object, loc: Loc) -> Details:
        if not isinstance(value, list):
            yield _wrong(loc, "a list", value, "list_type")
            return
        for index, item in enumerate(cast("list[object]", value)):
            yield from each(item, (*loc, index))

    return check


def fields(
    known: Mapping[str, Check],
    *,
    required: tuple[str, ...] = (),
    never_null: tuple[str, ...] = (),
) -> Check:
    """Accept an object whose known fields pass; null passes, except where a value must be.

    Fields that are not known are let through: newer clients may send some.
    """
    must_be = {*required, *never_null}

    def check(value: object, loc: Loc) -> Details:
        if not isinstance(value, dict):
            yield _wrong(loc, "an object", value, "dict_type")
            return
        given = cast("dict[str, object]", value)
        for name in required:
            if name not in given:
                yield detail((*loc, name), "Field required", "missing")
        for name, each in known.items():
            if name in given and (given[name] is not None or name in must_be):
                yield from each(given[name], (*loc, name))

    return check


def ws_url(value: object, loc: Loc) -> Details:
    """Accept an address that a WebSocket can be opened to. Its text is not repeated: it may hold
    a secret.
    """
    if not isinstance(value, str):
        yield _wrong(loc, "a string", value, "string_type")
        return
    try:
        parts = urlsplit(value)
        scheme, usable = parts.scheme, bool(parts.hostname) and parts.port != 0
    except ValueError:
        scheme, usable = "", False
    if scheme in ("http", "https"):
        other = {"http": "ws", "https": "wss"}[scheme]
        message = f"expected ws:// or wss://, got {scheme}://: did you mean {other}://?"
        yield detail(loc, message, "url_scheme")
    elif scheme not in ("ws", "wss") or not usable or not _URL.fullmatch(value) or "#" in value:
        yield detail(loc, "expected ws://host/path or wss://host/path, got another", "url_parsing")


def request_headers(value: object, loc: Loc) -> Details:
    """Accept headers: each a string, ``{secret_id}`` or ``{variable_name}`` (fact sheet 4)."""
    if not isinstance(value, dict):
        yield _wrong(loc, "an object", value, "dict_type")
        return
    for name, header in cast("dict[str, object]", value).items():
        where = (*loc, name)
        if not _TOKEN.fullmatch(name):
            yield detail(where, "expected the name of an HTTP header, got another", "header_name")
        elif isinstance(header, str):
            if not _HEADER_VALUE.fullmatch(header):
                message = "expected a header's value, got one with a control character in it"
                yield detail(where, message, "header_value")
        elif not _is_reference(header):
            message = "a string, {secret_id: string} or {variable_name: string}"
            yield _wrong(where, message, header, "header_value")


def _is_reference(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    given = cast("dict[str, object]", value)
    (named,) = given if len(given) == 1 else ("",)
    return named in ("secret_id", "variable_name") and isinstance(given[named], str)


def _range(value: float, low: float | None, high: float | None, loc: Loc) -> Details:
    if low is not None and value < low:
        yield detail(loc, f"expected at least {low}, got {value}", "greater_than_equal")
    elif high is not None and value > high:
        yield detail(loc, f"expected at most {high}, got {value}", "less_than_equal")


def _wrong(loc: Loc, expected: str, value: object, kind: str) -> dict[str, Any]:
    """Say what was expected and what sort of value came: the value itself may be a secret."""
    if kind == "enum" and isinstance(value, str):
        came = repr(value[:40])
    else:
        came = _NAMES.get(type(value), "something else")
    return detail(loc, f"expected {expected}, got {came}", kind)


_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_URL = re.compile(r"[^\s\x00-\x1f\x7f]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
