"""``speech-engine record``: stands between the service and an agent, and writes down both."""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import attrs
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response

from speech_engine_transports._groups import single_exception
from speech_engine_transports._signals import stop_event

from ._recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.connection import Connection
    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request
    from websockets.typing import Subprotocol

    from ._journal import Direction, JournalWriter

__all__ = ["Proxy", "Target", "recording", "run"]

MAX_FRAME_BYTES = 64 * 2**20
"""More than any server of ours takes: how long a frame may be is for the two ends to say."""

DIAL_SECONDS = 8.0
"""Less than the 10 s after which a dialler gives up, so that it gets an answer."""

HOP_BY_HOP = frozenset(
    {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that belong to one hop (RFC 9110, 7.6.1); those of the WebSocket's handshake too."""

_logger = logging.getLogger("speech_engine_local.websockets")
_logger.setLevel(logging.INFO)  # below it, the library logs frames and headers: words and tokens


@attrs.frozen
class Target:
    """The server behind the proxy.

    Args:
        origin: scheme, host and port of its address.
        path: what is asked for where the dialler names no path.
    """

    origin: str
    path: str = "/"

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take a server's address apart.

        Raises:
            ValueError: it is no address of a WebSocket server.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, usable = urlsplit(""), False
        if not usable or parts.query or parts.fragment or parts.username:
            raise ValueError("--to: expected ws://host:port/path or wss://..., got something else")
        return cls(f"{parts.scheme}://{parts.netloc}", parts.path or "/")

    def url_for(self, target: str) -> str:
        """Return the address for what a dialler asked for: its own path and query."""
        path, mark, query = target.partition("?")
        return f"{self.origin}{self.path if path == '/' else path}{mark}{query}"


class _Dial(connect):
    """Dials without following a redirect, which would take the token to another host."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class Proxy:
    """Passes calls on to a server, and writes a journal of each.

    Args:
        target: the server.
        recorder: makes the journals.
        on_end: called with a line about each call that has ended.
    """

    def __init__(
        self,
        target: Target,
        recorder: Recorder,
        on_end: Callable[[str], None] | None = None,
    ) -> None:
        self._target = target
        self._recorder = recorder
        self._on_end = on_end
        self._dialled: dict[Connection, ClientConnection] = {}
        self._group: TaskGroup

    @asynccontextmanager
    async def listen(self, host: str | None, port: int) -> AsyncGenerator[Server]:
        """Listen while the block runs; at its end every call is closed with 1001 at both ends.

        Raises:
            OSError: the address cannot be listened on.
        """
        with single_exception():
            async with anyio.create_task_group() as self._group:
                async with self._serve(host, port) as listener:
                    yield listener
                self._group.cancel_scope.cancel()

    def _serve(self, host: str | None, port: int) -> AbstractAsyncContextManager[Server]:
        return serve(
            self._pass_on,
            host,
            port,
            process_request=self._dial,
            select_subprotocol=self._subprotocol,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            server_header=None,
            logger=_logger,
        )

    async def _dial(self, caller: ServerConnection, request: Request) -> Response | None:
        """Dial the server as this caller did; what it refuses is refused here."""
        if not request.path.startswith("/"):
            return caller.respond(HTTPStatus.BAD_REQUEST, "bad request target\n")
        offered = request.headers.get_all("Sec-WebSocket-Protocol")
        protocols = [each.strip() for value in offered for each in value.split(",")]
        try:
            agent = await _Dial(
                self._target.url_for(request.path),
                additional_headers=_forwarded(request.headers),
                subprotocols=protocols or None,  # type: ignore[arg-type]
                user_agent_header=None,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                open_timeout=DIAL_SECONDS,
                proxy=None,
                logger=_logger,
            )
        except InvalidStatus as error:
            return _refusal(error.response)
        except TimeoutError:
            return caller.respond(HTTPStatus.GATEWAY_TIMEOUT, "the server did not answer\n")
        except (OSError, WebSocketException, ValueError) as error:
            print(f"speech-engine: the server: {type(error).__name__}", file=sys.stderr, flush=True)
            return caller.respond(HTTPStatus.BAD_GATEWAY, "the server cannot be reached\n")
        self._dialled[caller] = agent
        self._group.start_soon(self._hang_up_with, caller, agent)
        return None

    async def _hang_up_with(self, caller: Connection, agent: Connection) -> None:
        """End the call to the server with the caller's, also where that never began."""
        await caller.wait_closed()
        self._dialled.pop(caller, None)
        await _end_like(caller, agent)

    def _subprotocol(
        self, caller: ServerConnection, _: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        return self._dialled[caller].subprotocol

    async def _pass_on(self, caller: ServerConnection) -> None:
        agent = self._dialled[caller]
        journal = self._recorder.writer()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_pump, caller, agent, journal, "in")
                group.start_soon(_pump, agent, caller, journal, "out")
        finally:
            journal.close()
        if self._on_end is not None:
            self._on_end(_summary(journal, caller))


async def _pump(
    source: Connection, sink: Connection, journal: JournalWriter, direction: Direction
) -> None:
    """Pass frames on until either end ends; then end the other in the same way.

    A frame is written down before it is passed on. Whoever reads slowly slows the other down.
    """
    ended = source
    with suppress(ConnectionClosed):
        while True:
            message = await source.recv()
            journal.record(direction, message)
            ended = sink
            await sink.send(message)
            ended = source
    await _end_like(ended, source if ended is sink else sink)


async def _end_like(ended: Connection, other: Connection) -> None:
    """Close a connection with the code and reason that another was closed with."""
    code = ended.close_code
    if code in _NEVER_SENT:
        other.transport.abort()
    elif code is None or code == _NO_STATUS:
        await other.close()
    else:
        await other.close(code, ended.close_reason or "")


_NO_STATUS = 1005  # a close frame without a code
_NEVER_SENT = (1006, 1015)  # the connection broke, without a close frame (RFC 6455, 7.4.1)


def _forwarded(headers: Headers) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in headers.raw_items()
        if name.lower() not in HOP_BY_HOP and not name.lower().startswith("sec-websocket-")
    ]


def _refusal(response: Response) -> Response:
    """Return the server's own refusal, framed anew: its body came whole."""
    framing = {*HOP_BY_HOP, "content-length", "content-encoding"}
    kept = [(name, value) for name, value in response.headers.raw_items()]
    headers = Headers([pair for pair in kept if pair[0].lower() not in framing])
    body = response.body or b""
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return Response(response.status_code, response.reason_phrase, headers, bytes(body))


def _summary(journal: JournalWriter, caller: Connection) -> str:
    where = "nothing was said, no journal" if journal.path is None else str(journal.path)
    frames = f"{journal.frames_in} in, {journal.frames_out} out"
    return f"{where}: {frames}, closed with {caller.close_code}"


@asynccontextmanager
async def recording(
    host: str, port: int, target: Target, recorder: Recorder
) -> AsyncGenerator[int]:
    """Record calls while the block runs, and yield the port."""
    proxy = Proxy(target, recorder, on_end=lambda line: print(line, flush=True))
    async with proxy.listen(host, port) as listener:
        bound: int = next(iter(listener.sockets)).getsockname()[1]
        yield bound


async def run(*, host: str, port: int, to: str, directory: str, redact: bool, fsync: bool) -> int:
    """Record calls until a signal comes, and tell people how to use it.

    Returns:
        The exit code.

    Raises:
        OSError: the address or the directory cannot be used.
        ValueError: ``to`` is no address of a server.
    """
    target = Target.parse(to)
    recorder = Recorder(directory, redact=redact, fsync=fsync)
    async with recording(host, port, target, recorder) as bound, stop_event() as stopped:
        shown = f"[{host}]" if ":" in host else host
        words = "without their words" if redact else "with all that is said"
        print(
            f"Recording calls, {words}, in {recorder.directory}\n"
            f"  listening: ws://{shown}:{bound}{target.path}\n"
            f"  server:    {target.origin}{target.path}\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        await stopped.wait()
    return 0
