"""What may wait for the end of the loop's turn, and what is written at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

import speech_engine_transports.picows as picows_transport
from speech_engine_transports._cork import LET_PASS, MAX_BYTES, TOGETHER, Cork, CorkedTransport
from speech_engine_transports.asyncio import WebsocketsSocket, connect

from .caller import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.server import ServerConnection

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """The time of the running loop, which only the test moves. Nothing sleeps meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


class Transport:
    """Notes what a library asks of it."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16, 64

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def note(*args: object) -> int:
            self.done.append(args[0] if name == "write" else name)
            return 7

        return note


class Into:
    """The least of a transport: an open one, that keeps what is written."""

    def __init__(self, written: list[bytes]) -> None:
        self.write = written.append

    def is_closing(self) -> bool:
        return False


async def turn_of_the_loop() -> None:
    await asyncio.sleep(0)


def say(cork: Cork, written: list[bytes], *frames: bytes) -> None:
    for frame in frames:
        if cork.takes():
            cork.add(frame)
        else:
            written.append(frame)


async def test_what_follows_at_once_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    written: list[bytes] = []
    cork = Cork(Into(written))  # type: ignore[arg-type]
    say(cork, written, b"a", b"b", b"c", b"d")
    assert (written, cork.size) == ([b"a"], 3)
    await turn_of_the_loop()
    assert (written, cork.size) == ([b"a", b"bcd"], 0)


async def test_what_follows_later_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    written: list[bytes] = []
    cork = Cork(Into(written))  # type: ignore[arg-type]
    for frame in (b"a", b"b", b"c"):
        clock.now += TOGETHER * 1.01
        say(cork, written, frame)
    assert written == [b"a", b"b", b"c"]


async def test_pieces_that_come_one_by_one_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)
    written: list[bytes] = []
    cork = Cork(Into(written))  # type: ignore[arg-type]
    say(cork, written, b"a", b"b")
    await turn_of_the_loop()
    assert written == [b"a", b"b"]
    say(cork, written, *[b"c"] * LET_PASS)
    assert written == [b"a", b"b", *[b"c"] * LET_PASS]  # a wait that joined nothing is not repeated
    say(cork, written, b"d", b"e")
    await turn_of_the_loop()
    assert written[-1] == b"de"


async def test_a_flood_does_not_wait_for_the_turns_end(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    written: list[bytes] = []
    cork = Cork(Into(written))  # type: ignore[arg-type]
    half = b"x" * (MAX_BYTES // 2)
    say(cork, written, b"a", half, half)
    assert (written, cork.size) == ([b"a"], MAX_BYTES)
    say(cork, written, b"y", b"z")
    assert (written, cork.size) == ([b"a", half + half + b"y"], 1)
    await turn_of_the_loop()
    assert written[2:] == [b"z"]


async def test_only_what_is_held_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    inner = Transport()
    transport: Any = CorkedTransport(inner)  # type: ignore[arg-type]
    transport.holding = True
    for frame in (b"a", b"b", b"c"):
        transport.write(frame)
    assert transport.get_write_buffer_size() == 9
    transport.holding = False
    transport.write(b"close frame")
    await turn_of_the_loop()
    inner.done.remove("get_write_buffer_size")
    assert inner.done == [b"a", b"bc", b"close frame"]


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_nothing_that_waits_is_lost_at_the_end(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    Clock(monkeypatch)
    inner = Transport()
    transport: Any = CorkedTransport(inner)  # type: ignore[arg-type]
    transport.holding = True
    for frame in (b"a", b"b", b"c"):
        transport.write(frame)
    getattr(transport, end)()
    assert inner.done == [b"a", b"bc", end]


async def test_what_waits_when_the_connection_drops_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)
    inner = Transport()
    transport: Any = CorkedTransport(inner)  # type: ignore[arg-type]
    transport.holding = True
    for frame in (b"a", b"b", b"c"):
        transport.write(frame)
    inner.closing = True
    await turn_of_the_loop()
    assert inner.done == [b"a"]


async def test_a_transport_gets_one_cork() -> None:
    inner = Transport()
    corked = CorkedTransport.around(inner)  # type: ignore[arg-type]
    assert CorkedTransport.around(corked) is corked
    assert corked.pause_reading() == 7  # the rest is the transport's own
    assert inner.done == ["pause_reading"]


async def test_a_send_waits_for_the_fragments_of_another_message() -> None:
    """The library's quick way to write would skip the connection, and lose the frame."""
    between, sent = asyncio.Event(), asyncio.Event()

    async def converse(ws: ServerConnection) -> None:
        async def fragments() -> Any:
            yield "some"
            between.set()
            await sent.wait()
            yield "thing"

        socket = WebsocketsSocket(ws)
        async with asyncio.TaskGroup() as group:
            group.create_task(ws.send(fragments()))
            await between.wait()
            sending = group.create_task(socket.send("a frame"))
            await turn_of_the_loop()
            assert not sending.done()
            sent.set()

    async with serve(converse, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with call(port, "/", signed=False) as ws:
            assert [await ws.recv(), await ws.recv()] == ["something", "a frame"]


async def test_a_send_on_a_closed_connection_raises() -> None:
    async def hang_up(ws: ServerConnection) -> None:
        await ws.close()

    async with serve(hang_up, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as socket:
            assert await socket.recv() is None
            with pytest.raises(ConnectionError):
                await socket.send("late")


@given(st.binary(max_size=300) | st.sampled_from([125, 126, 65535, 65536, 70000]).map(bytes))
def test_a_frame_of_picows_is_what_a_library_reads(payload: bytes) -> None:
    reader = StreamReader()
    reader.feed_data(picows_transport._text_frame(payload))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert done.value.value == Frame(Opcode.TEXT, payload, fin=True)
    assert not reader.buffer
