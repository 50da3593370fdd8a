"""The strategies of `testing`: what they make is what they say, and they reach the odd corners."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from speech_engine_proto import (
    AgentConnection,
    ConversationMessage,
    EngineConnection,
    ProtocolViolation,
    RemoteProtocolError,
    Role,
    TurnStarted,
    wire,
)
from speech_engine_proto.testing import conversations, frames, garbage, messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=200)
SEARCH = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=3_000,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)

FROM_ENGINE = (wire.Init, wire.UserTranscript, wire.Ping, wire.Close, wire.Error)
FROM_AGENT = (wire.AgentResponse, wire.Pong)


def some(strategy: SearchStrategy[T], condition: Callable[[T], object]) -> T:
    """An example that the strategy makes; fails where it makes none such."""
    return find(strategy, lambda example: bool(condition(example)), settings=SEARCH)


def violates(message: bytes | str) -> bool:
    try:
        wire.decode(message)
    except RemoteProtocolError:
        return True
    return False


@STEADY
@given(messages())
def test_messages_survive_the_wire(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


@STEADY
@given(messages(Role.ENGINE))
def test_messages_of_the_engine(message: wire.Message) -> None:
    assert isinstance(message, (*FROM_ENGINE, wire.Unknown))


@STEADY
@given(messages(Role.AGENT))
def test_messages_of_the_agent(message: wire.Message) -> None:
    assert isinstance(message, (*FROM_AGENT, wire.Unknown))


@pytest.mark.parametrize("kind", [*FROM_ENGINE, *FROM_AGENT, wire.Unknown])
def test_messages_of_every_type(kind: type) -> None:
    assert isinstance(some(messages(), lambda message: isinstance(message, kind)), kind)


ODD_MESSAGES: dict[str, Callable[[Any], object]] = {
    "no id": lambda m: isinstance(m, wire.UserTranscript) and m.event_id is None,
    "negative id": lambda m: isinstance(m, wire.UserTranscript) and (m.event_id or 0) < 0,
    "large id": lambda m: isinstance(m, wire.AgentResponse) and (m.event_id or 0) > 2**60,
    "empty transcript": lambda m: isinstance(m, wire.UserTranscript) and not m.user_transcript,
    "odd role": lambda m: (
        isinstance(m, wire.UserTranscript)
        and any(entry.role not in ("user", "agent") for entry in m.user_transcript)
    ),
    "empty content": lambda m: (
        isinstance(m, wire.UserTranscript) and any(not e.content for e in m.user_transcript)
    ),
}


@pytest.mark.parametrize("odd", ODD_MESSAGES)
def test_odd_messages_are_among_them(odd: str) -> None:
    assert not violates(wire.encode(some(messages(), ODD_MESSAGES[odd])))


@STEADY
@given(frames())
def test_frames_are_legal(frame: str) -> None:
    assert not violates(frame)


@STEADY
@given(frames(Role.ENGINE))
def test_frames_of_the_engine(frame: str) -> None:
    assert isinstance(wire.decode(frame), (*FROM_ENGINE, wire.Unknown))


@STEADY
@given(frames(Role.AGENT))
def test_frames_of_the_agent(frame: str) -> None:
    assert isinstance(wire.decode(frame), (*FROM_AGENT, wire.Unknown))


ODD_FRAMES: dict[str, Callable[[str], object]] = {
    "unknown key": lambda f: '"x-' in f,
    "repeated key": lambda f: f.startswith('{"type":"ping",') and '"type": "ping"' not in f,
    "repeated unknown key": lambda f: f.startswith('{"x":[{}],"x":0,'),
    "type not first": lambda f: not f.startswith('{"type"'),
    "white space": lambda f: "\n" in f,
    "null content": lambda f: '"content": null' in f,
    "half an emoji": lambda f: '"content": "\\ud83d' in f,
    "plain characters": lambda f: not f.isascii(),
    "no id": lambda f: "user_transcript" in json.loads(f) and "event_id" not in json.loads(f),
    "null id": lambda f: json.loads(f).get("event_id", 0) is None,
}


@pytest.mark.parametrize("odd", ODD_FRAMES)
def test_odd_frames_are_among_them(odd: str) -> None:
    assert not violates(some(frames(), ODD_FRAMES[odd]))


@STEADY
@given(garbage())
def test_garbage_is_refused_and_touches_no_turn(message: bytes | str) -> None:
    agent, engine = AgentConnection(), EngineConnection()
    agent.receive(engine.send_init("conv_1"))
    started = agent.receive(engine.send_transcript([ConversationMessage("user", "Hello?")]))
    assert isinstance(started, TurnStarted)

    assert isinstance(agent.receive(message), ProtocolViolation)
    assert isinstance(engine.receive(message), ProtocolViolation)

    assert agent.turn is started.turn
    engine.receive(agent.send_text(started.turn, "Hello!"))
    engine.receive(agent.end_turn(started.turn))
    assert engine.turn_state is started.turn.state


def _parsed(message: bytes | str) -> Any:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def _misses(message: bytes | str, kind: str) -> bool:
    body = _parsed(message)
    return isinstance(body, dict) and body.get("type") == kind


KINDS_OF_GARBAGE: dict[str, Callable[[Any], object]] = {
    "bytes": lambda g: isinstance(g, bytes),
    "near init": lambda g: _misses(g, "init"),
    "near user_transcript": lambda g: _misses(g, "user_transcript"),
    "near error": lambda g: _misses(g, "error"),
    "near agent_response": lambda g: _misses(g, "agent_response"),
    "no type": lambda g: isinstance(_parsed(g), dict) and "type" not in _parsed(g),
    "an id out of range": lambda g: (
        _misses(g, "user_transcript") and type(_parsed(g)["event_id"]) is int
    ),
    "cut short": lambda g: isinstance(g, str) and g.startswith("{") and "}" not in g,
    "nothing": lambda g: g == "",
    "two in one": lambda g: isinstance(g, str) and '}{"type"' in g,
    "a byte order mark": lambda g: isinstance(g, str) and g.startswith("\ufeff{"),
    "a byte order mark in bytes": lambda g: isinstance(g, bytes) and g.startswith(b"\xef\xbb\xbf"),
    "UTF-16": lambda g: isinstance(g, bytes) and b"{\x00" in g,
    "a broken byte": lambda g: isinstance(g, bytes) and g.startswith(b"{") and b"\xff" in g,
    "half an emoji": lambda g: isinstance(g, str) and g.endswith("}\ud83d"),
    "in an array": lambda g: isinstance(g, str) and g.startswith("[{"),
    "deep": lambda g: isinstance(g, str) and g.startswith("[" * 10_000),
    "a long number": lambda g: isinstance(g, str) and len(g) == 5_000,
    "not a number": lambda g: g == "NaN",
}


@pytest.mark.parametrize("kind", KINDS_OF_GARBAGE)
def test_every_kind_of_garbage_is_made(kind: str) -> None:
    assert violates(some(garbage(), KINDS_OF_GARBAGE[kind]))


@STEADY
@given(conversations())
def test_conversations_are_what_a_strict_service_sends(conversation: tuple[str, ...]) -> None:
    sent = [wire.decode(frame) for frame in conversation]
    assert isinstance(sent[0], wire.Init)
    assert not any(isinstance(message, wire.Init) for message in sent[1:])
    assert not any(isinstance(message, wire.Close) for message in sent[:-1])
    assert all(type(message) in FROM_ENGINE for message in sent)

    first_sent: dict[int, wire.UserTranscript] = {}
    for message in sent:
        if isinstance(message, wire.UserTranscript):
            assert message.event_id is not None
            if message.event_id in first_sent:
                assert message == first_sent[message.event_id]
                continue
            assert message.event_id == len(first_sent) + 1
            assert message.user_transcript[-1].role == "user"
            if before := first_sent.get(message.event_id - 1):
                known = len(before.user_transcript)
                assert message.user_transcript[:known] == before.user_transcript
            first_sent[message.event_id] = message


def _transcripts(conversation: tuple[str, ...]) -> list[wire.UserTranscript]:
    sent = map(wire.decode, conversation)
    return [message for message in sent if isinstance(message, wire.UserTranscript)]


def _ids(conversation: tuple[str, ...]) -> list[int]:
    return [message.event_id or 0 for message in _transcripts(conversation)]


def _pairs(conversation: tuple[str, ...]) -> list[tuple[wire.UserTranscript, wire.UserTranscript]]:
    transcripts = _transcripts(conversation)
    return list(pairwise(transcripts))


CONVERSATIONS: dict[str, Callable[[tuple[str, ...]], object]] = {
    "three turns": lambda c: max(_ids(c), default=0) >= 3,
    "the same id": lambda c: any(a.event_id == b.event_id for a, b in _pairs(c)),
    "an older id": lambda c: _ids(c) != sorted(_ids(c)),
    "a new id": lambda c: any(
        a.user_transcript == b.user_transcript and a.event_id != b.event_id for a, b in _pairs(c)
    ),
    "a reply in the history": lambda c: any(
        entry.role == "agent" for t in _transcripts(c) for entry in t.user_transcript
    ),
    "a ping": lambda c: wire.encode(wire.Ping()) in c,
    "an error": lambda c: any(isinstance(wire.decode(frame), wire.Error) for frame in c),
    "a close": lambda c: c[-1] == wire.encode(wire.Close()),
    "no close": lambda c: c[-1] != wire.encode(wire.Close()),
}


@pytest.mark.parametrize("what", CONVERSATIONS)
def test_conversations_hold_all_that_can_happen(what: str) -> None:
    conversation = some(conversations(), CONVERSATIONS[what])
    agent = AgentConnection()
    assert not any(isinstance(agent.receive(f), ProtocolViolation) for f in conversation)
