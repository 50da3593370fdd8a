"""Replays a journal on the pure core: what came in is fed to it, what went out is said again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from speech_engine_proto import (
    AgentConnection,
    LocalProtocolError,
    PingReceived,
    RemoteProtocolError,
    Turn,
    TurnResent,
    TurnStarted,
    wire,
)

from ._journal import to_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._journal import Journal, JournalLine

__all__ = ["Divergence", "Replay", "replay"]


@attrs.frozen
class Divergence:
    """The first line of a journal that a replay does not agree with.

    Args:
        line: the line of the file.
        expected: what the journal says.
        got: what came in its place, or why nothing did. Both may hold words of the conversation.
    """

    line: int
    expected: str = attrs.field(repr=False)
    got: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Replay:
    """What a replay found.

    Args:
        divergence: the first one; None where the replay agrees with the journal.
        frames_in: frames that were fed.
        frames_out: frames that went out and agree.
        turns: turns that began.
        interruptions: those that were cut by the next one.
        crossed: lines of frames that crossed with an interruption on their way: they belong to
            the turn before. A proxy sees such; in the journal of a server they are stale words.
    """

    divergence: Divergence | None
    frames_in: int
    frames_out: int
    turns: int
    interruptions: int
    crossed: tuple[int, ...] = ()


def replay(
    journal: Journal,
    *,
    exact: bool = False,
    messages: bool = False,
    on_frame: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Replay a journal on the pure core.

    Each ``in`` frame is given to an `AgentConnection`; for each ``out`` frame the verb is used
    that makes such a frame, and what it makes is compared byte for byte.

    Args:
        journal: the conversation.
        exact: a frame that crossed with an interruption diverges.
        messages: compare messages, not bytes: for an implementation that spells JSON otherwise.
        on_frame: called with each frame that the core made.
        on_progress: called with the lines that are done, and all there are.
    """
    run = _CoreReplay(journal, exact, messages, on_frame)
    lines = journal.lines
    for index, line in enumerate(lines):
        if index not in run.done:
            divergence = run.feed(index) if line.dir == "in" else run.say(line)
            if divergence is not None:
                return run.result(divergence)
        if on_progress is not None:
            on_progress(index + 1, len(lines))
    return run.result(None)


class _CoreReplay:
    def __init__(
        self,
        journal: Journal,
        exact: bool,
        messages: bool,
        on_frame: Callable[[str], None] | None,
    ) -> None:
        self.done: set[int] = set()
        self._lines = journal.lines
        self._exact = exact
        self._messages = messages
        self._on_frame = on_frame
        self._conn = AgentConnection()
        self._turns: dict[int | None, Turn] = {}
        self._owed: list[str] = []  # pongs
        self._in = self._out = self._started = self._interrupted = 0
        self._crossed: list[int] = []

    def result(self, divergence: Divergence | None) -> Replay:
        return Replay(
            divergence=divergence,
            frames_in=self._in,
            frames_out=self._out,
            turns=self._started,
            interruptions=self._interrupted,
            crossed=tuple(self._crossed),
        )

    def feed(self, index: int) -> Divergence | None:
        """Give the core a message, after what the agent said before that reached it."""
        if not self._exact:
            divergence = self._say_crossed(index)
            if divergence is not None:
                return divergence
        event = self._conn.receive(to_message(self._lines[index].frame))
        self._in += 1
        match event:
            case PingReceived():
                self._owed.append(event.reply)
            case TurnStarted(turn, event_id, _, interrupted):
                self._turns[event_id] = turn
                self._started += 1
                self._interrupted += interrupted is not None
            case TurnResent(turn, event_id):
                self._turns[event_id] = turn
            case _:
                pass
        return None

    def say(self, line: JournalLine) -> Divergence | None:
        """Have the core make the frame that the journal has here, and compare."""
        made = self._make(line.frame)
        if isinstance(made, _Refused):
            return Divergence(line.number, line.frame, made.why)
        if not self._agrees(line.frame, made):
            return Divergence(line.number, line.frame, made)
        self._out += 1
        if self._on_frame is not None:
            self._on_frame(made)
        return None

    def _agrees(self, recorded: str, made: str) -> bool:
        if recorded == made or not self._messages:
            return recorded == made
        return wire.decode(recorded) == wire.decode(made)

    def _make(self, recorded: str) -> str | _Refused:
        message = _decoded(recorded)
        match message:
            case wire.Pong():
                return self._owed.pop(0) if self._owed else _Refused("nothing: no ping is open")
            case wire.AgentResponse(content, is_final, event_id):
                return self._reply(content, is_final, event_id)
            case None:
                return _Refused("nothing: this is no message of the protocol")
            case _:
                return _Refused(f"nothing: an agent never sends {message.type}")

    def _reply(self, content: str, is_final: bool, event_id: int | None) -> str | _Refused:
        current = self._conn.turn
        if current is not None and current.event_id == event_id:
            turn: Turn | None = current
        else:
            turn = self._turns.get(event_id, current)
        if turn is None:
            return _Refused("nothing: there is no turn to answer")
        try:
            return self._conn.end_turn(turn) if is_final else self._conn.send_text(turn, content)
        except (LocalProtocolError, ValueError) as error:
            return _Refused(f"nothing: {error}")

    def _say_crossed(self, index: int) -> Divergence | None:
        """Say first what the agent said before a message that ends its turn reached it.

        Each direction keeps its order, so only the next frames out can be of that turn.
        """
        turn = self._conn.turn
        if turn is None or turn.event_id is None or not self._ends_turn(index, turn.event_id):
            return None
        for later in range(index + 1, len(self._lines)):
            line = self._lines[later]
            if line.dir == "in" or later in self.done:
                continue
            message = _decoded(line.frame)
            pong_is_owed = isinstance(message, wire.Pong) and bool(self._owed)
            is_of_turn = (
                isinstance(message, wire.AgentResponse) and message.event_id == turn.event_id
            )
            if not pong_is_owed and not is_of_turn:
                return None
            if is_of_turn and self._conn.turn is not turn:
                return None  # it has its terminator: what follows is judged in its own place
            self.done.add(later)
            if is_of_turn:
                self._crossed.append(line.number)
            divergence = self.say(line)
            if divergence is not None:
                return divergence
        return None

    def _ends_turn(self, index: int, event_id: int) -> bool:
        match _decoded(self._lines[index].frame):
            case wire.UserTranscript(_, new_id):
                return new_id is None or new_id > event_id
            case wire.Close():
                return True
            case _:
                return False


@attrs.frozen
class _Refused:
    """Why the core made no frame."""

    why: str


def _decoded(frame: str) -> wire.Message | None:
    try:
        return wire.decode(to_message(frame))
    except RemoteProtocolError:
        return None
