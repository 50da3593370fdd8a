"""What a test calls, and the ways to reach it: in memory, over a socket of its own, by address."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio.lowlevel

from speech_engine_transports import SpeechEngineServer
from speech_engine_transports._socket import Headers, Request, Socket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from speech_engine_transports import SpeechEngineSession
    from speech_engine_transports._virtual_time import World

__all__ = ["Line", "by_address", "in_memory", "over_socket", "server_for"]

KEY = "pytest"
"""Signs and verifies the tokens between two ends that are both ours."""

EXPECTED = "an on_transcript handler, a mapping of callbacks, a SpeechEngineServer, or a ws:// URL"


class Line(NamedTuple):
    """How to dial the agent: arguments of `LocalEngine`."""

    url: str
    api_key: str | None
    connect: Callable[..., AbstractAsyncContextManager[Socket]]


def server_for(agent: Any, backend: str, socket: bool) -> SpeechEngineServer:
    """Return a server for what the `agent` fixture returned.

    Raises:
        TypeError: it is nothing that can be called, or not in this way.
    """
    server: object = getattr(agent, "server", agent)  # of `app(...)`, `handler(...)`
    if not isinstance(server, SpeechEngineServer):
        callbacks = _callbacks(agent)
        return SpeechEngineServer(
            host="127.0.0.1", port=0, api_key=KEY, transport=backend, **callbacks
        )
    transport = server._transport  # pyright: ignore[reportPrivateUsage]
    if socket and (transport == "trio") is not (backend == "trio"):
        raise TypeError(
            f"agent: expected a server that listens on {backend}, got transport={transport!r}"
        )
    if socket and server.ssl is not None:
        raise TypeError("agent: expected a server without TLS, or the URL of one that listens")
    return server


def _callbacks(agent: Any) -> dict[str, Any]:
    callbacks: dict[str, Any]
    if isinstance(agent, Mapping):
        callbacks = dict(cast("Mapping[str, Any]", agent))
    elif callable(agent):
        callbacks = {"on_transcript": agent}
    else:
        raise TypeError(f"agent: expected {EXPECTED}; got {type(agent).__name__}")
    if callbacks.get("on_transcript") is None:
        raise TypeError(f"agent: expected an on_transcript callback, got {sorted(callbacks)}")
    return callbacks


class End(Socket):
    """One end of a link in memory."""

    def __init__(self, request: Request | None = None) -> None:
        super().__init__(request)
        self.other = self
        self._coming: deque[str] = deque()
        self._changed = anyio.Event()
        self._ended = False
        self._code: int | None = None

    async def recv(self) -> str | None:
        """Return the next frame; None at the end."""
        while not self._coming:
            if self._ended:
                return None
            self._changed = anyio.Event()
            await self._changed.wait()
        return self._coming.popleft()

    async def send(self, frame: str) -> None:
        """Write a frame, and let the other end read it: nobody outruns who may interrupt them."""
        if self._ended:
            raise ConnectionError("the call has ended")
        self.other.take(frame)
        await anyio.lowlevel.checkpoint()

    def try_send(self, frame: str) -> bool:
        """Write a frame, unless the link has ended."""
        if not self._ended:
            self.other.take(frame)
        return not self._ended

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the link."""
        self.end(code)
        self.other.end(code)

    def abort(self) -> None:
        """End the link without a code."""
        self.end(1006)
        self.other.end(1006)

    @property
    def close_code(self) -> int | None:
        """The code that the link was ended with."""
        return self._code

    def take(self, frame: str) -> None:
        """Let a frame arrive here."""
        self._coming.append(frame)
        self._changed.set()

    def end(self, code: int) -> None:
        """Let the end of the link arrive here; the first counts."""
        if not self._ended:
            self._ended, self._code = True, code
        self._changed.set()


@asynccontextmanager
async def in_memory(
    server: SpeechEngineServer, place: World, report: Callable[[Exception], None]
) -> AsyncGenerator[Line]:
    """Reach a server's sessions without a socket; its listener and token checks are not used."""
    path = server.path or "/"

    @asynccontextmanager
    async def connect(url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        ours, theirs = End(), End(Request(path, headers=Headers(headers)))
        ours.other, theirs.other = theirs, ours
        session = server.handle_connection(theirs)

        async def converse() -> None:
            try:
                await session.run()
            except Exception as error:
                report(error)
            finally:
                theirs.abort()

        place.spawn(converse)
        try:
            yield ours
        finally:
            ours.abort()

    with _reporting(server, report):
        yield Line(f"ws://memory{path}", None, connect)


@asynccontextmanager
async def over_socket(
    server: SpeechEngineServer, backend: str, report: Callable[[Exception], None]
) -> AsyncGenerator[Line]:
    """Let a server listen, and reach it over its socket."""
    with _reporting(server, report):
        async with server:
            host = "127.0.0.1" if server.host in (None, "", "0.0.0.0") else server.host
            keys = server._keys  # pyright: ignore[reportPrivateUsage]
            url = f"ws://{host}:{server.port}{server.path or '/'}"
            yield Line(url, keys[0] if keys else None, _dialler(backend))


@asynccontextmanager
async def by_address(url: str, backend: str, api_key: str | None) -> AsyncGenerator[Line]:
    """Reach a server that runs already."""
    yield Line(url, api_key, _dialler(backend))


def _dialler(backend: str) -> Callable[..., AbstractAsyncContextManager[Socket]]:
    if backend == "trio":
        from speech_engine_transports.trio import connect as connect_on_trio

        return connect_on_trio
    from speech_engine_transports.asyncio import connect

    return connect


@contextmanager
def _reporting(server: SpeechEngineServer, report: Callable[[Exception], None]) -> Generator[None]:
    """Hear of the errors of each session of a server, beside its own ``on_error``."""
    make = server.handle_connection

    def handle_connection(ws: Any) -> SpeechEngineSession:
        return make(ws).on("error", report)

    vars(server)["handle_connection"] = handle_connection
    try:
        yield
    finally:
        del vars(server)["handle_connection"]
