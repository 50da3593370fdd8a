"""One conversation: events become handlers' calls, replies become frames.

The reader is the task that called `SpeechEngineSession.run`; it never waits for a handler and
never for a write. Each turn has one task of its own; nothing else has, while all goes well.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

import anyio

from speech_engine_proto import (
    CLOSE,
    DISCONNECTED,
    INIT,
    USER_TRANSCRIPT,
    AgentConnection,
    ConnectionLost,
    ConversationEnded,
    ConversationStarted,
    ErrorReceived,
    MessageIgnored,
    PingReceived,
    ProtocolViolation,
    TranscriptIgnored,
    TurnResent,
    TurnStarted,
)
from speech_engine_proto.llm import extract_text

from . import _trace as trace
from ._groups import raise_single, session_group
from ._handlers import Handlers
from ._observer import tell
from ._options import SessionOptions
from ._outbox import Outbox
from ._reports import Reports
from ._sockets import as_socket
from ._tasks import HandlerTask, wait_for
from ._turns import Turns, current_run
from .errors import LimitExceeded, ServiceError
from .limits import with_defaults

if TYPE_CHECKING:
    from collections.abc import Callable

    import speech_engine_proto
    from speech_engine_proto import AgentEvent, Turn

    from ._groups import Group
    from ._handlers import Handler
    from ._observer import Observer
    from ._options import Fallback
    from ._replies import Response
    from ._socket import Request, Socket, WebSocketLike

__all__ = ["SpeechEngineSession"]

logger = logging.getLogger("speech_engine_transports")


class SpeechEngineSession:
    """Wraps one accepted WebSocket: one conversation.

    It does not verify who has connected. `SpeechEngineServer` does; where you accept the upgrade
    yourself, ask `SpeechEngineResource.verify_request` first.

    Args:
        ws: an accepted WebSocket; see `create_session` for which.
        debug: show transcripts and replies on stdout.
        fallback: said before the terminator when a handler fails or ends without a word; a
            callable gets the error, or None. Without one, silence is at least a log warning.
        extract: finds the text in a chunk of a stream; by default `extract_text`, which knows the
            streams of OpenAI, Anthropic and Gemini.
        serialize_turns: wait for the handler of an interrupted turn to end before the next one
            starts, instead of letting them overlap.
        adopt_resends: let a reply that has not said a word yet go on when the service asks the
            same again under a new id.
        limits: the bounds of this conversation; see `Limits`.
        cancel_grace: seconds that a cancelled handler gets at the end of the conversation before
            a warning names it.
        observer: told what happens, for metrics and traces; see `Observer`.

    Raises:
        TypeError: ``ws`` is none of the supported sockets.
    """

    __slots__ = (
        "__dict__",  # handlers keep their own things on a session, as they do on the official one
        "__weakref__",
        "_conn",
        "_end_task",
        "_group",
        "_handlers",
        "_init_task",
        "_leave_code",
        "_left",
        "_options",
        "_outbox",
        "_read_scope",
        "_reading",
        "_reports",
        "_socket",
        "_started",
        "_turns",
        "received",
    )

    def __init__(
        self,
        ws: Socket | WebSocketLike | Any,
        *,
        debug: bool = False,
        fallback: Fallback | None = None,
        extract: Callable[[Any], str | None] = extract_text,
        serialize_turns: bool = False,
        adopt_resends: bool = True,
        limits: speech_engine_proto.Limits | None = None,
        cancel_grace: float = 5.0,
        observer: Observer | None = None,
    ) -> None:
        self._options = SessionOptions(
            debug=debug,
            fallback=fallback,
            extract=extract,
            serialize_turns=serialize_turns,
            adopt_resends=adopt_resends,
            limits=with_defaults(limits),
            cancel_grace=cancel_grace,
            observer=observer,
        )
        self._set_up(as_socket(ws), Handlers())

    @classmethod
    def with_options(
        cls, ws: Any, handlers: Handlers, options: SessionOptions
    ) -> SpeechEngineSession:
        """Make a session from what a server shares among all of its sessions."""
        session = cls.__new__(cls)
        session._options = options
        session._set_up(as_socket(ws), handlers.copy())
        return session

    def _set_up(self, socket: Socket, handlers: Handlers) -> None:
        options = self._options
        self._socket = socket
        self._handlers = handlers
        self._conn = AgentConnection(adopt_resends=options.adopt_resends, limits=options.limits)
        observer = options.observer
        ponged = None if observer is None else partial(observer.pong_sent, self)
        self._outbox = Outbox(socket, ponged)
        self._reports = Reports(self, handlers, options.calls.exceeded, observer)
        self._turns = Turns(self, self._conn, self._outbox, self._reports, handlers, options)
        self._group: Group | None = None
        self._leave_code: int | None = None
        self.received = 0
        self._init_task: HandlerTask | None = None
        self._end_task: HandlerTask | None = None
        self._read_scope: anyio.CancelScope | None = None
        self._started = self._left = self._reading = False
        if options.debug:
            trace.enable()

    @property
    def conversation_id(self) -> str | None:
        """The id the service gave this conversation; None before ``init``."""
        return self._conn.conversation_id

    @property
    def is_open(self) -> bool:
        """Whether the conversation goes on."""
        return self._conn.is_open

    @property
    def request(self) -> Request:
        """The upgrade request: path, query, headers without the token, peer."""
        return self._socket.request

    @property
    def is_writing(self) -> bool:
        """Whether a write waits for the peer at this moment."""
        return self._outbox.begun != self._outbox.ended

    @property
    def written(self) -> int:
        """How many writes have ended, for whoever looks whether the peer still reads."""
        return self._outbox.ended

    @property
    def turn(self) -> Turn | None:
        """The turn of the handler that asks, also when it was interrupted; None elsewhere."""
        run = current_run.get()
        return run.turn if run is not None and run.session is self else None

    def on(self, event: str, handler: Handler) -> SpeechEngineSession:
        """Register a handler, sync or async; it gets the event's arguments.

        Args:
            event: ``init`` (conversation_id), ``user_transcript`` (list of messages), ``close``
                (), ``disconnected`` () or ``error`` (exception).
            handler: called, and awaited if it returns an awaitable.

        Raises:
            ValueError: there is no such event.
            TypeError: the handler cannot take the event's arguments.
        """
        self._handlers.add(event, handler)
        return self

    def once(self, event: str, handler: Handler) -> SpeechEngineSession:
        """Register a handler that fires once and then removes itself; see `on`."""
        self._handlers.add(event, handler, once=True)
        return self

    def off(self, event: str, handler: Handler) -> SpeechEngineSession:
        """Remove a handler that `on` or `once` registered; one that is not there is no error."""
        self._handlers.remove(event, handler)
        return self

    async def send_response(
        self, response: Response, *, final: bool = True, turn: Turn | None = None
    ) -> None:
        """Say something to the caller, as the reply to the turn of the handler that calls.

        It is never "the current turn" that is answered: a background task of an interrupted turn
        cannot speak into the next one. Outside a handler, and without ``turn``, a warning is
        logged and nothing is sent.

        Args:
            response: a text, a stream of texts or of an LLM's chunks (async or blocking), or an
                awaitable or async context manager that gives one. It is closed in any case.
            final: end the reply after this. False says something first and leaves it open.
            turn: the turn to answer, from code that the handler's context does not reach.

        Raises:
            StaleTurnError: the turn was interrupted.
            TurnFinishedError: the turn has its terminator.
            ConnectionClosedError: the conversation is over ("session is closed").
            ReplyStreamError: the LLM's stream reported an error.
            TypeError: nothing in ``response`` can be read.
        """
        await self._turns.respond(response, final=final, turn=turn)

    def close(self) -> None:
        """End the conversation from our side: no event is fired, `run` closes the socket.

        May be called more than once, and before `run`. Handlers are cancelled, except the one that
        calls this: it may clean up, but not speak any more.
        """
        if self._left or not self._conn.is_open:
            return
        self._left = True
        self._close_conn()
        for task in self._tasks():
            task.spare_if_current()
            task.cancel()
        if self._reading and self._read_scope is not None:
            self._read_scope.cancel()

    def leave(self, code: int = 1001) -> None:
        """Close the socket as soon as no reply is in flight: at once, or after the terminator.

        The conversation then ends as if the peer had left; `close` does not wait for a reply.
        """
        self._leave_code = code
        self.turn_ended()

    def turn_ended(self) -> None:
        """Leave, if that was asked and no reply is in flight any more. For `Turns`."""
        turn, code = self._conn.turn, self._leave_code
        if code is None or self._group is None or not self._conn.is_open:
            return  # it has not begun, or it ends already, and closes its socket
        if not (turn and turn.in_flight):
            self._leave_code = None
            self._group.start_soon(self.close_socket, code, "going away")

    def exceed(self, error: LimitExceeded, code: int | None) -> None:
        """End the conversation for a bound that was passed; without a code the connection drops.

        For `Watch`.
        """
        assert self._group is not None
        self._reports.exceeded(error, self._group)
        if code is None:
            self._socket.abort()
        else:
            self._group.start_soon(self.close_socket, code, error.limit)

    async def close_socket(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket at once; the conversation ends as if the peer had. For `Calls`."""
        try:
            await self._socket.close(code, reason)
        except Exception as error:
            logger.debug("closing the socket: %s", type(error).__name__)

    async def run(self) -> None:
        """Run the conversation until it is over.

        Returns when the socket is closed and every handler has ended. Handlers' exceptions do not
        end it: they reach ``on_error``, or the log where there is none.

        Raises:
            RuntimeError: it runs, or ran, already.
        """
        if self._started:
            raise RuntimeError("run() was already called on this session")
        self._started = True
        if not self._handlers.has(USER_TRANSCRIPT):
            logger.warning("no handler for transcripts: the agent will be silent")
        calls, observer = self._options.calls, self._options.observer
        announced = False
        calls.begin(self)
        try:
            async with session_group() as self._group:
                try:
                    if observer is not None:
                        observer.conversation_started(self)
                        announced = True
                    self.turn_ended()
                    calls.watch.begin(self, self._group)
                    try:
                        with anyio.CancelScope() as self._read_scope:
                            await self._read(self._group)
                    finally:
                        calls.watch.end(self)
                    await self._finish(self._group)
                except BaseException:
                    await self._cut_off()
                    raise
        except BaseExceptionGroup as errors:
            raise_single(errors)
        finally:
            if announced and observer is not None:
                observer.conversation_ended(self, self._conn.state)
            calls.end(self)

    async def _read(self, group: Group) -> None:
        while self._conn.is_open:
            self._reading = True
            try:
                message = await self._socket.recv()
            finally:
                self._reading = False
            if message is not None:
                self.received += 1
                await self._on_event(self._conn.receive(message), group)
            elif self._conn.is_open:  # a handler may have closed it meanwhile
                if self._socket.overflowed:
                    longest = self._options.limits.max_frame_bytes
                    self._reports.exceeded(LimitExceeded("max_frame_bytes", longest), group)
                await self._on_event(self._conn.receive_eof(), group)

    async def _on_event(self, event: AgentEvent, group: Group) -> None:
        if self._options.observer is not None:
            tell(self._options.observer, self, event)
        match event:
            case TurnStarted(turn):
                if self._options.debug:
                    trace.started(turn)
                await self._turns.start(turn, group, self._init_task)
            case PingReceived():
                await self._outbox.pong(event.reply, group)
            case ConversationStarted(conversation_id):
                await self._start_init(conversation_id, group)
            case ErrorReceived(message):
                self._reports.report(ServiceError(message), group)
            case ProtocolViolation(error):
                self._reports.report(error, group)
            case TurnResent() | TranscriptIgnored() | MessageIgnored():
                logger.debug("%r", event, extra=self._reports.context())
            case ConversationEnded() | ConnectionLost():
                pass  # the reader's loop sees it
            case _:
                assert_never(event)

    async def _start_init(self, conversation_id: str, group: Group) -> None:
        if self._options.debug:
            trace.event("conversation", conversation_id)
        if self._handlers.has(INIT):
            self._init_task = HandlerTask("on_init")
            await self._fire(self._init_task, group, INIT, conversation_id)

    async def _fire(self, task: HandlerTask, group: Group, event: str, *args: object) -> None:
        """Call the handlers of an event in their own task; returns when the first has started."""

        async def body() -> None:
            for handler, arguments in self._handlers.take(event, self, *args):
                error = await task.attempt(handler, *arguments)
                if error is not None:
                    self._reports.report(error, group)

        await task.start(group, body)

    async def _finish(self, group: Group) -> None:
        """End in order: close the socket, tell the handlers, wait for those that still work."""
        working = self._tasks()
        for task in working:
            task.cancel()
        await group.start(self.close_socket)
        if not self._left:
            ended = isinstance(self._conn.receive_eof(), ConversationEnded)
            event = CLOSE if ended else DISCONNECTED
            if self._handlers.has(event):
                self._end_task = HandlerTask("on_close" if ended else "on_disconnect")
                await self._fire(self._end_task, group, event)
                await self._end_task.wait()
        for task in await wait_for(working, self._options.cancel_grace, self._reports.context()):
            await task.wait()
        # Not left to the group: whoever is cancelled while it waits here grants a clean-up.
        while self._reports.task is not None:
            await self._reports.task.wait()

    async def _cut_off(self) -> None:
        """End because our caller was cancelled: handlers get their grace, and no more."""
        self._close_conn()
        others = (self._end_task, self._reports.task)
        working = self._tasks() + [task for task in others if task is not None]
        for task in working:
            task.cancel()
        try:
            with anyio.CancelScope(shield=True):
                await wait_for(working, self._options.cancel_grace, self._reports.context())
        finally:
            for task in working:
                task.give_up()

    def _close_conn(self) -> None:
        turn, observer = self._conn.turn, self._options.observer
        self._conn.close()
        if observer is not None and turn is not None:
            observer.turn_interrupted(self, turn, None)

    def _tasks(self) -> list[HandlerTask]:
        """Return the tasks that end with the conversation: of turns, and of ``on_init``."""
        tasks = self._turns.tasks()
        if self._init_task is not None:
            tasks.append(self._init_task)
        return tasks
