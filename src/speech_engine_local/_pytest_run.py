"""Runs a test within its call, and looks at what the call leaves behind."""

from __future__ import annotations

import os
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import speech_engine_transports
from speech_engine_transports._streams import is_open, name_of, streams
from speech_engine_transports._virtual_time import world
from speech_engine_transports.errors import ServiceError

from ._errors import ConnectError, Rule
from ._pytest_agent import by_address, in_memory, over_socket, server_for
from ._pytest_call import Call
from ._pytest_options import options_of
from .engine import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from speech_engine_transports import SpeechEngineServer
    from speech_engine_transports._virtual_time import World

    from ._errors import Violation
    from ._pytest_agent import Line
    from ._pytest_options import Options

__all__ = ["Conversation", "prepare"]

CLEAN_UP = 6.0
"""Seconds that what belongs to a call may outlive it: a second more than the session's
``cancel_grace``, so that its warning, which names the handler, comes first."""

LOOK_AGAIN = 0.05
"""Seconds between two looks at what is left of a call."""

NO_NETWORK = (
    "in virtual time nobody waits for the network: an agent that needs it wants "
    "@pytest.mark.speech_engine(socket=True)"
)

OURS = tuple(
    str(Path(module.__file__ or "").parent) for module in (anyio, speech_engine_transports)
)
"""Where the frames of a traceback tell a user nothing."""


def prepare(request: pytest.FixtureRequest, agent: Any, backend: str) -> Conversation:
    """Return the conversation that a test asks for, or fail the test with what is wrong."""
    at_url = isinstance(agent, str)
    options = options_of(request, backend, at_url)
    try:
        server = None if at_url else server_for(agent, backend, options.socket)
        place = world(options.backend, virtual=not options.socket)
    except (TypeError, ImportError) as error:
        pytest.fail(f"call: {error}", pytrace=False)
    return Conversation(options, server, agent if at_url else "", place)


