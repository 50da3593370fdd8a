"""The listening side of `speech_engine_transports.trio`: from a byte stream to a session.

trio-websocket's own listener answers what it does not like before our code is asked, and leaves
sockets open that it has refused. So the head of the request is read and judged here; the library
gets a head of our making, with the peer's key and nothing else of the peer's in it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    wrap_server_stream,
)
from wsproto.utilities import LocalProtocolError

from ._socket import Request
from ._trio_socket import tcp_stream
from ._upgrade import HEAD_END, BadRequestError, Head, judge, refusal_bytes
from .server import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio import TaskStatus

    from ._socket import Socket
    from .server import SpeechEngineServer

__all__ = [
    "RECEIVE_BYTES",
    "OpeningStream",
    "TrioListener",
    "keep_alive",
    "plain_nursery",
    "run_reader",
]

KEEPALIVE_SECONDS = 20.0
"""Between WebSocket pings: an idle link was seen to be dropped without them (fact sheet 1.2)."""

LINGER_SECONDS = 2.0
"""How long what a peer still sends is thrown away, so that it can read our last words."""

RECEIVE_BYTES = 64 * 1024
"""Asked of a stream at once; the library's own 4 KiB make a long transcript slow."""

MAX_HEAD_BYTES = 64 * 1024
"""The longest request line and headers together; nginx and node stop at 8 to 32 KiB."""

Upgrade: TypeAlias = Callable[[trio.Nursery], Awaitable[WebSocketConnection]]
"""Opens a WebSocket whose reader task the nursery gets."""

logger = logging.getLogger("speech_engine_transports")


