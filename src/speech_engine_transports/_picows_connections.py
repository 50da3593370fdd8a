"""The listening side of `speech_engine_transports.picows`: who may open a WebSocket.

picows asks for a listener at once, in the middle of reading the upgrade request, while
``authorize`` may have to wait. So the 101 that picows writes is held back here: it is an empty
one. The true one, or a refusal, follows when the decision has been made, and nothing is read
until then.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio
from picows import WSUpgradeResponse, WSUpgradeResponseWithListener

from ._socket import Request
from ._upgrade import check_upgrade, judge, refusal_bytes

if TYPE_CHECKING:
    from picows import WSTransport, WSUpgradeRequest

    from .picows import Listener
    from .server import Refusal, SpeechEngineServer

__all__ = ["PicowsConnections", "library_logger", "request_of"]

LINGER_SECONDS = 10.0
"""For a peer that was refused to read why, and close."""

logger = logging.getLogger("speech_engine_transports")

library_logger = logging.getLogger("speech_engine_transports.picows")
"""Given to picows: below DEBUG it logs whole requests, token and all, so it does not get there."""
library_logger.setLevel(logging.INFO)

_ANY_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class PicowsConnections:
    """The connections of one listening server.

    Args:
        server: whose conversations they become.
        make: makes a listener; it gets what to call when the WebSocket is open.
    """

    def __init__(self, server: SpeechEngineServer, make: type[Listener]) -> None:
        self._server = server
        self._make = make
        self._opening: set[Listener] = set()
        self._tasks: dict[Listener, asyncio.Task[None]] = {}

    def answer(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        """Return the listener for a request, with an answer that is not the answer yet."""
        headers: Pairs = tuple(request.headers.items())
        # picows shall find nothing to refuse by itself: our own order of checks comes first, and
        # "Connection: keep-alive, Upgrade", which some proxies write, is fine.
        request.headers["Connection"] = "Upgrade"
        request.headers["Upgrade"] = "websocket"
        request.headers["Sec-WebSocket-Version"] = "13"
        if check_upgrade("GET", headers) is not None:
            request.headers["Sec-WebSocket-Key"] = _ANY_KEY
        listener = self._make(partial(self._start, headers), limits=self._server.limits)
        return WSUpgradeResponseWithListener(_HeldBack(), listener)

    async def end(self) -> None:
        """Give up half-open upgrades, close every conversation with 1001, wait for the sessions."""
        for listener in self._opening:
            self._tasks[listener].cancel()
            listener.abort()
        with anyio.CancelScope(shield=True):  # each socket has a deadline of its own
            await self._server.close_all()
        try:
            await self._wait()
        except asyncio.CancelledError:
            for task in self._tasks.values():
                task.cancel()
            with anyio.CancelScope(shield=True):
                await self._wait()
            raise

    async def _wait(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _start(self, headers: Pairs, listener: Listener) -> None:
        listener.raw.pause_reading()
        self._opening.add(listener)
        task = asyncio.get_running_loop().create_task(self._serve(listener, headers))
        if not task.done():  # an eager task may be
            self._tasks[listener] = task
            task.add_done_callback(lambda _: self._forget(listener))

    def _forget(self, listener: Listener) -> None:
        self._tasks.pop(listener)
        self._opening.discard(listener)

    async def _serve(self, listener: Listener, headers: Pairs) -> None:
        """Serve one connection; what goes wrong in it stays in it."""
        try:
            if await self._open(listener, headers):
                await self._server.converse(listener)
        except Exception:
            logger.exception("connection failed")
            await listener.close(1011)
        finally:
            self._opening.discard(listener)
            listener.abort()

    async def _open(self, listener: Listener, headers: Pairs) -> bool:
        """Decide, and answer the request; tell whether the WebSocket is open."""
        deadline = asyncio.timeout(self._server.limits.handshake_timeout)
        try:
            async with deadline:
                refusal = await judge(self._server, listener.request, "GET", headers)
        except TimeoutError:
            if not deadline.expired():
                raise
            self._server.exceed("handshake_timeout")
            return False
        if listener.raw.is_closing():
            return False
        self._opening.discard(listener)
        if refusal is not None:
            await self._refuse(listener, refusal)
            return False
        listener.raw.write(WSUpgradeResponse.to_bytes(listener.transport.response))
        listener.raw.resume_reading()
        return True

    async def _refuse(self, listener: Listener, refusal: Refusal) -> None:
        listener.raw.write(refusal_bytes(refusal))
        listener.transport.disconnect()
        with anyio.move_on_after(LINGER_SECONDS):
            await listener.transport.wait_disconnected()


class _HeldBack(WSUpgradeResponse):
    """A 101 that is nothing on the wire; `WSUpgradeResponse.to_bytes` tells what it would be."""

    __slots__ = ()

    def __init__(self) -> None:
        response: WSUpgradeResponse = WSUpgradeResponse.create_101_response()
        self.version = response.version
        self.status = response.status
        self.headers = response.headers
        self.body = None

    def to_bytes(self) -> bytearray:
        """Return nothing, for picows to write."""
        return bytearray()


def request_of(transport: WSTransport) -> Request:
    """Return the upgrade request of an accepted connection; of a dialled one only the peer."""
    address = transport.underlying_transport.get_extra_info("peername")
    peer = str(address[0]) if address else None
    if transport.is_client_side:
        return Request(peer=peer)
    request = transport.request
    return Request.from_target(request.path.decode("latin-1"), request.headers.items(), peer)
