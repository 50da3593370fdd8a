"""The cell table: sender x state x message x direction, typed by hand from the fact sheet.

Four grids, one per role and direction. A column is a state, a row a message or a verb; the word in
the cell is what must happen. `AFTER` tells which column the conversation is in then, so that each
cell holds both the answer and the move. No cell is left to a default.

The turn in flight has the id 5 and was asked ``BASE``; in the columns ``opening`` and ``open``
nothing has been asked yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import speech_engine_proto
from tests.proto.subject import snapshot

# The agent receives. ``silent``: the turn has its terminator and said nothing (rule 2).
AGENT_RECEIVES = """
             opening  open     waiting   speaking  answered  silent   ended    lost      closed
init         started  refused  refused   refused   refused   refused  after    after     after
higher       early    turn     cut       cut       turn      turn     after    after     after
higher-same  early    turn     resent    cut       turn      turn     after    after     after
same         early    turn     double    double    answered  again    after    after     after
reworded     early    turn     double    double    answered  again    after    after     after
lower        early    turn     older     older     older     older    after    after     after
null         early    turn     cut       cut       turn      turn     after    after     after
no-id        early    turn     cut       cut       turn      turn     after    after     after
empty        early    turn     cut       cut       turn      turn     after    after     after
ping         pong     pong     pong      pong      pong      pong     after    after     after
error        error    error    error     error     error     error    after    after     after
close        ended    ended    end-cut   end-cut   ended     ended    after    after     after
reply        wrong    wrong    wrong     wrong     wrong     wrong    after    after     after
pong         wrong    wrong    wrong     wrong     wrong     wrong    after    after     after
unknown      unknown  unknown  unknown   unknown   unknown   unknown  after    after     after
broken-id    refused  refused  refused   refused   refused   refused  after    after     after
broken-json  refused  refused  refused   refused   refused   refused  after    after     after
eof          lost     lost     lost-cut  lost-cut  lost      lost     end-was  lost-was  end-was
"""

# The agent sends. ``current`` is the last turn begun, ``older`` the one it interrupted, ``foreign``
# a turn of another conversation, which is every turn there is before the first transcript.
AGENT_SENDS = """
               opening  open   waiting   speaking  answered  silent    ended  lost  closed
piece-current  stale    stale  piece     piece     finished  finished  gone   gone  gone
end-current    stale    stale  mute-end  end       finished  finished  gone   gone  gone
piece-older    stale    stale  stale     stale     stale     stale     gone   gone  gone
end-older      stale    stale  stale     stale     stale     stale     gone   gone  gone
piece-foreign  stale    stale  stale     stale     stale     stale     gone   gone  gone
end-foreign    stale    stale  stale     stale     stale     stale     gone   gone  gone
piece-empty    stale    stale  value     value     finished  finished  gone   gone  gone
close          quiet    quiet  quiet     quiet     quiet     quiet     none   none  none
"""

# The service sends. An id below the current one is a late re-send; it moves nothing.
ENGINE_SENDS = """
       opening  open   waiting  speaking  answered  silent  ended  lost
init   init     local  local    local     local     local   gone   gone
next   local    ask    ask      ask       ask       ask     gone   gone
same   local    ask    repeat   repeat    repeat    retry   gone   gone
lower  local    ask    repeat   repeat    repeat    repeat  gone   gone
ping   ping     ping   ping     ping      ping      ping    gone   gone
error  error    error  error    error     error     error   gone   gone
close  close    close  close    close     close     close   gone   gone
"""

# The service receives.
ENGINE_RECEIVES = """
               opening  open     waiting   speaking  answered  silent   ended  lost
