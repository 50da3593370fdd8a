"""Replays a journal against a live server: the service's frames are sent, the replies compared."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import anyio
import attrs

from speech_engine_proto import RemoteProtocolError, wire
from speech_engine_transports._groups import single_exception

from ._dial import dial
from ._journal import JournalLine, to_message, to_text
from ._replay import Divergence, Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from speech_engine_transports._socket import Socket

    from ._journal import Journal

__all__ = ["replay_live"]

LEAVE_SECONDS = 1.0
"""How long the server has to close the socket after the last frame."""


async def replay_live(
    journal: Journal,
    url: str,
    *,
    api_key: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    exact: bool = False,
    speed: float | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - of each wait, not of the call
    connect: Callable[..., AbstractAsyncContextManager[Socket]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Replay a journal against a server: be the service of that conversation once more.

    An ``in`` frame is sent when everything that the journal has before it has come back, and, with
    ``speed``, not before its time. Replies are compared as text and terminator per turn, however
    they are cut into pieces. A turn that the journal does not see ended may have said more by the
    time of the interruption.

    Args:
        journal: the conversation.
        url: ``ws://`` or ``wss://`` address of the server.
        api_key: signs the token; None sends none.
        headers: more headers of the upgrade request, as pairs.
        exact: compare frame by frame and byte for byte.
        speed: 1 keeps the recorded times, 2 halves them; None waits for nothing but replies.
        timeout: seconds to wait for what the journal says comes next.
        connect: opens the socket; by default `speech_engine_transports.asyncio.connect`.
        on_progress: called with the lines that are done, and all there are.

    Raises:
        ConnectError: nobody listens there, or the upgrade was refused.
    """
    async with dial(url, api_key, tuple(headers), connect) as socket:
        run = _LiveReplay(journal, socket, speed, timeout)
        run.judge = _ExactJudge(run.out_lines) if exact else _WordsJudge(journal.lines)
        with single_exception():
            async with anyio.create_task_group() as group:
                group.start_soon(run.read)
                await run.play(on_progress)
                await run.leave(group)
    return run.result()


class _LiveReplay:
    def __init__(
        self, journal: Journal, socket: Socket, speed: float | None, patience: float
    ) -> None:
        self.out_lines = [line for line in journal.lines if line.dir == "out"]
        self.judge: _ExactJudge | _WordsJudge
        self._lines = journal.lines
        self._socket = socket
        self._speed = speed
        self._patience = patience
        self._in = 0
        self._divergence: Divergence | None = None
        self._ended = False
        self._said_close = False
        self._changed = anyio.Event()

    def result(self) -> Replay:
        return Replay(
            divergence=self._divergence,
            frames_in=self._in,
            frames_out=self.judge.agreed,
            turns=self.judge.turns,
            interruptions=self.judge.interruptions,
        )

    async def play(self, on_progress: Callable[[int, int], None] | None) -> None:
        """Go through the journal to its end, or to the first divergence."""
        began = anyio.current_time()
        for index, line in enumerate(self._lines):
            if line.dir == "out":
                await self._expect(line)
            else:
                if self._speed is not None:
                    await self._wait_until(began + line.t / self._speed)
                await self._send(line)
            if self._divergence is not None:
                return
            if on_progress is not None:
                on_progress(index + 1, len(self._lines))

    async def read(self) -> None:
        """Read the socket to its end: the only task that does."""
        while (message := await self._socket.recv()) is not None:
            divergence = self.judge.receive(to_text(message))
            self._divergence = self._divergence or divergence
            self._notify()
        self._ended = True
        self._notify()

    async def leave(self, group: TaskGroup) -> None:
        """Close the socket; what still comes until then is judged too."""
        with anyio.move_on_after(LEAVE_SECONDS):
            while self._said_close and not self._ended:  # the server's turn to close it
                await self._changed.wait()
        with anyio.move_on_after(LEAVE_SECONDS):
            await self._socket.close()
            while not self._ended:
                await self._changed.wait()
        if not self._ended:
            self._socket.abort()
            group.cancel_scope.cancel()

    async def _send(self, line: JournalLine) -> None:
        self.judge.ask(line)
        frame = to_message(line.frame)
        if not isinstance(frame, str):
            return  # a socket of ours writes text frames: what is no text cannot be sent again
        try:
            async with self._socket.lock or nullcontext():
                await self._socket.send(frame)
        except (ConnectionError, UnicodeEncodeError):
            self._diverge(line, "nothing: the socket has ended")
        else:
            self._in += 1
            self._said_close = isinstance(_decoded(line.frame), wire.Close)

    async def _expect(self, line: JournalLine) -> None:
        with anyio.move_on_after(self._patience):
            while not (self.judge.has(line) or self._divergence or self._ended):
                await self._changed.wait()
        if self.judge.has(line) or self._divergence:
            return
        if self._ended:
            code = self._socket.closed_with
            told = "" if code is None else f" with {code}"
            self._diverge(line, f"nothing: the socket ended{told}")
        else:
            self._diverge(line, f"nothing within {self._patience:g} s")

    async def _wait_until(self, when: float) -> None:
        """Wait for a time, unless the replay ends before."""
        with suppress(TimeoutError), anyio.fail_after(max(0, when - anyio.current_time())):
            while not (self._divergence or self._ended):
                await self._changed.wait()

    def _diverge(self, line: JournalLine, got: str) -> None:
        if self._divergence is None:
            self._divergence = Divergence(line.number, line.frame, got)

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


