"""One way to use the three kinds of management client: blocking, on asyncio, on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from speech_engine_transports.httpx import AsyncElevenLabs, ElevenLabs

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk_s3cret"
KINDS = ["blocking", "asyncio", "trio"]


class Client:
    """A client whose retries do not wait; ``waits`` are the seconds that they would.

    ``do`` calls something with the client and returns what came of it. On a loop each ``do`` has
    one of its own, as in a program that calls ``asyncio.run`` more than once.
    """

    def __init__(self, kind: str, **options: Any) -> None:
        self.waits: list[float] = []
        self._kind = kind
        options.setdefault("api_key", KEY)
        self.client: Any
        if kind == "blocking":
            self.client = ElevenLabs(**options)
            self.client._carrier.sleep = self.waits.append
        else:
            self.client = AsyncElevenLabs(**options)
            self.client._carrier.sleep = self._record

    def do(self, call: Callable[[Any], Any]) -> Any:
        if self._kind == "blocking":
            return call(self.client)

        async def main() -> Any:
            return await call(self.client)

        return anyio.run(main, backend=self._kind)

    def inside(self, *calls: Callable[[Any], Any]) -> list[Any]:
        """Do several things in one ``with`` block."""
        if self._kind == "blocking":
            with self.client as entered:
                return [call(entered) for call in calls]

        async def main() -> list[Any]:
            async with self.client as entered:
                return [await call(entered) for call in calls]

        return anyio.run(main, backend=self._kind)

    async def _record(self, seconds: float) -> None:
        self.waits.append(seconds)


def everything(items: Any) -> Any:
    """Return all that an iterator yields as a list, or a coroutine that does."""
    if hasattr(items, "__aiter__"):

        async def collect() -> list[Any]:
            return [item async for item in items]

        return collect()
    return list(items)
