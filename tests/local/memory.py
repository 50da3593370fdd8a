"""Both ends of a conversation in memory: a client that a test speaks for, and a real agent."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio

from speech_engine_local.cloud import engines
from speech_engine_local.cloud.conversation import Conversation
from speech_engine_local.cloud.speech import Sound
from speech_engine_local.cloud.wires import Wires
from speech_engine_transports import SpeechEngineServer
from speech_engine_transports._socket import Socket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from anyio.abc import TaskGroup

INITIATION = {"type": "conversation_initiation_client_data", "conversation_config_override": {}}
SAMPLE_RATE = 16_000


def initiation(**overrides: Any) -> dict[str, Any]:
    return {**INITIATION, "conversation_config_override": overrides}


class End(Socket):
    """One end of a socket in memory.

    Args:
        stalled: what is written to it waits, as where the other side does not read.
    """

    other: End

    def __init__(self, *, stalled: bool = False) -> None:
        super().__init__()
        self.stalled = stalled
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self._inbox: list[str | bytes] = []
        self._ended = False
        self._changed = anyio.Event()

    async def recv(self) -> str | bytes | None:
        while not self._inbox:
            if self._ended:
                return None
            await self._changed.wait()
        return self._inbox.pop(0)

    async def send(self, frame: str) -> None:
        while self.stalled and not self._ended:
            await self._changed.wait()
        if self._ended:
            raise ConnectionError("gone")
        self.other.put(frame)

    def try_send(self, frame: str) -> bool:
        if self.stalled or self._ended:
            return False
        self.other.put(frame)
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        while self.stalled and not self._ended:
            await self._changed.wait()
        if self.closed is None:
            self.closed = (code, reason)
        self.end()

    @property
    def closed_with(self) -> int | None:
        closed = self.closed or self.other.closed
        return closed and closed[0]

    def abort(self) -> None:
        self.aborted = True
        self.end()

    def put(self, message: str | bytes) -> None:
        self._inbox.append(message)
        self._notify()

    def end(self) -> None:
        """End the socket for both sides."""
        for each in (self, self.other):
            each._ended = True
            each._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def pair(*, stalled: bool = False) -> tuple[End, End]:
    ours, theirs = End(stalled=stalled), End()
    ours.other, theirs.other = theirs, ours
    return ours, theirs


class Agent:
    """A real session of the package behind a socket in memory.

    Args:
        callbacks: as a server takes them.
    """

    def __init__(self, *, refuse: str | None = None, **callbacks: Any) -> None:
        self.server = SpeechEngineServer(**callbacks)
        self.headers: list[tuple[str, str]] = []
        self.dialled = 0
        self.left = anyio.Event()
        self.group: TaskGroup
        self._refuse = refuse

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        self.dialled += 1
        self.headers = list(headers)
        if self._refuse is not None:
            raise ConnectionRefusedError(self._refuse)
        ours, theirs = pair()
        self.group.start_soon(self._serve, theirs)
        yield ours
        ours.end()

    async def _serve(self, socket: End) -> None:
        await self.server.handle_connection(socket).run()
        self.left.set()


class RawAgent:
    """An agent that says what the test says, right or wrong."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.socket: End
        self.group: TaskGroup

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        ours, self.socket = pair()
        self.group.start_soon(self._read)
        yield ours
        ours.end()

    async def _read(self) -> None:
        while (message := await self.socket.recv()) is not None:
            self.received.append(json.loads(message))
            self.times.append(anyio.current_time())
            if self.received[-1]["type"] == "ping":
                self.socket.other.put('{"type":"pong"}')
            if self.received[-1]["type"] == "close":
                self.socket.end()

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.received]

    @property
    def transcripts(self) -> list[dict[str, Any]]:
        return [message for message in self.received if message["type"] == "user_transcript"]

    def says(self, content: str, event_id: int | None = 1, *, final: bool = False) -> None:
        self.raw(type="agent_response", content=content, is_final=final, event_id=event_id)

    def raw(self, **message: Any) -> None:
        self.socket.other.put(json.dumps(message))


