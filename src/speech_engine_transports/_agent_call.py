"""One call to an agent under test: a caller, a service that repeats itself, and what they notice.

Everything is in memory and in virtual time. What is noticed is kept as a `Finding`, not raised:
most of it happens inside the agent's own tasks.
"""

from __future__ import annotations

import functools
from collections import deque
from contextlib import suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from speech_engine_proto import (
    ConnectionClosedError,
    ProtocolViolation,
    RemoteProtocolError,
    ReplyFinished,
    ReplyText,
    StaleTurnError,
)
from speech_engine_proto._testing_strategies import Service

from ._handlers import Handlers
from ._socket import Socket
from ._streams import is_open, name_of, streams
from .errors import ServiceError
from .session import SpeechEngineSession

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from speech_engine_proto import ConversationMessage, Turn
    from speech_engine_proto._testing_strategies import Question

    from ._handlers import Handler
    from ._options import SessionOptions
    from ._streams import TrackedStream
    from ._virtual_time import World

__all__ = ["Bounds", "Call", "Finding"]

LOOK_AGAIN = 0.1
"""Virtual seconds between two looks at what is left of a call."""

CLOCK_RESOLUTION = 0.001
"""Virtual seconds below which two times on asyncio are the same."""


@attrs.frozen(kw_only=True)
class Bounds:
    """How long things may take, in virtual seconds.

    Args:
        first_word: from a question to the first word of its reply; None is any time.
        reply: from a question to the end of its reply.
        clean_up: from the end of a call to that of the last task that belongs to it.
    """

    first_word: float | None
    reply: float
    clean_up: float


@attrs.frozen
class Finding:
    """What is wrong with an agent, in words, and the exception that shows it, if one does."""

    text: str
    cause: Exception | None = None


