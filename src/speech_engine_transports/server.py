"""A server for conversations: who may connect, and what every transport's listener shares."""

from __future__ import annotations

import importlib
import logging
import os
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import attrs

from speech_engine_proto import Limits
from speech_engine_proto.auth import AuthenticationError, find_token, verify_token

from . import _trace as trace
from ._handlers import Handlers
from ._options import SessionOptions
from ._signals import stop_signals
from .session import SpeechEngineSession

if TYPE_CHECKING:
    import ssl as ssl_module
    from types import TracebackType
    from typing import Self

    from ._handlers import Handler
    from ._options import Fallback
    from ._socket import Request, Socket, WebSocketLike

__all__ = ["Authorize", "Refusal", "SpeechEngineServer"]

Authorize: TypeAlias = Callable[["Request"], bool | Awaitable[bool]]
"""Asked after the token has been verified; False refuses the upgrade with 403."""

logger = logging.getLogger("speech_engine_transports")


@attrs.frozen
class Refusal:
    """Why an upgrade is refused: a status and a short text body. It says nothing of the token."""

    status: HTTPStatus
    body: str


class SpeechEngineServer:
    """Accepts the service's WebSockets and runs a session on each.

    ``await server.serve()`` blocks until `stop` or a signal. ``async with server:`` listens while
    the block runs, and ``server.port`` tells where.

    Args:
        host: the address to listen on. None is every interface, but 127.0.0.1 where
            ``disable_auth`` is set.
        port: the port to listen on; 0 takes a free one.
        path: the path to serve; None serves every path. The query string is not part of it.
        api_key: the key, or several of them while one is replaced. By default the environment
            variable ``ELEVENLABS_API_KEY``, read when the server starts.
        disable_auth: accept connections without a valid token. Anyone who reaches the port can
            then talk with your agent at your cost.
        debug: show transcripts and replies on stdout.
        ssl: a context, to serve ``wss://``.
        limits: the bounds on what the service may send.
        authorize: asked with the request after the token; False refuses with 403.
        fallback: said when a handler fails or ends without a word; see `SpeechEngineSession`.
        handle_signals: stop `serve` on SIGINT and SIGTERM, where it runs in the main thread.
        transport: the module of this package that listens, such as ``"asyncio"``.
        session: further keywords of `SpeechEngineSession`, such as ``serialize_turns``.
        callbacks: ``on_init(conversation_id, session)``, ``on_transcript(transcript, session)``,
            ``on_close(session)``, ``on_disconnect(session)``, ``on_error(error, session)``.

    Raises:
        TypeError: an unknown callback, or one that cannot take its arguments.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int = 3001,
        path: str | None = None,
        api_key: str | Sequence[str] | None = None,
        disable_auth: bool = False,
        debug: bool = False,
        ssl: ssl_module.SSLContext | None = None,
        limits: Limits | None = None,
        authorize: Authorize | None = None,
        fallback: Fallback | None = None,
        handle_signals: bool = True,
        transport: str = "asyncio",
        session: dict[str, Any] | None = None,
        **callbacks: Handler | None,
    ) -> None:
        self.host = "127.0.0.1" if host is None and disable_auth else host
        self.path = path
        self.ssl = ssl
        self.limits = limits or Limits()
        self.disable_auth = disable_auth
        self._port = port
        self._api_key = api_key
        self._keys: tuple[str, ...] = ()
        self._authorize = authorize
        self._handle_signals = handle_signals
        self._transport = transport
        self._handlers = Handlers.from_callbacks(callbacks)
        self._options = SessionOptions(
            debug=debug, fallback=fallback, limits=self.limits, **(session or {})
        )
        self._live: set[Socket] = set()
        self._stopping = False
        self._stopped: anyio.Event | None = None
        self._exit_stack: AsyncExitStack | None = None

    @property
    def port(self) -> int:
        """The port it listens on; while it does not, the one it was asked to."""
        return self._port

    def handle_connection(self, ws: Socket | WebSocketLike | Any) -> SpeechEngineSession:
        """Wrap an accepted WebSocket in a session with this server's handlers; it is not verified.

        The caller must still ``await session.run()``.
        """
        return SpeechEngineSession.with_options(ws, self._handlers, self._options)

    async def converse(self, socket: Socket) -> None:
        """Run a session on an accepted, verified socket until it is over. For transports."""
        self._live.add(socket)
        try:
            await self.handle_connection(socket).run()
        finally:
            self._live.discard(socket)

    async def close_all(self, code: int = 1001, reason: str = "going away") -> None:
        """Close every live conversation's socket; its session ends as the peer's would."""
        async with anyio.create_task_group() as group:
            for socket in self._live:
                group.start_soon(socket.close, code, reason)

    async def admit(self, request: Request, headers: Iterable[tuple[str, str]]) -> Refusal | None:
        """Decide on an upgrade, in this order: token, ``authorize``, path.

        The path comes last: a stranger does not learn which paths there are.

        Args:
            request: the upgrade request.
            headers: all its headers as pairs, the token among them, repeated ones kept.

        Returns:
            None to accept, or what to answer instead.
        """
        if not self.disable_auth:
            try:
                verify_token(find_token(headers), self._keys, now=time.time())
            except AuthenticationError as error:
                logger.info("upgrade refused: %s", error)
                return Refusal(HTTPStatus.UNAUTHORIZED, "authorization failed\n")
        if self._authorize is not None and not await self._is_authorized(request):
            logger.info("upgrade refused by authorize")
            return Refusal(HTTPStatus.FORBIDDEN, "forbidden\n")
        if self.path is not None and request.path != self.path:
            logger.info("upgrade refused: no such path")
            return Refusal(HTTPStatus.NOT_FOUND, "not found\n")
        return None

    async def serve(self) -> None:
        """Listen until `stop` or a signal; then close every conversation with 1001 and return.

        Raises:
            RuntimeError: there is no API key and ``disable_auth`` is not set.
            OSError: the address cannot be listened on.
        """
        async with self:
            await self.wait_stopped()

    async def wait_stopped(self) -> None:
        """Wait until `stop` is called or, where signals are handled, until one comes."""
        if self._stopping:
            return
        self._stopped = anyio.Event()
        async with stop_signals(self._handle_signals, self._stopped):
            await self._stopped.wait()

    async def stop(self) -> None:
        """Make `serve` return, also when it is called later. May be called more than once."""
        self._stopping = True
        if self._stopped is not None:
            self._stopped.set()

    async def __aenter__(self) -> Self:
        if self._exit_stack is not None:
            raise RuntimeError("this server listens already")
        self.prepare()
        listen = importlib.import_module(f"speech_engine_transports.{self._transport}").listen
        async with AsyncExitStack() as stack:
            self._port = await stack.enter_async_context(listen(self))
            self._exit_stack = stack.pop_all()
        logger.info("listening on %s port %d", self.host or "all interfaces", self._port)
        if self._options.debug:
            trace.enable()
            trace.event("listening on port", str(self._port))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        stack, self._exit_stack = self._exit_stack, None
        assert stack is not None
        return await stack.__aexit__(exc_type, exc, traceback)

    def prepare(self) -> None:
        """Read the API key, and warn aloud where tokens will not be verified.

        Raises:
            RuntimeError: there is no key and ``disable_auth`` is not set.
        """
        key = self._api_key or os.environ.get("ELEVENLABS_API_KEY")
        if self.disable_auth:
            warnings.warn(
                "authentication is disabled: connections are not verified, and whoever reaches "
                "this server can use your agent. Keep it behind an IP allowlist.",
                UserWarning,
                stacklevel=2,
            )
        elif not key:
            raise RuntimeError(
                "an API key is needed to verify who connects: pass api_key=, or set "
                "ELEVENLABS_API_KEY; disable_auth=True runs without, behind an IP allowlist only"
            )
        else:
            self._keys = (key,) if isinstance(key, str) else tuple(key)

    async def _is_authorized(self, request: Request) -> bool:
        assert self._authorize is not None
        verdict = self._authorize(request)
        return await verdict if isawaitable(verdict) else verdict