piece          refused  refused  text      text      refused   refused  after  after
piece-null     refused  refused  text      text      refused   refused  after  after
piece-empty    refused  refused  hush      hush      refused   refused  after  after
piece-older    refused  refused  stale     stale     stale     stale    after  after
piece-newer    refused  refused  refused   refused   refused   refused  after  after
end            refused  refused  mute-end  end       refused   refused  after  after
end-null       refused  refused  mute-end  end       refused   refused  after  after
end-with-text  refused  refused  text-end  text-end  refused   refused  after  after
end-older      refused  refused  stale     stale     stale     stale    after  after
end-newer      refused  refused  refused   refused   refused   refused  after  after
pong           pong     pong     pong      pong      pong      pong     after  after
init           wrong    wrong    wrong     wrong     wrong     wrong    after  after
transcript     wrong    wrong    wrong     wrong     wrong     wrong    after  after
ping           wrong    wrong    wrong     wrong     wrong     wrong    after  after
close          wrong    wrong    wrong     wrong     wrong     wrong    after  after
error          wrong    wrong    wrong     wrong     wrong     wrong    after  after
unknown        unknown  unknown  unknown   unknown   unknown   unknown  after  after
broken-final   refused  refused  refused   refused   refused   refused  after  after
broken-json    refused  refused  refused   refused   refused   refused  after  after
eof            lost     lost     lost      lost      lost      lost     ended  lost
"""

# What each word means: the event, frame or exception, with what it carries.
AGENT_EVENTS: dict[str, tuple[object, ...]] = {
    "started": ("ConversationStarted", "conv_1"),
    "refused": ("ProtocolViolation",),
    "early": ("TurnStarted", "fresh", "first attempt", "cuts nothing"),
    "turn": ("TurnStarted", "fresh", "first attempt", "cuts nothing"),
    "again": ("TurnStarted", "fresh", "second attempt", "cuts nothing"),
    "cut": ("TurnStarted", "fresh", "first attempt", "cuts the current"),
    "resent": ("TurnResent", "the current", 6, 5),
    "double": ("TranscriptIgnored", 5, "DUPLICATE"),
    "answered": ("TranscriptIgnored", 5, "ALREADY_ANSWERED"),
    "older": ("TranscriptIgnored", 4, "OLDER"),
    "pong": ("PingReceived", '{"type":"pong"}'),
    "error": ("ErrorReceived", "cascade"),
    "wrong": ("MessageIgnored", "WRONG_DIRECTION"),
    "unknown": ("MessageIgnored", "UNKNOWN_TYPE"),
    "after": ("MessageIgnored", "AFTER_END"),
    "ended": ("ConversationEnded", "cuts nothing"),
    "end-cut": ("ConversationEnded", "cuts the current"),
    "end-was": ("ConversationEnded", "cuts the current"),
    "lost": ("ConnectionLost", "cuts nothing"),
    "lost-cut": ("ConnectionLost", "cuts the current"),
    "lost-was": ("ConnectionLost", "cuts the current"),
    "piece": ("agent_response", "word", False, 5),
    "end": ("agent_response", "", True, 5),
    "mute-end": ("agent_response", "", True, 5),
    "stale": ("StaleTurnError",),
    "finished": ("TurnFinishedError",),
    "gone": ("ConnectionClosedError",),
    "value": ("ValueError",),
    "quiet": ("nothing",),
    "none": ("nothing",),
}
ENGINE_EVENTS: dict[str, tuple[object, ...]] = {
    "text": ("ReplyText", 5, "word"),
    "hush": ("ReplyText", 5, ""),
    "stale": ("StaleReply", 4),
    "mute-end": ("ReplyFinished", 5, ""),
    "end": ("ReplyFinished", 5, ""),
    "text-end": ("ReplyFinished", 5, "word"),
    "refused": ("ProtocolViolation",),
    "pong": ("PongReceived",),
    "wrong": ("MessageIgnored", "WRONG_DIRECTION"),
    "unknown": ("MessageIgnored", "UNKNOWN_TYPE"),
    "after": ("MessageIgnored", "AFTER_END"),
    "ended": ("ConversationEnded",),
    "lost": ("ConnectionLost",),
    "init": ("init",),
    "ask": ("user_transcript",),
    "repeat": ("user_transcript",),
    "retry": ("user_transcript",),
    "ping": ("ping",),
    "error": ("error",),
    "close": ("close",),
    "local": ("LocalProtocolError",),
    "gone": ("ConnectionClosedError",),
}

# Which column the conversation is in after a cell; a word that is not here moves nothing.
AFTER = {
    "agent": {
        "started": "open",
        "turn": "waiting",
        "again": "waiting",
        "cut": "waiting",
        "resent": "waiting",
        "ended": "ended",
        "end-cut": "ended",
        "lost": "lost",
        "lost-cut": "lost",
        "piece": "speaking",
        "end": "answered",
        "mute-end": "silent",
        "quiet": "closed",
    },
    "engine": {
        "init": "open",
        "ask": "waiting",
        "retry": "waiting",
        "text": "speaking",
        "mute-end": "silent",
        "end": "answered",
        "text-end": "answered",
        "lost": "lost",
        "close": "ended",
    },
}


# The words after which every field, hidden ones too, is as it was.
NOTHING_CHANGES = frozenset(
    """
    refused wrong unknown after double answered older pong error stale finished gone value none
    end-was lost-was local ping
    """.split()
)


@dataclass(frozen=True)
class Cell:
    """One entry of a grid."""

    role: str
    direction: str
    column: str
    row: str
    word: str

    def __str__(self) -> str:
        return f"{self.role}-{self.direction}-{self.row}-while-{self.column}"


def read_grid(role: str, direction: str, grid: str) -> list[Cell]:
    """Read a grid; every row must fill every column."""
    head, *rows = (line.split() for line in grid.strip().splitlines())
    return [
        Cell(role, direction, column, name, word)
        for name, *cells in rows
        for column, word in zip(head, cells, strict=True)
    ]


CELLS = [
    *read_grid("agent", "receives", AGENT_RECEIVES),
    *read_grid("agent", "sends", AGENT_SENDS),
    *read_grid("engine", "sends", ENGINE_SENDS),
    *read_grid("engine", "receives", ENGINE_RECEIVES),
]


def check(cell: Cell, core: Any = speech_engine_proto) -> None:
    """Put a connection into the cell's state, do what the cell says, and look."""
    setting: _Agent | _Engine
    if cell.role == "agent":
        setting, meanings = _Agent(core, cell.column), AGENT_EVENTS
    else:
        setting, meanings = _Engine(core, cell.column), ENGINE_EVENTS
    assert setting.column() == cell.column
    before = snapshot(setting.connection)
    got = setting.receive(cell.row) if cell.direction == "receives" else setting.send(cell.row)
    assert got == meanings[cell.word]
    if cell.word in NOTHING_CHANGES:
        assert snapshot(setting.connection) == before
    assert setting.column() == AFTER[cell.role].get(cell.word, cell.column)


