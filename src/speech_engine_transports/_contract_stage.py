"""What each test of the contract stands on: a server of the adapter, and what it fired."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from ._contract_caller import API_KEY, Caller, calling, expect, token, within
from .server import SpeechEngineServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from ._socket import Socket
    from .session import SpeechEngineSession

__all__ = ["ContractHooks", "Stage"]


class _Server(SpeechEngineServer):
    """A server whose conversations can be cancelled from outside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scopes: list[anyio.CancelScope] = []

    async def converse(self, socket: Socket) -> None:
        with anyio.CancelScope() as scope:
            self.scopes.append(scope)
            await super().converse(socket)


@attrs.define(eq=False)
class Stage:
    """A server at work, and what its conversations have fired."""

    patience: float
    ends: list[str] = attrs.field(factory=list[str])
    """``close`` and ``disconnect``, as they were fired."""
    errors: list[Exception] = attrs.field(factory=list[Exception])
    """What reached ``on_error``; a test takes out what it has brought about."""
    port: int = 0
    scopes: list[anyio.CancelScope] = attrs.field(factory=list[anyio.CancelScope])
    """One around each conversation: to cancel it from outside."""
    _changed: anyio.Event = attrs.field(factory=anyio.Event)

    def on_close(self, session: SpeechEngineSession) -> None:
        """Note the end that a ``close`` message brought."""
        self._note(self.ends, "close")

    def on_disconnect(self, session: SpeechEngineSession) -> None:
        """Note any other end."""
        self._note(self.ends, "disconnect")

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        """Note an error."""
        self._note(self.errors, error)

    async def takes_error(self) -> Exception:
        """Wait for an error that the test has brought about, and take it out."""
        with within(self.patience, "a call of on_error"):
            while not self.errors:
                await self._changed.wait()
        return self.errors.pop(0)

    async def ended(self, kind: str) -> None:
        """Wait until the conversation has fired how it ended."""
        with within(self.patience, f"a call of on_{kind}"):
            while kind not in self.ends:
                await self._changed.wait()

    async def reached(self, event: anyio.Event, what: str) -> None:
        """Wait for an event of the test."""
        with within(self.patience, what):
            await event.wait()

    @asynccontextmanager
    async def calling(
        self, path: str = "/ws", headers: Iterable[tuple[str, str]] | None = None
    ) -> AsyncGenerator[Caller]:
        """Dial the server, with a valid token unless other headers are given."""
        pairs = [token()] if headers is None else headers
        async with calling(self.port, path, pairs, self.patience) as caller:
            expect(caller.status, 101, "the answer to the upgrade request")
            yield caller

    async def refusal(self, path: str, headers: Iterable[tuple[str, str]]) -> int:
        """Dial the server and return the status of its answer."""
        async with calling(self.port, path, headers, self.patience) as caller:
            return caller.status

    def _note(self, where: list[Any], what: object) -> None:
        where.append(what)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class ContractHooks:
    """What a subclass says of its adapter."""

    patience: float = 30.0
    """Seconds to wait for anything before a test fails; a guard, not a measure."""

    def listen(self, server: SpeechEngineServer) -> AbstractAsyncContextManager[int]:
        """Listen on ``server.host`` and a free port while the block runs, and yield the port.

        Args:
            server: asks nothing but to be given each upgrade request (`SpeechEngineServer.admit`)
                and each accepted socket (`SpeechEngineServer.converse`).
        """
        raise NotImplementedError(f"{type(self).__name__}.listen: expected a hook, got none")

    def short_keepalive(self) -> AbstractContextManager[Any]:
        """Make servers that `listen` starts meanwhile find a half-open peer soon.

        By default they find it when their keepalive says so, and that test waits as long.
        """
        return nullcontext()

    @asynccontextmanager
    async def serving(self, *gates: anyio.Event, **options: Any) -> AsyncGenerator[Stage]:
        """Run a server on the adapter; at its end, check what it leaves behind.

        Args:
            gates: events that handlers wait for; set in the end, however the test goes.
            options: those of `SpeechEngineServer`.
        """
        stage = Stage(self.patience)
        defaults = {name: getattr(stage, name) for name in ("on_close", "on_disconnect")}
        defaults |= {"on_error": stage.on_error, "host": "127.0.0.1", "port": 0}
        server = _Server(**defaults | {"api_key": API_KEY} | options)
        server.prepare()
        stage.scopes = server.scopes
        before = {task.id for task in anyio.get_running_tasks()}
        with anyio.CancelScope() as scope:
            async with self.listen(server) as stage.port:
                try:
                    yield stage
                except BaseException:
                    for conversation in stage.scopes:
                        conversation.cancel()  # else one that never ends would hide the failure
                    raise
                finally:
                    for gate in gates:
                        gate.set()
                    scope.deadline = anyio.current_time() + self.patience
        expect(scope.cancelled_caught, False, "the listener had to be cancelled at its end")
        await _no_task_is_left(before, self.patience)
        expect(stage.errors, [], "what reached on_error")


async def _no_task_is_left(before: set[int], patience: float) -> None:
    """Check that nothing new runs; on asyncio a library's task may still be at its last step."""
    left = {task.id: task.name for task in anyio.get_running_tasks() if task.id not in before}
    if left and _on_asyncio():
        tasks = [task for task in asyncio.all_tasks() if id(task) in left]
        _, pending = await asyncio.wait(tasks, timeout=patience)
        left = {id(task): task.get_name() for task in pending}
    expect(sorted(str(name) for name in left.values()), [], "tasks that are left")


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
