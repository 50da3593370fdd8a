"""Traces and metrics of conversations over OpenTelemetry (extra ``otel``).

It needs the API of OpenTelemetry only; where the program sets up no SDK, nothing is recorded. What
was said is in no attribute unless it is asked for.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from contextvars import Token
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from speech_engine_proto import Turn

from ._observer import Observer

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.otel needs opentelemetry-api: "
        "pip install 'speech-engine-proto[otel]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from speech_engine_proto import ConversationMessage, ConversationState

    from .errors import LimitExceeded
    from .session import SpeechEngineSession

__all__ = ["OpenTelemetry"]

_NAME: Final = "speech_engine_transports"

_FIRST_WORD_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10)
"""Where a caller notices the difference: between a third of a second and two."""

_PONG_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class OpenTelemetry(Observer):
    """Records a span for each conversation, one below it for each turn, and metrics.

    Handlers run inside the span of their turn, so the spans of an LLM's SDK nest below it. The
    conversation's span continues the trace of the upgrade request's ``traceparent``, or the span
    that runs where the session is run, such as a framework's.

    Times are those of the event loop's clock; it is read against the wall clock once for each
    conversation, so a clock that is set meanwhile changes no duration.

    Args:
        content: put what the caller said and what was replied into the spans of the turns.
        tracer_provider: where spans go; the global one by default.
        meter_provider: where metrics go; the global one by default.
    """

    def __init__(
        self,
        *,
        content: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._content = content
        release = _release()
        self._tracer = trace.get_tracer(_NAME, release, tracer_provider)
        self._meters = _Meters(metrics.get_meter(_NAME, release, meter_provider))
        self._conversations: dict[SpeechEngineSession, _Conversation] = {}

    def conversation_started(self, session: SpeechEngineSession) -> None:
        """Start the span of the conversation, below the one that the request names."""
        clock = _Clock()
        parent = context.get_current()
        is_local = trace.get_current_span(parent).get_span_context().is_valid
        if not is_local:
            parent = propagate.extract(session.request.headers, context=parent)
        attributes = {"network.protocol.name": "websocket", "url.path": session.request.path}
        if session.request.peer is not None:
            attributes["network.peer.address"] = session.request.peer
        span = self._tracer.start_span(
            "speech_engine.conversation",
            parent,
            kind=SpanKind.INTERNAL if is_local else SpanKind.SERVER,
            attributes=attributes,
            start_time=clock.nanoseconds(clock.now()),
        )
        below = trace.set_span_in_context(span, parent)
        self._conversations[session] = _Conversation(clock, span, below, context.attach(below))
        self._meters.active.add(1)

    def conversation_ended(self, session: SpeechEngineSession, state: ConversationState) -> None:
        """End the span of the conversation, and that of its last turn."""
        conversation = self._conversations.pop(session)
        context.detach(conversation.token)
        conversation.release(None)
        span = conversation.span
        span.set_attribute("speech_engine.conversation.end", state.value)
        span.set_attribute("speech_engine.conversation.turns", conversation.count)
        if session.conversation_id is not None:
            span.set_attribute("gen_ai.conversation.id", session.conversation_id)
        span.end(conversation.clock.nanoseconds(conversation.clock.now()))
        self._meters.active.add(-1)

    def turn_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        """Start the span of a turn, and end the one before: it is known what of that was heard."""
        conversation = self._conversations[session]
        before = conversation.release(turn)
        clock = conversation.clock
        now = clock.now()
        links: list[Link] = []
        if before is not None and before.interrupted_by is turn:
            links.append(Link(before.span.get_span_context(), {"speech_engine.link": "interrupts"}))
        span = self._tracer.start_span(
            "speech_engine.turn",
            conversation.below,
            links=links,
            start_time=clock.nanoseconds(now),
        )
        conversation.count += 1
        conversation.turns[turn] = _TurnSpan(span, now)
        self._meters.turns.add(1)

    def handler_started(self, session: SpeechEngineSession, turn: Turn) -> None:
        """Make the turn's span the current one in the task of its handlers."""
        open_turn = self._conversations[session].turns.get(turn)
        if open_turn is not None:
            context.attach(trace.set_span_in_context(open_turn.span))

    def first_word(self, session: SpeechEngineSession, turn: Turn) -> None:
        """Record how long the caller has waited for the reply."""
        conversation = self._conversations[session]
        open_turn = conversation.turns[turn]
        seconds = conversation.clock.now() - open_turn.started
        open_turn.span.set_attribute("speech_engine.turn.time_to_first_word", seconds)
        self._meters.first_word.record(seconds)

    def turn_finished(self, session: SpeechEngineSession, turn: Turn) -> None:
        """Complete the span of a turn that was answered."""
        self._end(session, turn, None)

    def turn_interrupted(self, session: SpeechEngineSession, turn: Turn, by: Turn | None) -> None:
        """Complete the span of a turn that was cut, and count a barge-in as one."""
        self._end(session, turn, by)
        if by is not None:
            self._meters.interruptions.add(1)

    def error(self, session: SpeechEngineSession, error: Exception, turn: Turn | None) -> None:
        """Count an error by its class, and mark the span it belongs to; never its message."""
        self._fail(session, error, turn, {"error.type": type(error).__name__})

    def limit_exceeded(
        self, session: SpeechEngineSession | None, error: LimitExceeded, turn: Turn | None
    ) -> None:
        """Count a bound that was passed as an error with the name of the limit."""
        found = {"error.type": type(error).__name__, "speech_engine.limit": error.limit}
        self._fail(session, error, turn, found)

    def ping_received(self, session: SpeechEngineSession) -> None:
        """Note when a ping came."""
        conversation = self._conversations[session]
        conversation.pings.append(conversation.clock.now())

    def pong_sent(self, session: SpeechEngineSession) -> None:
        """Record how long the ping that waited longest had to."""
        conversation = self._conversations.get(session)
        if conversation is not None:  # a write may outlast the conversation
            delay = conversation.clock.now() - conversation.pings.popleft()
            self._meters.pong_delay.record(delay)

    def _end(self, session: SpeechEngineSession, turn: Turn, by: Turn | None) -> None:
        conversation = self._conversations[session]
        open_turn = conversation.turns.pop(turn)
        text = turn.text_sent
        attributes: dict[str, str | int | bool] = {
            "speech_engine.turn.interrupted": turn.interrupted,
            "speech_engine.turn.attempt": turn.attempt,
            "speech_engine.turn.resent": turn.attempt > 1,
            "speech_engine.turn.pieces": turn.pieces_sent,
            "speech_engine.turn.characters_sent": len(text),
        }
        if turn.event_id is not None:
            attributes["speech_engine.turn.event_id"] = turn.event_id
        if session.conversation_id is not None:
            attributes["gen_ai.conversation.id"] = session.conversation_id
        if self._content:
            attributes |= _content(turn, text)
        open_turn.span.set_attributes(attributes)
        open_turn.interrupted_by = by
        open_turn.characters_sent = len(text)
        open_turn.ended = conversation.clock.nanoseconds(conversation.clock.now())
        conversation.last = open_turn

    def _fail(
        self,
        session: SpeechEngineSession | None,
        error: Exception,
        turn: Turn | None,
        attributes: dict[str, str],
    ) -> None:
        self._meters.errors.add(1, attributes)
        conversation = None if session is None else self._conversations.get(session)
        if conversation is None:  # there is no call yet, or on_error outlasts it
            return
        open_turn = None if turn is None else conversation.turns.get(turn)
        span = conversation.span if open_turn is None else open_turn.span
        span.set_attributes(attributes)
        span.set_status(Status(StatusCode.ERROR))