class Beeps:
    """A synthesizer: half a second of silence per word, one piece each."""

    def __init__(self, *, fails: bool = False) -> None:
        self.spoken: list[str] = []
        self.manners: set[tuple[float, str | None]] = set()
        self.open = 0
        self._fails = fails

    async def speak(
        self, text: str, *, sample_rate: int, speed: float = 1.0, language: str | None = None
    ) -> AsyncIterator[Sound]:
        self.spoken.append(text)
        self.manners.add((speed, language))
        self.open += 1
        try:
            if self._fails:
                raise RuntimeError(text)
            words = text.split()
            for index, word in enumerate(words):
                last = index == len(words) - 1
                rest = len(text) - text.rindex(word) if last else len(word) + 1
                yield Sound(bytes(sample_rate), rest)
        finally:
            self.open -= 1


class Client:
    """A conversation with the test as its client, while the block runs.

    Args:
        agent: whom the cloud dials.
        voice: speaks; None is a cloud without sound.
        first: the client's first frame; None sends none.
        settings: the engine's, as a request to create it has them.
    """

    def __init__(
        self,
        agent: Agent | RawAgent,
        *,
        voice: Beeps | None = None,
        first: dict[str, Any] | str | None = INITIATION,
        stalled: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.link, self.end = pair(stalled=stalled)
        self.wires = Wires(clock=anyio.current_time)
        self.running = anyio.CancelScope()
        self.ended = anyio.Event()
        self._changed = anyio.Event()
        self._first = first
        self._voice = voice
        self._agent = agent
        body = {"speech_engine": {"ws_url": "ws://memory/ws"}, **(settings or {})}
        self.engine = engines.create(body, now=0)

    async def __aenter__(self) -> Self:
        self.begun = anyio.current_time()
        self.frames: list[dict[str, Any]] = []
        self.times: list[float] = []
        self._group = self._agent.group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)
        self._group.start_soon(self._read)
        if self._first is not None:
            self.sends(self._first)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.end.end()
        return await self._group.__aexit__(kind, error, traceback)

    async def _run(self) -> None:
        with self.wires.open("conv_1") as wire, self.running:
            self.conversation = Conversation(
                self.link,
                self.engine,
                conversation_id="conv_1",
                api_key="sk_test",
                wire=wire,
                synthesizer=self._voice,
                connect=self._agent.connect,
            )
            await self.conversation.run()
        self.ended.set()
        self._notify()

    async def _read(self) -> None:
        while (message := await self.end.recv()) is not None:
            self.frames.append(json.loads(message))
            self.times.append(round(anyio.current_time() - self.begun, 6))
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def sends(self, frame: dict[str, Any] | str | bytes) -> None:
        self.link.put(json.dumps(frame) if isinstance(frame, dict) else frame)

    def says(self, text: str) -> None:
        self.sends({"type": "user_message", "text": text})

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait until so many frames of a type have come; return the last of them."""
        while len(found := self.of(kind)) < count:
            assert not self.ended.is_set(), self.frames
            await self._changed.wait()
        return found[count - 1]

    async def over(self) -> tuple[int, str] | None:
        """Wait for the end; return how the socket was closed."""
        await self.ended.wait()
        return self.link.closed

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of all frames of a type."""
        return [
            next(value for key, value in frame.items() if key != "type")
            for frame in self.frames
            if frame["type"] == kind
        ]

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    @property
    def parts(self) -> str:
        return "".join(part["text"] for part in self.of("agent_chat_response_part"))

    @property
    def sound_seconds(self) -> float:
        data = [base64.b64decode(event["audio_base_64"]) for event in self.of("audio")]
        return sum(map(len, data)) / SAMPLE_RATE / 2
