"""Speech Engine on trio, over the ``trio-websocket`` library (extra ``trio``)."""

from __future__ import annotations

import ssl as ssl_module
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from speech_engine_proto import Limits

from ._socket import Request
from .server import SpeechEngineServer

try:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
    from wsproto.utilities import LocalProtocolError
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.trio needs trio-websocket: "
        "pip install 'speech-engine-proto[trio]'"
    ) from error

from ._overflow import TOO_BIG
from ._trio_listener import (
    RECEIVE_BYTES,
    OpeningStream,
    TrioListener,
    keep_alive,
    plain_nursery,
    run_reader,
)
from ._trio_socket import CLOSE_SECONDS, TrioSocketBase
from ._upgrade import port_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from trio import TaskStatus

__all__ = ["TrioSocket", "connect", "listen", "serve"]

OPEN_SECONDS = 10.0
"""For dialling and the upgrade, as the service's other end allows (fact sheet 1.6)."""


class TrioSocket(TrioSocketBase):
    """A `Socket` around a connection of ``trio_websocket``, accepted or dialled.

    Args:
        ws: the connection.
        request: the upgrade request, where it is known: an accepted connection only keeps the
            path of its own.
    """

    def __init__(self, ws: WebSocketConnection, request: Request | None = None) -> None:
        stream: object = getattr(ws, "_stream", None)  # the library has no public name for it
        if isinstance(stream, OpeningStream):
            stream = stream.wrapped
        super().__init__(request or Request.from_target(ws.path or "/", ()), stream)
        self._ws = ws
        self._closing = trio.Lock()

    async def recv(self) -> str | bytes | None:
        """Return the next message; None when the connection is closed."""
        try:
            return await self._ws.get_message()
        except ConnectionClosed as closed:
            reason = closed.reason
            # The library notes a code alike whoever said it; the words are its own.
            self.overflowed = (
                reason is not None
                and reason.code == TOO_BIG
                and (reason.reason or "").startswith("Exceeded maximum message size")
            )
            return None

    async def _write(self, frame: str) -> None:
        try:
            await self._ws.send_message(frame)
        except (ConnectionClosed, LocalProtocolError) as error:
            raise ConnectionError(str(error)) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order; past the deadline the connection is dropped."""
        with trio.move_on_after(CLOSE_SECONDS):
            # Whoever comes second waits: a session that ends takes the reader with it, and without
            # a reader the peer's answer is never seen.
            async with self._closing:
                await self._ws.aclose(code, reason)


async def serve(
    *, task_status: TaskStatus[SpeechEngineServer] = trio.TASK_STATUS_IGNORED, **options: Any
) -> None:
    """Listen until stopped, signalled or cancelled.

    Args:
        task_status: for ``server = await nursery.start(serve)``; ``server.port`` tells where.
        options: those of `SpeechEngineServer`.

    Raises:
        RuntimeError: there is no API key and ``disable_auth`` is not set.
        OSError: the address cannot be listened on.
    """
    async with SpeechEngineServer(transport="trio", **options) as server:
        task_status.started(server)
        await server.wait_stopped()


@asynccontextmanager
async def listen(server: SpeechEngineServer) -> AsyncGenerator[int]:
    """Listen for a server while the block runs, and yield the port.

    At the end every live connection is closed with 1001, and their sessions are waited for. Where
    the end is a cancellation, peers are told all the same; sessions are then cancelled.
    """
    listeners: list[Any] = list(await trio.open_tcp_listeners(server.port, host=server.host))
    port = port_of(each.socket for each in listeners)
    if server.ssl is not None:
        context = server.ssl
        listeners = [trio.SSLListener(each, context, https_compatible=True) for each in listeners]
    connections = TrioListener(server, TrioSocket)
    async with plain_nursery() as nursery:
        handlers = await nursery.start(connections.hold)
        async with plain_nursery() as accepting:
            await accepting.start(
                partial(
                    trio.serve_listeners, connections.handle, listeners, handler_nursery=handlers
                )
            )
            try:
                yield port
            finally:
                accepting.cancel_scope.cancel()
                await connections.end()


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
) -> AsyncGenerator[TrioSocket]:
    """Dial a server as the service does; the socket is closed when the block ends.

    Args:
        url: ``ws://`` or ``wss://``.
        headers: pairs to send with the upgrade request, the token among them.
        ssl: a context for ``wss://``; by default the platform's certificates.
        limits: the longest message to accept, in characters.

    Raises:
        OSError: nobody listens there, or what listens hung up.
        TimeoutError: no answer in time.
        trio_websocket.ConnectionRejected: the server refused the upgrade.
    """
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    with _deadline():
        host, target, stream = await _dial(url, ssl)
    opening = OpeningStream(stream)
    upgrade = partial(
        wrap_client_stream,
        stream=cast("trio.SocketStream", opening),  # the library asks for less than it says
        host=host,
        resource=target,
        extra_headers=pairs,
        max_message_size=(limits or Limits()).max_frame_bytes,
        receive_buffer_size=RECEIVE_BYTES,
    )
    try:
        async with plain_nursery() as nursery:
            with _deadline():
                ws: WebSocketConnection = await nursery.start(run_reader, upgrade)
            opening.open()
            socket = TrioSocket(ws, Request.from_target(target, ()))
            nursery.start_soon(keep_alive, ws, socket)
            try:
                yield socket
            finally:
                await socket.close()
                nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def _dial(
    url: str, context: ssl_module.SSLContext | None
) -> tuple[str, str, trio.abc.Stream]:
    """Return the host as the request names it, the request's target, and an open stream."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("url: expected ws://host:port/path or wss://..., got something else")
    secure = parts.scheme == "wss"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    stream = await trio.open_tcp_stream(parts.hostname, parts.port or (443 if secure else 80))
    if not secure:
        return host, target, stream
    tls = trio.SSLStream(
        stream,
        context or ssl_module.create_default_context(),
        server_hostname=parts.hostname,
        https_compatible=True,
    )
    try:
        await tls.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
            raise error.__cause__ from None  # such as a certificate that cannot be verified
        raise
    return host, target, tls


@contextmanager
def _deadline() -> Generator[None]:
    with trio.move_on_after(OPEN_SECONDS) as scope:
        yield
    if scope.cancelled_caught:
        raise TimeoutError(f"no answer within {OPEN_SECONDS:g} s")
