"""`ScriptedSocket`: a conversation in memory, as users play it to their handlers."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from speech_engine_proto import ConversationMessage, wire
from speech_engine_transports import Request, SpeechEngineSession, create_session, testing
from speech_engine_transports.testing import ScriptedSocket

from .clock import settle

pytestmark = pytest.mark.anyio


def asks(text: str, id: int | None = 1) -> wire.UserTranscript:
    return wire.UserTranscript((ConversationMessage("user", text),), id)


def echoing(socket: ScriptedSocket, seconds: float = 0) -> tuple[SpeechEngineSession, list[str]]:
    """Return a session that answers after a while, and the list of what it will have fired."""
    session = create_session(socket)
    events: list[str] = []

    async def answer(transcript: list[ConversationMessage]) -> None:
        await anyio.sleep(seconds)
        await session.send_response(transcript[-1].content)

    session.on("user_transcript", answer)
    session.on("close", lambda: events.append("close"))
    session.on("disconnected", lambda: events.append("disconnected"))
    return session, events


async def test_a_script_is_read_and_the_reply_awaited() -> None:
    socket = ScriptedSocket(wire.Init("conv_1"), wire.Ping(), asks("hi"))
    session, events = echoing(socket, seconds=3)
    await session.run()
    assert session.conversation_id == "conv_1"
    assert socket.messages == [
        wire.Pong(),
        wire.AgentResponse("hi", False, 1),
        wire.AgentResponse("", True, 1),
    ]
    assert socket.text == "hi"
    assert [type(frame) for frame in socket.sent] == [str, str, str]
    assert events == ["disconnected"]
    assert socket.close_code == 1000
    assert not socket.aborted


@pytest.mark.parametrize(
    "messages",
    [
        [asks("one", 5), asks("one", 5)],
        [asks("one", 5), asks("zero", 4)],
        [asks("one", None)],
        [asks("gone", 4), asks("one", 5)],
        [asks("gone", None), asks("gone too", 5), asks("one", None)],
        [asks("one", 5), "no message", b"\xff"],
    ],
    ids=["again", "older", "no id", "newer", "mixed ids", "garbage"],
)
async def test_the_end_waits_for_the_reply_that_is_owed(messages: list[Any]) -> None:
    socket = ScriptedSocket(*messages)
    session, events = echoing(socket, seconds=1)
    session.on("error", lambda error: None)
    await session.run()
    assert socket.text == "one"
    assert events == ["disconnected"]


async def test_without_a_transcript_a_script_ends_at_once() -> None:
    socket = ScriptedSocket('{"type":"ping"}', b'{"type":"ping"}')
    session, events = echoing(socket)
    await session.run()
    assert socket.messages == [wire.Pong(), wire.Pong()]
    assert socket.text == ""
    assert events == ["disconnected"]


async def test_a_close_message_ends_a_script_in_mid_turn() -> None:
    socket = ScriptedSocket(asks("hi"), wire.Close())
    session, events = echoing(socket, seconds=1)
    await session.run()
    assert socket.sent == []
    assert events == ["close"]
    assert socket.close_code == 1000


async def test_a_script_that_stays_is_spoken_by_the_test() -> None:
    socket = ScriptedSocket(stay=True)
    session, events = echoing(socket, seconds=2)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        for id in (1, 2):
            socket.say(asks(f"{id} ", id))
            await socket.replied()
        socket.say(asks("never", 3))
        await settle()
        socket.hang_up()
    assert socket.text == "1 2 "
    assert events == ["disconnected"]
    await socket.replied()
    with pytest.raises(ConnectionError, match="the scripted socket has ended"):
        await socket.send("x")
    assert socket.try_send("x") is False


async def test_a_stalled_peer_lets_writes_wait() -> None:
    socket = ScriptedSocket(asks("hi"), stay=True)
    socket.stall()
    session, _ = echoing(socket)
    async with anyio.create_task_group() as group:
        group.start_soon(session.run)
        await settle()
        socket.say(wire.Ping())
        await settle()
        assert socket.sent == []
        socket.resume()
        await socket.replied()
        await settle()
        assert wire.Pong() in socket.messages
        assert socket.text == "hi"
        socket.stall()
        socket.say(*[wire.Ping()] * 20)
    assert socket.aborted


async def test_the_first_close_counts_and_the_request_is_told() -> None:
    socket = ScriptedSocket(request=Request("/ws", "a=b"))
    await socket.close(1001)
    await socket.close()
    assert socket.close_code == 1001
    assert create_session(socket).request == Request("/ws", "a=b")
    assert await socket.recv() is None


def test_a_script_can_be_made_outside_an_event_loop() -> None:
    socket = ScriptedSocket(asks("hi"))
    session, events = echoing(socket)
    anyio.run(session.run)
    assert socket.text == "hi"
    assert events == ["disconnected"]


def test_the_module_lists_its_names() -> None:
    assert dir(testing) == sorted(testing.__all__)
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Scripted'"):
        _ = testing.Scripted