class _Judge:
    """Counts what both ways of comparing count."""

    def __init__(self) -> None:
        self.agreed: int = 0
        self.turns: int = 0
        self.interruptions: int = 0
        self._is_owed = False

    def ask(self, line: JournalLine) -> None:
        """Note a message to the server before it is sent."""
        if isinstance(_decoded(line.frame), wire.UserTranscript):
            self.turns += 1
            self.interruptions += self._is_owed
            self._is_owed = True

    def _note_terminator(self, message: wire.Message | None) -> None:
        if isinstance(message, wire.AgentResponse) and message.is_final:
            self._is_owed = False


class _ExactJudge(_Judge):
    """Frame by frame, byte for byte."""

    def __init__(self, out_lines: list[JournalLine]) -> None:
        super().__init__()
        self._expected = out_lines

    def receive(self, frame: str) -> Divergence | None:
        if self.agreed == len(self._expected):
            last = self._expected[-1].number if self._expected else 1
            return Divergence(last + 1, "nothing more from the agent", frame)
        line = self._expected[self.agreed]
        if line.frame != frame:
            return Divergence(line.number, line.frame, frame)
        self.agreed += 1
        self._note_terminator(_decoded(frame))
        return None

    def has(self, line: JournalLine) -> bool:
        return self.agreed > 0 and self._expected[self.agreed - 1].number >= line.number


@attrs.define
class _Said:
    """One turn's reply as far as it is known: recorded, or live."""

    text: str = ""
    is_over: bool = False
    pieces: list[tuple[int, JournalLine]] = attrs.Factory(list[tuple[int, JournalLine]])


