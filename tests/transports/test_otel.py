"""Spans and metrics, read from the SDK's own exporters in memory; durations in virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from speech_engine_transports import Limits, Request, SpeechEngineServer, SpeechEngineSession
from speech_engine_transports._socket import Headers
from speech_engine_transports.otel import OpenTelemetry

from .clock import ASYNCIO, settle, virtual
from .peer import CLOSE, PING, Call, Peer, init, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.util.types import AttributeValue

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession

SECOND = 1_000_000_000


class Backend:
    """Where spans and metrics end up."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.traces = TracerProvider(shutdown_on_exit=False)
        self.traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def observer(self, *, content: bool = False) -> OpenTelemetry:
        return OpenTelemetry(
            content=content, tracer_provider=self.traces, meter_provider=self.meters
        )

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    @property
    def turns(self) -> list[ReadableSpan]:
        return self.spans("speech_engine.turn")

    @property
    def conversation(self) -> ReadableSpan:
        [span] = self.spans("speech_engine.conversation")
        return span

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"speech_engine.{name}"
            for point in metric.data.data_points
        ]

    def count(self, name: str) -> int:
        return sum(point.value for point in self.points(name))


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.traces.shutdown()
    made.meters.shutdown()


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / SECOND


def after(span: ReadableSpan, other: ReadableSpan) -> float:
    """How many seconds a span starts after another one."""
    assert span.start_time is not None
    assert other.start_time is not None
    return (span.start_time - other.start_time) / SECOND


def of(span: ReadableSpan, name: str) -> AttributeValue | None:
    assert span.attributes is not None
    return span.attributes.get(f"speech_engine.{name}")


def is_below(span: ReadableSpan, parent: ReadableSpan) -> bool:
    context = parent.get_span_context()
    return (
        span.parent is not None
        and context is not None
        and (span.parent.trace_id, span.parent.span_id) == (context.trace_id, context.span_id)
    )


async def in_pieces(transcript: Any, session: Session) -> None:
    """Say the first word after 0.75 s, the second 1.5 s later."""
    await anyio.sleep(0.75)
    await session.send_response("Well, ", final=False)
    await anyio.sleep(1.5)
    await session.send_response("yes.")


# --- spans


