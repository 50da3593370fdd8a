"""An agent for the tests of servers in processes of their own: it does what it is told.

``app`` is what ASGI servers import; `Agent` also serves inside the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import trio
from trio.lowlevel import current_trio_token

from speech_engine_transports.asgi import app as make_app

from .caller import KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from speech_engine_transports import ConversationMessage, SpeechEngineSession

PIECE = "x" * 60_000


class Agent:
    """Answers ``pid``, ``events``, ``sent`` and ``request``; ``flood`` talks until it is cut off,
    ``hold`` until `let_go`.

    It notes what happens to conversations that have an id.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.events: list[str] = []
        self._held: list[Callable[[], object]] = []

    def let_go(self) -> None:
        """End the replies to ``hold``, from whatever thread."""
        for wake in self._held:
            wake()

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        match transcript[-1].content:
            case "flood":
                await self._flood(session)
            case "pid":
                await session.send_response(str(os.getpid()))
            case "events":
                await session.send_response(json.dumps(self.events))
            case "sent":
                await session.send_response(str(self.sent))
            case "request":
                request = session.request
                seen = [request.path, request.query, request.headers.get("x-who"), request.peer]
                await session.send_response(json.dumps(seen))
            case "hold":
                await session.send_response("held", final=False)
                await self._hold()
                await session.send_response(" and let go")
            case "hold until drained":
                await session.send_response("held", final=False)
                while app.server.health["state"] == "serving":
                    await anyio.lowlevel.checkpoint()
                await session.send_response(" and let go")
            case "bye":
                session.close()
            case text:
                if text == "stop":
                    self._note("heard stop", session)
                await session.send_response(f"You said {text}")

    async def _hold(self) -> None:
        event = anyio.Event()
        if trio.lowlevel.in_trio_run():
            self._held.append(partial(current_trio_token().run_sync_soon, event.set))
        else:
            loop = asyncio.get_running_loop()
            self._held.append(partial(loop.call_soon_threadsafe, event.set))
        await event.wait()

    async def _flood(self, session: SpeechEngineSession) -> None:
        try:
            while True:
                self.sent += 1
                await session.send_response(PIECE, final=False)
        finally:
            self._note("cut", session)

    @property
    def callbacks(self) -> dict[str, Any]:
        names = ("on_transcript", "on_close", "on_disconnect", "on_error")
        return {name: getattr(self, name) for name in names}

    def on_close(self, session: SpeechEngineSession) -> None:
        self._note("close", session)

    def on_disconnect(self, session: SpeechEngineSession) -> None:
        self._note("disconnect", session)

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        self._note(f"error {error!r}", session)

    def _note(self, event: str, session: SpeechEngineSession) -> None:
        if session.conversation_id is not None:
            self.events.append(event)


agent = Agent()
app = make_app(api_key=KEY, path="/ws", **agent.callbacks)
