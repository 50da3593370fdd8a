"""A server for conversations: who may connect, and what every transport's listener shares."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import attrs

from speech_engine_proto.auth import AuthenticationError, find_token, verify_token

from . import _trace as trace
from ._handlers import Handlers
from ._options import SessionOptions
from ._signals import stop_signals
from .errors import LimitExceeded
from .limits import with_defaults
from .session import SpeechEngineSession

if TYPE_CHECKING:
    import ssl as ssl_module
    from collections import Counter
    from types import TracebackType
    from typing import Self

    import speech_engine_proto

    from ._calls import Until
    from ._handlers import Handler
    from ._observer import Observer
    from ._options import Fallback
    from ._socket import Request, Socket, WebSocketLike

__all__ = ["Authorize", "Refusal", "SpeechEngineServer"]

Authorize: TypeAlias = Callable[["Request"], bool | Awaitable[bool]]
"""Asked after the token has been verified; False refuses the upgrade with 403."""

logger = logging.getLogger("speech_engine_transports")


@attrs.frozen
class Refusal:
    """What is answered instead of an upgrade: a status and a short body.

    It says nothing of the token.
    """

    status: HTTPStatus
    body: str
    content_type: str = "text/plain; charset=utf-8"


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
        limits: the bounds of the server and of each conversation; see `Limits`.
        authorize: asked with the request after the token; False refuses with 403.
        fallback: said when a handler fails or ends without a word; see `SpeechEngineSession`.
        record: wraps the WebSocket of each conversation before it begins, as a
            ``speech_engine_local.journal.Recorder`` does, to write down what goes over it.
        handle_signals: end `serve` on SIGTERM, which drains first, and on SIGINT, where it runs in
            the main thread. A signal while it drains ends it at once.
        drain_timeout: seconds that replies in flight get at SIGTERM. 25: Kubernetes kills a pod
            after 30.
        health_path: what a plain GET asks for the `health` of this server; None answers nobody.
        transport: the module of this package that listens, such as ``"asyncio"``.
        observer: told what happens in all conversations, for metrics and traces; see `Observer`.
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
        limits: speech_engine_proto.Limits | None = None,
        authorize: Authorize | None = None,
        fallback: Fallback | None = None,
        record: Callable[[Any], Socket] | None = None,
        handle_signals: bool = True,
        drain_timeout: float = 25.0,
        health_path: str | None = "/healthz",
        transport: str = "asyncio",
        observer: Observer | None = None,
        session: dict[str, Any] | None = None,
        **callbacks: Handler | None,
    ) -> None:
        self.host = "127.0.0.1" if host is None and disable_auth else host
        self.path = path
        self.ssl = ssl
        self.limits = with_defaults(limits)
        self.drain_timeout = drain_timeout
        self.health_path = health_path
        self.disable_auth = disable_auth
        self._port = port
        self._api_key = api_key
        self._keys: tuple[str, ...] = ()
        self._authorize = authorize
        self._record = record
        self.handle_signals = handle_signals
        self._transport = transport
        self._handlers = Handlers.from_callbacks(callbacks)
        self._options = SessionOptions(
            debug=debug,
            fallback=fallback,
            limits=self.limits,
            observer=observer,
            **(session or {}),
        )
        self._calls = self._options.calls
        self._drain_scope: anyio.CancelScope | None = None
        self._stopping = False
        self._terminated = False
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
        if self._record is not None:
            ws = self._record(ws)
        return SpeechEngineSession.with_options(ws, self._handlers, self._options)

    def converse(self, socket: Socket) -> Coroutine[Any, Any, None]:
        """Run a session on an accepted, verified socket until it is over. For transports.

        A coroutine of its own around it would be kept for as long as the call lasts.
        """
        if len(self._calls) >= self.limits.max_sessions:  # more were let in at once than fit
            return socket.close(1013, "too many conversations")
        return self.handle_connection(socket).run()

    async def close_all(self, code: int = 1001, reason: str = "going away") -> None:
        """Close every live conversation's socket; its session ends as the peer's would."""
        await self._calls.close_all(code, reason)

    async def admit(self, request: Request, headers: Iterable[tuple[str, str]]) -> Refusal | None:
        """Decide on a request, in this order: health, drain, token, ``authorize``, path, room.

        The path comes late: a stranger does not learn which paths there are.

        Args:
            request: the upgrade request.
            headers: all its headers as pairs, the token among them, repeated ones kept.

        Returns:
            None to accept, or what to answer instead.
        """
        pairs = list(headers)
        if request.path == self.health_path and not _asks_for_upgrade(pairs):
            return self._health_answer()
        if self._calls.draining is not None:
            logger.info("upgrade refused: draining")
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "going away\n")
        if not self.disable_auth:
            try:
                verify_token(find_token(pairs), self._keys, now=time.time())
            except AuthenticationError as error:
                logger.info("upgrade refused: %s", error)
                return Refusal(HTTPStatus.UNAUTHORIZED, "authorization failed\n")
        if self._authorize is not None and not await self._is_authorized(request):
            logger.info("upgrade refused by authorize")
            return Refusal(HTTPStatus.FORBIDDEN, "forbidden\n")
        if self.path is not None and request.path != self.path:
            logger.info("upgrade refused: no such path")
            return Refusal(HTTPStatus.NOT_FOUND, "not found\n")
        if len(self._calls) >= self.limits.max_sessions:
            self.exceed("max_sessions")
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many conversations\n")
        return None

    def exceed(self, limit: str) -> None:
        """Count and log a bound that was passed where there is no session. For transports."""
        error = LimitExceeded(limit, getattr(self.limits, limit))
        self.exceeded[limit] += 1
        logger.warning("limit exceeded: %s", error)
        if self._options.observer is not None:
            self._options.observer.limit_exceeded(None, error, None)

    @property
    def exceeded(self) -> Counter[str]:
        """How often each of the `Limits` was passed, by its name."""
        return self._calls.exceeded

    @property
    def health(self) -> dict[str, Any]:
        """What ``health_path`` answers: ``state`` (``serving``, ``draining``) and ``calls``."""
        state = "serving" if self._calls.draining is None else "draining"
        return {"state": state, "calls": len(self._calls)}

    async def drain(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - part of what it does, not of how
        calls: Until = "turn",
    ) -> bool:
        """Take no more calls, let the replies in flight end, and close the sockets with 1001.

        New upgrades are answered with 503. A call without a reply in flight is closed at once,
        one with a reply after its terminator. It cannot be taken back.

        Args:
            timeout: seconds for that; those left are then closed with 1001 in mid reply. None
                waits as long as it takes.
            calls: ``"finish"`` does not close calls after a turn, but waits until they end.

        Returns:
            Whether every call ended in time.
        """
        return await self._calls.drain(timeout, calls)

    async def serve(self) -> None:
        """Listen until `stop` or a signal; then close every conversation with 1001 and return.

        SIGTERM drains first, see `drain`; SIGINT and `stop` do not.

        Raises:
            RuntimeError: there is no API key and ``disable_auth`` is not set.
            OSError: the address cannot be listened on.
        """
        async with self:
            await self.wait_stopped()

    async def wait_stopped(self) -> None:
        """Wait until `stop` is called or, where signals are handled, until one comes.

        After SIGTERM it drains before it returns.
        """
        if self._stopping:
            return
        self._stopped = anyio.Event()
        async with stop_signals(self.handle_signals, self._on_signal):
            await self._stopped.wait()
            if self._terminated:
                with anyio.CancelScope() as self._drain_scope:
                    await self.drain(self.drain_timeout)

    async def stop(self) -> None:
        """Make `serve` return, also when it is called later. May be called more than once."""
        self._stopping = True
        if self._stopped is not None:
            self._stopped.set()
        if self._drain_scope is not None:
            self._drain_scope.cancel()

    def _on_signal(self, received: signal.Signals) -> None:
        assert self._stopped is not None
        if self._drain_scope is not None:
            self._drain_scope.cancel()
        self._terminated = self._terminated or received == signal.SIGTERM
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

    def _health_answer(self) -> Refusal:
        draining = self._calls.draining is not None
        status = HTTPStatus.SERVICE_UNAVAILABLE if draining else HTTPStatus.OK
        return Refusal(status, json.dumps(self.health) + "\n", "application/json")

    async def _is_authorized(self, request: Request) -> bool:
        assert self._authorize is not None
        verdict = self._authorize(request)
        return await verdict if isawaitable(verdict) else verdict


def _asks_for_upgrade(headers: Iterable[tuple[str, str]]) -> bool:
    return any(name.lower() == "upgrade" for name, _ in headers)
