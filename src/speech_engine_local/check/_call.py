"""The service's end of a socket, without any rule of its own: it sends what a check wants sent."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection

__all__ = ["HANG_UP_SECONDS", "HELLO", "Call", "Frame", "Unseen", "is_final", "is_reply"]

Frame = dict[str, Any]

HELLO = "Hello, are you there?"
"""Asked where any answer will do."""

HANG_UP_SECONDS = 2.0
"""How long the answer to a close frame may take."""


class Unseen(Exception):
    """What a check waited for did not come; the message says what came instead."""


class Call:
    """One conversation, seen from the service's side; it never checks anything by itself."""

    def __init__(self, ws: ClientConnection, patience: float) -> None:
        self.ws = ws
        self.patience = patience
        self.frames: list[Frame] = []
        self.history: list[Frame] = []
        self.binary = 0
        self.code: int | None = None

    async def send(self, **message: Any) -> None:
        """Send a message of the protocol, right or wrong."""
        await self.send_raw(json.dumps(message))

    async def send_raw(self, data: str | bytes | list[str], *, text: bool | None = None) -> None:
        """Send a frame with any content; a closed connection is noticed when something is read."""
        with suppress(ConnectionClosed):
            await self.ws.send(data, text=text)

    async def say(self, text: str, id: int | None = 1, **more: Any) -> None:
        """Send a new question, behind all that was said before it."""
        self.history.append({"role": "user", "content": text})
        await self.say_again(id, **more)

    async def say_again(self, id: int | None = 1, **more: Any) -> None:
        """Send the history again, under this id."""
        message = {"type": "user_transcript", "user_transcript": self.history, "event_id": id}
        await self.send(**{**message, **more})

    async def ask(self, text: str = HELLO, id: int | None = 1) -> str:
        """Send a question, and return the whole reply."""
        await self.say(text, id)
        return await self.reply(id)

    async def reply(self, id: int | None = 1, *, within: float | None = None) -> str:
        """Read until the terminator of a question, and return the text of its reply.

        Raises:
            Unseen: it did not come in time, or the connection ended before.
        """
        begin = len(self.frames)

        def of_it(frame: Frame) -> bool:
            return is_reply(frame) and frame.get("event_id") == id

        def so_far() -> str:
            pieces = sum(map(of_it, self.frames[begin:]))
            return f"; {pieces} pieces came of it" if pieces else "; nothing came of it"

        await self._until(
            lambda frame: of_it(frame) and is_final(frame),
            within,
            f"the terminator of turn {id}",
            so_far,
        )
        text = "".join(str(frame.get("content")) for frame in self.frames[begin:] if of_it(frame))
        self.history.append({"role": "agent", "content": text})
        return text

    async def piece(self, id: int | None = None) -> Frame:
        """Read until a piece with words in it, of any turn or of this one, and return it."""

        def is_wanted(frame: Frame) -> bool:
            if id is not None and frame.get("event_id") != id:
                return False
            return is_reply(frame) and bool(frame.get("content"))

        return await self._until(is_wanted, None, "a piece of a reply")

    async def ping(self, *, within: float | None = None) -> Frame:
        """Ping, read until the pong, and return it."""
        await self.send(type="ping")
        return await self.pong(within=within)

    async def pong(self, *, within: float | None = None) -> Frame:
        """Read until a pong, and return it."""
        return await self._until(lambda frame: frame.get("type") == "pong", within, "the pong")

    async def listen(self, seconds: float) -> list[Frame]:
        """Read for a while, and return what came; an end of the connection ends it sooner."""
        begin = len(self.frames)
        with anyio.move_on_after(seconds), suppress(Unseen):
            while True:
                await self._next("")
        return self.frames[begin:]

    async def end(self, seconds: float | None = None) -> int | None:
        """Read until the connection ends, and return its code; None where it stays open."""
        await self.listen(seconds or self.patience)
        return self.code

    async def websocket_ping(self, seconds: float) -> bool:
        """Send a ping of the WebSocket itself, and return whether its pong came."""
        with anyio.move_on_after(seconds), suppress(ConnectionClosed):
            await (await self.ws.ping())
            return True
        return False

    async def hang_up(self) -> bool:
        """Send a close frame, and return whether one came back."""
        with anyio.move_on_after(HANG_UP_SECONDS), suppress(ConnectionClosed):
            await self.ws.close(1000)
        # Without an answer the library drops the connection itself, which is code 1006.
        return self.ws.close_code == 1000

    async def leave(self) -> None:
        """End the conversation without a word, however it stands."""
        with anyio.move_on_after(1, shield=True), suppress(Exception):
            await self.ws.close()
        self.ws.transport.abort()

    def vanish(self) -> None:
        """End the connection with a TCP reset."""
        stream = self.ws.transport.get_extra_info("socket")
        if stream is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.transport.abort()

    @property
    def is_broken(self) -> bool:
        """Whether an error in the server has ended the call."""
        return self.code == SERVER_ERROR

    def replies(self, id: int | None = 1) -> list[Frame]:
        """Return everything of a question's reply that has come so far."""
        return [f for f in self.frames if is_reply(f) and f.get("event_id") == id]

    def finals(self, id: int | None = 1) -> int:
        """Count the terminators of a question that have come so far."""
        return sum(map(is_final, self.replies(id)))

    async def _until(
        self,
        is_wanted: Callable[[Frame], bool],
        within: float | None,
        what: str,
        so_far: Callable[[], str] = str,
    ) -> Frame:
        seconds = within or self.patience
        with anyio.move_on_after(seconds):
            while not is_wanted(frame := await self._next(what)):
                pass
            return frame
        raise Unseen(f"within {seconds:g} s not {what}{so_far()}")

    async def _next(self, what: str) -> Frame:
        try:
            data = await self.ws.recv()
        except ConnectionClosed:
            self.code = self.ws.close_code
            raise Unseen(f"expected {what}; the connection was closed with {self.code}") from None
        try:
            frame: Any = json.loads(data)
        except ValueError:
            frame = None
        self.binary += isinstance(data, bytes)
        message: Frame = cast("Frame", frame) if isinstance(frame, dict) else {"type": None}
        self.frames.append(message)
        return message


SERVER_ERROR = 1011
"""The code with which a WebSocket library closes when the code above it failed."""


def is_reply(frame: Frame) -> bool:
    """Whether a frame is part of a reply."""
    return frame.get("type") == "agent_response"


def is_final(frame: Frame) -> bool:
    """Whether a frame is a terminator."""
    return is_reply(frame) and bool(frame.get("is_final"))
