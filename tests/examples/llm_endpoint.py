"""An endpoint with OpenAI's streaming chat completions, on loopback.

It does what the caller's newest words say: "think" sends no response at all, "go on" writes without
an end, "hold" waits in mid stream to be let go, "fail" answers 500, "break" fails in mid stream;
anything else is repeated, word by word.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

FAILURE = {
    "error": {
        "message": "The server had an error while processing: fail, please",
        "type": "server_error",
        "param": None,
        "code": None,
    }
}


class Endpoint:
    """What was asked of it, and whether who asked has gone."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.let_go = asyncio.Event()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.arrived.set()
        try:
            return await self._answer(request, body)
        except asyncio.CancelledError:  # how aiohttp tells that the client hung up
            self.gone.set()
            raise

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        match body["messages"][-1]["content"]:
            case "think":
                return await _never()
            case "fail":
                return web.json_response(FAILURE, status=500)
            case "go on":
                response = await _begin(request, ["On ", "and ", "on "])
                return await _never()
            case "hold":
                response = await _begin(request, ["One moment. "])
                await self.let_go.wait()
                await response.write(_event(_chunk({"content": "Here it is."})))
                await response.write(b"data: [DONE]\n\n")
            case "break":
                response = await _begin(request, ["I was "])
                await response.write(_event(FAILURE))
            case text:
                response = await _begin(request, re.findall(r"\S+\s*", f"You said: {text}"))
                await response.write(_event(_chunk({}, finish_reason="stop")))
                await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@asynccontextmanager
async def serving() -> AsyncGenerator[Endpoint]:
    """Listen on a free port while the block runs."""
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.complete)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield endpoint
    finally:
        await runner.cleanup()


async def _begin(request: web.Request, words: Iterable[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    await response.write(_event(_chunk({"role": "assistant", "content": "", "refusal": None})))
    for word in words:
        await response.write(_event(_chunk({"content": word})))
    return response


async def _never() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "tiny-2025-01-01",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        "usage": None,
    }


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
