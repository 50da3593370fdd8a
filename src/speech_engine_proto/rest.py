"""The management API without I/O: requests as values, answers read into values.

::

    request = create_engine(speech_engine={"ws_url": "wss://example.com/ws"}, name="Desk")
    # send request.method, request.url(base_url), request.headers and request.body, with the key
    # in the header `xi-api-key`, by whatever speaks HTTP
    engine = read_engine(ApiResponse(status, headers, body))

`speech_engine_transports.httpx` does this with httpx. Source of all: facts sheet, section 4.
"""

from __future__ import annotations

from ._rest_errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    UnauthorizedError,
    UnexpectedResponseError,
    UnprocessableEntityError,
    ValidationDetail,
    error_from,
    transport_error,
)
from ._rest_hosts import ElevenLabsEnvironment, check_api_key, resolve_base_url
from ._rest_messages import ApiRequest, ApiResponse
from ._rest_requests import (
    ListOptions,
    SignedURLOptions,
    TokenOptions,
    create_engine,
    delete_engine,
    duplicate_engine,
    get_engine,
    get_signed_url,
    get_webrtc_token,
    list_engines,
    update_engine,
)
from ._rest_responses import (
    Engine,
    EnginePage,
    EngineSummary,
    JsonObject,
    SignedURL,
    WebRTCToken,
    read_engine,
    read_nothing,
    read_page,
    read_signed_url,
    read_token,
)
from ._rest_retry import RetryPolicy, is_transient, retry_after
from ._rest_settings import EngineChanges, EngineSettings, HasModelDump, SettingsObject

__all__ = [
    "ApiError",
    "ApiRequest",
    "ApiResponse",
    "BadRequestError",
    "ConflictError",
    "ElevenLabsEnvironment",
    "Engine",
    "EngineChanges",
    "EnginePage",
    "EngineSettings",
    "EngineSummary",
    "ForbiddenError",
    "HasModelDump",
    "JsonObject",
    "ListOptions",
    "NotFoundError",
    "RateLimitError",
    "RetryPolicy",
    "ServerError",
    "SettingsObject",
    "SignedURL",
    "SignedURLOptions",
    "TokenOptions",
    "TransportError",
    "UnauthorizedError",
    "UnexpectedResponseError",
    "UnprocessableEntityError",
    "ValidationDetail",
    "WebRTCToken",
    "check_api_key",
    "create_engine",
    "delete_engine",
    "duplicate_engine",
    "error_from",
    "get_engine",
    "get_signed_url",
    "get_webrtc_token",
    "is_transient",
    "list_engines",
    "read_engine",
    "read_nothing",
    "read_page",
    "read_signed_url",
    "read_token",
    "resolve_base_url",
    "retry_after",
    "transport_error",
    "update_engine",
]
