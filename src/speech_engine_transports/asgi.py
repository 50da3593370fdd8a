"""Speech Engine inside an ASGI application: an accepted Starlette or FastAPI WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._socket import Request, Socket

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StarletteSocket"]


class StarletteSocket(Socket):
    """A `Socket` around ``starlette.websockets.WebSocket``, accepted by the route."""

    def __init__(self, ws: Any) -> None:
        client = ws.client
        headers = list(_text_pairs(ws.scope["headers"]))
        target = f"{ws.scope['path']}?{ws.scope['query_string'].decode('latin-1')}"
        super().__init__(Request.from_target(target, headers, client.host if client else None))
        self._ws = ws

    async def recv(self) -> str | bytes | None:
        """Return the next message, text or bytes; None when the client has gone."""
        if self._ws.client_state.name != "CONNECTED":
            return None
        message = await self._ws.receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, frame: str) -> None:
        """Write one text frame; ConnectionError where the client has gone."""
        try:
            await self._ws.send_text(frame)
        except Exception as error:
            # Each ASGI server raises its own class here, and Starlette a RuntimeError.
            raise ConnectionError(str(error)) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close in order, unless either side has closed already."""
        states = {self._ws.client_state.name, self._ws.application_state.name}
        if states == {"CONNECTED"}:
            await self._ws.close(code, reason)

    def abort(self) -> None:
        """ASGI has no such verb: the server drops the connection when the application returns."""


def _text_pairs(headers: list[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        yield name.decode("latin-1"), value.decode("latin-1")
