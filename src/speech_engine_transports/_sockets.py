"""Which adapter an accepted WebSocket needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._socket import PlainSocket, Socket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_socket"]

SUPPORTED = (
    "a connection of websockets.asyncio, websockets.trio or trio-websocket, "
    "a Starlette or FastAPI WebSocket, a speech_engine_transports.picows.Listener, "
    "a WebSocket of aiohttp's server or client, "
    "or any object with recv() or receive_text(), send() or send_text(), and close()"
)


def as_socket(ws: Any) -> Socket:
    """Return the adapter for an accepted WebSocket; a `Socket` is returned as it is.

    A library is looked for only where the program has imported it: nothing is imported here that
    the user did not choose.

    Raises:
        TypeError: the object is none of the supported ones; the message names them.
    """
    if isinstance(ws, Socket):
        return ws
    for recognise in (
        _websockets,
        _starlette,
        _aiohttp,
        _trio_websocket,
        _websockets_trio,
        _picows,
    ):
        socket = recognise(ws)
        if socket is not None:
            return socket
    if _has(ws, "recv", "send", "close"):
        return PlainSocket(ws)
    if _has(ws, "receive_text", "send_text", "close"):
        return PlainSocket(_TextVerbs(ws))
    raise TypeError(f"ws: expected {SUPPORTED}; got {type(ws).__name__}")


def _websockets(ws: Any) -> Socket | None:
    if not _is_instance(ws, "websockets.asyncio.connection", "Connection"):
        return None
    from .asyncio import WebsocketsSocket

    return WebsocketsSocket(ws)


def _starlette(ws: Any) -> Socket | None:
    if not _is_instance(ws, "starlette.websockets", "WebSocket"):
        return None
    from .asgi import StarletteSocket

    return StarletteSocket(ws)


class _TextVerbs:
    """An object that has Starlette's verbs and is no WebSocket of Starlette, such as a fake one."""

    def __init__(self, ws: Any) -> None:
        self.recv = ws.receive_text
        self.send = ws.send_text
        self.close = ws.close


def _has(ws: Any, *verbs: str) -> bool:
    return all(callable(getattr(ws, verb, None)) for verb in verbs)


def _aiohttp(ws: Any) -> Socket | None:
    if not (
        _is_instance(ws, "aiohttp.web_ws", "WebSocketResponse")
        or _is_instance(ws, "aiohttp.client_ws", "ClientWebSocketResponse")
    ):
        return None
    from .aiohttp import AiohttpSocket

    return AiohttpSocket(ws)


def _trio_websocket(ws: Any) -> Socket | None:
    if not _is_instance(ws, "trio_websocket", "WebSocketConnection"):
        return None
    from .trio import TrioSocket

    return TrioSocket(ws)


def _websockets_trio(ws: Any) -> Socket | None:
    if not _is_instance(ws, "websockets.trio.connection", "Connection"):
        return None
    from ._trio_socket import WebsocketsTrioSocket

    return WebsocketsTrioSocket(ws)


def _picows(ws: Any) -> Socket | None:
    if _is_instance(ws, "picows", "WSTransport") or _is_instance(ws, "picows", "WSListener"):
        raise TypeError(
            f"ws: {type(ws).__name__} hands out its frames once; let your listener factory return "
            "a speech_engine_transports.picows.Listener, and pass that"
        )
    return None


def _is_instance(ws: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    kind: Callable[..., Any] | None = getattr(loaded, name, None)
    # A mock with a ``spec`` says that it is an instance; what it is made of is its type.
    return isinstance(kind, type) and issubclass(type(ws), kind)
