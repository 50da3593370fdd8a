"""Sockets for the Speech Engine protocol: one session, and a thin module per WebSocket library.

`SpeechEngineServer` and `SpeechEngineSession` keep the surface of the official Python SDK; the
modules `asyncio`, `aiohttp`, `trio`, `asgi` and `picows` carry them. Everything here is imported
when it is first used, so no library is loaded that the program did not choose. Unofficial, not
affiliated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names

if TYPE_CHECKING:
    from speech_engine_proto import (
        CLOSE,
        DISCONNECTED,
        ERROR,
        INIT,
        USER_TRANSCRIPT,
        ConversationMessage,
    )
    from speech_engine_proto.auth import verify_speech_engine_jwt
    from speech_engine_proto.llm import to_messages

    from ._observer import Observer
    from ._socket import Headers, Request, Socket, WebSocketLike
    from .errors import LimitExceeded, ServiceError
    from .limits import Limits
    from .resource import SpeechEngineResource, create_session
    from .server import SpeechEngineServer
    from .session import SpeechEngineSession

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "Headers",
    "LimitExceeded",
    "Limits",
    "Observer",
    "Request",
    "ServiceError",
    "Socket",
    "SpeechEngineResource",
    "SpeechEngineServer",
    "SpeechEngineSession",
    "WebSocketLike",
    "create_session",
    "to_messages",
    "verify_speech_engine_jwt",
]

_HOMES = {
    "CLOSE": "speech_engine_proto",
    "DISCONNECTED": "speech_engine_proto",
    "ERROR": "speech_engine_proto",
    "INIT": "speech_engine_proto",
    "USER_TRANSCRIPT": "speech_engine_proto",
    "ConversationMessage": "speech_engine_proto",
    "Headers": "speech_engine_transports._socket",
    "LimitExceeded": "speech_engine_transports.errors",
    "Limits": "speech_engine_transports.limits",
    "Observer": "speech_engine_transports._observer",
    "Request": "speech_engine_transports._socket",
    "ServiceError": "speech_engine_transports.errors",
    "Socket": "speech_engine_transports._socket",
    "SpeechEngineResource": "speech_engine_transports.resource",
    "SpeechEngineServer": "speech_engine_transports.server",
    "SpeechEngineSession": "speech_engine_transports.session",
    "WebSocketLike": "speech_engine_transports._socket",
    "create_session": "speech_engine_transports.resource",
    "to_messages": "speech_engine_proto.llm",
    "verify_speech_engine_jwt": "speech_engine_proto.auth",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
