"""An agent for the tests of servers in processes of their own: it does what it is told.

``app`` is what ASGI servers import; `Agent` also serves inside the tests.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from speech_engine_transports.asgi import app as make_app

from .caller import KEY

if TYPE_CHECKING:
    from speech_engine_transports import ConversationMessage, SpeechEngineSession

PIECE = "x" * 60_000


class Agent:
    """Answers ``pid``, ``events``, ``sent`` and ``request``; ``flood`` talks until it is cut off.

    It notes what happens to conversations that have an id.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.events: list[str] = []

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
            case "bye":
                session.close()
            case text:
                if text == "stop":
                    self._note("heard stop", session)
                await session.send_response(f"You said {text}")

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