class TrioListener:
    """The connections of one listening server.

    Args:
        server: whose conversations they become.
        wrap: makes the socket of an accepted connection.
    """

    def __init__(
        self,
        server: SpeechEngineServer,
        wrap: Callable[[WebSocketConnection, Request], Socket],
    ) -> None:
        self._server = server
        self._wrap = wrap
        self._ended = trio.Event()
        self._opening: set[trio.CancelScope] = set()
        self._shield: trio.CancelScope | None = None

    async def hold(
        self, *, task_status: TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hold the nursery of the connections until `end`, and while one of them is left.

        It is shielded: a server that is cancelled can still tell its peers.
        """
        async with trio.open_nursery() as nursery:
            self._shield = nursery.cancel_scope
            self._shield.shield = True
            task_status.started(nursery)
            await self._ended.wait()

    async def end(self) -> None:
        """Give up half-open upgrades, and close every conversation with 1001."""
        self._ended.set()
        for scope in self._opening:
            scope.cancel()
        with trio.CancelScope(shield=True):  # each socket has a deadline of its own
            await self._server.close_all()
        assert self._shield is not None
        self._shield.shield = False

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, first byte to last; what goes wrong in it stays in it.

        Whoever calls this closes the stream.
        """
        try:
            opened = await self._open(stream)
            if opened is not None:
                await self._converse(*opened)
                await _linger(stream)
        except ConnectionClosed:
            logger.debug("the peer left while its upgrade was answered")
        except Exception:
            logger.exception("connection failed")

    async def _open(self, stream: trio.abc.Stream) -> tuple[Request, OpeningStream] | None:
        limit = self._server.limits.handshake_timeout
        seconds = 0 if self._ended.is_set() else math.inf if limit is None else limit
        with trio.move_on_after(seconds) as scope:
            self._opening.add(scope)
            try:
                return await self._judge(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                logger.debug("no upgrade request: %s", type(error).__name__)
            finally:
                self._opening.discard(scope)
        if scope.cancelled_caught and not self._ended.is_set():
            self._server.exceed("handshake_timeout")
        return None

    async def _judge(self, stream: trio.abc.Stream) -> tuple[Request, OpeningStream] | None:
        """Read the request; return it with a stream for the library, or refuse it."""
        try:
            head, rest = await _read_head(stream)
        except BadRequestError as error:
            logger.info("upgrade refused: %s", error)
            await _refuse(stream, Refusal(HTTPStatus.BAD_REQUEST, "bad request\n"))
            return None
        request = Request.from_target(head.target, head.headers, _peer_of(stream))
        refusal = await judge(self._server, request, head.method, head.headers)
        if refusal is not None:
            await _refuse(stream, refusal)
            return None
        return request, OpeningStream(stream, head.bare(), rest)

    async def _converse(self, request: Request, opening: OpeningStream) -> None:
        async def accept(nursery: trio.Nursery) -> WebSocketConnection:
            proposal = await wrap_server_stream(
                nursery,
                opening,
                max_message_size=self._server.limits.max_frame_bytes,
                receive_buffer_size=RECEIVE_BYTES,
            )
            ws = await proposal.accept()
            opening.open()
            return ws

        async with plain_nursery() as nursery:
            ws: WebSocketConnection = await nursery.start(run_reader, accept)
            socket = self._wrap(ws, request)
            nursery.start_soon(keep_alive, ws, socket)
            if self._ended.is_set():  # too late for `end` to find it
                await socket.close(1001, "going away")
            else:
                await self._server.converse(socket)
            nursery.cancel_scope.cancel()


class OpeningStream(trio.abc.Stream):
    """A stream that a WebSocket is being opened on: call `open` when it is.

    The library waits for ever for an answer that a closed connection will not give, so the end is
    an error until then. And it loses what comes between a request and its answer, so a server
    lets it read the request, and no more until then.

    Args:
        wrapped: the stream itself.
        request: what a server lets the library read first.
        rest: what the peer has sent after its request.
    """

    def __init__(self, wrapped: trio.abc.Stream, request: bytes = b"", rest: bytes = b"") -> None:
        self.wrapped = wrapped
        self._request = request
        self._rest = rest
        self._gate = trio.Event() if request else None
        self._opened = False

    def open(self) -> None:
        """From here on it is a stream like any other."""
        self._opened = True
        if self._gate is not None:
            self._gate.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; ConnectionResetError where the peer hangs up before the stream has opened."""
        if self._request:
            data, self._request = self._request, b""
            return data
        if self._gate is not None and not self._opened:
            await self._gate.wait()
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        try:
            received = await self.wrapped.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            if self._opened:
                raise
            raise self._hung_up() from error
        if not received and not self._opened:
            raise self._hung_up()
        return received

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; ConnectionResetError where the peer hangs up before the stream has opened."""
        try:
            await self.wrapped.send_all(data)
        except trio.BrokenResourceError as error:
            if self._opened:
                raise
            raise self._hung_up() from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send may go through."""
        await self.wrapped.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close; ConnectionResetError where the library gives up before the stream has opened."""
        await self.wrapped.aclose()
        if not self._opened:
            raise self._hung_up()

    def _hung_up(self) -> ConnectionResetError:
        return ConnectionResetError("the connection ended during the upgrade")


@asynccontextmanager
async def plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery that a lone exception leaves as it was raised, not in a group of one."""
    lone: tuple[BaseException, ...] = ()
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        lone = group.exceptions
        if len(lone) > 1:
            raise
    for error in lone:  # out here, so that its own cause and context stay as they are
        raise error


async def run_reader(
    upgrade: Upgrade,
    *,
    task_status: TaskStatus[WebSocketConnection] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open a WebSocket and run the library's reader in this task until it ends.

    Once the WebSocket is open an error of the reader is the end of the socket: whoever receives
    is told so by the library. It must not cancel a session.
    """
    ws: WebSocketConnection | None = None
    try:
        async with plain_nursery() as nursery:
            ws = await upgrade(nursery)
            task_status.started(ws)
    except Exception as error:
        if isinstance(error, (OSError, HandshakeError, ConnectionClosed)) and ws is None:
            raise
        if ws is None:  # the library stumbled over what is no HTTP
            raise ConnectionResetError("no WebSocket answered the upgrade") from error
        logger.debug("the WebSocket ended: %s", type(error).__name__)


async def keep_alive(ws: WebSocketConnection, socket: Socket) -> None:
    """Send pings, and drop the connection of a peer that leaves one unanswered."""
    while True:
        await trio.sleep(KEEPALIVE_SECONDS)
        with trio.move_on_after(KEEPALIVE_SECONDS) as scope:
            try:
                await ws.ping()
            except (ConnectionClosed, LocalProtocolError):
                return
        if scope.cancelled_caught:
            logger.info("no answer to a ping for %g s", KEEPALIVE_SECONDS)
            socket.abort()
            return


async def _read_head(stream: trio.abc.Stream) -> tuple[Head, bytes]:
    """Return the head, and what came after it."""
    data = bytearray()
    end = -1
    while end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise BadRequestError(f"head: expected at most {MAX_HEAD_BYTES} bytes")
        chunk = await stream.receive_some(RECEIVE_BYTES)
        if not chunk:
            raise trio.BrokenResourceError("the peer left")
        searched = max(0, len(data) - len(HEAD_END) + 1)
        data += chunk
        end = data.find(HEAD_END, searched)
    return Head.parse(bytes(data[:end])), bytes(data[end + len(HEAD_END) :])


async def _refuse(stream: trio.abc.Stream, refusal: Refusal) -> None:
    await stream.send_all(refusal_bytes(refusal))
    await _linger(stream)


async def _linger(stream: trio.abc.Stream) -> None:
    """Read what still comes: a socket closed with unread bytes resets what the peer has to read."""
    with (
        trio.move_on_after(LINGER_SECONDS),
        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        if isinstance(stream, trio.SocketStream):
            await stream.send_eof()
        while await stream.receive_some(RECEIVE_BYTES):
            pass


def _peer_of(stream: trio.abc.Stream) -> str | None:
    tcp = tcp_stream(stream)
    try:
        return None if tcp is None else str(tcp.socket.getpeername()[0])
    except OSError:  # it has left already
        return None
