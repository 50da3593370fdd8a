"""The tasks that answer turns: one per turn, and each turn ends as Rule 1 says.

However a handler ends (it returns, raises, never replies, is cancelled or swallows that), its
turn gets exactly one terminator or is no longer current. What keeps a stale word off the wire is
the core's check when a frame is made, not the cancellation: cancelling only saves work.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from speech_engine_proto import (
    USER_TRANSCRIPT,
    AgentConnection,
    ConnectionClosedError,
    LocalProtocolError,
    StaleTurnError,
    Turn,
    TurnFinishedError,
    TurnState,
)

from . import _trace as trace
from ._handlers import Handlers
from ._options import SessionOptions
from ._outbox import Outbox
from ._replies import discard, speak
from ._reports import Reports
from ._tasks import HandlerTask
from .errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._groups import Group
    from ._observer import Observer
    from ._replies import Response

__all__ = ["TurnRun", "Turns", "current_run"]

MAX_LEFT_OVER = 8
"""Handlers that were cancelled and have not ended, before a further turn is refused one."""

logger = logging.getLogger("speech_engine_transports")


@attrs.define(eq=False)
class TurnRun:
    """A turn and the task of its handlers."""

    session: Any
    turn: Turn
    task: HandlerTask
    replying: int = 0
    handlers_done: bool = False
    timed_out: bool = False
    timer: anyio.CancelScope | None = None


current_run: ContextVar[TurnRun | None] = ContextVar("speech_engine_turn", default=None)
"""The turn that the running code belongs to, background tasks of a handler included."""


@attrs.define(eq=False)
class Turns:
    """All turns of one session that have a task."""

    _session: Any
    _conn: AgentConnection
    _outbox: Outbox
    _reports: Reports
    _handlers: Handlers
    _options: SessionOptions
    _runs: dict[Turn, TurnRun] = attrs.field(factory=dict[Turn, TurnRun], init=False)

    async def start(self, turn: Turn, group: Group, after: HandlerTask | None) -> None:
        """Start the handlers of a turn; returns when their first step is made.

        Args:
            turn: the new turn; every other one is cancelled.
            group: the session's task group.
            after: a task that must end first: ``on_init`` ends before any transcript is heard.
        """
        earlier = list(self._runs.values())
        for run in earlier:
            run.task.cancel()
            _stop_timer(run)
        run = TurnRun(self._session, turn, HandlerTask("on_transcript"))
        waits_for = [] if after is None else [after]
        if self._options.serialize_turns:
            waits_for += [other.task for other in earlier]
        self._runs[turn] = run
        refused = sum(other.task.left_over for other in earlier) > MAX_LEFT_OVER

        async def body() -> None:
            current_run.set(run)
            try:
                for task in waits_for:
                    await task.wait()
                await self._answer(run, group, refused)
            finally:
                del self._runs[turn]
                _stop_timer(run)

        await run.task.start(group, body)
        if self._has_timeouts and turn in self._runs:
            run.timer = anyio.CancelScope()
            group.start_soon(self._time, run, run.timer, group)

    def tasks(self) -> list[HandlerTask]:
        """Return the tasks that have not ended."""
        return [run.task for run in self._runs.values()]

    async def respond(self, response: Response, *, final: bool, turn: Turn | None) -> None:
        """Say a response to a turn: the given one, or that of the code that calls."""
        run = self._run_of(turn)
        if run is None:
            await discard(response)
            if not self._conn.is_open:
                raise ConnectionClosedError("session is closed")
            self._warn("send_response outside a transcript handler: nothing sent; pass turn=")
            return
        if not run.turn.in_flight:
            await discard(response)
            raise self._refusal(run.turn)
        run.replying += 1
        try:
            await self._speak(run.turn, response)
            if final:
                await self._end(run.turn)
        finally:
            run.replying -= 1
            if run.handlers_done:
                await self._settle(run, None)

    async def _answer(self, run: TurnRun, group: Group, refused: bool) -> None:
        if refused:
            error: Exception | None = LimitExceeded("left-over handlers", MAX_LEFT_OVER)
        else:
            error = await self._call_handlers(run)
        run.handlers_done = True
        if isinstance(error, LimitExceeded):
            self._reports.exceeded(error, group, turn=run.turn)
        elif error is not None and not _is_lost_race(error, run):
            self._reports.report(error, group, turn=run.turn)
        await self._settle(run, error)

    async def _call_handlers(self, run: TurnRun) -> Exception | None:
        turn, observer = run.turn, self._options.observer
        if observer is not None:
            observer.handler_started(self._session, turn)
        for handler, args in self._handlers.take(USER_TRANSCRIPT, self._session, turn.transcript):
            run.task.name = getattr(handler, "__qualname__", type(handler).__name__)
            args[0] = list(turn.transcript)
            error = await run.task.attempt(handler, *args)
            if error is not None:
                return error
        return None

    async def _settle(self, run: TurnRun, error: Exception | None) -> None:
        """Give a turn whose handlers are done the terminator it is still owed (Rule 1)."""
        if not (run.replying or run.timed_out):
            await self._conclude(run.turn, error)

    async def _conclude(self, turn: Turn, error: Exception | None) -> None:
        if not turn.in_flight:
            return
        try:
            silent = turn.state is TurnState.WAITING
            if error is not None or silent:
                text = self._fallback_text(error)
                if text:
                    await self._say(turn)(text)
                elif silent:
                    self._warn("a turn ended without a word; set fallback= to say something", turn)
            await self._end(turn)
        except LocalProtocolError:
            pass  # interrupted, or hung up, on the way: nothing is owed any more

    @property
    def _has_timeouts(self) -> bool:
        limits = self._options.limits
        return limits.first_word_timeout is not None or limits.handler_timeout is not None

    async def _time(self, run: TurnRun, scope: anyio.CancelScope, group: Group) -> None:
        """Prompt or end a turn that takes too long; cancelled with its handler's end."""
        limits = self._options.limits
        bounds = (
            ("first_word_timeout", limits.first_word_timeout, self._prompt),
            ("handler_timeout", limits.handler_timeout, self._time_out),
        )
        set_ones = [(seconds, name, act) for name, seconds, act in bounds if seconds is not None]
        begun = anyio.current_time()
        with scope:
            for seconds, name, act in sorted(set_ones, key=lambda bound: bound[0]):
                await anyio.sleep_until(begun + seconds)
                await act(run, LimitExceeded(name, seconds), group)

    async def _prompt(self, run: TurnRun, error: LimitExceeded, group: Group) -> None:
        """Say something in the place of a handler that has not said a word yet."""
        turn = run.turn
        if turn.state is not TurnState.WAITING:
            return
        self._reports.exceeded(error, group, turn=turn)
        text = self._fallback_text(error)
        if text:
            with suppress(LocalProtocolError):
                await self._say(turn)(text)

    async def _time_out(self, run: TurnRun, error: LimitExceeded, group: Group) -> None:
        """End a turn in the place of its handler, however long that cleans up."""
        if not run.turn.in_flight:
            return
        run.timed_out = run.handlers_done = True
        run.timer = None  # the handler's end must not cut off what is said here
        run.task.cancel()
        self._reports.exceeded(error, group, turn=run.turn)
        await self._conclude(run.turn, error)

    def _fallback_text(self, error: Exception | None) -> str | None:
        try:
            return self._options.fallback_text(error)
        except Exception as failure:
            self._reports.observe(failure)
            logger.exception("fallback failed", extra=self._reports.context())
            return None

    async def _speak(self, turn: Turn, response: Response) -> None:
        await speak(response, self._say(turn), self._options.extract)

    def _say(self, turn: Turn) -> Callable[[str], Coroutine[Any, Any, None]]:
        verb = self._conn.send_text
        if self._options.observer is not None and turn.state is TurnState.WAITING:
            verb = partial(self._send_text_observed, self._options.observer)
        return self._outbox.writer(partial(verb, turn))

    def _send_text_observed(self, observer: Observer, turn: Turn, text: str) -> str:
        is_first = turn.state is TurnState.WAITING
        frame = self._conn.send_text(turn, text)
        if is_first:
            observer.first_word(self._session, turn)
        return frame

    async def _end(self, turn: Turn) -> None:
        observed = self._options.observer is not None
        verb = self._end_turn_observed if observed else self._conn.end_turn
        await self._outbox.writer(verb)(turn)
        self._session.turn_ended()
        if self._options.debug:
            trace.replied(turn)

    def _end_turn_observed(self, turn: Turn) -> str:
        """End a turn on the wire; also where the write is then cut off, it is finished."""
        frame = self._conn.end_turn(turn)
        assert self._options.observer is not None
        self._options.observer.turn_finished(self._session, turn)
        return frame

    def _run_of(self, turn: Turn | None) -> TurnRun | None:
        if turn is not None:
            return self._runs.get(turn) or TurnRun(self._session, turn, HandlerTask("turn="))
        run = current_run.get()
        return run if run is not None and run.session is self._session else None

    def _refusal(self, turn: Turn) -> LocalProtocolError:
        if not self._conn.is_open:
            return ConnectionClosedError("session is closed")
        if turn.state is TurnState.FINISHED:
            return TurnFinishedError(
                f"turn {turn.event_id} already has its terminator; await each send_response before "
                "the handler returns, with final=False for all but the last response of the turn"
            )
        return StaleTurnError(f"turn {turn.event_id} is no longer current: it was interrupted")

    def _warn(self, message: str, turn: Turn | None = None) -> None:
        logger.warning(message, extra=self._reports.context(turn))


def _stop_timer(run: TurnRun) -> None:
    if run.timer is not None:
        run.timer.cancel()


def _is_lost_race(error: Exception, run: TurnRun) -> bool:
    """Tell an error that only says "too late" from one that somebody must hear of."""
    if isinstance(error, ConnectionClosedError):
        return True
    if run.timed_out:
        return isinstance(error, LocalProtocolError)
    return isinstance(error, StaleTurnError) and run.turn.interrupted
