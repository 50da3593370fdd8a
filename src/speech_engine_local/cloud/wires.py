"""The wires of the running conversations, to be looked at while they run.

This is the one place that keeps what was said, and it keeps it in memory, bounded, for a while.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
import attrs

from .._tap import TappedSocket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from speech_engine_transports._socket import Socket

__all__ = ["Direction", "Link", "RecordedSocket", "Wire", "WireLine", "Wires", "recorded"]

MAX_LINES = 2_000
"""Lines kept of one conversation: twenty minutes of brisk text, with room to spare."""

MAX_FRAME_CHARACTERS = 20_000
"""Characters kept of one frame. What makes frames long, sound, is not among them."""

MAX_CHARACTERS = 2_000_000
"""Characters kept of one conversation, so that twenty ended ones stay below 100 MB."""

KEPT_CONVERSATIONS = 20
"""Ended conversations that can still be looked at."""

Link: TypeAlias = Literal["client", "agent"]
"""Which of the two wires of a conversation."""

Direction: TypeAlias = Literal["in", "out"]
"""As seen from the cloud."""


@attrs.frozen
class WireLine:
    """One frame of a conversation.

    Args:
        t: seconds since the conversation began.
        link: the wire.
        dir: the direction, as seen from the cloud.
        frame: the text of the frame; sound is replaced by its length.
    """

    t: float
    link: Link
    dir: Direction
    frame: str = attrs.field(repr=False)

    def to_json(self) -> str:
        """Write the line as one line of JSON, without the line's end."""
        return json.dumps(attrs.asdict(self), separators=(",", ":"))


class Wire:
    """Both wires of one conversation. Made by `Wires.open`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._lines: deque[WireLine] = deque()
        self._dropped = 0
        self._characters = 0
        self._ended = False
        self._changed = anyio.Event()

    def record(self, link: Link, direction: Direction, frame: str) -> None:
        """Keep one frame, without its sound."""
        line = WireLine(round(self._clock() - self._began, 4), link, direction, _shortened(frame))
        self._lines.append(line)
        self._characters += len(line.frame)
        while len(self._lines) > MAX_LINES or self._characters > MAX_CHARACTERS:
            self._characters -= len(self._lines.popleft().frame)
            self._dropped += 1
        self._notify()

    def end(self) -> None:
        """Let those who follow come to the end."""
        self._ended = True
        self._notify()

    def follow(self) -> AsyncIterator[WireLine]:
        """Yield what is kept, from the beginning, then what comes, until the conversation ends.

        Whoever reads too slowly misses lines; nothing is kept for them.
        """
        return _Following(self)

    async def line(self, number: int) -> tuple[int, WireLine] | None:
        """Wait for the line with this number, or the first one after it that is kept.

        Returns:
            Its number and the line; None where the conversation ends before.
        """
        while True:
            number = max(number, self._dropped)
            if number < self._dropped + len(self._lines):
                return number, self._lines[number - self._dropped]
            if self._ended:
                return None
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class Wires:
    """The wires of all conversations, live, and of the last ones that ended.

    Args:
        clock: tells the seconds; it never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wires: dict[str, Wire] = {}
        self._ended: deque[str] = deque()

    @contextmanager
    def open(self, conversation_id: str) -> Generator[Wire]:
        """Keep the wires of a conversation that lasts as long as the block.

        Raises:
            ValueError: there is, or was, a conversation of that name.
        """
        if conversation_id in self._wires:
            raise ValueError("conversation_id: expected a new one, got one that is taken")
        wire = self._wires[conversation_id] = Wire(self._clock)
        try:
            yield wire
        finally:
            wire.end()
            self._ended.append(conversation_id)
            while len(self._ended) > KEPT_CONVERSATIONS:
                del self._wires[self._ended.popleft()]

    def follow(self, conversation_id: str) -> AsyncIterator[WireLine]:
        """Yield the lines of a conversation, from the beginning and until it ends.

        Raises:
            KeyError: there is no such conversation, or it ended a while ago.
        """
        return self._wires[conversation_id].follow()


class _Following:
    """A place in a wire. No async generator: leaving the loop early leaves nothing to close."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._next = 0

    def __aiter__(self) -> _Following:
        return self

    async def __anext__(self) -> WireLine:
        found = await self._wire.line(self._next)
        if found is None:
            raise StopAsyncIteration
        number, line = found
        self._next = number + 1
        return line


class RecordedSocket(TappedSocket):
    """Passes everything on to a socket, and keeps what goes over it.

    Args:
        inner: the socket.
        wire: where it is kept.
        link: under which name.
    """

    def __init__(self, inner: Socket, wire: Wire, link: Link) -> None:
        super().__init__(inner)
        self._wire = wire
        self._link: Link = link

    def note(self, direction: Direction, message: str | bytes) -> None:
        """Keep a frame."""
        text = message if isinstance(message, str) else message.decode(errors="replace")
        self._wire.record(self._link, direction, text)


def recorded(
    connect: Callable[..., AbstractAsyncContextManager[Socket]], wire: Wire, link: Link
) -> Callable[..., AbstractAsyncContextManager[Socket]]:
    """Return a function that opens what ``connect`` opens, and keeps what goes over it."""

    @asynccontextmanager
    async def opened(url: str, **options: Any) -> AsyncGenerator[Socket]:
        async with connect(url, **options) as socket:
            yield RecordedSocket(socket, wire, link)

    return opened


# Inside a string of JSON these quotes would be escaped, so what a user types is never taken.
_SOUND = re.compile(r'"(?P<key>audio_base_64|user_audio_chunk)"\s*:\s*"(?P<sound>[^"\\]*)"')


def _shortened(frame: str) -> str:
    short = _SOUND.sub(_told, frame)
    if len(short) > MAX_FRAME_CHARACTERS:
        return f"{short[:MAX_FRAME_CHARACTERS]}... <{len(short)} characters>"
    return short


def _told(match: re.Match[str]) -> str:
    size = len(match["sound"].rstrip("=")) * 3 // 4
    return f'"{match["key"]}":"<{size} bytes>"'