class _WordsJudge(_Judge):
    """Text and terminator per turn, pongs by their number."""

    def __init__(self, lines: tuple[JournalLine, ...]) -> None:
        super().__init__()
        self._asked: list[tuple[int | None, JournalLine]] = []
        self._recorded: dict[int, _Said] = {}  # by the line of the transcript
        self._live: dict[int, _Said] = {}
        self._needs: dict[int, tuple[int, int]] = {}  # line -> turn, characters; pongs have turn 0
        self._pongs = 0
        self._last = lines[-1].number if lines else 1
        self._learn(lines)

    def ask(self, line: JournalLine) -> None:
        super().ask(line)
        message = _decoded(line.frame)
        if isinstance(message, wire.UserTranscript):
            self._asked.append((message.event_id, line))

    def receive(self, frame: str) -> Divergence | None:
        message = _decoded(frame)
        match message:
            case wire.Pong():
                self._pongs += 1
                self.agreed += 1
                return None
            case wire.AgentResponse(content, is_final, event_id):
                turn = self._turn_of(event_id, self._asked)
                if turn is None:
                    return Divergence(self._next_line(), "a reply to a turn that was asked", frame)
                self._note_terminator(message)
                return self._on_reply(turn, content, is_final, frame)
            case _:
                expected = "a reply or a pong, as the protocol has them"
                return Divergence(self._next_line(), expected, frame)

    def has(self, line: JournalLine) -> bool:
        return line.number not in self._needs or self._is_there(line.number)

    def _learn(self, lines: tuple[JournalLine, ...]) -> None:
        asked: list[tuple[int | None, JournalLine]] = []
        pongs = 0
        for line in lines:
            message = _decoded(line.frame)
            if line.dir == "in":
                if isinstance(message, wire.UserTranscript):
                    asked.append((message.event_id, line))
            elif isinstance(message, wire.Pong):
                pongs += 1
                self._needs[line.number] = (0, pongs)
            elif isinstance(message, wire.AgentResponse):
                turn = self._turn_of(message.event_id, asked)
                if turn is not None:
                    # What crossed with an interruption need not come: this time it may not cross.
                    self._learn_reply(turn, message, line, is_due=turn == asked[-1][1].number)

    def _learn_reply(
        self, turn: int, message: wire.AgentResponse, line: JournalLine, *, is_due: bool
    ) -> None:
        said = self._recorded.setdefault(turn, _Said())
        said.pieces.append((len(said.text), line))
        said.text += message.content
        said.is_over = is_due and message.is_final
        if is_due:
            self._needs[line.number] = (turn, -1 if message.is_final else len(said.text))

    def _on_reply(self, turn: int, content: str, is_final: bool, frame: str) -> Divergence | None:
        live = self._live.setdefault(turn, _Said())
        recorded = self._recorded.get(turn, _NOTHING_SAID)
        if live.is_over:
            return Divergence(self._line_at(recorded, turn, len(live.text)), "nothing more", frame)
        before = len(live.text)
        live.text += content
        live.is_over = is_final
        if self._agrees(recorded, live):
            self.agreed += 1
            return None
        line = self._line_at(recorded, turn, _first_difference(recorded.text, live.text, before))
        return Divergence(line, self._frame_of(line, recorded), frame)

    @staticmethod
    def _agrees(recorded: _Said, live: _Said) -> bool:
        if recorded.is_over:
            if live.is_over:
                return live.text == recorded.text
            return recorded.text.startswith(live.text)
        if live.is_over:
            return live.text.startswith(recorded.text)
        shorter = min(len(live.text), len(recorded.text))
        return live.text[:shorter] == recorded.text[:shorter]

    @staticmethod
    def _turn_of(event_id: int | None, asked: list[tuple[int | None, JournalLine]]) -> int | None:
        """The line of the transcript that a reply is for: a reply without an id is the last's."""
        for asked_id, line in reversed(asked):
            if event_id is None or asked_id == event_id:
                return line.number
        return None

    @staticmethod
    def _line_at(recorded: _Said, turn: int, position: int) -> int:
        """The line that holds a character of a reply; the transcript's where there is none."""
        found = [line.number for start, line in recorded.pieces if start <= position]
        return found[-1] if found else turn

    @staticmethod
    def _frame_of(line: int, recorded: _Said) -> str:
        frames = [each.frame for _, each in recorded.pieces if each.number == line]
        return frames[0] if frames else "no reply to this"

    def _next_line(self) -> int:
        waiting = [number for number in self._needs if not self._is_there(number)]
        return min(waiting, default=self._last + 1)

    def _is_there(self, number: int) -> bool:
        turn, characters = self._needs[number]
        if turn == 0:
            return self._pongs >= characters
        live = self._live.get(turn, _NOTHING_SAID)
        return live.is_over if characters < 0 else len(live.text) >= characters


_NOTHING_SAID = _Said()


def _first_difference(recorded: str, live: str, start: int) -> int:
    for position in range(start, min(len(recorded), len(live))):
        if recorded[position] != live[position]:
            return position
    return min(len(recorded), len(live))


def _decoded(frame: str) -> wire.Message | None:
    try:
        return wire.decode(to_message(frame))
    except RemoteProtocolError:
        return None
