"""A conversation in a terminal: typed by a person, read from lines, or played from a script."""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import attrs

from ._errors import ConversationOverError, EngineError, NoPongError
from .engine import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from speech_engine_proto import ConversationMessage
    from speech_engine_transports.session import SpeechEngineSession

    from ._reply import Reply

__all__ = [
    "SCRIPT",
    "Agent",
    "Line",
    "Patience",
    "chat",
    "demo",
    "follow_script",
    "is_terminal",
    "read_lines",
    "talk_by_lines",
]


@attrs.frozen
class Patience:
    """How long to wait for a server; the arguments of `LocalEngine` of the same names.

    Args:
        cascade_timeout: seconds without a word before a question is sent again.
        silence_timeout: seconds without a piece before a started reply counts as forgotten.
        ping_interval: seconds between pings; None sends none but the ones of a script.
        pong_timeout: seconds that a pong may take.
    """

    cascade_timeout: float = 4.0
    silence_timeout: float = 30.0
    ping_interval: float | None = 20.0
    pong_timeout: float = 10.0


@attrs.frozen
class Line:
    """One line of a script.

    Args:
        text: what the caller says.
        cut_after: the caller speaks the next line after hearing so many pieces of the reply;
            None hears it out.
    """

    text: str
    cut_after: int | None = None


SCRIPT = (
    Line("Hello, my name is Ada."),
    Line("Please count to twenty.", cut_after=6),
    Line("Stop, that is enough."),
    Line("Go on."),
    Line("What is my name?"),
)
"""What `demo` plays where nobody can type: an interruption, and what the agent makes of it."""


class Agent(Protocol):
    """What `demo` serves: a handler for transcripts."""

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        """Answer the newest turn."""
        ...


def is_terminal() -> bool:
    """Tell whether a person sits at both ends: stdin and stdout are terminals."""
    return sys.stdin.isatty() and sys.stdout.isatty()


async def demo(agent: Agent, *, port: int = 0, about: str, patience: Patience) -> int:
    """Serve the agent on this machine, call it, and hold a conversation.

    Args:
        agent: who answers.
        port: to listen on; 0 takes any free one.
        about: the agent in a few words, for the first line.
        patience: how long to wait for it.

    Returns:
        The exit code: 0, or 1 where a rule was broken or the agent failed.
    """
    from speech_engine_transports.server import SpeechEngineServer

    failures = _Failures()

    async def play(engine: LocalEngine) -> None:
        # What failed once would fail in the same way four times more.
        script = takewhile(lambda _: not failures.errors, SCRIPT)
        await follow_script(engine, script, sys.stdout)
        if not failures.errors:
            _sum_up(engine)

    key = secrets.token_urlsafe(24)
    server = SpeechEngineServer(
        host="127.0.0.1",
        port=port,
        path="/ws",
        api_key=key,
        on_transcript=agent.on_transcript,
        on_error=failures.note,
        fallback="Sorry, I could not think of an answer.",
    )
    async with server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        _say(f"{about}; a real WebSocket on {url}, opened with a signed token.")
        code = await _call(url, key, patience, play)
    failures.tell()
    return 1 if failures.errors else code


async def chat(
    url: str,
    *,
    api_key: str | None,
    patience: Patience,
    headers: Iterable[tuple[str, str]] = (),
) -> int:
    """Call a server that is already running, and hold a conversation.

    Args:
        url: its ``ws://`` or ``wss://`` address.
        api_key: signs the token; None sends none.
        patience: how long to wait for it.
        headers: more headers of the upgrade request, as pairs.

    Returns:
        The exit code: 0, or 1 where there was no conversation or a rule was broken.
    """
    return await _call(url, api_key, patience, _read_stdin, headers)


async def follow_script(engine: LocalEngine, script: Iterable[Line], out: TextIO) -> None:
    """Play a script, and show who said what.

    Raises:
        EngineError: a reply failed.
    """
    show = _Printer(out)
    before: Reply | None = None
    for line in script:
        reply = await engine.ask(line.text)
        if before is not None:
            show.end(before)
        show.you(line.text)
        await show.stream(reply, line.cut_after)
        if line.cut_after is not None:
            await _ping(engine)  # a pong is owed while the agent speaks, too
        before = reply
    if before is not None:
        show.end(before)
    await _ping(engine)