BASE = [{"role": "user", "content": "Hello?"}]
OTHER = [*BASE, {"role": "agent", "content": "Hi."}, {"role": "user", "content": "Bye."}]


def _ask(transcript: object, **fields: object) -> str:
    return json.dumps({"type": "user_transcript", "user_transcript": transcript, **fields})


def _reply(content: str, final: object, **fields: object) -> str:
    return json.dumps({"type": "agent_response", "content": content, "is_final": final, **fields})


INIT = '{"type":"init","conversation_id":"conv_1"}'
MESSAGES = {
    "init": INIT,
    "higher": _ask(OTHER, event_id=6),
    "higher-same": _ask(BASE, event_id=6),
    "same": _ask(BASE, event_id=5),
    "reworded": _ask(OTHER, event_id=5),
    "lower": _ask(OTHER, event_id=4),
    "null": _ask(BASE, event_id=None),
    "no-id": _ask(BASE),
    "empty": _ask([], event_id=6),
    "transcript": _ask(BASE, event_id=5),
    "ping": '{"type":"ping"}',
    "error": '{"type":"error","message":"cascade"}',
    "close": '{"type":"close"}',
    "reply": _reply("word", False, event_id=5),
    "pong": '{"type":"pong"}',
    "unknown": '{"type":"vad_score"}',
    "broken-id": _ask(OTHER, event_id="6"),
    "broken-final": _reply("word", 1, event_id=5),
    "broken-json": '{"type":"close"',
    "piece": _reply("word", False, event_id=5),
    "piece-null": _reply("word", False, event_id=None),
    "piece-empty": _reply("", False, event_id=5),
    "piece-older": _reply("word", False, event_id=4),
    "piece-newer": _reply("word", False, event_id=6),
    "end": _reply("", True, event_id=5),
    "end-null": _reply("", True),
    "end-with-text": _reply("word", True, event_id=5),
    "end-older": _reply("", True, event_id=4),
    "end-newer": _reply("", True, event_id=6),
}


