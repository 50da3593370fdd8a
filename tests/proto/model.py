"""An independent model of the agent's side: rules 1 to 6 in a few ints and booleans.

It imports nothing of the package and shares no code, no table and no names with it. Each rule is
told from the whole history of turns, where the package keeps only what it needs. A mistake in one
of them is a difference between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Outcome = tuple[object, ...]
"""What an action leads to: the name of the event, frame or error, then what it carries."""


@dataclass(slots=True)
class Asked:
    """One turn: what was asked, how much was said, and whether it is over."""

    event_id: int | None
    question: int
    attempt: int
    pieces: int = 0
    finished: bool = False
    interrupted: bool = False

    @property
    def state(self) -> str:
        """The name of the state that the package must show."""
        if self.finished:
            return "FINISHED"
        if self.interrupted:
            return "INTERRUPTED"
        return "SPEAKING" if self.pieces else "WAITING"


@dataclass(slots=True)
class Model:
    """A conversation. Turns are numbered from 1 in the order they begin; 0 is no turn."""

    adopts: bool = True
    named: bool = False
    ended: bool = False
    lost: bool = False
    left: bool = False
    cut: int = 0
    asked: list[Asked] = field(default_factory=list)

    def fork(self) -> Model:
        """Return a copy to try something on; turns before the last can change no more."""
        model = Model(self.adopts, self.named, self.ended, self.lost, self.left, self.cut)
        model.asked = self.asked.copy()
        if model.asked:
            t = model.asked[-1]
            last = Asked(t.event_id, t.question, t.attempt, t.pieces, t.finished, t.interrupted)
            model.asked[-1] = last
        return model

    @property
    def over(self) -> bool:
        """Whether nothing may be sent any more."""
        return self.ended or self.lost or self.left

    @property
    def current(self) -> int:
        """The number of the turn that is owed a terminator, or 0."""
        last = len(self.asked)
        if last and not self.asked[-1].finished and not self.asked[-1].interrupted:
            return last
        return 0

    @property
    def highest(self) -> int | None:
        """The highest id that any transcript had."""
        return max((t.event_id for t in self.asked if t.event_id is not None), default=None)

    @property
    def state(self) -> str:
        """The name of the state that the package must show."""
        if self.ended:
            return "ENDED"
        if self.lost:
            return "LOST"
        if self.left:
            return "CLOSED"
        return "OPEN" if self.named else "OPENING"

    def init(self) -> Outcome:
        """The service names the conversation."""
        if self.over:
            return ("MessageIgnored", "AFTER_END")
        if self.named:
            return ("ProtocolViolation",)
        self.named = True
        return ("ConversationStarted",)

    def transcript(self, event_id: int | None, question: int) -> Outcome:
        """The service asks ``question`` under ``event_id``."""
        if self.over:
            return ("MessageIgnored", "AFTER_END")
        highest = self.highest
        if event_id is None or highest is None or event_id > highest:
            if self._is_resend(event_id, question):
                return self._adopt(event_id)
            return self._begin(event_id, question, attempt=1)
        if event_id < highest:
            return ("TranscriptIgnored", event_id, "OLDER")
        latest = [n for n, t in enumerate(self.asked, 1) if t.event_id == event_id][-1]
        if latest == self.current:
            return ("TranscriptIgnored", event_id, "DUPLICATE")
        if self.asked[latest - 1].pieces:
            return ("TranscriptIgnored", event_id, "ALREADY_ANSWERED")
        return self._begin(event_id, question, attempt=self.asked[latest - 1].attempt + 1)

    def ping(self) -> Outcome:
        """The service asks whether the agent is there."""
        return ("MessageIgnored", "AFTER_END") if self.over else ("PingReceived",)

    def error(self) -> Outcome:
        """The service reports an error."""
        return ("MessageIgnored", "AFTER_END") if self.over else ("ErrorReceived",)

    def broken(self) -> Outcome:
        """The service sends what no message may look like."""
        return ("MessageIgnored", "AFTER_END") if self.over else ("ProtocolViolation",)

    def unknown(self) -> Outcome:
        """The service sends a type that nobody knows."""
        return ("MessageIgnored", "AFTER_END" if self.over else "UNKNOWN_TYPE")

    def wrong(self) -> Outcome:
        """The service sends what only the agent may send."""
        return ("MessageIgnored", "AFTER_END" if self.over else "WRONG_DIRECTION")

    def close(self) -> Outcome:
        """The service ends the conversation."""
        if self.over:
            return ("MessageIgnored", "AFTER_END")
        self.cut = self._interrupt()
        self.ended = True
        return ("ConversationEnded", self.cut)

    def eof(self) -> Outcome:
        """The socket ends."""
        if not self.over:
            self.cut = self._interrupt()
            self.lost = True
        return ("ConnectionLost" if self.lost else "ConversationEnded", self.cut)

    def leave(self) -> Outcome:
        """The agent ends the conversation."""
        if not self.over:
            self.cut = self._interrupt()
            self.left = True
        return ("nothing",)

    def piece(self, turn: int) -> Outcome:
        """The agent says something for a turn."""
        refused = self._refused(turn)
        if refused:
            return refused
        asked = self.asked[turn - 1]
        asked.pieces += 1
        return ("piece", asked.event_id)

    def terminator(self, turn: int) -> Outcome:
        """The agent ends its reply to a turn."""
        refused = self._refused(turn)
        if refused:
            return refused
        asked = self.asked[turn - 1]
        asked.finished = True
        return ("terminator", asked.event_id)

    def _is_resend(self, event_id: int | None, question: int) -> bool:
        if not self.adopts or event_id is None or not self.current:
            return False
        asked = self.asked[-1]
        return asked.event_id is not None and not asked.pieces and asked.question == question

    def _adopt(self, event_id: int | None) -> Outcome:
        asked = self.asked[-1]
        before, asked.event_id = asked.event_id, event_id
        asked.attempt += 1
        return ("TurnResent", len(self.asked), event_id, before)

    def _begin(self, event_id: int | None, question: int, *, attempt: int) -> Outcome:
        cut = self._interrupt()
        self.asked.append(Asked(event_id, question, attempt))
        return ("TurnStarted", len(self.asked), event_id, question, cut)

    def _interrupt(self) -> int:
        current = self.current
        if current:
            self.asked[current - 1].interrupted = True
        return current

    def _refused(self, turn: int) -> Outcome | None:
        if turn == self.current:
            return None
        if self.over:
            return ("ConnectionClosedError",)
        return ("TurnFinishedError" if self.asked[turn - 1].finished else "StaleTurnError",)