class Conversation:
    """One test and its call.

    Args:
        options: how to make the call.
        server: the agent; None where it is at an address.
        url: that address.
        place: the event loop.
    """

    def __init__(
        self, options: Options, server: SpeechEngineServer | None, url: str, place: World
    ) -> None:
        self.call = Call()
        self._options = options
        self._server = server
        self._url = url
        self._place = place
        self._story = self.call._story  # pyright: ignore[reportPrivateUsage]
        self._raised: BaseException | None = None
        self._findings: list[str] = []
        self._lines: list[str] = []

    def run(self, test: Callable[[], Awaitable[object]]) -> None:
        """Run a test to its end, then let it fail for what it left behind.

        Raises:
            BaseException: what the test raised, or pytest's failure.
        """

        async def main() -> None:
            await self._main(test)

        try:
            self._place.run(main)
        finally:
            self._lines = self._story.tell()
        if self._raised is not None:
            raise self._raised
        if self._findings:
            pytest.fail("\n".join([*self._findings, *self._traces()]), pytrace=False)

    def told(self) -> str:
        """Return the conversation as it went, for the report."""
        lines = [f"on {self._options.backend}, {self._where}", *self._lines]
        if any(each.rule is Rule.WORD_IN_TIME for each in self.call.violations):
            lines += [] if self._options.socket else [NO_NETWORK]
        if self._raised is not None:
            lines += self._traces()
        return "\n".join(lines)

    @property
    def _where(self) -> str:
        if not self._options.socket:
            return "in memory, in virtual time"
        return "over a socket, in real time"

    async def _main(self, test: Callable[[], Awaitable[object]]) -> None:
        before = self._place.tasks()
        with streams() as generators:
            try:
                async with self._line() as line:
                    await self._converse(line, test)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # an outcome of pytest's, such as a skip, is one
                self._raised = error
            await self._look_at_what_is_left(before, generators)
            self._look_at_call()

    def _line(self) -> AbstractAsyncContextManager[Line]:
        options = self._options
        if self._server is None:
            key = options.engine.get("api_key") or os.environ.get("ELEVENLABS_API_KEY")
            return by_address(self._url, options.backend, key)
        if options.socket:
            return over_socket(self._server, options.backend, self._on_error)
        return in_memory(self._server, self._place, self._on_error)

    async def _converse(self, line: Line, test: Callable[[], Awaitable[object]]) -> None:
        keywords: dict[str, Any] = {"api_key": line.api_key, **self._options.engine}
        if not self._options.socket:
            keywords["api_key"] = None  # a token would be signed for nobody
        engine = LocalEngine(
            line.url, connect=line.connect, on_violation=self._on_violation, **keywords
        )
        try:
            await engine.__aenter__()
        except ConnectError as error:
            pytest.fail(f"call: {error}", pytrace=False)
        self._story.note("call", "begins")
        self.call._begin(engine)  # pyright: ignore[reportPrivateUsage]
        try:
            await self._in_time(test)
        finally:
            if engine.is_open:
                self._story.note("call", "ends")
            await engine.__aexit__(None, None, None)

    async def _in_time(self, test: Callable[[], Awaitable[object]]) -> None:
        """Run the test itself; where its time is over, find the line at which it waits."""
        line = "an unknown line"
        with anyio.move_on_after(self._options.limit) as scope:
            try:
                await test()
            except anyio.get_cancelled_exc_class() as error:
                frames = traceback.extract_tb(error.__traceback__)
                line = next((f"line {frame.lineno}" for frame in frames[1:]), line)
                raise
        if scope.cancelled_caught:
            limit, kind = self._options.limit, "" if self._options.socket else "virtual "
            self._find(f"the test had not ended after {limit:g} {kind}seconds: it waits at {line}")

    def _on_violation(self, violation: Violation) -> None:
        self._story.note("rule", str(violation))

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, ServiceError):
            self._story.note("call", f"the agent was told: {error}")
            return
        self.call.errors.append(error)
        self._story.note("error", _name_of(error))

    # The end.

    def _find(self, text: str) -> None:
        self._findings.append(text)
        self._story.note("found", text)

    def _look_at_call(self) -> None:
        """Find what handlers raised, those that the end of the call called among them."""
        found: list[str] = []
        if "errors" not in self._options.allow:
            found += [f"a handler raised {_name_of(error)}" for error in self.call.errors]
        if "violations" not in self._options.allow:
            unheard = self.call._unheard_violations()  # pyright: ignore[reportPrivateUsage]
            found += map(str, unheard)
        self._findings[:0] = found  # what is left open is often their consequence

    async def _look_at_what_is_left(
        self, before: set[Any], generators: list[AsyncGenerator[Any, Any]]
    ) -> None:
        deadline = anyio.current_time() + CLEAN_UP
        while (left := self._place.tasks() - before) and anyio.current_time() < deadline:  # noqa: ASYNC110, no event tells of other people's tasks
            await anyio.sleep(LOOK_AGAIN)
        if left and "tasks" not in self._options.allow:
            names = _readable({self._place.describe(task) for task in left})
            self._find(f"still running {CLEAN_UP:g} s after the end of the call: {names}")
        if left:
            return  # and so are the streams that they read
        names = ", ".join(sorted(name_of(each) for each in generators if is_open(each)))
        for generator in filter(is_open, generators):  # or trio warns of it
            with anyio.move_on_after(CLEAN_UP), suppress(Exception):
                await generator.aclose()
        if names and "streams" not in self._options.allow:
            self._find(f"a stream was left open (see contextlib.aclosing): {names}")

    def _traces(self) -> list[str]:
        """Return where the handlers' errors came from, without the frames of this package."""
        if "errors" in self._options.allow:
            return []
        return [line for error in self.call.errors for line in ("", _trace_of(error))]


def _name_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _trace_of(error: Exception) -> str:
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(OURS)]
    )
    return "".join(told.format()).rstrip()


def _readable(tasks: set[str]) -> str:
    """Return what is still running, in the words of whoever wrote the agent."""
    handlers = {name for name in tasks if name.endswith("HandlerTask._run")}
    if handlers:  # and the session waits for it
        return "a handler of the agent (the log names it)"
    return ", ".join(sorted(tasks))
