"""The HTTP request that opens a WebSocket, for the transports that must judge it themselves."""

from __future__ import annotations

import base64
import binascii
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

from ._mounted import UPGRADE_REQUIRED
from .server import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._socket import Request
    from .server import SpeechEngineServer

__all__ = [
    "HEAD_END",
    "BadRequestError",
    "Head",
    "check_upgrade",
    "judge",
    "port_of",
    "refusal_bytes",
]

HEAD_END = b"\r\n\r\n"

logger = logging.getLogger("speech_engine_transports")

_UPGRADE_REQUIRED = Refusal(HTTPStatus.UPGRADE_REQUIRED, UPGRADE_REQUIRED)


class BadRequestError(ValueError):
    """What came is not the head of an HTTP/1.1 request (RFC 9112)."""


@attrs.frozen
class Head:
    """The request line and the headers of an HTTP/1.1 request.

    Args:
        method: such as ``GET``.
        target: as it stands in the request line.
        headers: pairs in their order, repeated ones kept.
    """

    method: str
    target: str = attrs.field(repr=False)
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Parse a head, without the empty line that ends it (RFC 9112, 3 and 5).

        Raises:
            BadRequestError: that is no head of an HTTP/1.1 request.
        """
        line, *rest = data.decode("latin-1").split("\r\n")
        match line.split(" "):
            case [method, target, "HTTP/1.1"] if method and target:
                return cls(method, target, tuple(_header(text) for text in rest))
            case _:
                raise BadRequestError("request line: expected a method, a target and HTTP/1.1")

    def bare(self) -> bytes:
        """Return an upgrade request with this one's key, and nothing else that the peer wrote."""
        key = next(value for name, value in self.headers if name.lower() == "sec-websocket-key")
        return (
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        ).encode("ascii")


async def judge(
    server: SpeechEngineServer, request: Request, method: str, headers: Sequence[tuple[str, str]]
) -> Refusal | None:
    """Decide on an upgrade: what the server says of the caller, then the upgrade itself.

    Args:
        server: asked first, see `SpeechEngineServer.admit`.
        request: the request, as handlers will see it.
        method: the request's method.
        headers: all its headers as pairs, repeated ones kept.
    """
    try:
        refusal = await server.admit(request, headers)
    except Exception:
        logger.exception("authorize failed")
        return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error\n")
    return refusal or check_upgrade(method, headers)


def check_upgrade(method: str, headers: Iterable[tuple[str, str]]) -> Refusal | None:
    """Tell what is wrong with the upgrade itself (RFC 6455, 4.2.1); None where nothing is.

    Args:
        method: the request's method.
        headers: all headers as pairs.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    if (
        method != "GET"
        or "upgrade" not in _tokens(values.get("connection"))
        or "websocket" not in _tokens(values.get("upgrade"))
        or values.get("sec-websocket-version") != ["13"]
    ):
        return _UPGRADE_REQUIRED
    if len(values.get("host", ())) != 1 or not _is_key(values.get("sec-websocket-key")):
        return Refusal(HTTPStatus.BAD_REQUEST, "bad upgrade request\n")
    return None


def port_of(sockets: Iterable[Any]) -> int:
    """Return the port listened on; of several free ones, one per address family, that of IPv4."""
    ports: list[int] = [
        each.getsockname()[1]
        for each in sorted(sockets, key=lambda each: each.family != socket.AF_INET)
    ]
    return ports[0]


def refusal_bytes(refusal: Refusal) -> bytes:
    """Return the whole HTTP response; a 426 must say to what (RFC 9110, 15.5.22)."""
    lines = [
        f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}",
        f"Content-Type: {refusal.content_type}",
        f"Content-Length: {len(refusal.body.encode())}",
    ]
    if refusal.status == HTTPStatus.UPGRADE_REQUIRED:
        lines += ["Connection: close, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    else:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", refusal.body]).encode()


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    # White space around the name, or before it, is how requests are smuggled past proxies.
    if not colon or not name or any(not "!" <= char <= "~" for char in name):
        raise BadRequestError("header: expected a name, a colon and a value")
    if any(char in value for char in "\r\n\0"):
        raise BadRequestError("header: a control character in the value")
    return name, value.strip(" \t")


def _tokens(values: list[str] | None) -> set[str]:
    return {token.strip().lower() for token in ",".join(values or ()).split(",")}


def _is_key(values: list[str] | None) -> bool:
    if values is None or len(values) != 1:
        return False
    try:
        return len(base64.b64decode(values[0], validate=True)) == 16
    except (binascii.Error, ValueError):  # ValueError: a character outside ASCII
        return False
