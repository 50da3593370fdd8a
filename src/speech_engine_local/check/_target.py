"""The server under test: how it is reached, and what it makes of a request."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import attrs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

from speech_engine_local._errors import ConnectError
from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token

from ._call import HANG_UP_SECONDS, Call, Unseen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager

    from websockets.asyncio.client import ClientConnection

__all__ = ["Answer", "Headers", "Target"]

Headers = list[tuple[str, str]]

ANSWER_SECONDS = 3.0
"""How long an upgrade may take."""


@attrs.frozen
class Answer:
    """What a server made of a request: an HTTP status, or None and how it went instead.

    Args:
        status: of the answer; 101 where it upgraded.
        how: it in words.
        subprotocol: the one chosen, if any.
    """

    status: int | None
    how: str
    subprotocol: str | None = None

    @property
    def is_upgrade(self) -> bool:
        """Whether the server took the call."""
        return self.status == 101

    @property
    def is_silence(self) -> bool:
        """Whether nothing came at all, and the connection was left open."""
        return self.how.startswith("no answer")


_SILENCE = Answer(None, f"no answer within {ANSWER_SECONDS:g} s, and not hung up either")
_HANG_UP = Answer(None, "hung up without an HTTP answer")
_NOBODY = Answer(None, "connection refused")


@attrs.frozen
class Target:
    """The server under test, and how to reach it.

    Args:
        url: its address, ws or wss.
        api_key: signs tokens; None sends none.
        patience: seconds that a reply may take.
        run: of this run alone: a part of the names of its conversations.
    """

    url: str
    api_key: str | None = attrs.field(repr=False)
    patience: float
    run: str = attrs.field(factory=lambda: secrets.token_hex(4))

    def name(self, purpose: str) -> str:
        """Return the id of a conversation for one purpose."""
        return f"conv_check_{self.run}_{purpose}"

    def place(self) -> tuple[str, str, int]:
        """Return the address without what may be secret in it, its host, and its port.

        Raises:
            ConnectError: it is no address of a WebSocket.
        """
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("ws", "wss") or not host:
            raise ConnectError("url: expected ws://host:port/path or wss://..., got something else")
        where = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return where, host, port or (443 if parts.scheme == "wss" else 80)

    def token(self, *, lifetime: float = 300, api_key: str = "", **claims: Any) -> Headers:
        """Return the header with a token: a valid one, or one that is wrong in what is given."""
        key = api_key or self.api_key
        if key is None:
            return []
        value = sign_token(key, now=time.time(), lifetime=lifetime, claims=claims)
        return [(AUTHORIZATION_HEADER, value)]

    async def knock(
        self, headers: Headers, *, url: str = "", subprotocols: Sequence[str] = ()
    ) -> Answer:
        """Ask for an upgrade, and leave at once where it is granted."""
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                async with self._dial(url or self.url, headers, subprotocols) as ws:
                    return Answer(101, "upgraded", ws.subprotocol)
        except InvalidStatus as error:
            status = error.response.status_code
            return Answer(status, f"refused with {status}")
        except TimeoutError:
            return _SILENCE
        except (ConnectionRefusedError, socket.gaierror):
            return _NOBODY
        except (InvalidMessage, EOFError, OSError):
            return _HANG_UP
        except InvalidHandshake:
            return Answer(None, "answered what is no WebSocket upgrade")

    @asynccontextmanager
    async def call(self, conversation_id: str = "", *, init: bool = True) -> AsyncGenerator[Call]:
        """Begin a conversation.

        Raises:
            Unseen: the server did not take it.
        """
        try:
            dialled = self._dial(self.url, self.token(), ())
            with anyio.fail_after(self.patience):
                ws = await dialled.__aenter__()
        except (TimeoutError, InvalidHandshake, EOFError, OSError) as error:
            raise Unseen(f"no conversation: {type(error).__name__}") from error
        call = Call(ws, self.patience)
        try:
            if init:
                await call.send(type="init", conversation_id=conversation_id or self.name("any"))
            yield call
        finally:
            await call.leave()

    async def send_raw(self, request: bytes, *, reset: bool = False) -> Answer:
        """Send bytes as they stand and read a status line; ``reset`` ends it with a TCP RST."""
        where, host, port = self.place()
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                stream = await _open(host, port, where.startswith("wss"))
                async with stream:
                    await stream.send(request)
                    if reset:
                        _reset_at_close(stream)
                        await anyio.sleep(0.2)  # the server shall have the request before the end
                        return Answer(None, "reset")
                    return _status_line(await stream.receive(1024))
        except TimeoutError:
            return _SILENCE
        except ConnectionRefusedError:
            return _NOBODY
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
            return _HANG_UP

    def elsewhere(self, suffix: str) -> str:
        """Return the address with something behind its path, or in its query."""
        parts = urlsplit(self.url)
        if suffix.startswith("?"):
            query = "&".join(filter(None, (parts.query, suffix[1:])))
            return urlunsplit(parts._replace(query=query))
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}{suffix}"))

    def upgrade_request(self, target: str) -> bytes:
        """Return an upgrade request for any target, without a token, as bytes."""
        lines = (
            f"GET {target} HTTP/1.1",
            f"Host: {urlsplit(self.url).netloc.rpartition('@')[2]}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: c3BlZWNoLWVuZ2luZS1jaA==",
        )
        return "\r\n".join((*lines, "", "")).encode()

    def _dial(
        self, url: str, headers: Headers, subprotocols: Sequence[str]
    ) -> AbstractAsyncContextManager[ClientConnection]:
        offered: Any = list(subprotocols) or None
        return connect(
            url,
            additional_headers=headers,
            subprotocols=offered,
            compression=None,
            open_timeout=None,
            close_timeout=HANG_UP_SECONDS,
            ping_interval=None,
            max_size=None,
            proxy=None,
        )


async def _open(host: str, port: int, tls: bool) -> Any:
    if tls:
        return await anyio.connect_tcp(host, port, tls=True, tls_standard_compatible=False)
    return await anyio.connect_tcp(host, port)


def _reset_at_close(stream: Any) -> None:
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _status_line(head: bytes) -> Answer:
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return Answer(None, "answered what is no HTTP")
    status = int(words[1])
    return Answer(status, f"answered {status}")