class _Line(Socket):
    """The agent's end of a socket in memory, which never makes a writer wait."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear
        self._coming: deque[str | None] = deque()
        self._changed = anyio.Event()

    def push(self, frame: str | None) -> None:
        """Let a frame arrive; None is the end of the socket."""
        self._coming.append(frame)
        self._changed.set()

    async def recv(self) -> str | None:
        while not self._coming:
            self._changed = anyio.Event()
            await self._changed.wait()
        if self._coming[0] is None:
            return None  # and again, if asked again
        return self._coming.popleft()

    async def send(self, frame: str) -> None:
        self._hear(frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.push(None)

    def abort(self) -> None:
        self.push(None)

    def try_send(self, frame: str) -> bool:
        self._hear(frame)
        return True


class Call:
    """One call, from ``init`` to the end of everything that belongs to it.

    Args:
        world: the running event loop.
        callbacks: the agent, as a server takes it.
        options: the settings of the session.
        bounds: how long things may take.
        check_reply: the user's own check of a whole reply.
        tracked: streams whose end is to be seen.
    """

    def __init__(
        self,
        world: World,
        callbacks: Mapping[str, Handler],
        options: SessionOptions,
        bounds: Bounds,
        check_reply: Callable[[list[ConversationMessage], str], object],
        tracked: list[TrackedStream],
    ) -> None:
        self.findings: list[Finding] = []
        self.story: list[str] = []
        self._world = world
        self._bounds = bounds
        self._check_reply = check_reply
        self._tracked = tracked
        self._service = Service()
        self._line = _Line(self._hear)
        watched: dict[str, Handler | None] = {
            name: self._watch(name, handler) for name, handler in callbacks.items()
        }
        handlers = Handlers.from_callbacks(watched)
        self._session = SpeechEngineSession.with_options(self._line, handlers, options)
        self._session.on("error", self._on_error)
        self._working: dict[object, str] = {}
        self._asked_at = 0.0
        self._pieces = 0
        self._over = False
        self._session_ended = False
        self._changed = anyio.Event()

    async def run(self, steps: Iterable[Callable[[Call], Any]]) -> None:
        """Play a call: each step in turn, then the rest of the reply, then the end."""
        before = self._world.tasks()
        self._note("the call begins")
        with streams() as generators:
            self._world.spawn(self._run_session)
            self._line.push(self._service.connection.send_init("conv_1"))
            for step in steps:
                await step(self)
            if not self._over:
                await self.hear_out()
                await self.hang_up()
            await self._look_at_what_is_left(before, generators)

    async def say(self, text: str) -> None:
        """The caller speaks; where the agent still does, they talk over it."""
        self._give_up_turn()
        self._asked_at = anyio.current_time()
        self._ask(self._service.ask(text), f"says {text!r}")

    async def ask_again(self) -> None:
        """The caller says once more what they said last."""
        await self.say(self._current.transcript[-1].content)

    async def resend(self) -> None:
        """The service sends the current transcript again as it was."""
        if self._current.finished and not self._current.reply:
            self._asked_at = anyio.current_time()
        self._ask(self._service.repeat(), None)

    async def resend_older(self) -> None:
        """The service sends its first transcript again, however old that is."""
        self._ask(self._service.repeat_oldest(), None)

    async def resend_under_new_id(self) -> None:
        """The service sends the current transcript again, under the next id."""
        if self._current.finished or self._current.reply:
            self._asked_at = anyio.current_time()  # else it is the same question to the caller
        self._ask(self._service.repeat_under_new_id(), None)

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        await anyio.sleep(seconds)

    async def hear(self, pieces: int) -> None:
        """The caller listens to some more pieces of the reply, or to its end."""
        wanted = self._pieces + pieces
        await self._until(lambda: self._pieces >= wanted or self._quiet, self._bounds.reply)

    async def hear_out(self) -> None:
        """The caller listens until the reply has ended."""
        if not await self._until(lambda: self._quiet, self._bounds.reply):
            self._give_up_turn()
            limit = self._bounds.reply
            self._find(f"{self._turn}: the reply had not ended after {limit:g} s")

    async def hang_up(self) -> None:
        """The caller hangs up: the service says so and closes."""
        self._note("the caller hangs up")
        self._end(self._service.connection.send_close())

    async def drop(self) -> None:
        """The line drops: the socket ends without a word."""
        self._note("the line drops")
        self._end()

    # The caller's and the service's side.

    @property
    def _current(self) -> Question:
        return self._service.questions[-1]

    @property
    def _turn(self) -> str:
        return f"turn {self._current.event_id}"

    @property
    def _quiet(self) -> bool:
        current = self._service.current
        return current is None or current.finished or self._session_ended

    def _ask(self, frame: str, words: str | None) -> None:
        who = f"the caller {words}" if words else "the service repeats a transcript"
        self._note(f"{who} ({self._turn})")
        self._line.push(frame)

    def _end(self, *frames: str) -> None:
        self._give_up_turn()
        self._over = True
        for frame in (*frames, None):
            self._line.push(frame)

    def _give_up_turn(self) -> None:
        """Check what must hold of a turn that ends here, whatever comes next."""
        current = self._service.current
        if current is not None and not current.reply and not current.finished:
            self._check_first_word("had not come")

    def _check_first_word(self, verb: str) -> None:
        limit, elapsed = self._bounds.first_word, anyio.current_time() - self._asked_at
        if limit is not None and elapsed > limit + CLOCK_RESOLUTION:
            found = f"the first word {verb} after {elapsed:g} s; first_word_limit is {limit:g} s"
            self._find(f"{self._turn}: {found}")

    def _hear(self, frame: str) -> None:
        """Take a frame as the service does."""
        match self._service.connection.receive(frame):
            case ReplyText(_, text):
                self._note(f"the agent says {text!r} ({self._turn})")
                if not self._current.reply:
                    self._check_first_word("came")
                self._current.reply += text
                self._pieces += 1
            case ReplyFinished():
                self._note(f"the agent has answered {self._turn}")
                self._current.finished = True
                self._judge(self._current)
            case ProtocolViolation(error):
                self._find(f"the agent broke the protocol: {error}", error)
            case _:
                pass  # pongs, and words that come too late: normal where messages cross
        self._notify()

    def _judge(self, question: Question) -> None:
        if not question.reply:
            self._find(f"{self._turn} was answered without a word")
            return
        try:
            self._check_reply(list(question.transcript), question.reply)
        except Exception as error:
            self._find(f"{self._turn}: check_reply: {_told(error)}", error)

    # The agent's side.

    async def _run_session(self) -> None:
        try:
            await self._session.run()
        except Exception as error:
            self._find(f"the session ended with {_told(error)}", error)
        finally:
            self._session_ended = True
            self._notify()

    def _watch(self, name: str, handler: Handler) -> Handler:
        """Return a handler that does the same, and is seen while it works and when it fails."""

        @functools.wraps(handler)
        async def watched(*args: Any) -> None:
            turn: Turn | None = args[-1].turn
            label = name if turn is None else f"turn {turn.event_id}: {name}"
            work = object()
            self._working[work] = label
            try:
                result = handler(*args)
                if isawaitable(result):
                    await result
            except Exception as error:
                if not _came_too_late(error, turn):
                    self._find(f"{label} raised {_told(error)}", error)
                raise
            finally:
                del self._working[work]

        return watched

    def _on_error(self, error: Exception) -> None:
        known = any(finding.cause is error for finding in self.findings)
        if not known and not isinstance(error, (ServiceError, RemoteProtocolError)):
            self._find(f"the session reported {_told(error)}", error)

    # The end.

    async def _look_at_what_is_left(
        self, before: set[Any], generators: list[AsyncGenerator[Any, Any]]
    ) -> None:
        grace = self._bounds.clean_up
        deadline = anyio.current_time() + grace
        await self._until(lambda: self._session_ended, grace)
        if not self._session_ended:
            working = ", ".join(self._working.values()) or "the session"
            self._find(f"{working} was still running {grace:g} s after the end of the call")
            return
        while (left := self._world.tasks() - before) and anyio.current_time() < deadline:  # noqa: ASYNC110, no event tells of other people's tasks
            await anyio.sleep(LOOK_AGAIN)
        if left:
            names = ", ".join(sorted(map(self._world.describe, left)))
            self._find(f"a task was still running {grace:g} s after the end of the call: {names}")
        open_streams = [name_of(generator) for generator in generators if is_open(generator)]
        await self._close(generators)
        open_streams += [stream.name for stream in self._tracked if stream.is_open]
        if open_streams:
            found = "a stream was left open (see contextlib.aclosing)"
            self._find(f"{found}: {', '.join(sorted(open_streams))}")

    async def _close(self, generators: list[AsyncGenerator[Any, Any]]) -> None:
        """Close what was left open: trio warns of a generator that nobody ever closes."""
        for generator in filter(is_open, generators):
            with anyio.move_on_after(self._bounds.clean_up), suppress(Exception):
                await generator.aclose()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while not holds():
                self._changed = anyio.Event()
                await self._changed.wait()
        return holds()

    def _notify(self) -> None:
        self._changed.set()

    def _note(self, text: str) -> None:
        self.story.append(f"{anyio.current_time():8.2f} s  {text}")

    def _find(self, text: str, cause: Exception | None = None) -> None:
        self.findings.append(Finding(text, cause))
        self._note(f"found: {text}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _came_too_late(error: Exception, turn: Turn | None) -> bool:
    """Tell an error that only says that the caller was faster."""
    if isinstance(error, ConnectionClosedError):
        return True
    return isinstance(error, StaleTurnError) and turn is not None and turn.interrupted
