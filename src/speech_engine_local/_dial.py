"""Dial a server as the service does, and say in words why that failed."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token

from ._errors import ConnectError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from speech_engine_transports._socket import Socket

_CAUSES = {
    401: "the token was refused: is the API key the one that the server checks with?",
    403: "the server does not want this call: what does its authorize callback ask for?",
    404: "the path is wrong: which one does the server listen on?",
    426: "this is an HTTP route, not the WebSocket's: is the path right?",
    503: "the server takes no more calls: it is full, or about to stop",
}


@asynccontextmanager
async def dial(
    url: str,
    api_key: str | None,
    headers: tuple[tuple[str, str], ...],
    connect: Callable[..., AbstractAsyncContextManager[Socket]] | None,
) -> AsyncGenerator[Socket]:
    """Open a socket to the server, with a token where there is a key.

    Raises:
        ConnectError: no socket; the message says why.
        AuthenticationError: the key cannot sign anything.
    """
    where = host_of(url)
    opener = connect or default_connect()
    pairs = list(headers)
    if api_key is not None:
        pairs.append((AUTHORIZATION_HEADER, sign_token(api_key, now=time.time())))
    async with AsyncExitStack() as stack:
        try:
            ws = await stack.enter_async_context(opener(url, headers=pairs))
        except Exception as error:
            raise _refusal(error, where, api_key is not None) from error
        yield ws


def default_connect() -> Callable[..., AbstractAsyncContextManager[Socket]]:
    """Return what opens a socket where nothing else was chosen."""
    from speech_engine_transports.asyncio import connect  # only here: it needs websockets

    return connect


def host_of(url: str) -> str:
    """Return host and port, which may be shown: the rest of an address may hold a secret.

    Raises:
        ConnectError: it is no address of a WebSocket.
    """
    try:
        parts = urlsplit(url)
        port, usable = parts.port, parts.scheme in ("ws", "wss") and bool(parts.hostname)
    except ValueError:
        parts, port, usable = urlsplit(""), None, False
    if not usable:
        raise ConnectError("url: expected ws://host:port/path or wss://..., got something else")
    return f"{parts.hostname}:{port}" if port else str(parts.hostname)


def _refusal(error: Exception, where: str, signed: bool) -> ConnectError:
    status = _status_of(error)
    if status is not None:
        cause = _CAUSES.get(status, "the server refused the upgrade")
        if status == 401 and not signed:
            cause = "no token was sent: the server wants an API key"
        return ConnectError(f"{where} answered {status}: {cause}", status)
    match error:
        case TimeoutError():
            cause = "no answer in time"
        case socket.gaierror():
            cause = "no such host"
        case ssl.SSLError():
            cause = f"TLS failed: {getattr(error, 'reason', None) or 'no reason given'}"
        case ConnectionResetError():
            cause = _HUNG_UP
        case OSError():
            cause = "nobody listens there: is the server running, on this port?"
        case _:
            cause = _HUNG_UP
    return ConnectError(f"{where}: {cause}")


_HUNG_UP = (
    "it hung up during the upgrade: no WebSocket server, "
    "or one that answers a wrong key by hanging up, as the official TypeScript SDK does"
)


def _status_of(error: Exception) -> int | None:
    """Find the HTTP status in what the WebSocket library raised, whichever it is."""
    for holder in (getattr(error, "response", None), error):
        for name in ("status_code", "status"):
            status: Any = getattr(holder, name, None)
            if isinstance(status, int):
                return status
    return None
