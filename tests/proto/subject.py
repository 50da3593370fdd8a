"""The real `AgentConnection`, driven by the same actions as the model, and told in its words."""

from __future__ import annotations

import json
from array import array
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import speech_engine_proto

if TYPE_CHECKING:
    from tests.proto.model import Model, Outcome

Action = tuple[str, tuple[Any, ...]]
"""The name of a method that `Model` and `Subject` share, and its arguments."""


def message(kind: str, **fields: object) -> str:
    """Write a message without the package's own writer."""
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))


@lru_cache(typed=True)
def asking(event_id: object, question: int) -> str:
    """Write a transcript; without an id, the field is null for odd questions, else missing."""
    words = [{"role": "user", "content": f"question {question}"}]
    if event_id is None and not question % 2:
        return message("user_transcript", user_transcript=words)
    return message("user_transcript", user_transcript=words, event_id=event_id)


class Subject:
    """A connection and the turns it has begun, numbered from 1.

    Args:
        core: the package, or a mutant of it.
        adopts: as in the model.
    """

    def __init__(self, core: Any = speech_engine_proto, *, adopts: bool = True) -> None:
        self.connection = core.AgentConnection(adopt_resends=adopts)
        self.turns: list[Any] = []

    def init(self) -> Outcome:
        """The service names the conversation."""
        return self._receive(message("init", conversation_id="conv_1"))

    def transcript(self, event_id: int | None, question: int) -> Outcome:
        """The service asks ``question`` under ``event_id``."""
        return self._receive(asking(event_id, question))

    def ping(self) -> Outcome:
        """The service asks whether the agent is there."""
        return self._receive('{"type":"ping"}')

    def error(self) -> Outcome:
        """The service reports an error."""
        return self._receive('{"type":"error","message":"cascade"}')

    def broken(self) -> Outcome:
        """The service sends a transcript with an id of the wrong type."""
        return self._receive(asking(True, 99))

    def unknown(self) -> Outcome:
        """The service sends a type that nobody knows."""
        return self._receive('{"type":"vad_score","event_id":99}')

    def wrong(self) -> Outcome:
        """The service sends what only the agent may send."""
        return self._receive('{"type":"agent_response","content":"","is_final":true}')

    def close(self) -> Outcome:
        """The service ends the conversation."""
        return self._receive('{"type":"close"}')

    def eof(self) -> Outcome:
        """The socket ends."""
        return self._describe(self.connection.receive_eof())

    def leave(self) -> Outcome:
        """The agent ends the conversation."""
        assert self.connection.close() is None
        return ("nothing",)

    def piece(self, turn: int) -> Outcome:
        """The agent says something for a turn."""
        return self._say("piece", turn)

    def terminator(self, turn: int) -> Outcome:
        """The agent ends its reply to a turn."""
        return self._say("terminator", turn)

    def view(self) -> Outcome:
        """Return all that a user can see, for comparison with `model_view`."""
        connection = self.connection
        return (
            connection.state.name,
            connection.is_open,
            connection.conversation_id,
            self._number(connection.turn),
            tuple(
                (t.event_id, t.state.name, t.attempt, len(t.text_sent), t.interrupted, t.in_flight)
                for t in self.turns
            ),
        )

    def _receive(self, text: str) -> Outcome:
        return self._describe(self.connection.receive(text))

    def _describe(self, event: Any) -> Outcome:
        name = type(event).__name__
        if name == "PingReceived":
            assert json.loads(event.reply) == {"type": "pong"}
        else:
            assert event.reply is None
        match name:
            case "TurnStarted":
                self.turns.append(event.turn)
                assert event.transcript is event.turn.transcript
                question = int(event.transcript[0].content.split()[1])
                interrupted = self._number(event.interrupted)
                return (name, len(self.turns), event.event_id, question, interrupted)
            case "TurnResent":
                return (name, self._number(event.turn), event.event_id, event.previous_event_id)
            case "TranscriptIgnored":
                return (name, event.event_id, event.reason.name)
            case "MessageIgnored":
                return (name, event.reason.name)
            case "ConversationEnded" | "ConnectionLost":
                return (name, self._number(event.interrupted))
            case _:
                return (name,)

    def _number(self, turn: Any) -> int:
        if turn is None:
            return 0
        return next(n for n, known in enumerate(self.turns, 1) if known is turn)

    def _say(self, what: str, turn: int) -> Outcome:
        handle, connection = self.turns[turn - 1], self.connection
        try:
            if what == "piece":
                frame = json.loads(connection.send_text(handle, "w"))
            else:
                frame = json.loads(connection.end_turn(handle))
        except RuntimeError as error:
            return (type(error).__name__,)
        final = what == "terminator"
        event_id = frame.pop("event_id")
        content = "" if final else "w"
        assert frame == {"type": "agent_response", "content": content, "is_final": final}
        assert type(frame["is_final"]) is bool
        return (what, event_id)


def model_view(model: Model) -> Outcome:
    """Return what `Subject.view` must be."""
    return (
        model.state,
        not model.over,
        "conv_1" if model.named else None,
        model.current,
        tuple(
            (
                t.event_id,
                t.state,
                t.attempt,
                t.pieces,
                t.interrupted,
                t.state in ("WAITING", "SPEAKING"),
            )
            for t in model.asked
        ),
    )


def step(model: Model, subject: Subject, action: Action) -> None:
    """Do one action on both and compare what comes of it and what can be seen after."""
    name, arguments = action
    before = snapshot(subject.connection)
    expected = getattr(model, name)(*arguments)
    assert getattr(subject, name)(*arguments) == expected, action
    assert subject.view() == model_view(model), action
    if expected[0] in UNCHANGING:
        assert snapshot(subject.connection) == before, f"{action} changed the state"


UNCHANGING = frozenset(
    {
        "TranscriptIgnored",
        "PingReceived",
        "ErrorReceived",
        "MessageIgnored",
        "ProtocolViolation",
        "StaleTurnError",
        "TurnFinishedError",
        "ConnectionClosedError",
    }
)
"""What must leave every hidden field as it was."""


def snapshot(thing: Any) -> Any:
    """Return every field of a connection, hidden ones too, as values that compare by content."""
    kind = type(thing)
    if kind in _PLAIN:
        return thing
    if kind in _SEQUENCES:
        return tuple(map(snapshot, thing))
    if isinstance(thing, Enum):
        return thing._name_
    return (kind.__name__, *[snapshot(getattr(thing, name)) for name in _slots(kind)])


_PLAIN = frozenset({type(None), bool, int, str, bytes})
_SEQUENCES = frozenset({tuple, list, array})


_SLOTS: dict[type, tuple[str, ...]] = {}


def _slots(kind: type) -> tuple[str, ...]:
    known = _SLOTS.get(kind)
    if known is None:
        names = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        known = _SLOTS[kind] = tuple(name for name in names if not name.startswith("__"))
    return known
