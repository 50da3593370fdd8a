"""One conversation: a client on one side, your agent on the other.

Every part of it is a task of one group: the reader of the client's socket, its one writer, what
the agent says, the call to the agent. None waits for a client that does not read, except what
speaks to that client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, assert_never

import anyio
import attrs

from .._dial import default_connect
from .._errors import ConnectError, ConversationOverError, EngineError, NoTerminatorError
from ..engine import LocalEngine
from . import convai
from ._headers import filled
from ._traces import without_words
from .convai import INTERNAL, POLICY, PROTOCOL, FrameError, Initiation
from .outbox import Outbox
from .speech import AudioFormat
from .utterance import Utterance, Voice
from .wires import RecordedSocket, recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from speech_engine_transports._socket import Socket

    from .._errors import Violation
    from .._reply import Reply
    from .engines import Engine
    from .speech import Synthesizer
    from .wires import Wire

__all__ = ["Conversation"]

logger = logging.getLogger("speech_engine_local")

INITIATION_SECONDS = 5.0
"""How long the client's first frame is waited for, before defaults are taken."""

SETTLE_SECONDS = 0.05
"""Between the metadata and what follows: Node clients lose frames that arrive in the same TCP read
(fact sheet 5.7, 8)."""

PING_SECONDS = 10.0
"""Between pings to the client."""

CLOSE_SECONDS = 5.0
"""How long a client may take to read the last frames and close."""

MAX_WAITING_MESSAGES = 32
"""Messages of the user that wait while the agent is dialled, or does not read."""

MAX_MESSAGES = 2_000
"""Messages of the user in one conversation: the history goes out with each of them."""

MAX_REPLY_CHARS = 100_000
"""Characters of one reply, two hours of speech, past which an agent counts as flooding."""

MAX_VIOLATIONS = 100
"""Broken rules after which an agent counts as broken."""


@attrs.frozen
class _Ending:
    """How a conversation ends for the client.

    Args:
        code: of the close frame.
        reason: of the close frame, and of the error frame.
        error_code: of the error frame; None sends none.
        error_type: of the error frame.
    """

    code: int
    reason: str
    error_code: int | None = None
    error_type: str | None = None


