"""Blocking iterables are read in a worker thread, which an interruption leaves behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from speech_engine_proto.llm import ReplyStreamError
from speech_engine_transports import SpeechEngineSession

from .clock import ASYNCIO, BACKENDS, real
from .peer import Peer, Reply, cut, said, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from speech_engine_proto import ConversationMessage, Turn

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession
Colour = contextvars.ContextVar("Colour", default="none")


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Threads know nothing of virtual time."""
    return real(request.param)


class Line(Peer):
    """A peer that can be waited for."""

    async def until(self, condition: Callable[[Line], bool]) -> None:
        while not condition(self):
            await self._changed.wait()

    async def send(self, frame: str) -> None:
        await super().send(frame)
        self._notify()


async def converse(
    script: Callable[[Line], Any], handler: Callable[[list[ConversationMessage], Session], Any]
) -> tuple[list[Reply], list[Exception]]:
    """Run a session while ``script`` plays the service."""
    peer, errors = Line(), list[Exception]()
    session = Session(peer)
    session.on("user_transcript", lambda t: handler(t, session)).on("error", errors.append)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await script(peer)
        peer.vanish()
    return peer.replies, errors


async def ask(peer: Line) -> None:
    peer.say(transcript("hi", id=1))
    await peer.until(lambda p: bool(p.replies and p.replies[-1][2]))


async def test_a_generator_is_read_in_one_thread_with_the_handlers_context() -> None:
    threads: set[threading.Thread] = set()
    colours: list[str] = []

    def words() -> Iterator[Any]:
        try:
            for piece in ("a ", "", {"type": "response.output_text.delta", "delta": "b"}):
                threads.add(threading.current_thread())
                colours.append(Colour.get())
                Colour.set("green")
                yield piece
        finally:
            threads.add(threading.current_thread())

    async def answer(t: object, s: Session) -> None:
        Colour.set("blue")
        await s.send_response(words())
        assert Colour.get() == "blue"

    replies, errors = await converse(ask, answer)
    assert (replies, errors) == (said(1, "a ", "b"), [])
    assert len(threads) == 1
    assert threads != {threading.main_thread()}
    assert colours == ["blue", "green", "green"]


async def test_an_iterator_that_cannot_be_closed_is_read_as_well() -> None:
    replies, errors = await converse(ask, lambda t, s: s.send_response(iter(["a", "b"])))
    assert (replies, errors) == (said(1, "a", "b"), [])


async def test_an_error_in_the_thread_surfaces_and_the_iterator_is_closed() -> None:
    closed: list[str] = []

    class Stream:
        def __iter__(self) -> Iterator[Any]:
            yield "Well, "
            yield {"type": "error", "error": {"message": "overloaded"}}

        def close(self) -> None:
            closed.append(threading.current_thread().name)

    replies, [error] = await converse(ask, lambda t, s: s.send_response(Stream()))
    assert isinstance(error, ReplyStreamError)
    assert replies == said(1, "Well, ")
    assert len(closed) == 1


async def test_an_iterable_that_cannot_be_iterated_is_the_handlers_error() -> None:
    class Broken:
        def __iter__(self) -> Iterator[str]:
            raise OSError("no connection")

    replies, [error] = await converse(ask, lambda t, s: s.send_response(Broken()))
    assert str(error) == "no connection"
    assert replies == said(1)


async def test_an_interruption_does_not_wait_for_a_next_that_blocks() -> None:
    blocked, release, closed = threading.Event(), threading.Event(), threading.Event()
    closed_in: list[str] = []
    read_in: list[str] = []

    def words() -> Iterator[str]:
        try:
            read_in.append(threading.current_thread().name)
            yield "one "
            blocked.set()
            release.wait()
            yield "STALE"
            yield "NEVER READ"
        finally:
            closed_in.append(threading.current_thread().name)
            closed.set()

    async def answer(t: list[ConversationMessage], s: Session) -> None:
        await s.send_response(words() if len(t) == 1 else "new")

    async def script(peer: Line) -> None:
        peer.say(transcript("a", id=1))
        await anyio.to_thread.run_sync(blocked.wait)
        peer.say(transcript("a", "one", "b", id=2))
        await peer.until(lambda p: bool(p.replies and p.replies[-1][2]))
        assert not closed.is_set()
        release.set()
        await anyio.to_thread.run_sync(closed.wait)

    replies, errors = await converse(script, answer)
    assert replies == cut(1, "one ") + said(2, "new")
    assert errors == []
    assert closed_in == read_in


async def test_many_blocked_streams_do_not_use_up_the_common_threads() -> None:
    """A limiter of its own: anyio's default would stop the program at 40 blocked streams."""
    release, count = threading.Event(), 45
    blocked = threading.Semaphore(0)

    def words() -> Iterator[str]:
        blocked.release()
        release.wait()
        yield "x"

    def all_blocked() -> None:
        for _ in range(count):
            blocked.acquire()

    try:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                peer = Line()
                session = Session(peer)
                session.on("user_transcript", lambda t, s=session: s.send_response(words()))
                group.start_soon(session.run)
                peer.say(transcript("a", id=1))
                group.start_soon(_hang_up_after, peer)
            await anyio.to_thread.run_sync(all_blocked)
            release.set()
    finally:
        release.set()


async def _hang_up_after(peer: Line) -> None:
    await peer.until(lambda p: bool(p.replies and p.replies[-1][2]))
    peer.vanish()


async def test_a_thread_answers_with_the_turn() -> None:
    def work(session: Session, turn: Turn) -> None:
        anyio.from_thread.run(lambda: session.send_response("from a thread", turn=turn))

    async def answer(t: object, s: Session) -> None:
        assert s.turn is not None
        await anyio.to_thread.run_sync(work, s, s.turn)

    replies, errors = await converse(ask, answer)
    assert (replies, errors) == (said(1, "from a thread"), [])


async def test_a_thread_with_the_handlers_context_needs_no_turn() -> None:
    def work(session: Session) -> None:
        assert session.turn is not None
        anyio.from_thread.run(session.send_response, "from a thread")

    async def answer(t: object, s: Session) -> None:
        await anyio.to_thread.run_sync(work, s)

    replies, errors = await converse(ask, answer)
    assert (replies, errors) == (said(1, "from a thread"), [])


@pytest.mark.parametrize("anyio_backend", [pytest.param(real(b), id=b) for b in ASYNCIO])
async def test_an_executor_answers_with_the_turn() -> None:
    loop = asyncio.get_running_loop()

    def work(session: Session, turn: Turn) -> None:
        assert session.turn is None
        reply = session.send_response("from an executor", turn=turn)
        asyncio.run_coroutine_threadsafe(reply, loop).result()

    async def answer(t: object, s: Session) -> None:
        assert s.turn is not None
        await loop.run_in_executor(None, work, s, s.turn)

    replies, errors = await converse(ask, answer)
    assert (replies, errors) == (said(1, "from an executor"), [])


async def test_an_async_generator_may_use_threads_of_its_own() -> None:
    async def words() -> AsyncGenerator[str]:
        for piece in ("a", "b"):
            yield await anyio.to_thread.run_sync(str.upper, piece)

    replies, errors = await converse(ask, lambda t, s: s.send_response(words()))
    assert (replies, errors) == (said(1, "A", "B"), [])
