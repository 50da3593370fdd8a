"""The calling side: one call, as the service makes it, at as little cost as can be.

It is built on picows, whose callback stamps a frame where the socket is read, so that a thousand
words a second leave this process idle most of the time. What it says of compression is what the
``websockets`` client says by default; picows knows none, so it is done here (RFC 7692).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .servers import MAX_FRAME_BYTES
from .texts import INIT, PING, PONG_MARK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Call", "dial", "dialled"]

DIALLING_AT_ONCE = 50
OPEN_SECONDS = 30.0

_OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
_TAIL = b"\x00\x00\xff\xff"
"""The end of a flushed block: left out of each message, RFC 7692 section 7.2.1."""


class Call(WSListener):
    """One call."""

    def __init__(self) -> None:
        self.close_code: int | None = None
        self.over = asyncio.get_running_loop().create_future()
        self._transport: WSTransport | None = None
        self._deflate: zlib._Compress | None = None
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._hearing: asyncio.Future[list[int]] | None = None
        self._times: list[int] = []
        self._left = 0
        self._mark = b""

    def send(self, frame: str) -> None:
        """Send a frame at once."""
        assert self._transport is not None
        data = frame.encode()
        if self._deflate is not None:
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            self._transport.send(WSMsgType.TEXT, data[: -len(_TAIL)], True, True)
        else:
            self._transport.send(WSMsgType.TEXT, data)

    def hear(self, frames: int, mark: bytes = b"") -> asyncio.Future[list[int]]:
        """Return when the next frames came, in nanoseconds of the system's monotonic clock.

        Args:
            frames: how many.
            mark: count only frames that hold this.
        """
        assert self._hearing is None
        self._hearing = asyncio.get_running_loop().create_future()
        self._times, self._left, self._mark = [], frames, mark
        return self._hearing

    def hang_up(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the connection over, and compress if the server agreed. Called by picows."""
        self._transport = transport
        if "permessage-deflate" in transport.response.headers.get("Sec-WebSocket-Extensions", ""):
            self._deflate = zlib.compressobj(wbits=-12, memLevel=5)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame. Called by picows."""
        if frame.msg_type == WSMsgType.TEXT:
            self._take(frame)
        elif frame.msg_type == WSMsgType.CLOSE:
            self.close_code = cast("int", frame.get_close_code())
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Take note of the end. Called by picows."""
        if not self.over.done():
            self.over.set_result(None)
        if self._hearing is not None and not self._hearing.done():
            self._hearing.set_exception(ConnectionError(f"closed with {self.close_code}"))

    def _take(self, frame: WSFrame) -> None:
        if frame.rsv1:  # each in its turn: the later ones are written in terms of the earlier
            payload = self._inflate.decompress(frame.get_payload_as_bytes() + _TAIL)
        elif self._hearing is None:
            return
        else:
            payload = frame.get_payload_as_bytes()
        if self._hearing is not None and self._mark in payload:
            self._times.append(time.monotonic_ns())
            if len(self._times) == self._left:
                hearing, self._hearing = self._hearing, None
                hearing.set_result(self._times)


async def dial(url: str, calls: int, *, offer_compression: bool = False) -> list[Call]:
    """Open calls, each with its ``init``, and see that all of them are served."""
    gate = asyncio.Semaphore(DIALLING_AT_ONCE)

    async def dial_one() -> Call:
        async with gate:
            _, listener = await ws_connect(
                Call,
                url,
                extra_headers=_OFFER if offer_compression else None,
                websocket_handshake_timeout=OPEN_SECONDS,
                max_frame_size=MAX_FRAME_BYTES,
            )
            call = cast("Call", listener)
            call.send(INIT)
            answer = call.hear(1, PONG_MARK)
            call.send(PING)
            await answer
            return call

    return await asyncio.gather(*(dial_one() for _ in range(calls)))


@asynccontextmanager
async def dialled(
    url: str, calls: int, *, offer_compression: bool = False
) -> AsyncGenerator[list[Call]]:
    """Hold calls while the block runs."""
    open_calls = await dial(url, calls, offer_compression=offer_compression)
    try:
        yield open_calls
    finally:
        for call in open_calls:
            call.hang_up()
