"""A socket in memory, for tests of handlers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from speech_engine_proto import RemoteProtocolError, wire

from ._socket import Socket

if TYPE_CHECKING:
    from ._socket import Request

__all__ = ["ScriptedSocket"]


class ScriptedSocket(Socket):
    """A `Socket` in memory: messages to come, what was sent, how it was closed.

    A whole conversation, played to a session with your handlers::

        socket = ScriptedSocket(
            wire.Init("conv_1"),
            wire.UserTranscript((ConversationMessage("user", "Hello?"),), event_id=1),
        )
        session = create_session(socket).on("user_transcript", on_transcript)
        await session.run()
        assert socket.text == "Hello, who is speaking?"

    Messages are there at once, one after the other: a second transcript interrupts the first.
    Where it shall wait for the reply, leave the socket open and speak for the service yourself:
    `say`, `replied`, `hang_up`.

    Args:
        messages: what the service sends: messages of `speech_engine_proto.wire`, or raw ones.
        stay: stay open when all messages are read. Otherwise the socket ends then, but not before
            the last transcript has its whole reply.
        request: the upgrade request that the session sees.
    """

    def __init__(
        self,
        *messages: wire.Message | str | bytes,
        stay: bool = False,
        request: Request | None = None,
    ) -> None:
        super().__init__(request)
        self.sent: list[str] = []
        """The frames that were written, as they stand."""
        self.close_code: int | None = None
        """The code that the session closed the socket with; None while it has not."""
        self.aborted = False
        """Whether the session dropped the connection."""
        self._messages: deque[str | bytes] = deque()
        self._stay = stay
        self._gone = self._stalled = self._owes_reply = False
        self._asked: int | None = None
        self._changed = anyio.Event()
        self.say(*messages)

    # What the test does, and sees.

    def say(self, *messages: wire.Message | str | bytes) -> None:
        """Let the service send more messages."""
        for message in messages:
            raw = message if isinstance(message, str | bytes) else wire.encode(message)
            self._messages.append(raw)
        self._notify()

    def hang_up(self) -> None:
        """End the socket: what was not read is lost, and a write fails."""
        self._messages.clear()
        self._gone = True
        self._notify()

    def stall(self) -> None:
        """Stop reading, as the peer of a congested link: writes wait from here on."""
        self._stalled = True

    def resume(self) -> None:
        """Read on."""
        self._stalled = False
        self._notify()

    async def replied(self) -> None:
        """Wait until all messages are read, and the last transcript has its whole reply.

        Returns at once where the socket has ended.
        """
        while not self._gone and (self._messages or self._owes_reply):
            await self._changed.wait()

    @property
    def messages(self) -> list[wire.Message]:
        """What was sent, decoded: replies and pongs, in order."""
        return [wire.decode(frame) for frame in self.sent]

    @property
    def text(self) -> str:
        """All that was said, in one piece."""
        return "".join(
            message.content for message in self.messages if isinstance(message, wire.AgentResponse)
        )

    # What the session does.

    async def recv(self) -> str | bytes | None:
        """Return the next message; None when the script is over, or somebody hung up."""
        while not self._messages:
            if self._gone or not (self._stay or self._owes_reply):
                return None
            await self._changed.wait()
        message = self._messages.popleft()
        self._note_question(message)
        self._notify()
        return message

    async def send(self, frame: str) -> None:
        """Note a frame; waits while the peer is stalled."""
        while self._stalled and not self._gone:
            await self._changed.wait()
        if self._gone:
            raise ConnectionError("the scripted socket has ended")
        self._note_frame(frame)

    def try_send(self, frame: str) -> bool:
        """Note a frame, unless the peer is stalled or gone."""
        if self._stalled or self._gone:
            return False
        self._note_frame(frame)
        return True

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Note the code, and end; the first close counts."""
        if self.close_code is None:
            self.close_code = code
        self.hang_up()

    def abort(self) -> None:
        """Note it, and end."""
        self.aborted = True
        self.hang_up()

    def _note_question(self, message: str | bytes) -> None:
        """Note whether a reply is owed: an id that was asked before, or a lower one, gets none."""
        try:
            question = wire.decode(message)
        except RemoteProtocolError:
            return
        if not isinstance(question, wire.UserTranscript):
            return
        id = question.event_id
        if id is None or self._asked is None or id > self._asked:
            self._owes_reply = True
            self._asked = self._asked if id is None else id

    def _note_frame(self, frame: str) -> None:
        self.sent.append(frame)
        message = wire.decode(frame)
        if isinstance(message, wire.AgentResponse) and message.is_final:
            self._owes_reply = False
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