async def talk_by_lines(engine: LocalEngine, lines: AsyncIterator[str], out: TextIO) -> None:
    """Say each line, and show the reply to it.

    Raises:
        EngineError: a reply failed.
    """
    show = _Printer(out)
    async for line in lines:
        if not line.strip():
            continue
        show.you(line.strip())
        reply = await engine.ask(line.strip())
        await show.stream(reply)
        show.end(reply)
    await _ping(engine)


async def read_lines(file: TextIO) -> AsyncIterator[str]:
    """Yield the lines of a file as they come, from a pipe that someone still writes to as well.

    The thread that reads is a daemon: where the conversation ends first, nobody waits for it.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError, ValueError):  # the loop, or the file, was closed meanwhile
            for line in iter(file.readline, ""):
                loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while (line := await queue.get()) is not None:
        yield line


class _Failures:
    """What went wrong in the agent, told on stderr where it does not break into a reply."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self._untold: list[Exception] = []

    def note(self, error: Exception, _: SpeechEngineSession) -> None:
        """Keep an error; a terminal shows it at once, above what is being typed."""
        self.errors.append(error)
        self._untold.append(error)
        if is_terminal():
            self.tell()

    def tell(self) -> None:
        """Show what was not shown."""
        while self._untold:
            error = self._untold.pop(0)
            _complain(f"the agent failed: {type(error).__name__}: {error}")


class _Printer:
    """Shows a conversation, each word as it comes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

    def you(self, text: str) -> None:
        self._write(f"you:   {text}\n")

    async def stream(self, reply: Reply, pieces: int | None = None) -> None:
        """Show a reply to its end, or only so many pieces of it."""
        self._write("agent: ")
        if pieces == 0:
            return
        async for piece in reply:
            self._write(piece)
            if len(reply.pieces_read) == pieces:
                return

    def end(self, reply: Reply) -> None:
        """End the line of a reply, with what was heard of it if it was cut."""
        mark = _end_mark(reply)
        space = " " if mark and not self._last.isspace() else ""
        self._write(f"{space}{mark}\n")

    def _write(self, text: str) -> None:
        self._last = text[-1:]
        self._out.write(text)
        self._out.flush()


def _end_mark(reply: Reply) -> str:
    """What to show behind a reply that was not heard to its end, or said nothing."""
    if not reply.interrupted:
        return "" if reply.pieces else "[no words]"
    heard = " ".join(reply.heard.split())
    return f"[interrupted; heard: {heard}]" if heard else "[interrupted; nothing heard]"


async def _call(
    url: str,
    api_key: str | None,
    patience: Patience,
    without_terminal: Callable[[LocalEngine], Awaitable[None]],
    headers: Iterable[tuple[str, str]] = (),
) -> int:
    """Hold one conversation, by hand where there is a terminal, and tell how it went."""
    options: dict[str, Any] = attrs.asdict(patience)
    engine = LocalEngine(url, api_key=api_key, headers=headers, **options)
    error: EngineError | None = None
    try:
        async with engine:
            if is_terminal():
                from ._terminal import talk

                await talk(engine)
            else:
                await without_terminal(engine)
    except EngineError as caught:
        error = caught
    for violation in engine.violations:
        _complain(str(violation))
    if error is not None and not engine.violations:
        _complain(str(error))
    return 1 if error is not None or engine.violations else 0


def _sum_up(engine: LocalEngine) -> None:
    cut = sum(line.cut_after is not None for line in SCRIPT)
    broken = len(engine.violations) or "none"
    _say(f"{len(SCRIPT)} turns, {cut} of them interrupted, broken rules: {broken}.")


async def _read_stdin(engine: LocalEngine) -> None:
    await talk_by_lines(engine, read_lines(sys.stdin), sys.stdout)


async def _ping(engine: LocalEngine) -> None:
    """Ask for a pong; behind it nothing is left on the way. A missing one is noted by the engine.

    An agent that has hung up in the meantime owes none.
    """
    with suppress(NoPongError, ConversationOverError):
        await engine.ping()


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(text: str) -> None:
    print(f"speech-engine: {text}", file=sys.stderr, flush=True)
