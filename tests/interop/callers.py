"""A client of the cloud that hides nothing: every frame as it came."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from websockets.asyncio.client import ClientConnection

QUIET: dict[str, Any] = {"conversation_config_override": {"conversation": {"text_only": True}}}
"""What a client without loudspeakers sends with its first frame."""


class Caller:
    """One WebSocket of a client. Frames become notes of a `Diary`, by their type.

    Pings are answered, as every official client does.
    """

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.diary = Diary()

    async def send(self, type_: str, **fields: Any) -> None:
        await self.ws.send(json.dumps({"type": type_, **fields}))

    async def begin(self, **fields: Any) -> str:
        """Send the first frame, and return the name of the conversation."""
        await self.send("conversation_initiation_client_data", **fields)
        (metadata,) = await self.diary.next("conversation_initiation_metadata")
        name: str = metadata["conversation_id"]
        return name

    async def refused(self) -> tuple[int, str]:
        """Send the first frame, and wait to be refused; return the code and the reason."""
        await self.send("conversation_initiation_client_data", **QUIET)
        return await self.closed()

    async def say(self, text: str) -> None:
        await self.send("user_message", text=text)

    async def reply(self) -> str:
        """Return the next whole reply of the agent."""
        (event,) = await self.diary.next("agent_response")
        text: str = event["agent_response"]
        return text

    async def part(self, text: str) -> None:
        """Return when a piece of a reply has come with exactly this text."""
        while (await self.diary.next("agent_chat_response_part"))[0]["text"] != text:
            pass

    async def closed(self) -> tuple[int, str]:
        """Wait for the end of the socket, and return its code and reason."""
        code, reason = await self.diary.next("closed")
        return code, reason

    async def read(self) -> None:
        """Note each frame until the socket ends."""
        try:
            async for data in self.ws:
                frame = json.loads(data)
                kind = frame["type"]
                payload = [value for key, value in frame.items() if key != "type"]
                self.diary.note(kind, *payload)
                if kind == "ping":
                    await self.send("pong", event_id=payload[0]["event_id"])
        except ConnectionClosed:
            pass
        finally:
            self.diary.note("closed", self.ws.close_code, self.ws.close_reason)


@asynccontextmanager
async def calling(url: str, *, subprotocol: str | None = "convai") -> AsyncGenerator[Caller]:
    """Connect while the block runs.

    Args:
        url: the address of the conversation.
        subprotocol: what is offered, as browsers do; None offers none, as the Python client does.
    """
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with (
        connect(url, subprotocols=offered, proxy=None, max_size=2**24) as ws,
        anyio.create_task_group() as group,
    ):
        caller = Caller(ws)
        group.start_soon(caller.read)
        yield caller
        await ws.close()
