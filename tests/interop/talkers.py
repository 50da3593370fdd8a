"""Agents that the cloud dials, and what they say: rules that a test can foresee."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from speech_engine_transports import SpeechEngineServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from speech_engine_proto import ConversationMessage
    from speech_engine_transports import SpeechEngineSession

KEY = "sk_interop_0123456789"
"""The cloud's key, which also signs its calls to the agents."""

COUNTING = ("One, ", "two, ", "three, ")
"""What a talker says to ``count``; then it falls silent in mid reply, until it is interrupted."""

STORY = " ".join(f"The {n} of the hundred sheep jumped over the fence." for n in range(1, 31))
"""What a talker says to ``story``, all at once: more than a minute of speech."""


def words_for(text: str) -> tuple[tuple[str, ...], bool]:
    """Return the pieces of a reply to a text, and whether the reply never ends."""
    match text:
        case "count":
            return COUNTING, True
        case "story":
            return (STORY,), False
        case _:
            return ("You said: ", f"{text}."), False


class Talker:
    """An agent on this package's own server.

    It follows `words_for`, leaves on ``bye`` and is gone on ``crash``.
    """

    def __init__(self) -> None:
        self.url = ""
        self.transcripts: list[list[tuple[str, str]]] = []
        self.events: list[str] = []
        self.called = asyncio.Event()
        self.ended = asyncio.Event()

    def on_init(self, conversation_id: str, session: SpeechEngineSession) -> None:
        self.events.append(f"init {conversation_id}")
        self.called.set()

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        self.transcripts.append([(each.role, each.content) for each in transcript])
        if transcript[-1].content == "bye":
            await session.send_response("Goodbye.")
            session.close()
            return
        if transcript[-1].content == "crash":
            session._socket.abort()
            return
        pieces, endless = words_for(transcript[-1].content)
        await session.send_response(_streamed(pieces, endless))

    def on_close(self, session: SpeechEngineSession) -> None:
        self.events.append("close")
        self.ended.set()

    def on_disconnect(self, session: SpeechEngineSession) -> None:
        self.events.append("disconnect")
        self.ended.set()

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        self.events.append(f"error {error!r}")


@asynccontextmanager
async def talking() -> AsyncGenerator[Talker]:
    """Let a talker listen while the block runs."""
    talker = Talker()
    server = SpeechEngineServer(
        transport="asyncio",
        host="127.0.0.1",
        port=0,
        path="/ws",
        api_key=KEY,
        on_init=talker.on_init,
        on_transcript=talker.on_transcript,
        on_close=talker.on_close,
        on_disconnect=talker.on_disconnect,
        on_error=talker.on_error,
    )
    async with server:
        talker.url = f"ws://127.0.0.1:{server.port}/ws"
        yield talker


async def _streamed(pieces: tuple[str, ...], endless: bool) -> AsyncGenerator[str]:
    for piece in pieces:
        yield piece
    if endless:
        await asyncio.Event().wait()
