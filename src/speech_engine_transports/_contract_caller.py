"""The service's end of a real socket, for tests: a raw client that shares no code with an adapter.

It reads only when it is asked to. So it can be a peer that stops reading, and it sees each frame
as it came. The framing is that of websockets' sans-I/O client; the sockets are anyio's.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.abc

from speech_engine_proto import ConversationMessage, Limits, RemoteProtocolError, wire
from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token

try:
    from websockets.client import ClientProtocol
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Response
    from websockets.uri import parse_uri
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "AdapterContract needs websockets: pip install 'speech-engine-proto[testing]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

__all__ = ["API_KEY", "Caller", "Heard", "calling", "cut", "expect", "said", "token", "within"]

API_KEY = "sk_contract"

RECEIVE_BUFFER_BYTES = 64 * 1024
"""Asked of the kernel: with a small buffer, whoever writes to a peer that does not read waits."""

Heard: TypeAlias = tuple[int | None, str, bool]
"""One frame of a reply: id, content, whether it is final."""


def said(id: int | None, *pieces: str) -> list[Heard]:
    """Return the frames of one whole reply."""
    return [*cut(id, *pieces), (id, "", True)]


def cut(id: int | None, *pieces: str) -> list[Heard]:
    """Return the frames of a reply without its terminator."""
    return [(id, piece, False) for piece in pieces]


def token(key: str = API_KEY) -> tuple[str, str]:
    """Return the header with a valid token for a key."""
    return AUTHORIZATION_HEADER, sign_token(key, now=time.time())


def expect(got: object, expected: object, what: str) -> None:
    """Raise an AssertionError in words, unless both are equal."""
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {got!r}")


@contextmanager
def within(seconds: float, what: str) -> Generator[None]:
    """Raise an AssertionError that names what was waited for, once it takes too long."""
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise AssertionError(f"{what}: waited for it for {seconds:g} s in vain")


class Caller:
    """One dialled connection.

    Args:
        stream: the connected socket.
        protocol: the framing.
        patience: seconds to wait for anything before the test fails.
    """

    def __init__(
        self, stream: anyio.abc.SocketStream, protocol: ClientProtocol, patience: float
    ) -> None:
        self.status = 0
        self._stream = stream
        self._protocol = protocol
        self._patience = patience
        self._messages: deque[bytes] = deque()
        self._partial = b""
        self._ended = False

    # What the service sends.

    async def asks(self, text: str, *, id: int | None) -> None:
        """Send a transcript with one message."""
        await self.sends(question(text, id))

    async def sends(self, *messages: wire.Message | bytes) -> None:
        """Send messages as text, and bytes as a binary message, all in one write."""
        for message in messages:
            if isinstance(message, bytes):
                self._protocol.send_binary(message)
            else:
                self._protocol.send_text(wire.encode(message).encode())
        await self._flush()

    async def sends_in_parts(self, message: wire.Message, parts: int) -> None:
        """Send one message in several frames, a WebSocket ping after each but the last."""
        data = wire.encode(message).encode()
        size = len(data) // parts + 1
        for start in range(0, len(data), size):
            part, fin = data[start : start + size], start + size >= len(data)
            if start == 0:
                self._protocol.send_text(part, fin=fin)
            else:
                self._protocol.send_continuation(part, fin=fin)
            if not fin:
                self._protocol.send_ping(b"part")
            await self._flush()

    async def hangs_up(self) -> None:
        """Close the WebSocket in order, without a ``close`` message before."""
        self._protocol.send_close(1000)
        await self._flush()

    async def stops_sending(self) -> None:
        """Shut down one direction of TCP, without a closing handshake."""
        await self._stream.send_eof()

    async def resets(self) -> None:
        """Drop the connection with a TCP reset, as a peer that has crashed."""
        raw = self._stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(self._stream)
        self._ended = True

    # What the service sees.

    async def message(self) -> wire.Message:
        """Return the next message of the agent.

        Raises:
            AssertionError: there is none in time, or the socket ended, or a frame is broken.
        """
        with within(self._patience, "the agent's next message"):
            while not self._messages:
                if self._ended:
                    raise AssertionError(
                        f"the agent's next message: the socket has ended ({self._close_code})"
                    )
                await self.reads_some()
        try:
            return wire.decode(self._messages.popleft(), _ANY_LENGTH)
        except RemoteProtocolError as error:
            raise AssertionError(f"a broken frame is on the wire: {error}") from error

    async def hears(self, *frames: Heard) -> None:
        """Check that exactly these are the next messages.

        Raises:
            AssertionError: they are not.
        """
        heard = [_as_heard(await self.message()) for _ in frames]
        expect(heard, list(frames), "what the caller heard")

    async def hears_until_end_of(self, id: int) -> list[Heard]:
        """Return the frames of replies up to the terminator of a turn; pongs are left out."""
        heard: list[Heard] = []
        while heard[-1:] != [(id, "", True)]:
            message = await self.message()
            if isinstance(message, wire.AgentResponse):
                heard.append(_as_heard(message))
        return heard

    async def gets_pong(self) -> None:
        """Send a ping, and check that the next message is the pong."""
        await self.sends(wire.Ping())
        expect(await self.message(), wire.Pong(), "the answer to a ping")

    async def end(self) -> int | None:
        """Read to the end of the socket; return the close code, None where there was none."""
        with within(self._patience, "the end of the socket"):
            while not self._ended:
                await self.reads_some()
        return self._close_code

    async def reads_some(self) -> None:
        """Read what has come so far, or wait until something comes."""
        try:
            self._protocol.receive_data(await self._stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self._protocol.receive_eof()
            self._ended = True
        self._take_events()
        await self._flush()

    async def upgrades(self, path: str, headers: Iterable[tuple[str, str]]) -> None:
        """Ask for the upgrade; `status` tells how that ended."""
        request = self._protocol.connect()
        request.path = path
        for name, value in headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        await self._flush()
        with within(self._patience, "the answer to the upgrade request"):
            while not self.status and not self._ended:
                await self.reads_some()

    @property
    def _close_code(self) -> int | None:
        received = self._protocol.close_rcvd
        return None if received is None else received.code

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self.status = event.status_code
            elif isinstance(event, Frame) and event.opcode in _DATA:
                self._partial += event.data
                if event.fin:
                    self._messages.append(self._partial)
                    self._partial = b""
        broken = self._protocol.parser_exc
        if broken is not None and not isinstance(broken, EOFError):
            raise AssertionError(f"a broken frame is on the wire: {broken}") from broken

    async def _flush(self) -> None:
        chunks = self._protocol.data_to_send()
        try:
            if any(chunks):
                await self._stream.send(b"".join(chunks))
            if chunks and not chunks[-1]:  # how the protocol says that it writes no more
                await self._stream.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return  # the other side has gone: reading tells


@asynccontextmanager
async def calling(
    port: int, path: str, headers: Iterable[tuple[str, str]], patience: float
) -> AsyncGenerator[Caller]:
    """Dial a server on this machine and ask for the upgrade, whatever the answer is."""
    stream = await anyio.connect_tcp("127.0.0.1", port)
    async with stream:
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"), max_size=None)
        caller = Caller(stream, protocol, patience)
        await caller.upgrades(path, headers)
        yield caller


def question(text: str, id: int | None) -> wire.UserTranscript:
    """Return a transcript with one message."""
    return wire.UserTranscript((ConversationMessage("user", text),), id)


_ANY_LENGTH = Limits(max_frame_bytes=2**30)
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def _as_heard(message: wire.Message) -> Any:
    if isinstance(message, wire.AgentResponse):
        return message.event_id, message.content, message.is_final
    return message
