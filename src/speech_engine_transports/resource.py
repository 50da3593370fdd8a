"""A Speech Engine as the official SDK hands it out: by its id, with what one does with it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from speech_engine_proto.auth import AuthenticationError, find_token, verify_token

from .server import SpeechEngineServer
from .session import SpeechEngineSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speech_engine_proto.auth import Headers

    from ._socket import Socket, WebSocketLike

__all__ = ["SpeechEngineResource", "create_session"]


class SpeechEngineResource:
    """One Speech Engine.

    Args:
        engine_id: its id, such as ``"seng_..."``.
        api_key: the key, or several while one is replaced; by default the environment variable
            ``ELEVENLABS_API_KEY``, read when it is needed.
        config: the engine's settings as the management API returned them, or None.
    """

    def __init__(
        self,
        engine_id: str,
        *,
        api_key: str | Sequence[str] | None = None,
        config: Any = None,
    ) -> None:
        self.engine_id = engine_id
        self.config = config
        self._api_key = api_key

    def __repr__(self) -> str:
        return f"SpeechEngineResource({self.engine_id!r})"

    async def serve(
        self,
        *,
        port: int = 3001,
        path: str | None = None,
        debug: bool = False,
        disable_auth: bool = False,
        **options: Any,
    ) -> None:
        """Start a server and block until it is stopped; see `SpeechEngineServer` for the options.

        Raises:
            RuntimeError: there is no API key and ``disable_auth`` is not set.
            TypeError: an unknown option or callback.
        """
        options.setdefault("api_key", self._api_key)
        server = SpeechEngineServer(
            port=port, path=path, debug=debug, disable_auth=disable_auth, **options
        )
        await server.serve()

    def verify_request(self, headers: Headers) -> bool:
        """Tell whether a request comes from the service.

        Args:
            headers: a mapping or a list of pairs; names without regard to case.
        """
        keys = self._api_key or os.environ.get("ELEVENLABS_API_KEY")
        if not keys:
            return False
        try:
            verify_token(find_token(headers), keys, now=time.time())
        except AuthenticationError:
            return False
        return True

    def create_session(
        self, ws: Socket | WebSocketLike | Any, *, debug: bool = False, **options: Any
    ) -> SpeechEngineSession:
        """Wrap an accepted WebSocket in a session; see `create_session`."""
        return create_session(ws, debug=debug, **options)


def create_session(
    ws: Socket | WebSocketLike | Any, *, debug: bool = False, **options: Any
) -> SpeechEngineSession:
    """Wrap an accepted WebSocket in a session.

    It does not verify who has connected. Where you accept the upgrade yourself, verify first, as
    in this FastAPI route::

        @app.websocket("/ws")
        async def talk(websocket: WebSocket):
            if not engine.verify_request(websocket.headers.items()):
                await websocket.close(1008)
                return
            await websocket.accept()
            session = engine.create_session(websocket)
            session.on("user_transcript", on_transcript)
            await session.run()

    Args:
        ws: a connection of ``websockets`` (asyncio or trio) or ``trio-websocket``, a Starlette or
            FastAPI ``WebSocket``, aiohttp's ``WebSocketResponse`` or ``ClientWebSocketResponse``,
            a `speech_engine_transports.picows.Listener`, or any object with ``recv``, ``send``
            and ``close``.
        debug: show transcripts and replies on stdout.
        options: further keywords of `SpeechEngineSession`.

    Raises:
        TypeError: ``ws`` is none of these.
    """
    return SpeechEngineSession(ws, debug=debug, **options)
