"""Everything that `send_response` takes: read piece by piece, closed in the task that reads."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from speech_engine_proto.llm import ReplyStreamError
from speech_engine_transports import SpeechEngineSession

from .peer import Call, Peer, cut, said

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from speech_engine_proto import ConversationMessage

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession


async def one_turn(response: Callable[[], Any], **options: Any) -> tuple[Call, list[Exception]]:
    """Answer one transcript with a response; return the call and the errors."""
    async with Call(on_transcript=lambda t, s: s.send_response(response()), **options) as call:
        await call.says("hi", id=1)
        errors = call.take_errors()
    return call, errors


async def words(*pieces: Any) -> AsyncGenerator[Any]:
    for piece in pieces:
        yield piece


class Stream:
    """An LLM's stream: it is iterated, and must be closed."""

    def __init__(self, *pieces: Any, close: str = "aclose") -> None:
        self.pieces = pieces
        self.closed = 0
        setattr(self, close, self._close)

    def __aiter__(self) -> AsyncGenerator[Any]:
        return words(*self.pieces)

    async def _close(self) -> None:
        self.closed += 1


async def coroutine(result: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return result


class Manager:
    """An async context manager, such as the stream helper of Anthropic's SDK."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.exits: list[type[BaseException] | None] = []

    async def __aenter__(self) -> Any:
        return self.inner

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.exits.append(kind)


def openai(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text}


@pytest.mark.parametrize(
    "response",
    [
        lambda: words("a ", "b"),
        lambda: Stream("a ", "b"),
        lambda: words(openai("a "), {"type": "response.created"}, openai(""), openai("b")),
        lambda: ["a ", "", "b"],
        lambda: ("a ", openai("b")),
        lambda: coroutine(words("a ", "b")),
        lambda: coroutine(coroutine(["a ", "b"])),
        lambda: Manager(words("a ", "b")),
        lambda: coroutine(Manager(Stream("a ", "b"))),
        lambda: Manager(["a ", "b"]),
    ],
)
async def test_each_kind_of_response_is_read_in_order(response: Callable[[], Any]) -> None:
    call, errors = await one_turn(response)
    assert call.replies == said(1, "a ", "b")
    assert errors == []


@pytest.mark.parametrize("response", [lambda: "text", lambda: coroutine("text")])
async def test_a_text_is_one_piece_as_it_stands(response: Callable[[], Any]) -> None:
    call, _ = await one_turn(response)
    assert call.replies == said(1, "text")


async def test_lone_surrogates_do_not_break_the_socket() -> None:
    call, _ = await one_turn(lambda: "a\ud83d b")
    assert call.replies == said(1, "a\ufffd b")


@pytest.mark.parametrize(
    "response", [17, None, b"bytes", bytearray(b"x"), memoryview(b"x"), {"content": "x"}]
)
async def test_what_cannot_be_read_is_a_type_error_that_names_it(response: Any) -> None:
    call, [error] = await one_turn(lambda: response, fallback="Sorry.")
    assert isinstance(error, TypeError)
    assert "response: expected str" in str(error)
    assert str(error).endswith(f"got {type(response).__name__}")
    assert call.replies == said(1, "Sorry.")


@pytest.mark.parametrize("close", ["aclose", "close"])
async def test_a_stream_is_closed_after_its_last_piece(close: str) -> None:
    stream = Stream("a", close=close)
    await one_turn(lambda: stream)
    assert stream.closed == 1


async def test_a_stream_may_be_closed_by_a_plain_function() -> None:
    closed: list[bool] = []

    class Plain:
        def __aiter__(self) -> AsyncGenerator[str]:
            return words("a")

        def close(self) -> None:
            closed.append(True)

    call, _ = await one_turn(Plain)
    assert closed == [True]
    assert call.replies == said(1, "a")


async def test_a_stream_is_closed_when_it_fails() -> None:
    stream = Stream("a", {"type": "error", "error": {"message": "overloaded"}})
    call, [error] = await one_turn(lambda: stream)
    assert isinstance(error, ReplyStreamError)
    assert stream.closed == 1
    assert call.replies == said(1, "a")


async def test_a_stream_that_cannot_be_closed_is_logged_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad(Stream):
        async def _close(self) -> None:
            raise OSError("while saying xyzzy")

    call, errors = await one_turn(lambda: Bad("xyzzy"))
    assert call.replies == said(1, "xyzzy")
    assert errors == []
    assert "closing Bad failed: OSError" in caplog.text
    assert "xyzzy" not in caplog.text


async def test_a_stream_that_does_not_close_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Endless(Stream):
        async def _close(self) -> None:
            await anyio.sleep_forever()

    async with Call(on_transcript=lambda t, s: s.send_response(Endless("a"))) as call:
        await call.says("hi", id=1)
        assert call.replies == cut(1, "a")
        await anyio.sleep(6)
        assert call.replies == said(1, "a")
    assert "closing Endless took over 5 s" in caplog.text


# --- async context managers


async def test_a_manager_is_left_in_order() -> None:
    manager = Manager(words("a"))
    await one_turn(lambda: manager)
    assert manager.exits == [None]


async def test_a_manager_is_left_with_the_error_of_its_stream() -> None:
    manager = Manager(words({"type": "error", "error": {"message": "overloaded"}}))
    _, [error] = await one_turn(lambda: manager)
    assert manager.exits == [type(error)]


async def test_a_manager_is_left_when_the_turn_is_interrupted() -> None:
    async def slow() -> AsyncGenerator[str]:
        yield "a"
        await anyio.sleep_forever()

    manager = Manager(slow())

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        await s.send_response(manager if len(t) == 1 else "b")

    async with Call(on_transcript=answer) as call:
        await call.says("1", id=1)
        await call.says("1", "", "2", id=2)
        assert len(manager.exits) == 1
        assert manager.exits[0] is not None
        assert not issubclass(manager.exits[0], Exception)
        assert call.replies == cut(1, "a") + said(2, "b")


async def test_the_standard_librarys_managers_work() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncGenerator[AsyncGenerator[str]]:
        seen.append("opened")
        try:
            yield words("a")
        finally:
            seen.append("closed")

    call, _ = await one_turn(opened)
    assert call.replies == said(1, "a")
    assert seen == ["opened", "closed"]


async def test_an_awaitable_is_cancelled_with_its_turn() -> None:
    seen: list[str] = []

    async def slow() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")
        return "never"

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        await s.send_response(slow() if len(t) == 1 else "b")

    async with Call(on_transcript=answer) as call:
        await call.says("1", id=1)
        await call.says("1", "", "2", id=2)
        assert seen == ["cancelled"]
        assert call.replies == said(2, "b")


# --- extract


async def test_extract_reads_chunks_of_your_own() -> None:
    call, _ = await one_turn(
        lambda: words({"say": "a "}, {"think": "hm"}, {"say": "b"}),
        extract=lambda chunk: chunk.get("say"),
    )
    assert call.replies == said(1, "a ", "b")


async def test_an_extract_that_raises_is_an_error_of_the_handler() -> None:
    def extract(chunk: Any) -> str:
        raise KeyError("say")

    call, [error] = await one_turn(lambda: words("a"), extract=extract)
    assert isinstance(error, KeyError)
    assert call.replies == said(1)


# --- pieces are written as they come


async def test_pieces_are_not_held_back() -> None:
    async def slow() -> AsyncGenerator[str]:
        for piece in "abc":
            yield piece
            await anyio.sleep(1)

    async with Call(on_transcript=lambda t, s: s.send_response(slow())) as call:
        await call.says("hi", id=1)
        seen = [len(call.replies)]
        for _ in range(3):
            await anyio.sleep(1.1)
            seen.append(len(call.replies))
        assert seen == [1, 2, 3, 4]


async def test_a_list_is_not_read_ahead_of_an_interruption() -> None:
    """Many pieces at hand, and a peer that reads slowly: it can still interrupt."""

    class Slow(Peer):
        async def send(self, frame: str) -> None:
            await anyio.sleep(1)
            await super().send(frame)

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        await s.send_response(["a"] * 1000 if len(t) == 1 else "b")

    async with Call(on_transcript=answer, peer=Slow()) as call:
        await call.says("1", id=1)
        await anyio.sleep(2.5)
        await call.says("1", "a a", "2", id=2)
        await anyio.sleep(5)
        assert call.replies == cut(1, "a", "a") + said(2, "b")
