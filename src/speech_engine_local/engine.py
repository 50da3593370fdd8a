"""`LocalEngine`: dials your server and holds a conversation with it, as the service does."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self, assert_never

import anyio

from speech_engine_proto import (
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    EngineConnection,
    EngineEvent,
    MessageIgnored,
    PongReceived,
    ProtocolViolation,
    ReplyFinished,
    ReplyText,
    StaleReply,
)

from ._dial import dial
from ._errors import (
    AgentLostError,
    ConversationOverError,
    EngineError,
    NoPongError,
    NoReplyError,
    NoTerminatorError,
    ReplyTooLongError,
    Rule,
)
from ._judge import Judge
from ._line import hang_up, write
from ._reply import Heard, History, Reply, read_so_far

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from anyio.abc import TaskGroup

    from speech_engine_transports._socket import Socket

    from ._errors import Violation

__all__ = ["LocalEngine"]

ATTEMPTS = 3
"""How often the service sends a question before it gives up (fact sheet 1.2, as reported)."""


class LocalEngine:
    """One call to your server, from the service's side.

    ::

        async with LocalEngine("ws://127.0.0.1:3001/ws", api_key="...") as engine:
            reply = await engine.say("Hello")
            print(reply.text)

    Entering the block dials, signs a token and sends ``init``; leaving it hangs up. What the
    server does against the rules is collected in `violations`; what leaves a question without an
    answer is also raised where that reply is read.

    Args:
        url: ``ws://`` or ``wss://`` address of the server.
        api_key: signs the token; None sends no token, for a server with ``disable_auth``.
        conversation_id: the name of the conversation; by default a random one.
        headers: more headers of the upgrade request, as pairs.
        cascade_timeout: seconds without a word after which a question is sent again, as the
            engine's ``cascade_timeout_seconds``; the third time in vain ends the call.
        resend_as_new: re-send under a new id. What the service does was never seen
            (fact sheet 7); a server must bear both.
        silence_timeout: seconds without a piece after which a started reply counts as forgotten.
        ping_interval: seconds between pings; None sends none by itself.
        pong_timeout: seconds that a pong may take.
        max_reply_chars: characters of one reply at which the server counts as flooding: the reply
            fails, and the call ends; None sets no bound.
        heard: tells what was heard of a reply; by default what has been read of it.
        on_violation: called with each violation when it is found, in addition to `violations`.
        connect: opens the socket; by default `speech_engine_transports.asyncio.connect`.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        conversation_id: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        cascade_timeout: float = 4.0,
        resend_as_new: bool = False,
        silence_timeout: float = 30.0,
        ping_interval: float | None = 20.0,
        pong_timeout: float = 10.0,
        max_reply_chars: int | None = 1_000_000,
        heard: Heard = read_so_far,
        on_violation: Callable[[Violation], None] | None = None,
        connect: Callable[..., AbstractAsyncContextManager[Socket]] | None = None,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._conversation_id = conversation_id or f"conv_local_{secrets.token_hex(8)}"
        self._headers = tuple(headers)
        self._cascade_timeout = cascade_timeout
        self._resend_as_new = resend_as_new
        self._silence_timeout = silence_timeout
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self._max_reply_chars = max_reply_chars
        self._heard = heard
        self._connect = connect
        self._conn = EngineConnection()
        self._history = History()
        self._judge = Judge(on_violation)
        self._pong = anyio.Event()
        self._ended = anyio.Event()
        self._stack = AsyncExitStack()
        # Shielded: a block that is cancelled still hangs up in order, and sees the socket's end.
        self._reading = anyio.CancelScope(shield=True)

    @property
    def conversation_id(self) -> str:
        """The name of the conversation, as ``init`` carries it."""
        return self._conversation_id

    @property
    def is_open(self) -> bool:
        """Whether something may still be asked."""
        return self._conn.is_open

    @property
    def close_code(self) -> int | None:
        """The code that an ended socket was closed with; None where nobody can tell."""
        return self._socket.closed_with

    @property
    def reply(self) -> Reply | None:
        """The newest reply, or the greeting; None before there is one."""
        return self._history.reply

    @property
    def history(self) -> tuple[ConversationMessage, ...]:
        """What was said and heard: of an interrupted reply only what was heard.

        A reply that is still coming in is not part of it.
        """
        return self._history.messages

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Each rule that the server has broken so far, in order."""
        return tuple(self._judge.violations)

    @property
    def stale_replies(self) -> int:
        """Messages for turns that were over: normal where they cross with an interruption."""
        return self._judge.stale_replies

    async def __aenter__(self) -> Self:
        """Dial, and name the conversation.

        Raises:
            ConnectError: nobody listens there, or the upgrade was refused.
        """
        connection = dial(self._url, self._api_key, self._headers, self._connect)
        self._socket = await self._stack.enter_async_context(connection)
        self._group: TaskGroup = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._read_all)
        if self._ping_interval is not None:
            self._group.start_soon(self._ping_forever, self._ping_interval)
        try:
            await write(self._socket, self._conn.send_init(self._conversation_id))
        except BaseException:  # cancelled in the write: the block is never entered, nor left
            await self._leave()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up. What the block raised leaves as it is, never inside an exception group."""
        await self._leave()

    def greet(self, text: str) -> Reply:
        """Say something before the caller does, as the service's first message.

        The server does not hear of it, except in the history of the first question: cut, as a
        reply, to what was heard of it.

        Args:
            text: what is said.

        Raises:
            ValueError: something was said before.
            ConversationOverError: the call has ended.
        """
        self._require_open()
        if self._history.reply is not None:
            raise ValueError("greet: expected to come first, got a conversation that has begun")
        reply = self._history.reply = Reply(0, (), self._heard)
        if text:
            reply.add(text)
        reply.finish()
        return reply

    async def say(self, text: str) -> Reply:
        """Say something, and wait for the whole reply.

        Raises:
            EngineError: no whole reply came.
        """
        return await (await self.ask(text)).wait()

    async def ask(self, text: str) -> Reply:
        """Say something, and return the reply while it is still to come.

        While an earlier reply runs this interrupts it (barge-in): the history keeps what was
        heard of it, and whatever more comes of it is discarded.

        Args:
            text: what the caller says.

        Raises:
            ConversationOverError: the call has ended.
        """
        self._require_open()
        transcript = self._history.ask(text)
        frame = self._conn.send_transcript(transcript)
        assert self._conn.event_id is not None
        reply = self._history.reply = Reply(self._conn.event_id, transcript, self._heard)
        self._group.start_soon(self._watch, reply)
        await write(self._socket, frame)
        return reply

    async def interrupt(self, text: str) -> Reply:
        """Speak into the reply that runs, and return the reply to that.

        It is `ask` for a test that must know that it interrupted something.

        Raises:
            ValueError: no reply runs, or the end of it has been heard.
            ConversationOverError: the call has ended.
        """
        running = self._history.reply
        if running is None or (running.is_over and running.heard == running.text):
            raise ValueError("interrupt: expected a reply that is being heard, got none")
        return await self.ask(text)

    async def ping(self) -> float:
        """Ping the server, and return the seconds until its pong.

        Raises:
            NoPongError: no pong came in time.
            ConversationOverError: the call has ended.
        """
        self._require_open()
        pong, sent_at = self._pong, anyio.current_time()
        await write(self._socket, self._conn.send_ping())
        with anyio.move_on_after(self._pong_timeout):
            await pong.wait()
        if pong.is_set():
            self._require_open()
            return anyio.current_time() - sent_at
        error = NoPongError(f"expected a pong within {self._pong_timeout:g} s, got none")
        self._judge.note(Rule.PONG_IN_TIME, str(error))
        raise error

    async def hang_up(self) -> None:
        """End the call: the ``close`` message, then the end of the socket. Idempotent."""
        self._history.settle()
        await hang_up(self._socket, self._conn, self._ended)

    async def wait_ended(self) -> None:
        """Return when the socket has ended, whoever ended it."""
        await self._ended.wait()

    async def _leave(self) -> None:
        try:
            with anyio.CancelScope(shield=True):  # `hang_up` has its own deadlines
                await self.hang_up()
        finally:
            self._reading.cancel()
            self._group.cancel_scope.cancel()
            try:
                await self._group.__aexit__(None, None, None)
            finally:  # also where that is cancelled from outside
                await self._stack.aclose()

    def _require_open(self) -> None:
        if not self._conn.is_open:
            raise ConversationOverError(f"the conversation is over: {self._conn.state.value}")

    async def _read_all(self) -> None:
        """Read the socket to its end: the only task that does."""
        with self._reading:
            while (message := await self._socket.recv()) is not None:
                self._on_event(self._conn.receive(message))
        self._on_event(self._conn.receive_eof())
        self._ended.set()
        self._pong.set()

    def _on_event(self, event: EngineEvent) -> None:
        match event:
            case ReplyText(_, text):
                self._on_text(text)
            case ReplyFinished(event_id, text):
                self._judge.on_terminator(self._history.reply, event_id, text)
            case StaleReply(event_id):
                self._judge.on_stale(event_id)
            case PongReceived():
                self._pong.set()
                self._pong = anyio.Event()
            case ProtocolViolation(error):
                self._judge.note(Rule.MESSAGE, str(error), self._conn.event_id)
            case ConnectionLost():
                self._on_lost()
            case MessageIgnored() | ConversationEnded():
                pass
            case _:
                assert_never(event)

    def _on_text(self, text: str) -> None:
        reply, limit = self._history.reply, self._max_reply_chars
        if not text or reply is None or reply.is_over:
            return
        if limit is not None and reply.size + len(text) > limit:
            error = ReplyTooLongError(f"expected a reply of at most {limit} characters, got more")
            self._judge.fail(reply, Rule.REPLY_SIZE, error)
            self._group.start_soon(self._give_up, error)
        else:
            reply.add(text)

    def _on_lost(self) -> None:
        reply = self._history.reply
        if reply is None or reply.is_over:
            return  # between two turns an agent may hang up
        error = AgentLostError("expected the rest of a reply, got the end of the socket")
        self._judge.fail(reply, Rule.SOCKET_KEPT, error)

    async def _ping_forever(self, interval: float) -> None:
        with suppress(ConversationOverError):
            while True:
                await anyio.sleep(interval)
                with suppress(NoPongError):
                    await self.ping()

    async def _watch(self, reply: Reply) -> None:
        """Ask again while no word comes, then look that the reply ends."""
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._ask_again(reply)
            with anyio.move_on_after(self._cascade_timeout):
                await reply.wait_beyond(0)
            if reply.is_beyond(0):
                return await self._watch_silence(reply)
        total = ATTEMPTS * self._cascade_timeout
        error = NoReplyError(
            f"expected a word within {total:g} s, asked {ATTEMPTS} times, got none"
        )
        self._judge.fail(reply, Rule.WORD_IN_TIME, error)
        return await self._give_up(error)

    async def _ask_again(self, reply: Reply) -> None:
        event_id = None if self._resend_as_new else reply.event_id
        frame = self._conn.send_transcript(reply.transcript, event_id)
        reply.ask_again(self._conn.event_id or reply.event_id)
        await write(self._socket, frame)

    async def _give_up(self, error: EngineError) -> None:
        if self._conn.is_open:
            await write(self._socket, self._conn.send_error(f"speech engine gave up: {error}"))
        await self.hang_up()

    async def _watch_silence(self, reply: Reply) -> None:
        while not reply.is_over:
            known = reply.count
            with anyio.move_on_after(self._silence_timeout):
                await reply.wait_beyond(known)
            if not reply.is_beyond(known):
                limit = f"{self._silence_timeout:g} s"
                error = NoTerminatorError(f"expected a piece or the terminator within {limit}")
                self._judge.fail(reply, Rule.TERMINATOR_OWED, error)
