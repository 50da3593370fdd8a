"""The service's side as one aiohttp application: key check, error bodies, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from speech_engine_transports._signals import stop_event

from . import problems, routes
from .stores import MemoryStore, SQLiteStore

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import Any

    from .speech import Synthesizer
    from .stores import EngineStore
    from .tickets import Tickets
    from .wires import Wires

__all__ = ["Cloud", "as_host", "serve"]

logger = logging.getLogger("speech_engine_local")

STOP_SECONDS = 2.0
"""For requests that still run when the cloud stops; then they are cancelled."""

_OPEN = "/v1/convai/conversation"
"""The one address below /v1 without a key: the conversation itself, which checks its own ticket."""


class Cloud:
    """The management API, the conversation's WebSocket and the page, for your own machine.

    Args:
        api_key: what clients send as ``xi-api-key``, and what signs the calls to your agent; None
            makes a random one.
        store: where engines are kept; None keeps them in memory.
        synthesizer: what speaks replies; None sends text only.
        public_url: how clients reach this cloud, such as ``https://cloud.example``, where that is
            not what their requests say; signed URLs begin with it.
        page: whether the page is served at ``/``.
        clock: tells Unix time in seconds, for the dates of engines; None is the system's.

    Raises:
        ValueError: a blank key, or a ``public_url`` that is not http(s).
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        store: EngineStore | None = None,
        synthesizer: Synthesizer | None = None,
        public_url: str | None = None,
        page: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        from .tickets import Tickets
        from .wires import Wires

        self.api_key = _checked_key(api_key)
        self.store: EngineStore = MemoryStore() if store is None else store
        self.synthesizer = synthesizer
        self.public_url = _checked_url(public_url)
        self.page = page
        self._clock = clock or time.time
        self.tickets: Tickets = Tickets()
        self.wires: Wires = Wires()
        self.port = 0
        self.url = ""
        self.sockets: set[web.WebSocketResponse[Any]] = set()
        self.streams: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Cloud at {self.url or 'no address yet'}>"

    def now(self) -> int:
        """Tell the time in whole Unix seconds."""
        return int(self._clock())

    def app(self) -> web.Application:
        """Build the application, to run it with aiohttp's own tools.

        The sockets in ``sockets`` are closed with 1001 when it shuts down, and the tasks in
        ``streams`` cancelled.
        """
        # aiohttp before 3.14 refuses a body that is just as long as its limit.
        limit = routes.MAX_BODY_BYTES + 1
        app = web.Application(client_max_size=limit, middlewares=[self._answer])
        routes.add_routes(app, self)
        app.on_shutdown.append(self._stop)
        return app

    @asynccontextmanager
    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[Cloud]:
        """Serve while the block runs.

        Args:
            host: the interface.
            port: the port; 0 takes a free one, told by ``port`` and ``url``.

        Raises:
            OSError: the address cannot be taken.
        """
        runner = web.AppRunner(
            self.app(),
            access_log=None,  # its lines would hold the secret of a signed URL
            handler_cancellation=True,
            shutdown_timeout=STOP_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            self.port = runner.addresses[0][1]
            self.url = f"http://{as_host(host)}:{self.port}"
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _answer(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        request_id = secrets.token_hex(16)
        try:
            self._check_key(request)
            response = await handler(request)
        except problems.Problem as problem:
            response = _refusal(problem, request_id)
        except web.HTTPException as known:
            response = _refusal(_problem_of(known), request_id)
        except Exception:
            _note_failure(request, request_id)
            response = _refusal(problems.of_status(500), request_id)
        if not response.prepared:
            response.headers["request-id"] = request_id
        return response

    def _check_key(self, request: web.Request) -> None:
        """Refuse what comes without the key: before the route, the engine or the body is looked at.

        Raises:
            Problem: 401.
        """
        if not request.path.startswith("/v1/") or request.path == _OPEN:
            return
        given = request.headers.getall("xi-api-key", [])
        if not given:
            raise problems.Problem(401, "missing_api_key", "Send your API key as xi-api-key.")
        expected = self.api_key.encode()
        # surrogateescape: what is not UTF-8 in a header is a wrong key, not a failure.
        sent = given[0].encode("utf-8", "surrogateescape")
        if len(given) > 1 or not hmac.compare_digest(sent, expected):
            raise problems.Problem(401, "invalid_api_key", "This API key is not the cloud's.")

    async def _stop(self, _: web.Application) -> None:
        for task in self.streams:
            task.cancel()
        closing = [ws.close(code=1001, message=b"the cloud stops") for ws in list(self.sockets)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*closing, return_exceptions=True)


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8787,
    api_key: str | None = None,
    db: str | os.PathLike[str] | None = None,
    synthesizer: Synthesizer | None = None,
    public_url: str | None = None,
    page: bool = True,
    on_start: Callable[[Cloud], None] | None = None,
) -> None:
    """Run a cloud until SIGINT or SIGTERM; outside the main thread, until it is cancelled.

    Args:
        host: the interface.
        port: the port; 0 takes a free one.
        api_key: as for `Cloud`.
        db: an SQLite file for the engines; None keeps them in memory.
        synthesizer: as for `Cloud`.
        public_url: as for `Cloud`.
        page: as for `Cloud`.
        on_start: called once the cloud listens, and knows its ``url``.

    Raises:
        StoreError: the file cannot be used.
        OSError: the address cannot be taken.
        ValueError: as for `Cloud`.
    """
    store: EngineStore = MemoryStore() if db is None else SQLiteStore(db)
    try:
        cloud = Cloud(
            api_key=api_key,
            store=store,
            synthesizer=synthesizer,
            public_url=public_url,
            page=page,
        )
        async with cloud.listen(host, port):
            async with stop_event() as stopped:
                if on_start is not None:
                    on_start(cloud)
                await stopped.wait()
    finally:
        await store.close()


def _checked_key(api_key: str | None) -> str:
    if api_key is None:
        return f"sk_local_{secrets.token_hex(20)}"
    key = api_key.strip()
    if not key:
        raise ValueError("api_key: expected a key, got a blank one")
    return key


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise ValueError("public_url: expected http://host[:port] or https://..., got another")
    return url.rstrip("/")


def as_host(host: str) -> str:
    """Write an interface as a host that a client can dial."""
    if host in ("", "0.0.0.0"):
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def _note_failure(request: web.Request, request_id: str) -> None:
    """Log what went wrong, unless it is only that the client has left."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    logger.exception("request %s failed", request_id)
    if request.writer.output_size > 0:
        transport.abort()  # the answer has begun: no second one may follow in it


def _refusal(problem: problems.Problem, request_id: str) -> web.Response:
    return web.json_response(
        problems.body_of(problem, request_id), status=problem.status, headers=problem.headers
    )


def _problem_of(known: web.HTTPException) -> problems.Problem:
    allow = known.headers.get("Allow")
    return problems.of_status(known.status, None if allow is None else {"Allow": allow})
