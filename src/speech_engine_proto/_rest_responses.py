"""The answers of the management API, read into values.

Tolerant: unknown keys are kept, a missing or wrongly typed key is empty. Only what a request is
for, an id, a token, a URL, must be there. An engine that has just been created must not be lost
because the service changed the type of a setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from ._rest_errors import UnexpectedResponseError, error_from, read_body, text_in

if TYPE_CHECKING:
    from ._rest_messages import ApiResponse


class JsonObject(Mapping[str, Any]):
    """A JSON object: a read-only mapping whose keys are attributes too.

    ``config.overrides.first_message`` is ``config["overrides"]["first_message"]``. A key that is
    also a method of mappings (``get``, ``items``, ``keys``, ``values``) is found by brackets only.
    The repr shows the keys alone, since values may be secrets.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, key: str) -> Any:
        return _wrapped(self._values[key])

    def __getattr__(self, name: str) -> Any:
        # `copy` and `pickle` ask for names with an underscore before there are any values.
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._values:
            raise AttributeError(f"there is no {name!r} in this object; it has {self!r}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"JsonObject({', '.join(self._values)})"

    def model_dump(self) -> dict[str, Any]:
        """Return a plain dict of plain values, all its own."""
        return deepcopy(self._values)


_NOTHING: Final = JsonObject()  # read-only, so one is enough for all


@attrs.frozen
class Engine:
    """One Speech Engine with its settings; what each means stands in the facts sheet, section 4.

    Its repr shows the id and the name: request headers may be secrets.

    Args:
        engine_id: its id.
        name: its name.
        raw: the whole answer, with keys that are not known here.
    """

    engine_id: str
    name: str | None = None
    speech_engine: JsonObject = attrs.field(default=_NOTHING, repr=False)
    asr: JsonObject = attrs.field(default=_NOTHING, repr=False)
    tts: JsonObject = attrs.field(default=_NOTHING, repr=False)
    turn: JsonObject = attrs.field(default=_NOTHING, repr=False)
    vad: JsonObject = attrs.field(default=_NOTHING, repr=False)
    conversation: JsonObject = attrs.field(default=_NOTHING, repr=False)
    privacy: JsonObject = attrs.field(default=_NOTHING, repr=False)
    call_limits: JsonObject = attrs.field(default=_NOTHING, repr=False)
    auth: JsonObject = attrs.field(default=_NOTHING, repr=False)
    overrides: JsonObject = attrs.field(default=_NOTHING, repr=False)
    metadata: JsonObject = attrs.field(default=_NOTHING, repr=False)
    access_info: JsonObject = attrs.field(default=_NOTHING, repr=False)
    language: str | None = attrs.field(default=None, repr=False)
    cascade_timeout_seconds: float | None = attrs.field(default=None, repr=False)
    tags: tuple[str, ...] = attrs.field(default=(), repr=False)
    raw: JsonObject = attrs.field(default=_NOTHING, repr=False)

    @property
    def speech_engine_id(self) -> str:
        """The id, under the name that it has in the service's answers."""
        return self.engine_id

    def model_dump(self) -> dict[str, Any]:
        """Return the whole answer as a plain dict."""
        return self.raw.model_dump()


@attrs.frozen
class EngineSummary:
    """A Speech Engine as a list shows it.

    Args:
        engine_id: its id.
        name: its name.
        voice_id: its voice.
        created_at_unix_secs: when it was made, in seconds since 1970.
        updated_at_unix_secs: when it was changed, in seconds since 1970.
        tags: its tags.
        access_info: who may do what with it.
        raw: the whole entry, with keys that are not known here.
    """

    engine_id: str
    name: str | None = None
    voice_id: str | None = None
    created_at_unix_secs: int | None = None
    updated_at_unix_secs: int | None = None
    tags: tuple[str, ...] = ()
    access_info: JsonObject = attrs.field(default=_NOTHING, repr=False)
    raw: JsonObject = attrs.field(default=_NOTHING, repr=False)

    @property
    def speech_engine_id(self) -> str:
        """The id, under the name that it has in the service's answers."""
        return self.engine_id


@attrs.frozen
class EnginePage:
    """One page of a list.

    Args:
        speech_engines: the entries.
        next_cursor: where the next page begins, or None.
        has_more: whether there is one.
    """

    speech_engines: tuple[EngineSummary, ...] = ()
    next_cursor: str | None = None
    has_more: bool = False

    def cursor_after(self, cursor: str | None) -> str | None:
        """Return the next page's cursor, or None at the end.

        Args:
            cursor: the one that this page was asked for with.

        Raises:
            UnexpectedResponseError: it is the same again, and would be for ever.
        """
        if not self.has_more or self.next_cursor is None:
            return None
        if self.next_cursor == cursor:
            raise _unexpected("another cursor than the last one", "the same", "$.next_cursor")
        return self.next_cursor


@attrs.frozen
class WebRTCToken:
    """A token to begin a conversation over WebRTC with; it is a secret, and not in the repr.

    Args:
        token: the token.
        conversation_id: the id of the conversation, where the service tells it.
    """

    token: str = attrs.field(repr=False)
    conversation_id: str | None = None


@attrs.frozen
class SignedURL:
    """A URL to begin a conversation with; it holds a secret, and is not in the repr.

    Args:
        signed_url: a ``ws://`` or ``wss://`` URL.
    """

    signed_url: str = attrs.field(repr=False)


def read_engine(
    response: ApiResponse, *, engine_id: str | None = None, now: float | None = None
) -> Engine:
    """Read the answer to create, get, update and duplicate.

    Args:
        response: the answer.
        engine_id: the id that was asked for, in case the answer has none.
        now: see `error_from`.

    Raises:
        ApiError: the answer is not 2xx, or holds no engine.
    """
    values = _body(response, now)
    found = text_in(values, "speech_engine_id") or engine_id
    if found is None:
        raise _unexpected("an id", _kind(values, "speech_engine_id"), "$.speech_engine_id")
    objects = {name: _object_in(values, name) for name in _OBJECTS}
    return Engine(
        engine_id=found,
        name=text_in(values, "name"),
        language=text_in(values, "language"),
        cascade_timeout_seconds=_number(values, "cascade_timeout_seconds"),
        tags=_tags(values),
        raw=JsonObject(values),
        **objects,
    )


def read_page(response: ApiResponse, *, now: float | None = None) -> EnginePage:
    """Read the answer to list.

    Args:
        response: the answer.
        now: see `error_from`.

    Raises:
        ApiError: the answer is not 2xx, or holds no list of engines.
    """
    values = _body(response, now)
    entries = values.get("speech_engines")
    if not isinstance(entries, list):
        raise _unexpected("a list", _kind(values, "speech_engines"), "$.speech_engines")
    cursor = text_in(values, "next_cursor")
    more = values.get("has_more")
    return EnginePage(
        speech_engines=tuple(
            _summary(index, entry) for index, entry in enumerate(cast("list[object]", entries))
        ),
        next_cursor=cursor,
        has_more=more if isinstance(more, bool) else cursor is not None,
    )


def read_token(response: ApiResponse, *, now: float | None = None) -> WebRTCToken:
    """Read the answer to a request for a WebRTC token.

    Args:
        response: the answer.
        now: see `error_from`.

    Raises:
        ApiError: the answer is not 2xx, or holds no token.
    """
    values = _body(response, now)
    return WebRTCToken(_required(values, "token"), text_in(values, "conversation_id"))


def read_signed_url(response: ApiResponse, *, now: float | None = None) -> SignedURL:
    """Read the answer to a request for a signed URL.

    Args:
        response: the answer.
        now: see `error_from`.

    Raises:
        ApiError: the answer is not 2xx, or holds no URL.
    """
    return SignedURL(_required(_body(response, now), "signed_url"))


def read_nothing(response: ApiResponse, *, now: float | None = None) -> None:
    """Read the answer to delete: any 2xx, whatever its body.

    Args:
        response: the answer.
        now: see `error_from`.

    Raises:
        ApiError: the answer is not 2xx.
    """
    if not response.is_success:
        raise error_from(response, now=now)


_OBJECTS = (
    "speech_engine",
    "asr",
    "tts",
    "turn",
    "vad",
    "conversation",
    "privacy",
    "call_limits",
    "auth",
    "overrides",
    "metadata",
    "access_info",
)


def _body(response: ApiResponse, now: float | None) -> dict[str, Any]:
    read_nothing(response, now=now)
    body = read_body(response.body)
    if not isinstance(body, dict):
        raise _unexpected("a JSON object", type(body).__name__, "$", response.status)
    return cast("dict[str, Any]", body)


def _summary(index: int, entry: object) -> EngineSummary:
    values: dict[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    engine_id = text_in(values, "speech_engine_id")
    if engine_id is None:
        where = f"$.speech_engines[{index}].speech_engine_id"
        raise _unexpected("an id", _kind(values, "speech_engine_id"), where)
    return EngineSummary(
        engine_id=engine_id,
        name=text_in(values, "name"),
        voice_id=text_in(values, "voice_id"),
        created_at_unix_secs=_int(values, "created_at_unix_secs"),
        updated_at_unix_secs=_int(values, "updated_at_unix_secs"),
        tags=_tags(values),
        access_info=_object_in(values, "access_info"),
        raw=JsonObject(values),
    )


def _required(values: dict[str, Any], key: str) -> str:
    value = text_in(values, key)
    if not value:
        raise _unexpected("text", _kind(values, key), f"$.{key}")
    return value


def _wrapped(value: object) -> Any:
    if isinstance(value, dict):
        return JsonObject(cast("dict[str, Any]", value))
    if isinstance(value, list):
        return [_wrapped(item) for item in cast("list[object]", value)]
    return value


def _object_in(values: dict[str, Any], key: str) -> JsonObject:
    value = values.get(key)
    return JsonObject(cast("dict[str, Any]", value) if isinstance(value, dict) else None)


def _int(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if type(value) is int else None


def _number(values: dict[str, Any], key: str) -> float | None:
    value = values.get(key)
    return value if type(value) in (int, float) else None


def _tags(values: dict[str, Any]) -> tuple[str, ...]:
    tags = values.get("tags")
    items = cast("list[object]", tags) if isinstance(tags, list) else []
    return tuple(tag for tag in items if isinstance(tag, str))


def _kind(values: dict[str, Any], key: str) -> str:
    return type(values[key]).__name__ if key in values else "nothing"


def _unexpected(
    expected: str, got: str, where: str, status: int | None = None
) -> UnexpectedResponseError:
    return UnexpectedResponseError(f"expected {expected}, got {got} at {where}", status_code=status)
