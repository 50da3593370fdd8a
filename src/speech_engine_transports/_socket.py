"""What a session needs of a WebSocket, and what it knows of the request that opened it."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

import attrs

from speech_engine_proto.auth import AUTHORIZATION_HEADER

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["Headers", "Request", "Socket", "WebSocketLike"]


class Headers(Mapping[str, str]):
    """Request headers: read-only, names without regard to case, repeated ones joined by a comma.

    The token of the upgrade request is left out: whoever logs headers must not log it.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        values: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            if key != AUTHORIZATION_HEADER.lower():
                values[key] = f"{values[key]}, {value}" if key in values else value
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({sorted(self._values)})"


@attrs.frozen
class Request:
    """The upgrade request of a conversation: the service's only per-conversation channel.

    Args:
        path: the path, without the query.
        query: what follows the ``?``, not decoded; ``""`` without one.
        headers: all headers but the token.
        peer: host of the other end of the TCP connection, where it is known.
    """

    path: str = "/"
    query: str = attrs.field(default="", repr=False)
    headers: Headers = attrs.field(factory=Headers)
    peer: str | None = None

    @classmethod
    def from_target(
        cls, target: str, headers: Iterable[tuple[str, str]], peer: str | None = None
    ) -> Request:
        """Build a request from its target as it stands in the request line (RFC 9112, 3.2)."""
        try:
            parts = urlsplit(target)
        except ValueError:  # such as "//[": a path like any other, and no route has it
            return cls(target, "", Headers(headers), peer)
        path = target.partition("?")[0] if target.startswith("/") else parts.path
        return cls(path, parts.query, Headers(headers), peer)


class Socket(abc.ABC):
    """One accepted or dialled WebSocket: what every adapter is a subclass of.

    It holds no rule of the protocol. A send that is cut off must leave a whole frame or none on
    the wire: where the library cannot promise that, the adapter shields it, with a deadline.
    """

    lock: AbstractAsyncContextManager[Any] | None = None
    """Held around building and writing a frame; None where a send never waits halfway."""

    gone: tuple[type[Exception], ...] = (ConnectionError,)
    """What ``send`` raises where the socket is gone."""

    overflowed: bool = False
    """Whether it ended because a message was longer than this end takes; adapters set it."""

    def __init__(self, request: Request | None = None) -> None:
        self._request = request

    @property
    def request(self) -> Request:
        """The upgrade request. Most conversations never ask for it."""
        if self._request is None:
            self._request = self.read_request()
        return self._request

    @request.setter
    def request(self, request: Request) -> None:
        self._request = request

    def read_request(self) -> Request:
        """Return the upgrade request as the library kept it; for adapters to say how."""
        return Request()

    @abc.abstractmethod
    async def recv(self) -> str | bytes | None:
        """Return the next whole message; None when the socket has ended, however it did."""

    @abc.abstractmethod
    async def send(self, frame: str) -> None:
        """Write one text frame; raises one of ``gone`` where the socket is gone."""

    @abc.abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; returns when the peer has answered or the library gave up on it."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop the connection at once, without a closing handshake."""

    def try_send(self, frame: str) -> bool:
        """Write one text frame if that needs no waiting; False where it does, or may."""
        return False

    @property
    def closed_with(self) -> int | None:
        """The code that an ended socket was closed with; None where the adapter cannot tell."""
        return None


@runtime_checkable
class WebSocketLike(Protocol):
    """The least that `create_session` takes: any object with these three."""

    def recv(self) -> Awaitable[str | bytes]:
        """Return the next message; raise anything when there is none."""
        ...

    def send(self, data: str) -> Awaitable[None]:
        """Write one text frame."""
        ...

    def close(self) -> Any:
        """Close the socket."""
        ...


class PlainSocket(Socket):
    """A `Socket` around an object that is known only by ``recv``, ``send`` and ``close``.

    That is a scripted socket in a test, or a library that has no adapter. Whatever ``recv`` or
    ``send`` raises means that the socket has ended: nothing more is known of it.
    """

    gone = (Exception,)

    def __init__(self, ws: WebSocketLike) -> None:
        super().__init__()
        self._ws = ws

    async def recv(self) -> str | bytes | None:
        """Return the next message, or None where the object raises."""
        try:
            return await self._ws.recv()
        except Exception:
            return None

    @property
    def send(self) -> Callable[[str], Awaitable[None]]:  # type: ignore[override]
        """Write one frame: the object's own verb, as each layer costs a coroutine per piece."""
        return self._ws.send

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the object, which takes no code."""
        result = self._ws.close()
        if isawaitable(result):
            await result

    def abort(self) -> None:
        """Nothing to abort: the object has no such verb."""
