"""The Hypothesis strategies of `testing`, and the strict service that scripts are made with."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import attrs
from hypothesis import strategies as st

from . import wire
from ._engine import EngineConnection
from ._messages import ConversationMessage
from ._states import Role


def messages(sender: Role | None = None) -> st.SearchStrategy[wire.Message]:
    """Any message that a peer may send, the odd but legal ones too.

    Odd are empty texts and transcripts, roles and types that nobody knows, ids that are missing,
    negative or as large as they get.

    Args:
        sender: the role whose messages are wanted; None is either.
    """
    strategies: list[st.SearchStrategy[wire.Message]] = [st.builds(wire.Unknown, unknown_types())]
    if sender is not Role.AGENT:
        strategies += [
            st.builds(wire.Init, _texts()),
            st.builds(wire.UserTranscript, _transcripts(), _event_ids()),
            st.builds(wire.Ping),
            st.builds(wire.Close),
            st.builds(wire.Error, _texts()),
        ]
    if sender is not Role.ENGINE:
        strategies += [
            st.builds(wire.AgentResponse, _texts(), st.booleans(), _event_ids()),
            st.builds(wire.Pong),
        ]
    return st.one_of(strategies)


def frames(sender: Role | None = None) -> st.SearchStrategy[str]:
    """Any legal text frame, in the many ways in which JSON can say the same.

    Unknown and repeated keys, any order and white space, escaped or plain characters, a content
    that is null, an id that is missing, half an emoji: a reader must take them all.

    Args:
        sender: the role whose frames are wanted; None is either.
    """
    return _frames(messages(sender))


def garbage() -> st.SearchStrategy[bytes | str]:
    """What is no message of the protocol: a reader must refuse every one and live on.

    Near misses (the right type, a wrong field), messages cut short or glued together, broken
    UTF-8, a byte order mark, UTF-16, numbers out of range, deep nesting, noise.
    """
    return st.one_of(garbage_texts(), _garbage_bytes())


@st.composite
def conversations(draw: st.DrawFn) -> tuple[str, ...]:
    """All that a strict service sends in one conversation: a tuple of frames, in legal order.

    It begins with ``init``. Transcripts follow whose history grows by what the caller said and,
    now and then, by what an agent might have answered; between them pings, errors and re-sends
    (under the same, an older and a new id). It may or may not end with ``close``: where it does
    not, the socket just ends. Feed the frames to your agent one after the other; `wire.decode`
    tells what each one is.
    """
    service = Service()
    sent = [service.connection.send_init(draw(_spoken()))]
    steps = st.sampled_from(["says", "same", "older", "new", "ping", "error"])
    for step in draw(st.lists(steps, max_size=12)):
        current = service.current
        if step == "ping":
            sent.append(service.connection.send_ping())
        elif step == "error":
            sent.append(service.connection.send_error(draw(_texts())))
        elif step == "says" or current is None:
            if current is not None:
                current.reply, current.finished = draw(_texts()), True
            sent.append(service.ask(draw(_spoken())))
        else:
            repeats = {"same": service.repeat, "older": service.repeat_oldest}
            sent.append(repeats.get(step, service.repeat_under_new_id)())
    if draw(st.booleans()):
        sent.append(service.connection.send_close())
    return tuple(sent)


@attrs.define
class Question:
    """One turn as the service sees it."""

    event_id: int
    transcript: tuple[ConversationMessage, ...]
    reply: str = ""
    finished: bool = False

    def heard(self) -> str:
        """What the caller heard of the reply: half of it, where they cut in."""
        return self.reply if self.finished else self.reply[: len(self.reply) // 2]


class Service:
    """A strict service: an `EngineConnection` and what it has asked so far."""

    def __init__(self) -> None:
        self.connection: EngineConnection = EngineConnection()
        self.questions: list[Question] = []

    @property
    def current(self) -> Question | None:
        """The turn asked last; None before the first."""
        return self.questions[-1] if self.questions else None

    def ask(self, text: str) -> str:
        """Ask a new question: all that was said so far, and this."""
        history: tuple[ConversationMessage, ...] = ()
        if self.current is not None:
            history, heard = self.current.transcript, self.current.heard()
            if heard:
                history = (*history, ConversationMessage("agent", heard))
        return self._ask((*history, ConversationMessage("user", text)))

    def repeat(self) -> str:
        """Ask the current question again; after a reply without a word that is a new attempt."""
        question = self.questions[-1]
        question.finished = question.finished and bool(question.reply)
        return self.connection.send_transcript(question.transcript, question.event_id)

    def repeat_oldest(self) -> str:
        """Ask the first question again, as if it had been late."""
        if len(self.questions) == 1:
            return self.repeat()
        question = self.questions[0]
        return self.connection.send_transcript(question.transcript, question.event_id)

    def repeat_under_new_id(self) -> str:
        """Ask the current question again under the next id."""
        return self._ask(self.questions[-1].transcript)

    def _ask(self, transcript: tuple[ConversationMessage, ...]) -> str:
        self.questions.append(Question(len(self.questions) + 1, transcript))
        return self.connection.send_transcript(transcript)


def _texts() -> st.SearchStrategy[str]:
    return st.text(max_size=20)


def _spoken() -> st.SearchStrategy[str]:
    return st.text(min_size=1, max_size=20)


def _event_ids() -> st.SearchStrategy[int | None]:
    extremes = st.sampled_from([wire.EVENT_ID_MIN, wire.EVENT_ID_MAX])
    anything = st.integers(wire.EVENT_ID_MIN, wire.EVENT_ID_MAX)
    return st.none() | st.integers(-2, 20) | extremes | anything


def _transcripts() -> st.SearchStrategy[tuple[ConversationMessage, ...]]:
    roles = st.sampled_from(["user", "agent"]) | _texts()
    entries = st.builds(ConversationMessage, roles, _texts())
    return st.lists(entries, max_size=5).map(tuple)


_KNOWN_TYPES = frozenset(
    ("init", "user_transcript", "ping", "close", "error", "agent_response", "pong")
)


def unknown_types() -> st.SearchStrategy[str]:
    """Draw a message type that the protocol does not have."""
    return _texts().filter(lambda name: name not in _KNOWN_TYPES)


def _json_values() -> st.SearchStrategy[object]:
    plain = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | _texts()
    )
    return st.recursive(
        plain, lambda inner: st.lists(inner) | st.dictionaries(_texts(), inner), max_leaves=4
    )


_BODIES: tuple[dict[str, object], ...] = (
    {"type": "ping"},
    {"type": "init", "conversation_id": "conv_1"},
    {"type": "user_transcript", "user_transcript": [], "event_id": 1},
    {"type": "error", "message": "m"},
    {"type": "agent_response", "content": "c", "is_final": False, "event_id": 1},
)
_NO_TEXT: tuple[object, ...] = (None, True, 7, [], {})
_NO_TRANSCRIPT: list[object] = json.loads("""[
    null, true, 7, "u", {}, [null], ["u"], [[]], [{}], [{"role": "user"}], [{"content": "c"}],
    [{"role": null, "content": "c"}], [{"role": "user", "content": 7}]
]""")
_WRONG_VALUES: dict[str, tuple[object, ...]] = {
    "type": _NO_TEXT,
    "conversation_id": _NO_TEXT,
    "message": _NO_TEXT,
    "content": _NO_TEXT,
    "is_final": (None, 0, "true", [], {}),
    "user_transcript": tuple(_NO_TRANSCRIPT),
    "event_id": (True, 1.0, "1", 2**63, -(2**63) - 1, 10**400, [], {}),
}


@st.composite
def _near_misses(draw: st.DrawFn) -> str:
    """The right type, and one field of it wrong or missing."""
    body = dict(draw(st.sampled_from(_BODIES)))
    field = draw(st.sampled_from(list(body)))
    if field != "event_id" and draw(st.booleans()):
        del body[field]
    else:
        body[field] = draw(st.sampled_from(_WRONG_VALUES[field]))
    return json.dumps(body)


@st.composite
def _frames(draw: st.DrawFn, source: st.SearchStrategy[wire.Message]) -> str:
    body: dict[str, Any] = json.loads(wire.encode(draw(source)))
    if body.get("event_id", 0) is None and draw(st.booleans()):
        del body["event_id"]
    for entry in body.get("user_transcript", ()):
        entry["content"] = entry["content"] or draw(st.sampled_from(["", None]))
    body |= draw(st.dictionaries(_texts().map("x-{}".format), _json_values(), max_size=2))
    ordered = dict(draw(st.permutations(list(body.items()))))
    text = json.dumps(
        ordered, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    if draw(st.booleans()):
        text = text.replace('"content": "', '"content": "\\ud83d', 1)
    return draw(st.sampled_from(["{", '{"type":"ping",', '{"x":[{}],"x":0,'])) + text[1:]


@cache
def _encoded() -> st.SearchStrategy[str]:
    return st.builds(wire.encode, messages())


@st.composite
def _cut_short(draw: st.DrawFn) -> str:
    frame = draw(_encoded())
    return frame[: draw(st.integers(0, len(frame) - 1))]


def garbage_texts() -> st.SearchStrategy[str]:
    """Draw what `garbage` draws, as far as it is text."""
    nested = st.sampled_from([1, 2, 100, 10_000]).map(lambda depth: "[" * depth + "]" * depth)
    return st.one_of(
        _near_misses(),
        _cut_short(),
        st.builds("{}{}".format, _encoded(), _encoded()),
        _encoded().map("\ufeff{}".format),
        _encoded().map("{}\ud83d".format),
        _encoded().map("[{}]".format),
        nested,
        st.sampled_from(["NaN", "-Infinity", "null", '"ping"', "9" * 5_000]),
        _texts().filter(lambda text: not text.lstrip().startswith("{")),
    )


@st.composite
def _broken_utf8(draw: st.DrawFn) -> bytes:
    raw = draw(_encoded()).encode()
    position = draw(st.integers(0, len(raw)))
    return raw[:position] + b"\xff" + raw[position:]


def _garbage_bytes() -> st.SearchStrategy[bytes]:
    return st.one_of(
        _broken_utf8(),
        _encoded().map(lambda frame: frame.encode("utf-16")),
        _encoded().map(lambda frame: frame.encode("utf-8-sig")),
        st.binary(max_size=20).filter(lambda raw: not raw.lstrip().startswith(b"{")),
    )