class Conversation:
    """A conversation of one client with one engine's agent.

    Args:
        link: the client's socket, accepted.
        engine: the settings.
        conversation_id: its name.
        api_key: signs the call to the agent.
        wire: keeps both wires while it runs.
        synthesizer: None sends text only.
        connect: opens the socket to the agent; by default over ``websockets``.
    """

    def __init__(
        self,
        link: Socket,
        engine: Engine,
        *,
        conversation_id: str,
        api_key: str,
        wire: Wire,
        synthesizer: Synthesizer | None = None,
        connect: Callable[..., AbstractAsyncContextManager[Socket]] | None = None,
    ) -> None:
        self._link = RecordedSocket(link, wire, "client")
        self._engine = engine
        self._conversation_id = conversation_id
        self._api_key = api_key
        self._wire = wire
        self._synthesizer = synthesizer
        self._connect = connect
        self._outbox = Outbox(self._link)
        self._voice: Voice | None = None
        self._initiation: Initiation | None = None
        self._initiated = anyio.Event()
        self._ready = anyio.Event()
        self._questions, self._asked = anyio.create_memory_object_stream[str](MAX_WAITING_MESSAGES)
        self._utterance: Utterance | None = None
        self._last_event_id = 0
        self._messages = 0
        self._violations = 0
        self._audio_bytes = 0
        self._pinged: tuple[int, float] | None = None
        self._ping_ms = 0
        self._ending: _Ending | None = None
        self._over = anyio.Event()

    async def run(self) -> None:
        """Hold the conversation until the client or the agent ends it, or its time is up.

        The client's socket is closed and the agent's call has ended when this returns.
        """
        with self._questions, self._asked:
            async with anyio.create_task_group() as group:
                group.start_soon(self._outbox.run)
                work = anyio.CancelScope()
                group.start_soon(self._work, work)
                try:
                    await self._over.wait()
                finally:  # also when cancelled from outside: the cloud stops
                    work.cancel()
                    with anyio.CancelScope(shield=True):
                        await self._say_goodbye()

    # The end.

    def _end(self, ending: _Ending | None) -> None:
        """End the conversation, once; None where the client has ended it."""
        if not self._over.is_set():
            self._ending = ending
            self._over.set()

    def _fail(self, reason: str) -> None:
        if not self._over.is_set():
            logger.warning("%s: %s", self._conversation_id, reason)
            self._end(_Ending(INTERNAL, reason, INTERNAL))

    async def _say_goodbye(self) -> None:
        if self._utterance is not None and not self._utterance.is_stopped:
            self._utterance.conclude()
        if self._over.is_set():
            ending = self._ending or _Ending(1000, "")
        else:
            ending = _Ending(1001, "the cloud stops")
        if ending.error_code is not None:
            self._outbox.post(convai.error(ending.error_code, ending.reason, ending.error_type))
        self._outbox.close()
        with anyio.move_on_after(CLOSE_SECONDS) as patience:
            await self._outbox.ended.wait()
            await self._link.close(ending.code, convai.close_reason(ending.reason))
        if patience.cancelled_caught:
            self._link.abort()

    # The client's side.

    async def _work(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._read_all)
                    await self._begin(group)
        except Exception as error:
            where = without_words(error)
            logger.error("%s failed: %s", self._conversation_id, where)  # noqa: TRY400
            self._fail("the cloud failed; see its log")

    async def _begin(self, group: TaskGroup) -> None:
        with anyio.move_on_after(INITIATION_SECONDS):
            await self._initiated.wait()
        initiation = self._initiation = self._initiation or Initiation()
        refusal = self._refusal(initiation)
        if refusal is not None:
            return self._end(_Ending(POLICY, refusal, POLICY))
        self._choose_voice(initiation)
        metadata = convai.metadata(
            self._conversation_id,
            output_format=self._engine.output_format,
            input_format=self._engine.input_format,
        )
        self._outbox.post(metadata)
        self._ready.set()
        group.start_soon(self._ping_all)
        group.start_soon(self._expire)
        return await self._call(group, initiation)

    def _refusal(self, initiation: Initiation) -> str | None:
        refused = initiation.refused
        if initiation.first_message is not None and not self._engine.first_message_allowed:
            refused = ("first_message", *refused)
        if refused:
            return f"Override for field '{refused[0]}' is not allowed by config."
        return None

    def _choose_voice(self, initiation: Initiation) -> None:
        text_only = initiation.text_only
        if text_only is None:
            text_only = self._engine.text_only
        if self._synthesizer is None or text_only or not self._wants("audio"):
            return
        format = AudioFormat.parse(self._engine.output_format)
        engine = self._engine
        self._voice = Voice(self._synthesizer, format, engine.speed, engine.language)

    def _wants(self, kind: str) -> bool:
        """Tell whether the engine lets clients have frames of this type."""
        return kind in self._engine.client_events

    async def _read_all(self) -> None:
        """Read the client's socket to its end: the only task that does."""
        while (message := await self._link.recv()) is not None:
            try:
                frame = convai.parse(message)
            except FrameError as error:
                self._complain(str(error), error.code)
            else:
                self._on_frame(frame)
            if self._initiation is not None:
                # Whatever comes before the metadata makes browsers wait for it for ever (5.7, 3).
                await self._ready.wait()
        self._end(None)

    def _complain(self, message: str, code: int) -> None:
        """Tell the client that a frame was wrong. Only the first one must be right."""
        if self._initiation is None:
            self._end(_Ending(PROTOCOL, message, PROTOCOL))
        else:
            self._outbox.post(convai.error(code, message))

    def _on_frame(self, frame: convai.ClientFrame) -> None:
        match frame:
            case Initiation():
                if self._initiation is None:
                    self._initiation = frame
                    self._initiated.set()
            case convai.Ignored("enclave_setup_config"):
                pass  # comes before the first frame of sessions with an orchestrator
            case _ if self._initiation is None:
                expected = "frame: expected conversation_initiation_client_data first, got another"
                self._complain(expected, PROTOCOL)
            case convai.UserMessage(text):
                self._on_message(text)
            case convai.AudioChunk(size):
                self._on_audio(size)
            case convai.Pong(event_id):
                self._on_pong(event_id)
            case convai.Ignored():
                pass
            case _:
                assert_never(frame)

    def _on_message(self, text: str) -> None:
        self._messages += 1
        if self._messages > MAX_MESSAGES:
            reason = f"user_message: expected at most {MAX_MESSAGES} in a conversation, got more"
            return self._end(_Ending(POLICY, reason, POLICY))
        try:
            self._questions.send_nowait(text)
        except anyio.WouldBlock:
            waiting = f"user_message: expected at most {MAX_WAITING_MESSAGES} to wait, got more"
            self._complain(waiting, POLICY)

    def _on_audio(self, size: int) -> None:
        if not self._audio_bytes:
            logger.info(
                "%s: audio comes in; it is counted, but there is no speech recognition: "
                "send user_message",
                self._conversation_id,
            )
        self._audio_bytes += size

    def _on_pong(self, event_id: int) -> None:
        if self._pinged is not None and self._pinged[0] == event_id:
            self._ping_ms = round(1000 * (anyio.current_time() - self._pinged[1]))
            self._pinged = None

    async def _ping_all(self) -> None:
        while True:
            await anyio.sleep(PING_SECONDS)
            event_id = self._next_event_id()
            self._pinged = (event_id, anyio.current_time())
            self._outbox.post(convai.ping(event_id, self._ping_ms))

    async def _expire(self) -> None:
        await anyio.sleep(self._engine.max_duration)
        reason = f"the conversation reached its {self._engine.max_duration} seconds"
        self._end(_Ending(1000, reason, 1000, "max_duration_exceeded"))

    def _next_event_id(self) -> int:
        self._last_event_id += 1
        return self._last_event_id

    # The agent's side.

    async def _call(self, group: TaskGroup, initiation: Initiation) -> None:
        """Call the agent, and ask it what the user says, until the conversation ends."""
        wanted = self._engine.request_headers
        engine = LocalEngine(
            self._engine.ws_url,
            api_key=self._api_key,
            conversation_id=self._conversation_id,
            headers=tuple(filled(wanted, initiation.variables, self._conversation_id)),
            cascade_timeout=self._engine.cascade_timeout,
            max_reply_chars=MAX_REPLY_CHARS,
            heard=self._heard_of,
            on_violation=self._on_violation,
            connect=recorded(self._connect or default_connect(), self._wire, "agent"),
        )
        try:
            async with engine:
                group.start_soon(self._watch, engine)
                await anyio.sleep(SETTLE_SECONDS)
                if initiation.first_message:
                    self._say(engine.greet(initiation.first_message), group, streams=False)
                async for text in self._asked:
                    self._interrupt()
                    self._say(await engine.ask(text), group)
        except ConnectError as error:
            self._fail(f"agent: {error}")
        except ConversationOverError:
            pass  # `_watch` tells why

    async def _watch(self, engine: LocalEngine) -> None:
        """Wait for the end of the call.

        An agent may end it between two replies, in order: what it has said is heard to its end.
        """
        await engine.wait_ended()
        error = engine.reply and engine.reply.error
        if error is not None and not isinstance(error, NoTerminatorError):  # after that it went on
            self._fail(f"agent: {error}")
        elif engine.close_code != 1000:
            self._fail("agent: it ended the call")
        else:
            if self._utterance is not None:
                await self._utterance.wait_heard()
            self._end(_Ending(1000, "the agent ended the call"))

    def _say(self, reply: Reply, group: TaskGroup, *, streams: bool = True) -> None:
        self._utterance = Utterance(
            reply,
            self._next_event_id(),
            self._outbox,
            wants=self._wants,
            voice=self._voice,
            streams=streams,
        )
        group.start_soon(self._run, self._utterance)

    async def _run(self, utterance: Utterance) -> None:
        await utterance.run()
        match utterance.error:
            case None:
                pass
            case NoTerminatorError() as error:
                logger.warning("%s: agent: %s", self._conversation_id, error)
            case EngineError() as error:
                self._fail(f"agent: {error}")

    def _interrupt(self) -> None:
        """Stop what is being heard: the user speaks."""
        utterance = self._utterance
        if utterance is not None and not utterance.is_stopped and not utterance.is_done:
            utterance.interrupt(self._next_event_id())

    def _heard_of(self, reply: Reply) -> str:
        """Tell the history what was heard of a reply."""
        utterance = self._utterance
        return utterance.heard if utterance is not None and utterance.reply is reply else ""

    def _on_violation(self, violation: Violation) -> None:
        self._violations += 1
        if self._violations <= 3:
            logger.warning("%s: agent: %s", self._conversation_id, violation)
        if self._violations == MAX_VIOLATIONS:
            self._fail(f"agent: it broke the protocol {MAX_VIOLATIONS} times")
