"""The live feed of both wires: complete, bounded, without sound, followed while it grows."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local.cloud import wires as wires_module
from speech_engine_local.cloud.wires import RecordedSocket, Wire, WireLine, Wires, recorded

from ..transports.clock import BACKENDS, settle, virtual
from .memory import End, pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual(request.param)


def make() -> Wires:
    return Wires(clock=anyio.current_time)


async def lines_of(wires: Wires, conversation_id: str = "conv_1") -> list[WireLine]:
    return [line async for line in wires.follow(conversation_id)]


async def test_lines_are_told_with_their_times_until_the_end() -> None:
    wires = make()
    got: list[WireLine] = []

    async def follow() -> None:
        async for line in wires.follow("conv_1"):
            got.append(line)  # noqa: PERF401 - each as it comes

    await anyio.sleep(5)
    async with anyio.create_task_group() as group:
        with wires.open("conv_1") as wire:
            wire.record("client", "in", "a")
            group.start_soon(follow)
            await settle()
            assert got == [WireLine(0.0, "client", "in", "a")]
            await anyio.sleep(1.5)
            wire.record("agent", "out", "b")
            await settle()
            assert got[1:] == [WireLine(1.5, "agent", "out", "b")]
    assert await lines_of(wires) == got


async def test_a_line_is_one_line_of_json() -> None:
    line = WireLine(1.25, "client", "in", '{"a":\n"\u2028"}')
    assert "\n" not in line.to_json()
    assert json.loads(line.to_json()) == {
        "t": 1.25,
        "link": "client",
        "dir": "in",
        "frame": '{"a":\n"\u2028"}',
    }
    assert "2028" not in repr(line)


async def test_many_may_follow_and_one_may_leave() -> None:
    wires = make()
    seen: list[str] = []

    async def follow_one() -> None:
        async for line in wires.follow("conv_1"):
            seen.append(line.frame)
            break

    async with anyio.create_task_group() as group:
        with wires.open("conv_1") as wire:
            group.start_soon(follow_one)
            group.start_soon(follow_one)
            await settle()
            wire.record("client", "in", "a")
            await settle()
            wire.record("client", "in", "b")
    assert seen == ["a", "a"]


async def test_an_unknown_conversation() -> None:
    with pytest.raises(KeyError):
        make().follow("conv_1")


async def test_a_name_is_taken_once() -> None:
    wires = make()
    with wires.open("conv_1"), pytest.raises(ValueError, match="expected a new one"):
        wires.open("conv_1").__enter__()
    with pytest.raises(ValueError, match="expected a new one"):
        wires.open("conv_1").__enter__()


async def test_only_the_last_conversations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires_module, "KEPT_CONVERSATIONS", 2)
    wires = make()
    with wires.open("running"):
        for name in ("one", "two", "three"):
            with wires.open(name) as wire:
                wire.record("client", "in", name)
        with pytest.raises(KeyError):
            wires.follow("one")
        assert [line.frame for line in await lines_of(wires, "two")] == ["two"]
        wires.follow("running")


async def test_only_the_last_lines_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires_module, "MAX_LINES", 3)
    wires = make()
    with wires.open("conv_1") as wire:
        for number in range(5):
            wire.record("client", "in", str(number))
    assert [line.frame for line in await lines_of(wires)] == ["2", "3", "4"]


async def test_only_so_many_characters_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires_module, "MAX_CHARACTERS", 10)
    wires = make()
    with wires.open("conv_1") as wire:
        for number in range(5):
            wire.record("client", "in", str(number) * 4)
    assert [line.frame for line in await lines_of(wires)] == ["3333", "4444"]


async def test_a_slow_follower_misses_lines_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires_module, "MAX_LINES", 3)
    wires = make()
    with wires.open("conv_1") as wire:
        wire.record("client", "in", "first")
        following = wires.follow("conv_1")
        assert (await anext(following)).frame == "first"
        for number in range(10):
            wire.record("client", "in", str(number))
    assert [line.frame async for line in following] == ["7", "8", "9"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1024])
async def test_sound_is_told_by_its_length(size: int) -> None:
    sound = base64.b64encode(b"\xff" * size).decode()
    wires = make()
    with wires.open("conv_1") as wire:
        wire.record("client", "in", json.dumps({"user_audio_chunk": sound}))
        event = {"audio_base_64": sound, "event_id": 1}
        wire.record("client", "out", json.dumps({"type": "audio", "audio_event": event}))
    told = [json.loads(line.frame) for line in await lines_of(wires)]
    assert told == [
        {"user_audio_chunk": f"<{size} bytes>"},
        {"type": "audio", "audio_event": {"audio_base_64": f"<{size} bytes>", "event_id": 1}},
    ]


async def test_words_that_look_like_sound_are_kept() -> None:
    frame = json.dumps({"type": "user_message", "text": 'say "audio_base_64":"AAAA"'})
    wires = make()
    with wires.open("conv_1") as wire:
        wire.record("client", "in", frame)
    assert [line.frame for line in await lines_of(wires)] == [frame]


async def test_a_long_frame_is_cut() -> None:
    wires = make()
    with wires.open("conv_1") as wire:
        wire.record("client", "in", "x" * 30_000)
    (line,) = await lines_of(wires)
    assert line.frame == "x" * 20_000 + "... <30000 characters>"


class TestARecordedSocket:
    async def test_keeps_both_directions(self) -> None:
        wires, (ours, theirs) = make(), pair()
        with wires.open("conv_1") as wire:
            socket = RecordedSocket(ours, wire, "agent")
            theirs.other.put("text")
            theirs.other.put(b"by\xfftes")
            assert await socket.recv() == "text"
            assert await socket.recv() == b"by\xfftes"
            await socket.send("one")
            assert socket.try_send("two")
            ours.stalled = True
            assert not socket.try_send("three")
            ours.stalled = False
            await socket.close(1000, "done")
            assert await socket.recv() is None
        told = [(line.link, line.dir, line.frame) for line in await lines_of(wires)]
        assert told == [
            ("agent", "in", "text"),
            ("agent", "in", "by\ufffdtes"),
            ("agent", "out", "one"),
            ("agent", "out", "two"),
        ]
        assert [await theirs.recv() for _ in range(3)] == ["one", "two", None]
        assert ours.closed == (1000, "done")

    async def test_passes_on_what_the_socket_has(self) -> None:
        ours, _ = pair()
        ours.lock = anyio.Lock()
        socket = RecordedSocket(ours, Wire(anyio.current_time), "agent")
        assert socket.lock is ours.lock
        assert socket.request is ours.request
        socket.abort()
        assert ours.aborted

    async def test_is_what_a_recorded_connect_opens(self) -> None:
        from contextlib import asynccontextmanager

        ours, theirs = pair()

        @asynccontextmanager
        async def connect(url: str, *, headers: Any = ()) -> AsyncGenerator[End]:
            assert (url, headers) == ("ws://x", [("a", "b")])
            yield ours
            ours.end()

        wires = make()
        with wires.open("conv_1") as wire:
            opener = recorded(connect, wire, "agent")
            async with opener("ws://x", headers=[("a", "b")]) as socket:
                await socket.send("hello")
        assert [line.frame for line in await lines_of(wires)] == ["hello"]
        assert await theirs.recv() == "hello"
        assert await theirs.recv() is None