async def test_a_turn_is_a_span_below_its_conversation(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await anyio.sleep(0.5)
        await call.gets(init("conv_7"))
        await call.says("hi", id=3)
        await anyio.sleep(4)
        await call.gets(CLOSE)
        await call.ended.wait()
    [turn] = backend.turns
    assert seconds(turn) == 2.25
    assert is_below(turn, backend.conversation)
    assert turn.attributes == {
        "gen_ai.conversation.id": "conv_7",
        "speech_engine.turn.event_id": 3,
        "speech_engine.turn.attempt": 1,
        "speech_engine.turn.resent": False,
        "speech_engine.turn.interrupted": False,
        "speech_engine.turn.time_to_first_word": 0.75,
        "speech_engine.turn.pieces": 2,
        "speech_engine.turn.characters_sent": 10,
    }
    assert turn.kind is SpanKind.INTERNAL
    assert turn.status.status_code is StatusCode.UNSET
    conversation = backend.conversation
    assert (seconds(conversation), after(turn, conversation)) == (4.5, 0.5)
    assert conversation.kind is SpanKind.SERVER
    assert conversation.parent is None
    assert conversation.attributes == {
        "gen_ai.conversation.id": "conv_7",
        "network.protocol.name": "websocket",
        "url.path": "/ws",
        "speech_engine.conversation.end": "ended",
        "speech_engine.conversation.turns": 1,
    }


async def test_an_interrupted_turn_and_what_was_heard_of_it(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(1)
        assert backend.turns == []
        await call.says("hi", "Well", "stop", id=2)
        [first] = backend.turns
        await anyio.sleep(8)
        await call.says("hi", "Well", "stop", "Well, yes.", "fine", id=3)
        await anyio.sleep(0.5)
    first, second, third = backend.turns
    assert [of(turn, "turn.interrupted") for turn in backend.turns] == [True, False, True]
    assert [of(turn, "turn.characters_sent") for turn in backend.turns] == [6, 10, 0]
    assert [of(turn, "turn.characters_heard") for turn in backend.turns] == [4, 10, None]
    assert [of(turn, "turn.pieces") for turn in backend.turns] == [1, 2, 0]
    assert [of(turn, "turn.time_to_first_word") for turn in backend.turns] == [0.75, 0.75, None]
    # The end is that of the turn, not the moment at which was known what was heard.
    assert [seconds(turn) for turn in backend.turns] == [1, 2.25, 0.5]
    [link] = second.links
    assert link.context == first.get_span_context()
    assert link.attributes == {"speech_engine.link": "interrupts"}
    assert not first.links
    assert not third.links


async def test_a_turn_that_said_nothing_has_no_characters_heard(backend: Backend) -> None:
    async def first_only(transcript: Any, session: Session) -> None:
        await session.send_response("one" if len(transcript) == 1 else [])

    async with Call(on_transcript=first_only, observer=backend.observer()) as call:
        await call.says("a", id=1)
        await call.says("a", "one", "b", id=2)
        await call.says("a", "one", "b", id=2)
    assert [of(turn, "turn.characters_heard") for turn in backend.turns] == [3, None, None]
    assert [of(turn, "turn.attempt") for turn in backend.turns] == [1, 1, 2]


async def test_a_turn_that_is_asked_again_is_one_span(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(0.25)
        await call.says("hi", id=2)
        await anyio.sleep(4)
    [turn] = backend.turns
    assert (of(turn, "turn.resent"), of(turn, "turn.attempt")) == (True, 2)
    assert of(turn, "turn.event_id") == 2
    assert (seconds(turn), of(turn, "turn.time_to_first_word")) == (2.25, 0.75)


async def test_a_turn_without_an_id(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi")
        await anyio.sleep(4)
    [turn] = backend.turns
    assert of(turn, "turn.event_id") is None
    assert of(turn, "turn.pieces") == 2


async def test_spans_of_the_handler_are_below_its_turn(backend: Backend) -> None:
    tracer = backend.traces.get_tracer("llm")

    def mark(name: str) -> None:
        with tracer.start_as_current_span(name):
            pass

    async def in_background() -> None:
        mark("in a task of its own")

    async def answer(transcript: Any, session: Session) -> None:
        with tracer.start_as_current_span("llm"):
            await anyio.sleep(1)
        async with anyio.create_task_group() as group:
            group.start_soon(in_background)
        raise ValueError("secret")

    async with Call(
        on_init=lambda id, s: mark("init"),
        on_transcript=answer,
        on_error=lambda e, s: mark("error"),
        on_close=lambda s: mark("close"),
        listen=False,
        observer=backend.observer(),
    ) as call:
        await call.gets(init())
        await call.says("hi", id=1)
        await call.says("hi", "", "again", id=2)
        await anyio.sleep(2)
        await call.gets(CLOSE)
        await call.ended.wait()
    first, second = backend.turns
    cut_off, whole = backend.spans("llm")
    assert is_below(cut_off, first)
    assert is_below(whole, second)
    assert is_below(backend.spans("in a task of its own")[0], second)
    assert is_below(backend.spans("error")[0], second)
    assert is_below(backend.spans("init")[0], backend.conversation)
    assert is_below(backend.spans("close")[0], backend.conversation)
    assert not trace.get_current_span().get_span_context().is_valid


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_the_trace_of_the_upgrade_request_goes_on(backend: Backend) -> None:
    peer = Peer()
    headers = Headers([("Traceparent", f"00-{TRACE}-{SPAN}-01")])
    peer.request = Request("/agents/1", "key=secret", headers, "10.0.0.7")
    async with Call(on_transcript=in_pieces, observer=backend.observer(), peer=peer) as call:
        await call.says("hi", id=1)
    span = backend.conversation
    assert span.parent is not None
    assert span.parent.is_remote
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.attributes is not None
    assert span.attributes["url.path"] == "/agents/1"
    assert span.attributes["network.peer.address"] == "10.0.0.7"
    assert is_below(backend.turns[0], span)
    assert "secret" not in span.to_json()


async def test_the_span_of_a_framework_is_the_parent_rather(backend: Backend) -> None:
    peer = Peer()
    peer.request = Request("/ws", "", Headers([("traceparent", f"00-{TRACE}-{SPAN}-01")]))
    tracer = backend.traces.get_tracer("framework")
    with tracer.start_as_current_span("GET /ws"):
        async with Call(on_transcript=in_pieces, observer=backend.observer(), peer=peer) as call:
            await call.says("hi", id=1)
    [request] = backend.spans("GET /ws")
    assert is_below(backend.conversation, request)
    assert backend.conversation.kind is SpanKind.INTERNAL


@pytest.mark.parametrize(("how", "end"), [("vanish", "lost"), ("leave", "closed")])
async def test_how_a_conversation_ended(backend: Backend, how: str, end: str) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(1)
        call.peer.vanish() if how == "vanish" else call.session.close()
        await call.ended.wait()
    assert of(backend.conversation, "conversation.end") == end
    assert seconds(backend.conversation) == seconds(backend.turns[0]) == 1
    assert "gen_ai.conversation.id" not in (backend.conversation.attributes or {})
    assert backend.count("interruptions") == 0  # nobody barged in


async def test_a_handler_that_cleans_up_long_is_in_the_conversation_and_not_in_the_turn(
    backend: Backend,
) -> None:
    async def thorough(transcript: Any, session: Session) -> None:
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)

    async with Call(on_transcript=thorough, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(1)
        call.peer.vanish()
        await call.ended.wait()
    assert (seconds(backend.turns[0]), seconds(backend.conversation)) == (1, 3)


# --- errors


async def fail(transcript: Any, session: Session) -> None:
    raise ValueError("secret")


async def test_an_error_is_its_kind_and_never_its_message(backend: Backend) -> None:
    async with Call(on_transcript=fail, observer=backend.observer()) as call:
        await call.says("secret", id=1)
        await call.gets('{"type":"error","message":"secret"}', '{"type":"secret","a":"secret"}')
        assert len(call.take_errors()) == 2
    [turn] = backend.turns
    for span, kind in ((turn, "ValueError"), (backend.conversation, "ServiceError")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert not span.events
        assert (span.attributes or {})["error.type"] == kind
        assert "secret" not in span.to_json()
    kinds = {point.attributes["error.type"]: point.value for point in backend.points("errors")}
    assert kinds == {"ValueError": 1, "ServiceError": 1}


async def test_an_error_after_the_turn_belongs_to_the_conversation(backend: Backend) -> None:
    async def late(transcript: Any, session: Session) -> None:
        await session.send_response("yes")
        raise ValueError("secret")

    async with Call(on_transcript=late, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        call.take_errors()
    assert backend.turns[0].status.status_code is StatusCode.UNSET
    assert backend.conversation.status.status_code is StatusCode.ERROR


async def test_an_error_after_the_conversation_is_only_counted(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """``on_error`` may work longer than anything else, and fail then."""

    async def slow(error: Exception, session: Session) -> None:
        try:
            await anyio.sleep(2)
        finally:
            raise KeyError("secret")

    async with Call(
        on_transcript=fail, on_error=slow, listen=False, observer=backend.observer()
    ) as call:
        await call.says("hi", id=1)
        await call.gets(CLOSE)
        await call.ended.wait()
    assert backend.count("errors") == 2
    assert "the observer failed" not in caplog.text


async def test_a_limit_is_an_error_with_its_name(backend: Backend) -> None:
    limits = Limits(handler_timeout=2, idle_timeout=30)
    async with Call(
        on_transcript=lambda t, s: anyio.sleep(60),
        observer=backend.observer(),
        limits=limits,
        fallback="Sorry.",
    ) as call:
        await call.says("hi", id=1)
        await call.ended.wait()
        assert len(call.take_errors()) == 2
    [turn] = backend.turns
    assert seconds(turn) == 2
    assert of(turn, "limit") == "handler_timeout"
    assert of(backend.conversation, "limit") == "idle_timeout"
    points = {p.attributes["speech_engine.limit"]: p for p in backend.points("errors")}
    assert set(points) == {"handler_timeout", "idle_timeout"}
    assert points["idle_timeout"].attributes["error.type"] == "LimitExceeded"


def test_a_refused_upgrade_is_an_error_without_a_span(backend: Backend) -> None:
    SpeechEngineServer(observer=backend.observer()).exceed("max_sessions")
    [point] = backend.points("errors")
    assert point.attributes["speech_engine.limit"] == "max_sessions"


# --- content


async def test_no_words_are_in_any_attribute(backend: Backend) -> None:
    async def repeat(transcript: Any, session: Session) -> None:
        await session.send_response(f"you said {transcript[-1].content}")

    async with Call(on_transcript=repeat, observer=backend.observer()) as call:
        await call.gets(init())
        await call.says("secret", id=1)
        await call.says("secret", "you said secret", "secret again", id=2)
    for span in (*backend.turns, backend.conversation):
        assert "secret" not in span.to_json()
    assert len(backend.turns) == 2


async def test_words_where_they_are_asked_for(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer(content=True)) as call:
        await call.says("hi", id=1)
        await anyio.sleep(4)
        await call.says("hi", "Well, yes.", "é \ud83d", id=2)
        await anyio.sleep(1)
        await call.says("hi", "Well, yes.", "é", "Well, ", "", id=3)
    said_by_caller, replied = (
        [
            json.loads(str((turn.attributes or {})[f"gen_ai.{which}.messages"]))
            for turn in backend.turns
        ]
        for which in ("input", "output")
    )
    assert [[m["parts"][0]["content"] for m in turn] for turn in said_by_caller] == [
        ["hi"],
        ["é \ufffd"],
        [""],
    ]
    assert {message["role"] for turn in said_by_caller for message in turn} == {"user"}
    assert [[(m["parts"][0]["content"], m["finish_reason"]) for m in turn] for turn in replied] == [
        [("Well, yes.", "stop")],
        [("Well, ", "interrupted")],
        [],
    ]


async def test_a_lone_surrogate_in_a_reply_breaks_no_export(backend: Backend) -> None:
    async with Call(
        on_transcript=lambda t, s: s.send_response("a\ud83d"),
        observer=backend.observer(content=True),
    ) as call:
        await call.says("hi", id=1)
    reply = str((backend.turns[0].attributes or {})["gen_ai.output.messages"])
    assert json.loads(reply)[0]["parts"][0]["content"] == "a?"


# --- metrics


async def test_sessions_are_active_while_they_run(backend: Backend) -> None:
    observer = backend.observer()
    async with Call(on_transcript=in_pieces, observer=observer) as one:
        async with Call(on_transcript=in_pieces, observer=observer):
            assert backend.count("active_sessions") == 2
        assert backend.count("active_sessions") == 1
        await one.says("hi", id=1)
    assert backend.count("active_sessions") == 0
    assert len(backend.spans("speech_engine.conversation")) == 2


async def test_turns_interruptions_and_first_words(backend: Backend) -> None:
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        await anyio.sleep(1)
        await call.says("hi", "Well, ", "stop", id=2)
        await anyio.sleep(4)
        await call.says("hi", "Well, ", "stop", "Well, yes.", "oh", id=3)
    assert backend.count("turns") == 3
    assert backend.count("interruptions") == 1
    [first_words] = backend.points("time_to_first_word")
    assert (first_words.count, first_words.sum) == (2, 1.5)
    assert first_words.explicit_bounds[3] == 0.3
    assert first_words.bucket_counts[first_words.explicit_bounds.index(0.8)] == 2


async def test_the_delay_of_pongs(backend: Backend) -> None:
    peer = Peer(stalled=True)
    async with Call(on_transcript=in_pieces, observer=backend.observer(), peer=peer) as call:
        await call.gets(PING)
        await anyio.sleep(1)
        await call.gets(PING)
        await anyio.sleep(1)
        peer.read_again()
        await settle()
        await call.gets(PING)
    [pongs] = backend.points("pong_delay")
    assert (pongs.count, pongs.sum, pongs.max, pongs.min) == (3, 3, 2, 0)


async def test_a_conversation_leaves_nothing_behind(backend: Backend) -> None:
    observer = backend.observer()
    for _ in range(2):
        async with Call(on_transcript=in_pieces, observer=observer) as call:
            await call.gets(init(), PING)
            await call.says("hi", id=1)
            await anyio.sleep(1)
            await call.says("hi", "Well, ", "stop", id=2)
    assert observer._conversations == {}


@pytest.mark.parametrize("anyio_backend", [virtual(name) for name in ASYNCIO], ids=ASYNCIO)
async def test_a_callback_of_the_loop_may_hang_up(
    backend: Backend, caplog: pytest.LogCaptureFixture, anyio_backend: Any
) -> None:
    """No task runs there, so anyio does not know which loop does."""
    async with Call(on_transcript=in_pieces, observer=backend.observer()) as call:
        await call.says("hi", id=1)
        asyncio.get_running_loop().call_later(0.5, call.session.close)
        await call.ended.wait()
    assert seconds(backend.turns[0]) == 0.5
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_without_an_sdk_nothing_is_recorded_and_all_goes_on() -> None:
    async with Call(on_transcript=in_pieces, observer=OpenTelemetry()) as call:
        await call.gets(init(), PING)
        await call.says("hi", id=1)
        await anyio.sleep(4)
        assert call.replies == said(1, "Well, ", "yes.")


async def test_a_copy_of_the_code_that_is_not_installed_has_no_version(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("speech_engine_transports.otel.version", missing)
    async with Call(on_transcript=in_pieces, observer=backend.observer()):
        pass
    scope = backend.conversation.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("speech_engine_transports", "")
