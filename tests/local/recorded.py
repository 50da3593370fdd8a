"""Conversations that tests record: in memory, in virtual time, by a real server and engine."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from speech_engine_local import LocalEngine
from speech_engine_local.agent import speak
from speech_engine_local.journal import Recorder, read_journal
from speech_engine_transports import SpeechEngineServer

from ..transports.clock import virtual
from .memory import pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from speech_engine_local.journal import Journal
    from speech_engine_transports import SpeechEngineSession
    from speech_engine_transports._socket import Socket

TURNS = 50
INTERRUPTED = 20
"""Of each five turns two are spoken into."""


async def on_transcript(transcript: list[Any], session: SpeechEngineSession) -> None:
    """Think for half a second, then say twenty words at four words per second."""
    await anyio.sleep(0.5)
    said = transcript[-1].content
    await session.send_response(speak(f"{said}: " + "word " * 20, words_per_second=4))


class MemoryServer:
    """A server whose connections are in memory.

    Args:
        options: those of `SpeechEngineServer`.
    """

    def __init__(self, **options: Any) -> None:
        self.server = SpeechEngineServer(**options)

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        ours, theirs = pair()
        async with anyio.create_task_group() as group:
            group.start_soon(self.server.converse, theirs)
            try:
                yield ours
            finally:
                ours.end()


def record(directory: Path, *, redact: bool = False, backend: str = "trio") -> Path:
    """Record a conversation of fifty turns, twenty of them spoken into."""

    async def converse() -> None:
        recorder = Recorder(directory, redact=redact, clock=anyio.current_time)
        agent = MemoryServer(on_transcript=on_transcript, record=recorder)
        engine = LocalEngine("ws://memory/", conversation_id="conv_50", connect=agent.connect)
        async with engine:
            for turn in range(1, TURNS + 1):
                reply = await engine.ask(f"turn {turn}")
                patience = 2.117 if turn % 5 in (2, 4) else 600.0
                with anyio.move_on_after(patience):
                    await reply.wait()

    name, options = virtual(backend)
    anyio.run(converse, backend=name, backend_options=dict(options))
    (path,) = directory.iterdir()
    return path


def write(path: Path, *lines: tuple[str, dict[str, Any] | str], name: str | None = "c") -> Path:
    """Write a journal by hand: directions and frames."""
    head = {"version": 1, "conversation_id": name}
    body = [
        {"t": 0.1 * number, "dir": direction, "frame": frame_of(frame)}
        for number, (direction, frame) in enumerate(lines)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in [head, *body]))
    return path


def journal_of(path: Path, *lines: tuple[str, dict[str, Any] | str]) -> Journal:
    """Write a journal by hand, and read it."""
    return read_journal(write(path, *lines))


def only_file(directory: Path) -> Path | None:
    """The one file in a directory; None where there is none."""
    files = list(directory.iterdir())
    assert len(files) < 2
    return files[0] if files else None


def frame_of(frame: dict[str, Any] | str) -> str:
    if isinstance(frame, str):
        return frame
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


INIT = {"type": "init", "conversation_id": "c"}
PING = {"type": "ping"}
PONG = {"type": "pong"}
CLOSE = {"type": "close"}


def asks(text: str, event_id: int | None = 1) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"type": "user_transcript", "user_transcript": messages, "event_id": event_id}


def says(text: str, event_id: int | None = 1) -> dict[str, Any]:
    return {"type": "agent_response", "content": text, "is_final": False, "event_id": event_id}


def ends(event_id: int | None = 1, text: str = "") -> dict[str, Any]:
    return {"type": "agent_response", "content": text, "is_final": True, "event_id": event_id}
