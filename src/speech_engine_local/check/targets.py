"""Ready targets: servers whose handlers obey commands, so that the deeper checks can run.

What a caller says is the command; `Obedient` knows them all, and the reference lists them. Its
handlers are served by any of this package's transports, or by the official Python SDK.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from speech_engine_transports._groups import single_exception

from .runner import READY, READY_REPLY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup

__all__ = ["OFFICIAL_PYTHON", "OFFICIAL_TYPESCRIPT", "TRANSPORTS", "Obedient", "serving"]

TRANSPORTS = ("asyncio", "aiohttp", "trio", "asgi", "picows")
"""The transports of this package."""

OFFICIAL_PYTHON = "official-python"
"""The server of the package ``elevenlabs``, which must be installed."""

OFFICIAL_TYPESCRIPT = "official-typescript"
"""The server of ``@elevenlabs/elevenlabs-js``, found in ``node_modules`` of the working folder."""

INIT_SECONDS = 3.2
"""How long ``on_init`` takes in a call whose id has ``slow_init`` in it."""

SLOW_PIECE_SECONDS = 0.05
"""Between two pieces of what is said slowly."""


@attrs.define
class _Memory:
    """What the handlers of one call know."""

    raised: bool = False
    runs: int = 0
    is_initialised: bool = False
    may_speak: anyio.Event = attrs.field(factory=anyio.Event)
    closed: anyio.Event = attrs.field(factory=anyio.Event)


class Obedient:
    """Handlers that do what the caller says; give `callbacks` to a server.

    Args:
        group: where work in the background runs, longer than any call.
    """

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._events: defaultdict[str | None, list[str]] = defaultdict(list)
        self._noted: defaultdict[str | None, anyio.Event] = defaultdict(anyio.Event)

    @property
    def callbacks(self) -> dict[str, Callable[..., Awaitable[None]]]:
        """The handlers by the names that servers take."""
        return {
            "on_init": self.on_init,
            "on_transcript": self.on_transcript,
            "on_close": self.on_close,
            "on_disconnect": self.on_disconnect,
            "on_error": self.on_error,
        }

    async def on_init(self, conversation_id: str, session: Any) -> None:
        """Take long where the conversation's id says so."""
        if "slow_init" in str(conversation_id):
            await anyio.sleep(INIT_SECONDS)
        self._memory(session).is_initialised = True

    async def on_close(self, session: Any) -> None:
        """Note it, for who asks from another call."""
        self._note(session, "close")

    async def on_disconnect(self, session: Any) -> None:
        """Note it."""
        self._note(session, "disconnect")

    async def on_error(self, error: Exception, session: Any) -> None:
        """Note that there was one."""
        self._note(session, "error")

    async def on_transcript(self, transcript: list[Any], session: Any) -> None:
        """Do what the last message says; what is no command is repeated."""
        said = str(transcript[-1].content) if transcript else "echo nobody spoke"
        for pattern, method in _COMMANDS:
            if found := re.fullmatch(pattern, said, re.DOTALL):
                await method(self, transcript, session, *found.groups())
                return
        await session.send_response(f"You said: {said}")

    async def ready(self, _: list[Any], session: Any) -> None:
        await session.send_response(READY_REPLY)

    async def echo(self, _: list[Any], session: Any, text: str) -> None:
        await session.send_response(text)

    async def history(self, transcript: list[Any], session: Any) -> None:
        await session.send_response(" ".join(str(message.role) for message in transcript))

    async def conversation(self, _: list[Any], session: Any) -> None:
        await session.send_response(str(session.conversation_id))

    async def was_init_done(self, _: list[Any], session: Any) -> None:
        await session.send_response("yes" if self._memory(session).is_initialised else "no")

    async def say(self, _: list[Any], session: Any, count: str, how: str | None) -> None:
        await session.send_response(_words(int(count), how))

    async def sleep(self, _: list[Any], session: Any, seconds: str) -> None:
        await anyio.sleep(float(seconds))
        await session.send_response("slept")

    async def run(self, _: list[Any], session: Any, seconds: str) -> None:
        memory = self._memory(session)
        memory.runs += 1
        run = memory.runs
        await anyio.sleep(float(seconds))
        await session.send_response(f"run {run}")

    async def raise_(self, _: list[Any], session: Any, text: str | None) -> None:
        raise RuntimeError(text or "as the caller said")

    async def raise_once(self, _: list[Any], session: Any) -> None:
        memory = self._memory(session)
        if not memory.raised:
            memory.raised = True
            raise RuntimeError("as the caller said, once")
        await session.send_response("this time it went well")

    async def break_stream(self, _: list[Any], session: Any) -> None:
        await session.send_response(_broken())

    async def nothing(self, _: list[Any], session: Any) -> None:
        pass

    async def reply_twice(self, _: list[Any], session: Any) -> None:
        await session.send_response("once")
        await session.send_response("twice")

    async def swallow(self, _: list[Any], session: Any) -> None:
        await session.send_response(_unwilling())

    async def speak_later(self, _: list[Any], session: Any) -> None:
        memory = self._memory(session)

        async def speak() -> None:
            await memory.may_speak.wait()
            try:
                await session.send_response("late words")
            except Exception as error:
                self._note(session, type(error).__name__)

        self._group.start_soon(speak)
        await anyio.sleep(5)

    async def let_it_speak(self, _: list[Any], session: Any) -> None:
        self._memory(session).may_speak.set()
        await anyio.sleep(0.3)
        await session.send_response("my own words")

    async def witness(self, _: list[Any], session: Any) -> None:
        await session.send_response(_Witness(self._memory(session).closed))

    async def was_it_closed(self, _: list[Any], session: Any) -> None:
        closed = self._memory(session).closed
        with anyio.move_on_after(1):
            await closed.wait()
        await session.send_response("closed" if closed.is_set() else "open")

    async def hang_up(self, _: list[Any], session: Any) -> None:
        session.close()

    async def events(self, _: list[Any], session: Any, name: str) -> None:
        """Tell what was noted of a call; a little later, so that one too many is there as well."""
        with anyio.move_on_after(2):
            await self._noted[name].wait()
        await anyio.sleep(0.3)
        await session.send_response(" ".join(self._events[name]))

    def _note(self, session: Any, event: str) -> None:
        self._events[session.conversation_id].append(event)
        self._noted[session.conversation_id].set()

    def _memory(self, session: Any) -> _Memory:
        memory = getattr(session, "check_memory", None)
        if memory is None:
            memory = session.check_memory = _Memory()
        return memory


