"""A language model on loopback, spoken to as OpenAI's Responses API is."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .talkers import words_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Model:
    """Streams what `words_for` says to the newest words of the user."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.hung_up = asyncio.Event()
        """Set when a caller drops a reply that is still streaming."""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces, endless = words_for(body["input"][-1]["content"])
        await _event(response, "response.created", response={"id": "resp_1", "output": []})
        for piece in pieces:
            await _event(
                response,
                "response.output_text.delta",
                delta=piece,
                item_id="msg_1",
                output_index=0,
                content_index=0,
                logprobs=[],
            )
        if endless:
            try:
                await asyncio.Event().wait()
            finally:
                self.hung_up.set()
        await _event(response, "response.completed", response={"id": "resp_1", "output": []})
        return response


@asynccontextmanager
async def modelling() -> AsyncGenerator[Model]:
    """Let a model listen while the block runs."""
    model = Model()
    app = web.Application()
    app.router.add_post("/v1/responses", model.respond)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()


async def _event(stream: web.StreamResponse, kind: str, /, **fields: Any) -> None:
    body = json.dumps({"type": kind, "sequence_number": 0, **fields})
    await stream.write(f"event: {kind}\ndata: {body}\n\n".encode())
