"""The requests of the management API (facts sheet, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ._rest_messages import ApiRequest, encode
from ._rest_settings import (
    checked_id,
    checked_page_size,
    checked_settings,
    checked_text,
    expected,
    path_segment,
    query_text,
)

if TYPE_CHECKING:
    from ._rest_settings import EngineChanges, EngineSettings, SettingsObject


class ListOptions(TypedDict, total=False):
    """What `list_engines` takes, for code that passes it on."""

    page_size: int | None
    search: str | None
    sort_direction: str | None
    sort_by: str | None
    cursor: str | None


class TokenOptions(TypedDict, total=False):
    """What `get_webrtc_token` takes besides the id, for code that passes it on."""

    participant_name: str | None
    branch_id: str | None
    version_id: str | None
    environment: str | None
    debug_events_request: bool | None


class SignedURLOptions(TypedDict, total=False):
    """What `get_signed_url` takes besides the id, for code that passes it on."""

    include_conversation_id: bool | None
    branch_id: str | None
    version_id: str | None
    environment: str | None
    debug_events_request: bool | None


_ENGINES = "/v1/speech-engine"
_CONVERSATION = "/v1/convai/conversation"


def create_engine(
    *, speech_engine: SettingsObject, **settings: Unpack[EngineSettings]
) -> ApiRequest:
    """Ask for a new Speech Engine.

    Args:
        speech_engine: ``ws_url``, with ``ws://`` or ``wss://``, and optionally
            ``request_headers``.
        settings: the other settings, see `EngineSettings`.

    Raises:
        TypeError: an unknown setting.
        ValueError: a value that the service would refuse; names the field.
    """
    body = checked_settings({"speech_engine": speech_engine, **settings})
    config: dict[str, Any] = body["speech_engine"] or {}
    if not config.get("ws_url"):
        raise expected("speech_engine.ws_url", "a WebSocket URL (ws:// or wss://)", "none")
    return ApiRequest("POST", _ENGINES, body=encode(body))


def get_engine(speech_engine_id: str) -> ApiRequest:
    """Ask for one Speech Engine.

    Args:
        speech_engine_id: its id, ``seng_...`` or ``agent_...``; percent-encoded here.

    Raises:
        ValueError: the id is empty, no text, ``.`` or ``..``.
    """
    return ApiRequest("GET", _engine(speech_engine_id))


def list_engines(
    *,
    page_size: int | None = None,
    search: str | None = None,
    sort_direction: str | None = None,
    sort_by: str | None = None,
    cursor: str | None = None,
) -> ApiRequest:
    """Ask for one page of Speech Engines.

    Args:
        page_size: from 1 to 100; the service's default is 30.
        search: words to look for in the names.
        sort_direction: ``"asc"`` or ``"desc"``.
        sort_by: ``"name"``, ``"created_at"``, ``"updated_at"`` or ``"call_count_7d"``.
        cursor: where the page begins, from the page before.

    Raises:
        ValueError: a value that the service would refuse; names the field.
    """
    if page_size is not None:
        checked_page_size(page_size)
    if sort_direction is not None and query_text("sort_direction", sort_direction) not in (
        "asc",
        "desc",
    ):
        raise expected("sort_direction", "'asc' or 'desc'", repr(sort_direction))
    query = _query(
        page_size=page_size,
        search=search,
        sort_direction=sort_direction,
        sort_by=sort_by,
        cursor=cursor,
    )
    return ApiRequest("GET", _ENGINES, query)


def update_engine(speech_engine_id: str, **changes: Unpack[EngineChanges]) -> ApiRequest:
    """Ask for changes; what is not named stays as it is.

    Args:
        speech_engine_id: its id; percent-encoded here.
        changes: the settings to change, see `EngineChanges`.

    Raises:
        TypeError: an unknown setting.
        ValueError: a bad id, or a value that the service would refuse; names the field.
    """
    path = _engine(speech_engine_id)
    return ApiRequest("PATCH", path, body=encode(checked_settings(changes)))


def delete_engine(speech_engine_id: str) -> ApiRequest:
    """Ask for the end of a Speech Engine.

    Args:
        speech_engine_id: its id; percent-encoded here.

    Raises:
        ValueError: the id is empty, no text, ``.`` or ``..``.
    """
    return ApiRequest("DELETE", _engine(speech_engine_id))


def duplicate_engine(speech_engine_id: str, *, name: str | None = None) -> ApiRequest:
    """Ask for a copy.

    Args:
        speech_engine_id: the id of the original; percent-encoded here.
        name: the copy's name; by default the original's.

    Raises:
        ValueError: a bad id or name.
    """
    body = {} if name is None else {"name": checked_text("name", name)}
    return ApiRequest("POST", f"{_engine(speech_engine_id)}/duplicate", body=encode(body))


def get_webrtc_token(
    *,
    agent_id: str,
    participant_name: str | None = None,
    branch_id: str | None = None,
    version_id: str | None = None,
    environment: str | None = None,
    debug_events_request: bool | None = None,
) -> ApiRequest:
    """Ask for the token with which a browser begins a conversation over WebRTC.

    Args:
        agent_id: the id of the Speech Engine.
        participant_name: a name for the caller.
        branch_id: a branch of the agent.
        version_id: a version of the agent.
        environment: in which the service's variables are read; its default is
            ``"production"``.
        debug_events_request: ask for debug events.

    Raises:
        ValueError: a value of the wrong type, or an empty id.
    """
    query = _query(
        agent_id=checked_id("agent_id", agent_id),
        participant_name=participant_name,
        branch_id=branch_id,
        version_id=version_id,
        environment=environment,
        debug_events_request=debug_events_request,
    )
    return ApiRequest("GET", f"{_CONVERSATION}/token", query)


def get_signed_url(
    *,
    agent_id: str,
    include_conversation_id: bool | None = None,
    branch_id: str | None = None,
    version_id: str | None = None,
    environment: str | None = None,
    debug_events_request: bool | None = None,
) -> ApiRequest:
    """Ask for the URL with which a client begins a conversation over a WebSocket.

    Args:
        agent_id: the id of the Speech Engine.
        include_conversation_id: put the conversation's id into the URL, which can then be used
            once only.
        branch_id: a branch of the agent.
        version_id: a version of the agent.
        environment: in which the service's variables are read; its default is
            ``"production"``.
        debug_events_request: ask for debug events.

    Raises:
        ValueError: a value of the wrong type, or an empty id.
    """
    query = _query(
        agent_id=checked_id("agent_id", agent_id),
        include_conversation_id=include_conversation_id,
        branch_id=branch_id,
        version_id=version_id,
        environment=environment,
        debug_events_request=debug_events_request,
    )
    return ApiRequest("GET", f"{_CONVERSATION}/get-signed-url", query)


def _engine(speech_engine_id: str) -> str:
    return f"{_ENGINES}/{path_segment('speech_engine_id', speech_engine_id)}"


def _query(**values: Any) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, query_text(name, value)) for name, value in values.items() if value is not None
    )
