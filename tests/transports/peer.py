"""The service's end of a socket in memory; the test speaks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import anyio

from speech_engine_transports import SpeechEngineServer, SpeechEngineSession
from speech_engine_transports._socket import Request, Socket

from .clock import settle

if TYPE_CHECKING:
    from types import TracebackType

Reply = tuple[int | None, str, bool]
"""The id, the content and whether it is final."""


def init(conversation_id: str = "conv_1") -> str:
    return json.dumps({"type": "init", "conversation_id": conversation_id})


def transcript(*texts: str, id: int | None = None) -> str:
    """Return a transcript: the user and the agent take turns, and the user speaks last."""
    roles = ["user" if (len(texts) - i) % 2 else "agent" for i in range(len(texts))]
    entries = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]
    return json.dumps({"type": "user_transcript", "user_transcript": entries, "event_id": id})


PING = '{"type":"ping"}'
CLOSE = '{"type":"close"}'
PONG = {"type": "pong"}


class Peer(Socket):
    """A socket in memory.

    Args:
        stalled: writes wait, as where the other side does not read.
    """

    def __init__(self, *messages: str | bytes, stalled: bool = False) -> None:
        super().__init__(Request("/ws", "a=b"))
        self.frames: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self.aborted = 0
        self.stalled = stalled
        self._messages = list(messages)
        self._ended = False
        self._changed = anyio.Event()

    # What the session sees.

    async def recv(self) -> str | bytes | None:
        while not self._messages:
            if self._ended:
                return None
            await self._changed.wait()
        return self._messages.pop(0)

    async def send(self, frame: str) -> None:
        while self.stalled and not self._ended:
            await self._changed.wait()
        if self._ended:
            raise ConnectionError("gone")
        self.frames.append(json.loads(frame))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed.append(code)
        self.vanish()

    def abort(self) -> None:
        self.aborted += 1
        self.vanish()

    def try_send(self, frame: str) -> bool:
        if self.stalled or self._ended:
            return False
        self.frames.append(json.loads(frame))
        return True

    # What the test does.

    def say(self, message: str | bytes) -> None:
        self._messages.append(message)
        self._notify()

    def vanish(self) -> None:
        self._ended = True
        self._notify()

    def read_again(self) -> None:
        self.stalled = False
        self._notify()

    @property
    def replies(self) -> list[Reply]:
        return [
            (frame["event_id"], frame["content"], frame["is_final"])
            for frame in self.frames
            if frame["type"] == "agent_response"
        ]

    @property
    def pongs(self) -> int:
        return self.frames.count(PONG)

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def said(id: int | None, *pieces: str) -> list[Reply]:
    """Return the frames of one whole reply."""
    return [*cut(id, *pieces), (id, "", True)]


def cut(id: int | None, *pieces: str) -> list[Reply]:
    """Return the frames of a reply without its terminator."""
    return [(id, piece, False) for piece in pieces]


class Call:
    """A session at work on a `Peer`, while the block runs.

    Args:
        listen: note the errors; those that the test does not take fail it.
        options: callbacks and options, as a server takes them, and those of a session.
    """

    _OF_SERVER = ("fallback", "debug", "limits", "observer")

    def __init__(self, *, listen: bool = True, peer: Peer | None = None, **options: Any) -> None:
        names = [n for n in options if n not in self._OF_SERVER and not n.startswith("on_")]
        of_session = {name: options.pop(name) for name in names}
        self.peer = peer or Peer()
        server = SpeechEngineServer(session=of_session, **options)
        self.session: SpeechEngineSession = server.handle_connection(self.peer)
        self.errors: list[Exception] = []
        self.events: list[str] = []
        self.session.on("close", lambda: self.events.append("close"))
        self.session.on("disconnected", lambda: self.events.append("disconnected"))
        if listen:
            self.session.on("error", self.errors.append)

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self.ended = anyio.Event()
        self._group.start_soon(self._run)
        await settle()
        return self

    async def _run(self) -> None:
        try:
            await self.session.run()
        finally:
            self.ended.set()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.peer.vanish()
        result = await self._group.__aexit__(kind, error, traceback)
        assert self.errors == []
        return result

    @property
    def replies(self) -> list[Reply]:
        return self.peer.replies

    async def says(self, *texts: str, id: int | None = None) -> None:
        """Send a transcript, and let everything happen that can."""
        await self.gets(transcript(*texts, id=id))

    async def gets(self, *messages: str | bytes) -> None:
        for message in messages:
            self.peer.say(message)
        await settle()

    def take_errors(self) -> list[Exception]:
        errors, self.errors[:] = self.errors[:], []
        return errors