_COMMANDS: tuple[tuple[str, Callable[..., Awaitable[None]]], ...] = (
    (re.escape(READY), Obedient.ready),
    (r"echo (.*)", Obedient.echo),
    (r"history", Obedient.history),
    (r"conversation", Obedient.conversation),
    (r"init done\?", Obedient.was_init_done),
    (r"say (\d+) words?( slowly| and wait)?", Obedient.say),
    (r"sleep ([\d.]+)", Obedient.sleep),
    (r"run for ([\d.]+) s", Obedient.run),
    (r"raise once", Obedient.raise_once),
    (r"raise(?: (.+))?", Obedient.raise_),
    (r"break stream", Obedient.break_stream),
    (r"nothing", Obedient.nothing),
    (r"reply twice", Obedient.reply_twice),
    (r"swallow cancellation", Obedient.swallow),
    (r"speak later", Obedient.speak_later),
    (r"let it speak", Obedient.let_it_speak),
    (r"witness", Obedient.witness),
    (r"was it closed\?", Obedient.was_it_closed),
    (r"hang up", Obedient.hang_up),
    (r"events of (\S+)", Obedient.events),
)


@asynccontextmanager
async def serving(name: str, *, port: int = 0, api_key: str) -> AsyncGenerator[str]:
    """Serve a ready target on this machine while the block runs; give its address.

    Args:
        name: one of `TRANSPORTS`, or `OFFICIAL_PYTHON`.
        port: 0 takes a free one.
        api_key: what callers must sign with.

    Raises:
        ImportError: what it is built on is not installed.
        OSError: the port is taken.
        ValueError: there is no such target.
    """
    if name not in (*TRANSPORTS, OFFICIAL_PYTHON):
        raise ValueError(
            f"expected one of {', '.join(TRANSPORTS)}, {OFFICIAL_PYTHON}; got {name!r}"
        )
    with single_exception():
        async with _serving(name, port, api_key) as url:
            yield url


@asynccontextmanager
async def _serving(name: str, port: int, api_key: str) -> AsyncGenerator[str]:
    async with anyio.create_task_group() as group:
        callbacks = Obedient(group).callbacks
        serve = _official if name == OFFICIAL_PYTHON else _ours
        async with serve(name, port, api_key, callbacks) as at:
            yield f"ws://127.0.0.1:{at}/ws"
        group.cancel_scope.cancel()


@asynccontextmanager
async def _ours(name: str, port: int, api_key: str, callbacks: Any) -> AsyncGenerator[int]:
    from speech_engine_transports.server import SpeechEngineServer

    server = SpeechEngineServer(
        host="127.0.0.1", port=port, path="/ws", api_key=api_key, transport=name, **callbacks
    )
    async with server:
        yield server.port


@asynccontextmanager
async def _official(_: str, port: int, api_key: str, callbacks: Any) -> AsyncGenerator[int]:
    from elevenlabs.speech_engine import SpeechEngineServer

    at = _free_port(port)
    server = SpeechEngineServer(port=at, path="/ws", api_key=api_key, **callbacks)
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        with anyio.fail_after(10):
            while not await _listens(at):  # noqa: ASYNC110 - nothing tells when it listens
                await anyio.sleep(0.02)
        yield at
        group.cancel_scope.cancel()


class _Witness:
    """A stream that knows whether it was closed."""

    def __init__(self, closed: anyio.Event) -> None:
        self._closed = closed

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        await anyio.sleep(SLOW_PIECE_SECONDS)
        return "still "

    async def aclose(self) -> None:
        self._closed.set()


async def _words(count: int, how: str | None) -> AsyncGenerator[str]:
    for number in range(1, count + 1):
        yield f"word{number} "
        await anyio.sleep(SLOW_PIECE_SECONDS if how == " slowly" else 0)
    if how == " and wait":
        await anyio.sleep(30)


async def _broken() -> AsyncGenerator[str]:
    yield "before it breaks "
    raise RuntimeError("as the caller said")


async def _unwilling() -> AsyncGenerator[str]:
    yield "begun "
    try:
        await anyio.sleep(30)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(4)


def _free_port(port: int) -> int:
    """Return a port that can be listened on; OSError where it is taken."""
    with socket.create_server(("", port)) as taken:  # on all interfaces, as the official server
        return int(taken.getsockname()[1])


async def _listens(port: int) -> bool:
    try:
        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True