class _Meters:
    """The instruments; what each counts stands in its description."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.active = meter.create_up_down_counter(
            "speech_engine.active_sessions", "{session}", "Sessions that run"
        )
        self.turns = meter.create_counter("speech_engine.turns", "{turn}", "Turns that began")
        self.interruptions = meter.create_counter(
            "speech_engine.interruptions", "{interruption}", "Turns that the next one cut off"
        )
        self.errors = meter.create_counter(
            "speech_engine.errors", "{error}", "Errors, by error.type and speech_engine.limit"
        )
        self.first_word = meter.create_histogram(
            "speech_engine.time_to_first_word",
            "s",
            "From a transcript to the first piece of its reply",
            explicit_bucket_boundaries_advisory=_FIRST_WORD_SECONDS,
        )
        self.pong_delay = meter.create_histogram(
            "speech_engine.pong_delay",
            "s",
            "From a ping to its pong",
            explicit_bucket_boundaries_advisory=_PONG_SECONDS,
        )


class _Clock:
    """The clock of the running event loop, and what it shows in wall time."""

    def __init__(self) -> None:
        self.now = _loop_time()
        self._offset = time.time_ns() - round(self.now() * 1e9)

    def nanoseconds(self, now: float) -> int:
        """Return a time of the loop in nanoseconds since the epoch."""
        return self._offset + round(now * 1e9)


def _loop_time() -> Callable[[], float]:
    """Return what tells the time, also in a callback of asyncio, where no task runs."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return anyio.current_time if task is None else task.get_loop().time


@attrs.define(eq=False)
class _TurnSpan:
    """A turn's span, and what must be kept until it is ended."""

    span: Span
    started: float
    ended: int = 0
    characters_sent: int = 0
    interrupted_by: Turn | None = None


@attrs.define(eq=False)
class _Conversation:
    """What is kept of one conversation while it runs."""

    clock: _Clock
    span: Span
    below: Context
    token: Token[Context]
    turns: dict[Turn, _TurnSpan] = attrs.field(factory=dict[Turn, _TurnSpan])
    pings: deque[float] = attrs.field(factory=deque[float])
    count: int = 0
    last: _TurnSpan | None = None
    """The turn that is over, and whose span is not: only the next transcript tells what of it was
    heard. The span gets the time at which the turn was over."""

    def release(self, following: Turn | None) -> _TurnSpan | None:
        """End the span of the turn before this one, now that all is known of it."""
        last, self.last = self.last, None
        if last is not None:
            heard = None if following is None else following.heard
            if heard is not None and last.characters_sent:
                name = "speech_engine.turn.characters_heard"
                last.span.set_attribute(name, len(heard.heard))
            last.span.end(last.ended)
        return last


def _release() -> str:
    """Return the version of this package; "" where its code was copied, not installed."""
    try:
        return version("speech-engine-proto")
    except PackageNotFoundError:
        return ""


def _content(turn: Turn, text: str) -> dict[str, str]:
    """Return what the caller said since the agent's last words, and the reply."""
    newest: list[ConversationMessage] = []
    for message in reversed(turn.transcript):
        if message.role == "agent":
            break
        newest.insert(0, message)
    reason = "interrupted" if turn.interrupted else "stop"
    reply = {"role": "assistant", "parts": [_text(text)], "finish_reason": reason}
    return {
        "gen_ai.input.messages": _json(
            {"role": message.role, "parts": [_text(message.content)]} for message in newest
        ),
        "gen_ai.output.messages": _json([reply] if text else []),
    }


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def _json(messages: Iterable[dict[str, Any]]) -> str:
    text = json.dumps(list(messages), ensure_ascii=False)
    return text.encode(errors="replace").decode()  # a lone surrogate would break the whole export
