"""Whatever a handler may give as a response, read piece by piece and closed in its own task."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from types import AsyncGeneratorType
from typing import Any, TypeAlias, TypeGuard

import anyio
import anyio.from_thread
import anyio.to_thread

from speech_engine_proto.llm import extract_text

from ._tasks import uncut

__all__ = ["Response", "discard", "speak"]

Response: TypeAlias = (
    str
    | AsyncIterable[Any]
    | Iterable[Any]
    | Awaitable[Any]
    | AbstractAsyncContextManager[Any, Any]
)
"""A text, a stream of texts or of an LLM's chunks, or something that will give one of these."""

_NO_STREAMS = (bytes, bytearray, memoryview, dict)
"""Iterables whose items are no pieces of text: passing one is a mistake, not a stream."""

Say: TypeAlias = Callable[[str], Coroutine[Any, Any, None]]
Extract: TypeAlias = Callable[[Any], str | None]

CLOSE_GRACE = 5.0
"""Seconds that a stream gets to close; an HTTP/2 stream needs one round trip."""

logger = logging.getLogger("speech_engine_transports")


async def speak(response: Response, say: Say, extract: Extract) -> None:
    """Say every piece of a response, in order, and close what it came from.

    Args:
        response: see `Response`.
        say: called with each text that is not empty.
        extract: finds the text in a chunk; None or ``""`` is skipped.

    Raises:
        TypeError: nothing in ``response`` can be read.
    """
    if isinstance(response, str):
        if response:
            await say(response)
    elif isinstance(response, AsyncIterable):
        await _speak_stream(response, say, extract)
    elif isawaitable(response):
        await speak(await response, say, extract)
    elif isinstance(response, AbstractAsyncContextManager):
        await _speak_within(response, say, extract)
    elif isinstance(response, (list, tuple)):
        for chunk in response:
            await _say_chunk(chunk, say, extract)
    elif _is_blocking_stream(response):
        await _speak_from_thread(response, say, extract)
    else:
        raise TypeError(
            "response: expected str, an iterable or async iterable of texts or LLM chunks, or an "
            f"awaitable or async context manager of one; got {type(response).__name__}"
        )


async def discard(response: Response) -> None:
    """Close a response that nobody will read, such as one that came after the interruption."""
    if not isinstance(response, str):
        await _close(response)


def _is_blocking_stream(response: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(response, Iterable) and not isinstance(response, _NO_STREAMS)


async def _say_chunk(chunk: Any, say: Say, extract: Extract) -> None:
    text = extract(chunk)
    if text:
        await say(text)


async def _speak_stream(stream: AsyncIterable[Any], say: Say, extract: Extract) -> None:
    iterator = stream
    try:
        iterator = aiter(stream)
        known = str if extract is extract_text else None  # a text is asked of one's own function
        async for chunk in iterator:
            text = chunk if type(chunk) is known else extract(chunk)
            if text:
                await say(text)
    finally:
        # An SDK's stream is often iterated by a generator of its own, which holds the stream.
        if iterator is stream:
            await _close(stream)
        else:
            with uncut():  # a cancellation between the two would leave the second open
                await _close(iterator)
                await _close(stream)


async def _speak_within(
    manager: AbstractAsyncContextManager[Any, Any], say: Say, extract: Extract
) -> None:
    inner = await manager.__aenter__()
    try:
        await speak(inner, say, extract)
    except BaseException:
        with uncut(), anyio.move_on_after(CLOSE_GRACE, shield=True):
            await manager.__aexit__(*sys.exc_info())
        raise
    await manager.__aexit__(None, None, None)


async def _speak_from_thread(iterable: Iterable[Any], say: Say, extract: Extract) -> None:
    """Read a blocking iterable in a worker thread: one call, one context, a limiter of its own.

    A cancelled handler does not wait for a ``next()`` that blocks: the thread is left behind, and
    closes the iterable when that ``next()`` returns.
    """
    abandoned = threading.Event()

    def read() -> None:
        iterator = iter(iterable)
        try:
            for chunk in iterator:
                if abandoned.is_set():
                    return
                text = extract(chunk)
                if text:
                    anyio.from_thread.run(say, text)
        finally:
            for closable in {id(iterator): iterator, id(iterable): iterable}.values():
                close = getattr(closable, "close", None)
                if close is not None:
                    close()

    try:
        await anyio.to_thread.run_sync(
            read, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        )
    finally:
        abandoned.set()


async def _close(source: object) -> None:
    if _has_run_out(source):
        return  # as most do; a deadline's timer would keep the turn in memory until it is due
    close = getattr(source, "aclose", None) or getattr(source, "close", None)
    if close is None:
        return
    # Shielded, because on trio a cancelled task may not await otherwise; with a deadline, because
    # a peer that is gone must not hold the turn.
    with uncut(), anyio.move_on_after(CLOSE_GRACE, shield=True) as scope:
        try:
            result = close()
            if isawaitable(result):
                await result
        except Exception as error:
            logger.warning("closing %s failed: %s", type(source).__name__, type(error).__name__)
    if scope.cancelled_caught:
        logger.warning("closing %s took over %g s: given up", type(source).__name__, CLOSE_GRACE)


def _has_run_out(source: object) -> bool:
    return isinstance(source, AsyncGeneratorType) and source.ag_frame is None
