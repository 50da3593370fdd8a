"""Which adapter an accepted WebSocket needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._socket import PlainSocket, Socket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_socket"]

SUPPORTED = (
    "a connection of websockets.asyncio, a Starlette or FastAPI WebSocket, "
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
    for recognise in (_websockets, _starlette):
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


def _is_instance(ws: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    kind: Callable[..., Any] | None = getattr(loaded, name, None)
    # A mock with a ``spec`` says that it is an instance; what it is made of is its type.
    return isinstance(kind, type) and issubclass(type(ws), kind)
