"""One utterance: the gates that keep a stale word off the wire, whatever was cancelled when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local._reply import Reply
from speech_engine_local.cloud.outbox import Outbox
from speech_engine_local.cloud.speech import AudioFormat, Sound
from speech_engine_local.cloud.utterance import Utterance, Voice

from ..transports.clock import ASYNCIO, settle, virtual
from .memory import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.anyio


@pytest.fixture(params=ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual(request.param)


class Two:
    """A synthesizer of two pieces: the second may be sent a quarter of a second later."""

    async def speak(
        self, text: str, *, sample_rate: int, speed: float = 1.0, language: str | None = None
    ) -> AsyncIterator[Sound]:
        yield Sound(bytes(sample_rate * 3 // 2), 1)
        yield Sound(bytes(200), 1)


class Plain:
    """A synthesizer whose pieces come from an object that cannot be closed."""

    def __init__(self) -> None:
        self.sounds = [Sound(bytes(200), 1)]

    def speak(
        self, text: str, *, sample_rate: int, speed: float = 1.0, language: str | None = None
    ) -> Plain:
        return self

    def __aiter__(self) -> Plain:
        return self

    async def __anext__(self) -> Sound:
        if not self.sounds:
            raise StopAsyncIteration
        return self.sounds.pop()


def make(text: str, synthesizer: Any, *, without: str = "") -> tuple[Utterance, Reply, list[str]]:
    ours, theirs = pair()
    reply = Reply(1, (), lambda _: "")
    if text:
        reply.add(text)
        reply.finish()
    voice = synthesizer and Voice(synthesizer, AudioFormat.parse("pcm_8000"))
    utterance = Utterance(reply, 1, Outbox(ours), wants=without.__ne__, voice=voice)
    return utterance, reply, theirs._inbox  # type: ignore[return-value]


def kinds(frames: list[str]) -> list[str]:
    return [json.loads(frame)["type"] for frame in frames]


async def test_a_piece_that_crosses_with_the_stop_is_not_shown() -> None:
    utterance, reply, frames = make("", None)
    async with anyio.create_task_group() as group:
        group.start_soon(utterance.run)
        await settle()
        reply.add("too late")
        utterance.stop()
    assert frames == []
    assert utterance.heard == ""


async def test_stopped_before_it_began_it_says_nothing() -> None:
    utterance, _, frames = make("Hello.", None)
    utterance.interrupt(2)
    await utterance.run()
    assert frames == []


@pytest.mark.parametrize("stopped", [True, False])
async def test_sound_whose_time_comes_with_the_stop_is_not_sent(stopped: bool) -> None:
    utterance, _, frames = make("ab", Two())

    async def stop() -> None:
        await anyio.sleep(0.25)  # to the instant at which the second piece is due
        if stopped:
            utterance.stop()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        group.start_soon(utterance.run)
    assert kinds(frames).count("audio") == (1 if stopped else 2)


async def test_sound_that_waits_for_the_client_is_taken_back() -> None:
    utterance, _, frames = make("ab", Plain(), without="agent_chat_response_part")
    outbox = utterance._outbox
    link: Any = outbox._link
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        link.stalled = True
        outbox.post("begun")
        await settle()
        group.start_soon(utterance.run)
        await settle()
        utterance.interrupt(2)
        link.stalled = False
        link._notify()
        outbox.close()
    assert "begun" in frames
    told = kinds([frame for frame in frames if frame != "begun"])
    assert "audio" not in told
    assert told[-3:] == ["agent_response", "interruption", "agent_response_correction"]


async def test_a_synthesizer_that_cannot_be_closed_is_not() -> None:
    utterance, _, frames = make("ab", Plain())
    await utterance.run()
    assert kinds(frames).count("audio") == 1
    assert not utterance.is_done
    await anyio.sleep(1)
    assert utterance.is_done
    assert utterance.heard == "ab"
