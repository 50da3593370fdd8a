"""The contract finds the bugs that adapters have: each broken adapter fails the test it should."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_transports import Limits, Request, SpeechEngineServer, asyncio
from speech_engine_transports._socket import Headers
from speech_engine_transports.asyncio import WebsocketsSocket
from speech_engine_transports.testing import AdapterContract

from .clock import real

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from speech_engine_transports._socket import Socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return real("asyncio")


# --- sockets that are wrong


class WrongCode(WebsocketsSocket):
    """Forgets which code to close with."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await super().close(1001, reason)


class RaisesAtTheEnd(WebsocketsSocket):
    """Lets the library's exception out where the socket has ended."""

    async def recv(self) -> bytes | None:
        return await self._ws.recv(decode=False)


class NeverEnds(WebsocketsSocket):
    """Waits for a message on a socket that has ended."""

    async def recv(self) -> bytes | None:
        message = await super().recv()
        if message is None:
            await anyio.sleep_forever()
        return message


class ReadsFragments(WebsocketsSocket):
    """Takes each part of a message for a whole one."""

    async def recv(self) -> bytes | None:
        async for part in self._ws.recv_streaming(decode=False):
            return part
        return None


class HalfFrames(WebsocketsSocket):
    """Writes a frame in two steps, and may be cancelled between them."""

    async def send(self, frame: str) -> None:
        data = frame.encode()
        size = len(data)
        head = bytes([0x81, size]) if size < 126 else b"\x81\x7f" + size.to_bytes(8, "big")
        await self._write(head + data[: size // 2])
        await self._write(data[size // 2 :])

    async def _write(self, data: bytes) -> None:
        self._ws.transport.write(data)
        await self._ws.drain()


class ReaderWrites(WebsocketsSocket):
    """Waits, in its reader, for what was written before."""

    async def recv(self) -> bytes | None:
        message = await super().recv()
        await self._ws.drain()
        return message


class LateFrames(WebsocketsSocket):
    """Keeps frames for later, and does not keep their order."""

    kept: str | None = None

    async def send(self, frame: str) -> None:
        kept, self.kept = self.kept, None
        if kept is None and '"is_final":false' in frame:
            self.kept = frame
        await super().send(frame)
        if kept is not None:
            await super().send(kept)


class NoAbort(WebsocketsSocket):
    """Cannot drop a connection."""

    def abort(self) -> None:
        pass


# --- servers that are wrong


class Changed:
    """A server between the adapter and ours that changes what goes through it."""

    def __init__(self, server: SpeechEngineServer) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class LetsAllIn(Changed):
    async def admit(self, request: Request, headers: Any) -> None:
        return None


class OneOfEachHeader(Changed):
    """Makes a dict of the headers: a second token hides the first."""

    async def admit(self, request: Request, headers: list[tuple[str, str]]) -> Any:
        return await self._server.admit(request, {k.lower(): v for k, v in headers}.items())


class QueryInThePath(Changed):
    async def admit(self, request: Request, headers: Any) -> Any:
        path = f"{request.path}?{request.query}" if request.query else request.path
        return await self._server.admit(SimpleNamespace(path=path), headers)  # type: ignore[arg-type]


class DecodesThePath(Changed):
    async def converse(self, socket: Socket) -> None:
        request = socket.request
        path = request.path.replace("%20", " ")
        socket.request = Request(path, request.query, request.headers, request.peer)
        await self._server.converse(socket)


class NoHeaders(Changed):
    async def converse(self, socket: Socket) -> None:
        request = socket.request
        socket.request = Request(request.path, request.query, Headers(), request.peer)
        await self._server.converse(socket)


class NoLimit(Changed):
    limits = Limits()


class StrayTask(Changed):
    """Leaves a task behind, and keeps it alive."""

    tasks: list[Any] = []  # noqa: RUF012

    async def converse(self, socket: Socket) -> None:
        import asyncio

        self.tasks.append(asyncio.ensure_future(anyio.sleep_forever()))
        await self._server.converse(socket)


class TwiceADay(Changed):
    """Runs a second session when the first is over."""

    async def converse(self, socket: Socket) -> None:
        await self._server.converse(socket)
        await self._server.converse(socket)


def with_socket(kind: type[WebsocketsSocket]) -> Callable[[SpeechEngineServer], Any]:
    class Server(Changed):
        async def converse(self, socket: WebsocketsSocket) -> None:
            await self._server.converse(kind(socket._ws))

    return Server


class Broken(AdapterContract):
    """The contract for the asyncio transport, with one thing changed."""

    patience = 1.0

    def __init__(self, change: Callable[[SpeechEngineServer], Any]) -> None:
        self._change = change

    @asynccontextmanager
    async def listen(self, server: SpeechEngineServer) -> AsyncGenerator[int]:
        async with asyncio.listen(self._change(server)) as port:
            yield port


SOCKETS = [
    (WrongCode, "conversation", "the close code: expected 1000, got 1001"),
    (WrongCode, "session_close", "the close code: expected 1000, got 1001"),
    (RaisesAtTheEnd, "reset_peer", "a call of on_disconnect"),
    (RaisesAtTheEnd, "end_of_the_socket_in_mid_turn", "a call of on_disconnect"),
    (NeverEnds, "reset_peer", "a call of on_disconnect"),
    (NeverEnds, "half_closed_peer", "a call of on_disconnect"),
    (ReadsFragments, "message_in_parts", "the agent's next message"),
    (HalfFrames, "blocked_peer_barges_in", "a broken frame is on the wire|next message"),
    (HalfFrames, "writes_cancelled_under_backpressure", "a broken frame|next message"),
    (ReaderWrites, "blocked_peer_barges_in", "the transcript of a peer that does not read"),
    (LateFrames, "old_text_never_comes_after_new", "the turns of the frames|a piece"),
    (NoAbort, "blocked_peer_that_pings_is_dropped", "a call of on_disconnect"),
]

SERVERS = [
    (LetsAllIn, "without_a_valid_token_it_is_401", r"\(none\).*expected 401, got 101"),
    (LetsAllIn, "another_path_is_404", "the status for /: expected 404, got 101"),
    (LetsAllIn, "authorize_refuses_with_403", "expected 403, got 101"),
    (OneOfEachHeader, "without_a_valid_token_it_is_401", r"\(twice\).*expected 401"),
    (QueryInThePath, "query_is_ignored", "expected 101, got 404"),
    (DecodesThePath, "request", "path and query: expected .*'/a%20b/ws'"),
    (NoHeaders, "request", "x-customer"),
    (NoLimit, "too_long_message", "the end of the socket|a transcript was heard|close code"),
    (StrayTask, "outer_cancel", "tasks that are left"),
    (TwiceADay, "reset_peer", r"what the end fired: expected \['disconnect'\]"),
]

CASES = [(with_socket(kind), kind.__name__, *rest) for kind, *rest in SOCKETS]
CASES += [(kind, kind.__name__, *rest) for kind, *rest in SERVERS]


@pytest.mark.parametrize(
    ("change", "test", "words"),
    [pytest.param(c, test, words, id=f"{name}-{test}") for c, name, test, words in CASES],
)
async def test_a_broken_adapter_is_found(change: Any, test: str, words: str) -> None:
    with pytest.raises((AssertionError, KeyError, BaseExceptionGroup)) as caught:
        await getattr(Broken(change), f"test_{test}")()
    assert caught.match(words)
