"""All calls of a run: when they begin, how many at once, and when all of it ends."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio

from speech_engine_proto.auth import sign_token
from speech_engine_transports._groups import single_exception

from .._dial import default_connect, dial, host_of
from .._errors import ConnectError
from .call import CallFailed, Kind, LoadCall
from .files import room_for
from .measures import LoadProgress, Measures
from .plan import LoadPlan, call_script
from .report import LoadReport
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from speech_engine_transports._socket import Socket

    Connect = Callable[..., AbstractAsyncContextManager[Socket]]

__all__ = ["INTERRUPTED", "run_load"]

PROGRESS_EVERY = 0.5
INTERRUPTED = "interrupted"
OUT_OF_TIME = "out of time"


async def run_load(
    url: str,
    plan: LoadPlan | None = None,
    *,
    api_key: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    on_progress: Callable[[LoadProgress], None] | None = None,
    stop: anyio.Event | None = None,
    connect: Connect | None = None,
) -> LoadReport:
    """Make many calls to a server, as the service does, and return what was measured.

    What goes wrong in a call is counted, and the run goes on.

    Args:
        url: ``ws://`` or ``wss://`` address of the server.
        plan: how many calls, and what they do; by default ``LoadPlan()``.
        api_key: signs a token for each call; None sends none.
        headers: more headers of the upgrade requests, as pairs.
        on_progress: called every half second with how far the run has come, and at its end.
        stop: ends the run when it is set: all calls hang up in order, and what was measured until
            then is returned.
        connect: opens a socket; by default `speech_engine_transports.asyncio.connect`.

    Raises:
        ConnectError: the address is none of a WebSocket.
        AuthenticationError: the key cannot sign anything.
        ValueError: more calls at once than the process may have files open.
    """
    plan = plan or LoadPlan()
    target = _shown(url)
    if api_key is not None:
        sign_token(api_key, now=time.time())  # an unusable key is wrong usage, not a call's error
    opener = partial(dial, url, api_key, tuple(headers), connect or _default_connect(url))
    with room_for(plan.most_at_once):
        run = _Run(plan, opener)
        with single_exception():
            await run.run(on_progress, stop)
    return run.report(target)


class _Run:
    """A run, while it runs."""

    def __init__(
        self, plan: LoadPlan, opener: Callable[[], AbstractAsyncContextManager[Socket]]
    ) -> None:
        self._plan = plan
        self._opener = opener
        self._name = secrets.token_hex(4)
        self._measures = Measures(plan.calls)
        self._watch = Watch()
        self._began = anyio.current_time()
        self._seconds = 0.0
        self._stopped: str | None = None
        self._winding_down = anyio.Event()
        self._open: set[LoadCall] = set()
        self._slots = anyio.Semaphore(plan.most_at_once)
        self._making = anyio.CancelScope()

    async def run(
        self, on_progress: Callable[[LoadProgress], None] | None, stop: anyio.Event | None
    ) -> None:
        """Make all calls."""
        async with anyio.create_task_group() as aides:
            aides.start_soon(self._watch.run)
            aides.start_soon(self._wind_down_in_time)
            if on_progress is not None:
                aides.start_soon(self._tell, on_progress)
            if stop is not None:
                aides.start_soon(self._stop_at, stop)
            with self._making:
                async with anyio.create_task_group() as group:
                    await self._make_calls(group)
            aides.cancel_scope.cancel()
        self._seconds = self._elapsed()
        if on_progress is not None:
            on_progress(self._measures.progress(self._seconds))

    def report(self, target: str) -> LoadReport:
        """Return what was measured."""
        measures = self._measures
        return LoadReport(
            target=target,
            plan=self._plan,
            seconds=self._seconds,
            stopped=self._stopped,
            calls=measures.calls,
            turns=measures.turns,
            pieces=measures.pieces,
            errors=measures.errors,
            first_word=measures.first_word.spread(),
            terminator=measures.terminator.spread(),
            silence=measures.silence.spread(),
            pong=measures.pong.spread(),
            generator=self._watch.result(),
        )

    async def _make_calls(self, group: TaskGroup) -> None:
        for index in range(self._plan.calls):
            due = self._began + index * self._plan.ramp / self._plan.calls
            if anyio.current_time() < due:
                with anyio.move_on_at(due):
                    await self._winding_down.wait()
            await self._take_slot()
            if self._winding_down.is_set():
                return
            self._measures.calls.begun += 1
            group.start_soon(self._hold, index)

    async def _take_slot(self) -> None:
        """Wait for a slot only where there is none: all calls that are due begin together.

        To yield between them would cost an event loop that is behind a round for each.
        """
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()

    async def _hold(self, index: int) -> None:
        """Hold a call from its beginning to its end; what goes wrong is counted."""
        calls, errors = self._measures.calls, self._measures.errors
        outcome = "cut"
        try:
            async with self._opener() as socket:
                outcome = await self._converse(socket, index)
        except ConnectError as error:
            kind = f"{Kind.REFUSED} {error.status}" if error.status else Kind.NOT_CONNECTED
            errors.add(kind, str(error))
            outcome = "failed"
        except CallFailed as failure:
            errors.add(failure.kind, str(failure))
            outcome = "failed"
        finally:
            setattr(calls, outcome, getattr(calls, outcome) + 1)
            self._measures.ended += 1
            self._slots.release()

    async def _converse(self, socket: Socket, index: int) -> str:
        call = LoadCall(socket, self._plan, call_script(self._plan, index), self._measures)
        self._measures.connect()
        self._open.add(call)
        if self._winding_down.is_set():
            call.wind_down()
        try:
            is_complete = await call.run(f"conv_load_{self._name}_{index}")
        finally:
            self._open.discard(call)
            self._measures.open -= 1
        return "finished" if is_complete else "cut"

    async def _wind_down_in_time(self) -> None:
        await anyio.sleep(self._plan.max_seconds)
        self._stopped = OUT_OF_TIME
        self._winding_down.set()
        for call in self._open:
            call.wind_down()

    async def _stop_at(self, stop: anyio.Event) -> None:
        await stop.wait()
        self._stopped = INTERRUPTED
        self._making.cancel()

    async def _tell(self, on_progress: Callable[[LoadProgress], None]) -> None:
        while True:
            await anyio.sleep(PROGRESS_EVERY)
            on_progress(self._measures.progress(self._elapsed()))

    def _elapsed(self) -> float:
        return anyio.current_time() - self._began


def _shown(url: str) -> str:
    """Return the address without what may be secret in it: user, password and query.

    Raises:
        ConnectError: it is no address of a WebSocket.
    """
    host_of(url)
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _default_connect(url: str) -> Connect:
    """Open sockets with one TLS context: to read the certificates for every call is too slow."""
    if urlsplit(url).scheme != "wss":
        return default_connect()
    import ssl

    return partial(default_connect(), ssl=ssl.create_default_context())