class _Agent:
    """The agent's side in the state of a column, reached by the shortest legal way."""

    def __init__(self, core: Any, column: str) -> None:
        self.connection = connection = core.AgentConnection()
        self.foreign = core.AgentConnection().receive(MESSAGES["higher"]).turn
        self.older = self.current = self.foreign
        if column != "opening":
            connection.receive(INIT)
        if column not in ("opening", "open"):
            self.older = connection.receive(_ask(OTHER, event_id=3)).turn
            self.current = connection.receive(_ask(BASE, event_id=5)).turn
        if column in ("speaking", "answered"):
            connection.send_text(self.current, "Hi.")
        if column in ("answered", "silent"):
            connection.end_turn(self.current)
        if column == "ended":
            connection.receive(MESSAGES["close"])
        if column == "lost":
            connection.receive_eof()
        if column == "closed":
            connection.close()

    def column(self) -> str:
        """Name the column that the connection is in, from what it shows."""
        turn = self.current
        state = None if turn is self.foreign else turn.state.name
        return _column(self.connection, state, state is not None and bool(turn.text_sent))

    def receive(self, row: str) -> tuple[object, ...]:
        """Receive the row's message; tell the event in the table's words."""
        event = self.connection.receive_eof() if row == "eof" else None
        event = event or self.connection.receive(MESSAGES[row])
        name = type(event).__name__
        assert (event.reply is None) == (name != "PingReceived")
        match name:
            case "TurnStarted":
                return (name, *self._began(event, row))
            case "TurnResent":
                assert event.turn is self.current
                assert event.turn.event_id == event.event_id
                return (name, "the current", event.event_id, event.previous_event_id)
            case "TranscriptIgnored":
                return (name, event.event_id, event.reason.name)
            case "MessageIgnored":
                return (name, event.reason.name)
            case "ConversationEnded" | "ConnectionLost" if row in ("close", "eof"):
                return (name, self._cut(event.interrupted))
            case "ConversationStarted":
                return (name, event.conversation_id)
            case "ErrorReceived":
                return (name, event.message)
            case "PingReceived":
                return (name, event.reply)
            case _:
                return (name,)

    def _began(self, event: Any, row: str) -> tuple[str, str, str]:
        fields = json.loads(MESSAGES[row])
        assert event.event_id == event.turn.event_id == fields.get("event_id")
        heard = [(m.role, m.content) for m in event.transcript]
        assert heard == [(m["role"], m["content"]) for m in fields["user_transcript"]]
        assert event.turn is not self.current
        cut = self._cut(event.interrupted)
        self.current = event.turn
        attempt = {1: "first attempt", 2: "second attempt"}[event.turn.attempt]
        return "fresh", attempt, cut

    def _cut(self, turn: Any) -> str:
        if turn is None:
            return "cuts nothing"
        assert turn is self.current
        assert turn.interrupted
        return "cuts the current"

    def send(self, row: str) -> tuple[object, ...]:
        """Ask for the row's frame; tell the frame or the error in the table's words."""
        if row == "close":
            self.connection.close()
            return ("nothing",)
        verb, _, which = row.partition("-")
        turn = self.current if which == "empty" else getattr(self, which)
        try:
            if verb == "end":
                frame = json.loads(self.connection.end_turn(turn))
            else:
                frame = json.loads(
                    self.connection.send_text(turn, "" if which == "empty" else "word")
                )
        except (RuntimeError, ValueError) as error:
            return (type(error).__name__,)
        return tuple(frame[key] for key in ("type", "content", "is_final", "event_id"))


class _Engine:
    """The service's side in the state of a column."""

    def __init__(self, core: Any, column: str) -> None:
        self.connection = connection = core.EngineConnection()
        self.transcript = [core.ConversationMessage("user", "Hello?")]
        self.spoke = False
        if column != "opening":
            connection.send_init("conv_1")
        if column not in ("opening", "open"):
            connection.send_transcript(self.transcript, 5)
        if column in ("speaking", "answered"):
            self.receive("piece")
        if column in ("answered", "silent"):
            self.receive("end")
        if column == "ended":
            connection.send_close()
        if column == "lost":
            connection.receive_eof()

    def column(self) -> str:
        """Name the column that the connection is in, from what it shows."""
        state = self.connection.turn_state
        return _column(self.connection, state and state.name, self.spoke)

    def receive(self, row: str) -> tuple[object, ...]:
        """Receive the row's message; tell the event in the table's words."""
        event = self.connection.receive_eof() if row == "eof" else None
        event = event or self.connection.receive(MESSAGES[row])
        assert event.reply is None
        name = type(event).__name__
        match name:
            case "ReplyText" | "ReplyFinished":
                self.spoke = self.spoke or bool(event.text)
                return (name, event.event_id, event.text)
            case "StaleReply":
                assert event.text == json.loads(MESSAGES[row])["content"]
                return (name, event.event_id)
            case "MessageIgnored":
                return (name, event.reason.name)
            case _:
                return (name,)

    def send(self, row: str) -> tuple[object, ...]:
        """Ask for the row's frame; tell its type or the error."""
        connection = self.connection
        asked = connection.event_id
        numbers = {"next": 1 if asked is None else asked + 1, "same": 5, "lower": 4}
        verbs = {
            "init": lambda: connection.send_init("conv_2"),
            "next": lambda: connection.send_transcript(self.transcript),
            "same": lambda: connection.send_transcript(self.transcript, 5),
            "lower": lambda: connection.send_transcript(self.transcript, 4),
            "ping": connection.send_ping,
            "error": lambda: connection.send_error("cascade"),
            "close": connection.send_close,
        }
        try:
            frame = json.loads(verbs[row]())
        except RuntimeError as error:
            return (type(error).__name__,)
        expected = {
            "init": {"conversation_id": "conv_2"},
            "error": {"message": "cascade"},
            "ping": {},
            "close": {},
        }
        kind = frame.pop("type")
        words = {"user_transcript": BASE, "event_id": numbers.get(row)}
        assert frame == expected.get(row, words)
        return (kind,)


def _column(connection: Any, turn_state: str | None, spoke: bool) -> str:
    name: str = connection.state.name.lower()
    assert connection.is_open == (name in ("opening", "open"))
    if turn_state is None or name != "open":
        return name
    if turn_state == "FINISHED":
        return "answered" if spoke else "silent"
    return turn_state.lower()
