"""One call of a load run: what its caller does, and what is measured."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

import anyio
import attrs

from speech_engine_proto import (
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    EngineConnection,
    EngineEvent,
    MessageIgnored,
    PongReceived,
    ProtocolViolation,
    ReplyFinished,
    ReplyText,
    StaleReply,
)

from .._line import hang_up, write
from .plan import AGENT_SENTENCE, SENTENCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speech_engine_transports._socket import Socket

    from .measures import Measures
    from .plan import CallScript, LoadPlan, TurnScript

__all__ = ["CallFailed", "Kind", "LoadCall"]

PONG_SECONDS = 10.0
"""How long a pong may take before it counts as missing."""

MAX_REPLY_CHARS = 100_000
"""How long a reply may be: what is heard of it is kept, for every call, until the call ends."""

LOST_CODES = (None, 1005, 1006)
"""The end of a socket without a code in a close frame (RFC 6455, 7.1.5)."""


class Kind:
    """The kinds of errors; ``refused`` and ``closed`` have the status or code behind them."""

    REFUSED = "refused"
    NOT_CONNECTED = "not connected"
    LOST = "lost"
    CLOSED = "closed"
    NO_WORD = "no word"
    NO_TERMINATOR = "no terminator"
    EMPTY = "empty reply"
    STALE = "stale text"
    VIOLATION = "protocol violation"
    TOO_LONG = "reply too long"
    NO_PONG = "no pong"


class CallFailed(Exception):
    """The call cannot go on.

    Args:
        kind: one of `Kind`.
        example: what was expected and what came.
    """

    def __init__(self, kind: str, example: str) -> None:
        super().__init__(example)
        self.kind = kind


@attrs.define
class _Turn:
    """A turn that was asked.

    Args:
        event_id: its id.
        asked_at: when its transcript was sent.
        hears: after how many pieces the caller has heard enough; None hears all.
    """

    event_id: int
    asked_at: float
    hears: int | None
    pieces: list[str] = attrs.field(factory=lambda: list[str]())
    chars: int = 0
    is_finished: bool = False
    settled: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def heard(self) -> str:
        """What the caller has heard: of an interrupted reply only its beginning."""
        return "".join(self.pieces if self.is_finished else self.pieces[: self.hears])


@attrs.define
class _Interruption:
    """A reply that the caller spoke into, until it is known when it went silent."""

    event_id: int
    spoke_at: float
    last_piece_at: float


@attrs.define
class _Ping:
    """A ping that was sent."""

    sent_at: float
    answered: anyio.Event = attrs.field(factory=anyio.Event)


class LoadCall:
    """One call, on a socket that is open; whoever opened it closes it.

    Args:
        socket: to the server.
        plan: the run's.
        script: what the caller does.
        measures: the run's.
    """

    def __init__(
        self, socket: Socket, plan: LoadPlan, script: CallScript, measures: Measures
    ) -> None:
        self._socket = socket
        self._plan = plan
        self._script = script
        self._measures = measures
        self._conn = EngineConnection()
        self._history = list(_made_up(plan.history))
        self._turn: _Turn | None = None
        self._terminated: set[int] = set()
        self._interruption: _Interruption | None = None
        self._pings: deque[_Ping] = deque()
        self._failure: CallFailed | None = None
        self._may_ask = True
        self._woken = anyio.Event()
        self._ended = anyio.Event()
        # Shielded: a run that is cancelled still hangs up in order, and sees the socket's end.
        self._reading = anyio.CancelScope(shield=True)

    async def run(self, conversation_id: str) -> bool:
        """Hold the call and hang up; return whether all was said that the script has.

        Raises:
            CallFailed: the call could not go on.
        """
        is_complete = False
        async with anyio.create_task_group() as group:
            group.start_soon(self._read)
            try:
                await write(self._socket, self._conn.send_init(conversation_id))
                if self._plan.ping is not None:
                    group.start_soon(self._ping, self._plan.ping)
                is_complete = await self._converse()
            except CallFailed as failure:
                self._failure = failure
            finally:
                self._note_silence()
                try:
                    with anyio.CancelScope(shield=True):  # it has its own deadlines
                        await hang_up(self._socket, self._conn, self._ended)
                finally:  # a shielded reader that nobody stops would hold the run for ever
                    self._reading.cancel()
                    group.cancel_scope.cancel()
        if self._failure is not None and not is_complete:
            raise self._failure
        return is_complete

    def wind_down(self) -> None:
        """Ask nothing more; a turn in flight goes on."""
        self._may_ask = False
        self._woken.set()

    async def _converse(self) -> bool:
        for planned in self._script.turns:
            if self._interruption is None:
                await self._think(planned.think)
            if not self._may_ask:
                self._interruption = None  # the words that were to interrupt are never said
                return False
            turn, frame = self._ask(planned)
            with anyio.move_on_after(self._plan.turn_timeout):
                await write(self._socket, frame)
                await turn.settled.wait()
            self._settle(turn)
        return True

    async def _think(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._woken.wait()
        self._require_socket()

    def _ask(self, planned: TurnScript) -> tuple[_Turn, str]:
        self._require_socket()
        self._history.append(ConversationMessage("user", planned.text))
        frame = self._conn.send_transcript(self._history)
        assert self._conn.event_id is not None
        now = anyio.current_time()
        turn = self._turn = _Turn(self._conn.event_id, now, planned.interrupt_after)
        self._measures.turns.asked += 1
        return turn, frame

    def _settle(self, turn: _Turn) -> None:
        """Note how a turn went, and what was heard of its reply."""
        self._note_silence()
        if turn.is_finished:
            self._measures.turns.finished += 1
            self._measures.turns.missed += turn.hears is not None
            if not turn.pieces:
                self._measures.errors.add(Kind.EMPTY, "a terminator, and no word before it")
        elif self._failure is not None:
            raise self._failure
        elif not turn.settled.is_set():
            raise self._out_of_time(turn)
        else:
            self._measures.turns.interrupted += 1
            now = anyio.current_time()
            self._interruption = _Interruption(turn.event_id, now, now)
        if turn.heard:
            self._history.append(ConversationMessage("agent", turn.heard))

    def _out_of_time(self, turn: _Turn) -> CallFailed:
        limit = f"{self._plan.turn_timeout:g} s"
        if turn.pieces:
            seen = f"expected a terminator within {limit}, got {len(turn.pieces)} pieces and none"
            return CallFailed(Kind.NO_TERMINATOR, seen)
        return CallFailed(Kind.NO_WORD, f"expected a first word within {limit}, got none")

    def _require_socket(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _read(self) -> None:
        """Read the socket to its end: the only task that does."""
        with self._reading:
            while (message := await self._socket.recv()) is not None:
                self._on_event(self._conn.receive(message))
            self._on_event(self._conn.receive_eof())
        self._ended.set()
        self._wake()

    def _on_event(self, event: EngineEvent) -> None:
        match event:
            case ReplyText(_, text):
                self._on_text(text)
            case ReplyFinished(event_id, text):
                self._on_terminator(event_id, text)
            case StaleReply(event_id, text):
                self._on_stale(event_id, text)
            case PongReceived():
                self._on_pong()
            case ProtocolViolation(error):
                self._measures.errors.add(Kind.VIOLATION, str(error))
            case ConnectionLost():
                self._failure = self._failure or _end_of(self._socket)
            case MessageIgnored() | ConversationEnded():
                pass
            case _:
                assert_never(event)

    def _on_text(self, text: str) -> None:
        turn = self._turn
        if not text or turn is None:
            return
        if not turn.pieces:
            self._measures.first_word.record(anyio.current_time() - turn.asked_at)
        self._measures.pieces += 1
        turn.chars += len(text)
        if turn.chars > MAX_REPLY_CHARS:
            seen = f"expected a reply of at most {MAX_REPLY_CHARS} characters, got more"
            self._failure = self._failure or CallFailed(Kind.TOO_LONG, seen)
            turn.settled.set()
            return
        turn.pieces.append(text)
        if len(turn.pieces) == turn.hears:
            turn.settled.set()

    def _on_terminator(self, event_id: int, text: str) -> None:
        turn = self._turn
        if text:
            seen = f"expected a terminator without text, got {len(text)} characters in it"
            self._measures.errors.add(Kind.VIOLATION, seen)
        if turn is None or turn.is_finished:
            return
        self._terminated.add(event_id)
        self._measures.terminator.record(anyio.current_time() - turn.asked_at)
        turn.is_finished = True
        turn.settled.set()

    def _on_stale(self, event_id: int, text: str) -> None:
        """Tell what crossed with an interruption from what the server should have known better.

        A socket keeps its order: once a word of the newer turn, or the terminator of the old one,
        has come, nothing of the old one may follow.
        """
        if not text:
            return
        self._measures.pieces += 1
        cut, turn = self._interruption, self._turn
        if cut is not None and cut.event_id == event_id:
            cut.last_piece_at = anyio.current_time()
        if event_id in self._terminated:
            seen = "expected nothing after a terminator, got more of the same reply"
        elif turn is not None and (turn.pieces or turn.is_finished):
            seen = "expected only the newer reply once that had begun, got more of the older one"
        else:
            return
        self._measures.errors.add(Kind.STALE, seen)

    def _note_silence(self) -> None:
        cut, self._interruption = self._interruption, None
        if cut is not None:
            self._measures.silence.record(cut.last_piece_at - cut.spoke_at)

    def _on_pong(self) -> None:
        """Pongs come in the order of the pings, however late."""
        if self._pings:
            ping = self._pings.popleft()
            self._measures.pong.record(anyio.current_time() - ping.sent_at)
            ping.answered.set()

    async def _ping(self, interval: float) -> None:
        await anyio.sleep(self._script.first_ping)
        while self._conn.is_open:
            ping = _Ping(anyio.current_time())
            self._pings.append(ping)
            await write(self._socket, self._conn.send_ping())
            with anyio.move_on_after(PONG_SECONDS):
                await ping.answered.wait()
            if self._conn.is_open and not ping.answered.is_set():
                seen = f"expected a pong within {PONG_SECONDS:g} s, got none"
                self._measures.errors.add(Kind.NO_PONG, seen)
            await anyio.sleep_until(ping.sent_at + interval)

    def _wake(self) -> None:
        self._woken.set()
        if self._turn is not None:
            self._turn.settled.set()


def _end_of(socket: Socket) -> CallFailed:
    code = socket.closed_with
    if code in LOST_CODES:
        return CallFailed(Kind.LOST, "expected an open socket, got its end without a close code")
    seen = f"expected an open socket, got a close frame with {code}"
    return CallFailed(f"{Kind.CLOSED} {code}", seen)


def _made_up(messages: int) -> Iterator[ConversationMessage]:
    """Make up what was said before the call's first turn; an agent's message is the last."""
    for number in range(messages, 0, -1):
        if number % 2:
            yield ConversationMessage("agent", AGENT_SENTENCE)
        else:
            yield ConversationMessage("user", SENTENCES[number // 2 % len(SENTENCES)])
