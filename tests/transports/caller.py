"""The service's end of a real socket, which reads only when it is asked to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType

    from websockets.asyncio.client import ClientConnection

KEY = "key_of_the_tests"
INIT = '{"type":"init","conversation_id":"conv_1"}'


def token(key: str = KEY) -> tuple[str, str]:
    return AUTHORIZATION_HEADER, sign_token(key, now=time.time())


def transcript(text: str, id: int | None = None) -> str:
    entries = [{"role": "user", "content": text}]
    return json.dumps({"type": "user_transcript", "user_transcript": entries, "event_id": id})


@asynccontextmanager
async def call(
    port: int, target: str = "/ws", *headers: tuple[str, str], signed: bool = True, **options: Any
) -> AsyncGenerator[ClientConnection]:
    """Dial with an ordinary client."""
    pairs = [token(), *headers] if signed else list(headers)
    scheme = "wss" if "ssl" in options else "ws"
    async with connect(
        f"{scheme}://127.0.0.1:{port}{target}",
        additional_headers=pairs,
        compression=None,
        proxy=None,
        max_size=None,
        **options,
    ) as ws:
        yield ws


async def ask(ws: ClientConnection, text: str, id: int | None = None) -> str:
    """Say something, and return the whole reply."""
    await ws.send(transcript(text, id))
    return await reply_to(ws, id)


async def reply_to(ws: ClientConnection, id: int | None) -> str:
    pieces: list[str] = []
    while True:
        message = json.loads(await ws.recv())
        if message["type"] == "agent_response" and message["event_id"] == id:
            if message["is_final"]:
                return "".join(pieces)
            pieces.append(message["content"])


async def answer_to(port: int, request: bytes) -> bytes:
    """Send bytes on a new connection, and return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


class Caller:
    """A WebSocket client without a background task, on a socket with a small buffer."""

    def __init__(self, port: int, target: str = "/ws") -> None:
        self._address = ("127.0.0.1", port)
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{target}"), max_size=None)
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        request = self._protocol.connect()
        name, value = token()
        request.headers[name] = value
        self._protocol.send_request(request)
        await self._flush()
        while self._protocol.state is State.CONNECTING:
            await self._read_some()
        assert self._protocol.handshake_exc is None
        await self.say(INIT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    async def say(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        await self._flush()

    async def hang_up(self) -> None:
        """Send a close frame, and do not wait."""
        self._protocol.send_close(1000)
        await self._flush()

    def reset(self) -> None:
        """End the TCP connection with an RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def read(self, *, until: int | None = None) -> list[dict[str, Any]]:
        """Read to the terminator of a turn, or to the end; a broken frame is an error.

        Returns:
            the messages.
        """
        messages: list[dict[str, Any]] = []
        while not _ends(messages, until) and await self._read_some():
            messages += [
                json.loads(bytes(event.data))
                for event in self._protocol.events_received()
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT
            ]
            await self._flush()
            assert self._protocol.parser_exc is None
        return messages

    @property
    def close_code(self) -> int | None:
        return self._protocol.close_code

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        for data in self._protocol.data_to_send():
            if data:
                await loop.sock_sendall(self._socket, data)

    async def _read_some(self) -> bool:
        data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        return bool(data)


def _ends(messages: list[dict[str, Any]], id: int | None) -> bool:
    if id is None:
        return False
    return any(m["event_id"] == id and m["is_final"] for m in messages)
