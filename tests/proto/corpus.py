"""Nasty inputs, each with its stated verdict; the same for both roles, who share one reader.

`REFUSED` are violations. `IGNORED` are well-formed messages that mean nothing to the agent.
`ACCEPTED` begin a turn although a strict reader would not take them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import speech_engine_proto
from tests.proto.subject import snapshot

Data = bytes | bytearray | memoryview | str


@dataclass(frozen=True)
class Nasty:
    """One input.

    Args:
        name: what is nasty about it.
        data: the message as it comes from the socket.
        where: the JSON path that a refusal must name.
        type: the type that an ignored message must be told to have.
        event_id: the id of the turn that an accepted one begins.
        contents: what is said in the transcript of an accepted one.
    """

    name: str
    data: Data
    where: str = "$"
    type: str = ""
    event_id: int | None = None
    contents: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def _transcript(event_id: str, entries: str = '[{"role":"user","content":"Hi"}]') -> bytes:
    return (
        f'{{"type":"user_transcript","user_transcript":{entries},"event_id":{event_id}}}'.encode()
    )


def _entry(entry: str) -> bytes:
    return _transcript("9", f"[{entry}]")


_ID, _LIST = "$.event_id", "$.user_transcript"
_CONTENT = "$.user_transcript[0].content"
_DEEP = 100_000

REFUSED = (
    # Bytes that are no UTF-8 JSON text.
    Nasty("nothing", b""),
    Nasty("nothing, as text", ""),
    Nasty("white space", b" \n\t"),
    Nasty("NUL", b"\0"),
    Nasty("byte order mark", b"\xef\xbb\xbf" + b'{"type":"close"}'),
    Nasty("byte order mark, as text", '\ufeff{"type":"close"}'),
    Nasty("UTF-16, little end", '{"type":"close"}'.encode("utf-16-le")),
    Nasty("UTF-16, big end", '{"type":"close"}'.encode("utf-16-be")),
    Nasty("UTF-16 with its mark", '{"type":"close"}'.encode("utf-16")),
    Nasty("UTF-32", '{"type":"close"}'.encode("utf-32-le")),
    Nasty(
        "broken UTF-8 in a content",
        _entry('{"role":"user","content":"??"}').replace(b"??", b"\xff"),
    ),
    Nasty("UTF-8 cut short", b'{"type":"error","message":"caf\xc3'),
    Nasty("overlong UTF-8", b'{"type":"cl\xc1\xafse"}'),
    Nasty("a surrogate in UTF-8", b'{"type":"error","message":"\xed\xa0\xbd"}'),
    Nasty("broken UTF-8 in an unknown field", b'{"type":"close","x":"\xff"}'),
    Nasty("broken UTF-8 in an unknown key", b'{"type":"close","\xff":1}'),
    Nasty("broken UTF-8 in an unknown type", b'{"type":"\xff"}'),
    Nasty("broken UTF-8 in a bytearray", bytearray(b'{"type":"close","x":"\xff"}')),
    Nasty("broken UTF-8 in a memoryview", memoryview(b'{"type":"close","x":"\xff"}')),
    Nasty("a lone surrogate in text", '{"type":"close","x":"\ud83d"}'),
    # Text that is no JSON.
    Nasty("words", b"close"),
    Nasty("cut short", b'{"type":"close"'),
    Nasty("cut in a string", b'{"type":"clo'),
    Nasty("two messages", b'{"type":"close"}{"type":"close"}'),
    Nasty("two lines", b'{"type":"close"}\n{"type":"close"}'),
    Nasty("something after", b'{"type":"close"} x'),
    Nasty("a comma too many", b'{"type":"close",}'),
    Nasty("a comment", b'{"type":"close"/* bye */}'),
    Nasty("single quotes", b"{'type':'close'}"),
    Nasty("no quotes", b"{type:close}"),
    Nasty("NaN", b'{"type":"close","x":NaN}'),
    Nasty("Infinity", b'{"type":"close","x":-Infinity}'),
    Nasty("a number with a leading zero", b'{"type":"close","x":01}'),
    Nasty("a line feed in a string", b'{"type":"error","message":"a\nb"}'),
    Nasty("half an escape", b'{"type":"error","message":"\\u12"}'),
    Nasty("an unknown escape", b'{"type":"error","message":"\\x41"}'),
    Nasty("half an escape after a lone half", b'{"type":"error","message":"\\ud83d\\u12"}'),
    Nasty("100,000 arrays", b"[" * _DEEP + b"]" * _DEEP),
    Nasty("100,000 arrays that never close", b"[" * _DEEP),
    Nasty("100,000 objects", b'{"type":' * _DEEP + b"1" + b"}" * _DEEP, where="$.type"),
    Nasty(
        "100,000 arrays in a field", b'{"type":"close","x":' + b"[" * _DEEP + b"]" * _DEEP + b"}"
    ),
    Nasty(
        "100,000 arrays for a transcript", _transcript("9", "[" * _DEEP + "]" * _DEEP), where="$"
    ),
    # JSON that is no object with a type.
    Nasty("null", b"null"),
    Nasty("true", b"true"),
    Nasty("a number", b"1"),
    Nasty("a 5,000-digit number", b"9" * 5000),
    Nasty("a string", b'"close"'),
    Nasty("an array", b'["close"]'),
    Nasty("an array of a message", b'[{"type":"close"}]'),
    Nasty("an empty object", b"{}"),
    Nasty("no type", b'{"conversation_id":"x"}'),
    Nasty("type in capitals", b'{"TYPE":"close"}'),
    Nasty("type null", b'{"type":null}', where="$.type"),
    Nasty("type number", b'{"type":1}', where="$.type"),
    Nasty("type array", b'{"type":["close"]}', where="$.type"),
    Nasty("type twice, the last a number", b'{"type":"close","type":1}', where="$.type"),
    # The right type, the wrong fields.
    Nasty("init without a name", b'{"type":"init"}'),
    Nasty("init with null", b'{"type":"init","conversation_id":null}', where="$.conversation_id"),
    Nasty("init with a number", b'{"type":"init","conversation_id":7}', where="$.conversation_id"),
    Nasty("error without words", b'{"type":"error"}'),
    Nasty("error with null", b'{"type":"error","message":null}', where="$.message"),
    Nasty("error with an object", b'{"type":"error","message":{}}', where="$.message"),
    Nasty("transcript missing", b'{"type":"user_transcript","event_id":9}'),
    Nasty("transcript null", _transcript("9", "null"), where=_LIST),
    Nasty("transcript object", _transcript("9", "{}"), where=_LIST),
    Nasty("transcript string", _transcript("9", '"Hi"'), where=_LIST),
    Nasty("transcript false", _transcript("9", "false"), where=_LIST),
    Nasty("entry null", _entry("null"), where="$.user_transcript[0]"),
    Nasty("entry string", _entry('"Hi"'), where="$.user_transcript[0]"),
    Nasty("entry array", _entry('["user","Hi"]'), where="$.user_transcript[0]"),
    Nasty("entry empty", _entry("{}"), where="$.user_transcript[0]"),
    Nasty("role missing", _entry('{"content":"Hi"}'), where="$.user_transcript[0]"),
    Nasty("role null", _entry('{"role":null,"content":"Hi"}'), where="$.user_transcript[0].role"),
    Nasty("content missing", _entry('{"role":"user"}'), where="$.user_transcript[0]"),
    Nasty("content number", _entry('{"role":"user","content":1}'), where=_CONTENT),
    Nasty("content false", _entry('{"role":"user","content":false}'), where=_CONTENT),
    Nasty("content list", _entry('{"role":"user","content":["Hi"]}'), where=_CONTENT),
    Nasty("id true", _transcript("true"), where=_ID),
    Nasty("id false", _transcript("false"), where=_ID),
    Nasty("id 9.5", _transcript("9.5"), where=_ID),
    Nasty("id 9.0", _transcript("9.0"), where=_ID),
    Nasty("id 9e0", _transcript("9e0"), where=_ID),
    Nasty("id 1e400", _transcript("1e400"), where=_ID),
    Nasty("id string", _transcript('"9"'), where=_ID),
    Nasty("id array", _transcript("[9]"), where=_ID),
    Nasty("id object", _transcript("{}"), where=_ID),
    Nasty("id 2**63", _transcript(str(2**63)), where=_ID),
    Nasty("id -2**63-1", _transcript(str(-(2**63) - 1)), where=_ID),
    Nasty("id 2**64", _transcript(str(2**64)), where=_ID),
    Nasty("id 2**70", _transcript(str(2**70)), where=_ID),
    Nasty("id of 5,000 digits", _transcript("9" * 5000), where=_ID),
    Nasty("id twice, the last a string", _transcript('9,"event_id":"9"'), where=_ID),
    Nasty("id twice, the first a string", _transcript('"9","event_id":9'), where=_ID),
    Nasty("reply without content", b'{"type":"agent_response","is_final":true}'),
    Nasty("reply without is_final", b'{"type":"agent_response","content":""}'),
    Nasty("is_final 1", b'{"type":"agent_response","content":"","is_final":1}', where="$.is_final"),
    Nasty(
        "is_final null",
        b'{"type":"agent_response","content":"","is_final":null}',
        where="$.is_final",
    ),
    Nasty(
        "reply null", b'{"type":"agent_response","content":null,"is_final":true}', where="$.content"
    ),
    Nasty(
        "reply with id true",
        b'{"type":"agent_response","content":"","is_final":true,"event_id":true}',
        where=_ID,
    ),
)

IGNORED = (
    Nasty(
        "our own piece",
        b'{"type":"agent_response","content":"x","is_final":false}',
        type="agent_response",
    ),
    Nasty("our own pong", b'{"type":"pong","event_id":"x"}', type="pong"),
    Nasty("another type", b'{"type":"audio","audio_event":{"event_id":1}}', type="audio"),
    Nasty("no name for a type", b'{"type":""}', type=""),
    Nasty("a type in capitals", b'{"type":"CLOSE"}', type="CLOSE"),
    Nasty("a type with a space", b'{"type":"close "}', type="close "),
    Nasty("a type with NUL", b'{"type":"close\\u0000"}', type="close\0"),
    Nasty("a type of 100,000 letters", b'{"type":"' + b"a" * 100_000 + b'"}', type="a" * 100_000),
    Nasty("a type that is half a pair", b'{"type":"\\ud83d"}', type="\ufffd"),
    Nasty("type twice, the last unknown", b'{"type":"close","type":"x"}', type="x"),
    Nasty("a 5,000-digit number in a field", b'{"type":"x","n":' + b"9" * 5000 + b"}", type="x"),
    Nasty("1e400 in a field", b'{"type":"x","n":1e400}', type="x"),
    Nasty("a wrong id in an unknown type", b'{"type":"x","event_id":true}', type="x"),
    Nasty("half a pair in a field", b'{"type":"x","n":"\\ud83d"}', type="x"),
    Nasty("the type at the end", b'{"n":[1,{"type":"close"}],"type":"x"}', type="x"),
)

ACCEPTED = (
    Nasty("as it should be", _transcript("9"), event_id=9, contents=("Hi",)),
    Nasty("text", _transcript("9").decode(), event_id=9, contents=("Hi",)),
    Nasty("bytearray", bytearray(_transcript("9")), event_id=9, contents=("Hi",)),
    Nasty("memoryview", memoryview(_transcript("9")), event_id=9, contents=("Hi",)),
    Nasty(
        "part of a buffer", memoryview(b"__" + _transcript("9"))[2:], event_id=9, contents=("Hi",)
    ),
    Nasty("white space around", b" \r\n" + _transcript("9") + b"\n", event_id=9, contents=("Hi",)),
    Nasty("id null", _transcript("null"), contents=("Hi",)),
    Nasty("id 2**63-1", _transcript(str(2**63 - 1)), event_id=2**63 - 1, contents=("Hi",)),
    Nasty("id twice, the last counts", _transcript('8,"event_id":9'), event_id=9, contents=("Hi",)),
    Nasty(
        "type twice, the last counts",
        b'{"type":"close",' + _transcript("9")[1:],
        event_id=9,
        contents=("Hi",),
    ),
    Nasty("nobody said anything", _transcript("9", "[]"), event_id=9),
    Nasty("content null", _entry('{"role":"agent","content":null}'), event_id=9, contents=("",)),
    Nasty("content empty", _entry('{"role":"agent","content":""}'), event_id=9, contents=("",)),
    Nasty(
        "content null after half a pair",
        _entry('{"role":"agent","content":"\\ud83d"},{"role":"user","content":null}'),
        event_id=9,
        contents=("\ufffd", ""),
    ),
    Nasty(
        "content twice",
        _entry('{"role":"user","content":"x","content":"Hi"}'),
        event_id=9,
        contents=("Hi",),
    ),
    Nasty(
        "a role of its own", _entry('{"role":"tool","content":"Hi"}'), event_id=9, contents=("Hi",)
    ),
    Nasty(
        "unknown keys",
        _entry('{"role":"user","content":"Hi","ms":[1.5,{}]}'),
        event_id=9,
        contents=("Hi",),
    ),
    Nasty(
        "a pair",
        _entry('{"role":"user","content":"\\ud83d\\ude00"}'),
        event_id=9,
        contents=("\U0001f600",),
    ),
    Nasty(
        "the first half",
        _entry('{"role":"user","content":"a\\ud83d"}'),
        event_id=9,
        contents=("a\ufffd",),
    ),
    Nasty(
        "the second half",
        _entry('{"role":"user","content":"\\uDE00b"}'),
        event_id=9,
        contents=("\ufffdb",),
    ),
    Nasty(
        "two first halves",
        _entry('{"role":"user","content":"\\ud83d\\ud83d"}'),
        event_id=9,
        contents=("\ufffd\ufffd",),
    ),
    Nasty(
        "a half beside a pair",
        _entry('{"role":"user","content":"\\ud83d\\ud83d\\ude00"}'),
        event_id=9,
        contents=("\ufffd\U0001f600",),
    ),
    Nasty(
        "an escaped backslash before what looks like a half",
        _entry('{"role":"user","content":"\\ud83d \\\\ud83d"}'),
        event_id=9,
        contents=("\ufffd \\ud83d",),
    ),
    Nasty(
        "half a pair in a role",
        _entry('{"role":"\\ud83d","content":"Hi"}'),
        event_id=9,
        contents=("Hi",),
    ),
    Nasty(
        "NUL in a content",
        _entry('{"role":"user","content":"\\u0000"}'),
        event_id=9,
        contents=("\0",),
    ),
    Nasty(
        "a noncharacter",
        _entry('{"role":"user","content":"\\uffff"}'),
        event_id=9,
        contents=("\uffff",),
    ),
)


def check_refused(nasty: Nasty, core: Any = speech_engine_proto) -> None:
    """A violation that names the place; nothing changes, and the turn in flight goes on."""
    for spoken in (False, True):
        connection, turn = _in_turn(core, spoken)
        before = snapshot(connection)
        event = connection.receive(nasty.data)
        assert type(event).__name__ == "ProtocolViolation"
        assert event.error.where == nasty.where
        assert len(event.error.excerpt) <= 200
        check_untouched(connection, turn, before)
    engine = core.EngineConnection()
    engine.send_init("conv_1")
    engine.send_transcript([core.ConversationMessage("user", "Hello?")])
    before = snapshot(engine)
    assert type(engine.receive(nasty.data)).__name__ == "ProtocolViolation"
    assert snapshot(engine) == before


def check_ignored(nasty: Nasty, core: Any = speech_engine_proto) -> None:
    """No violation, but nothing changes either."""
    for spoken in (False, True):
        connection, turn = _in_turn(core, spoken)
        before = snapshot(connection)
        event = connection.receive(nasty.data)
        assert type(event).__name__ == "MessageIgnored"
        assert event.type == nasty.type
        check_untouched(connection, turn, before)


def check_accepted(nasty: Nasty, core: Any = speech_engine_proto) -> None:
    """A turn begins, with what the transcript says."""
    connection, turn = _in_turn(core, True)
    event = connection.receive(nasty.data)
    assert type(event).__name__ == "TurnStarted"
    assert event.event_id == event.turn.event_id == nasty.event_id
    assert tuple(message.content for message in event.transcript) == nasty.contents
    assert event.interrupted is turn
    frame = json.loads(connection.end_turn(event.turn))
    assert frame["event_id"] == nasty.event_id


def _in_turn(core: Any, spoken: bool) -> tuple[Any, Any]:
    connection = core.AgentConnection()
    connection.receive('{"type":"init","conversation_id":"conv_1"}')
    turn = connection.receive(_transcript("5")).turn
    if spoken:
        connection.send_text(turn, "Well,")
    return connection, turn


def check_untouched(connection: Any, turn: Any, before: Any) -> None:
    """The turn with the id 5 goes on as if nothing had come, to its right end."""
    assert snapshot(connection) == before
    assert connection.turn is turn
    frames = [connection.send_text(turn, "then."), connection.end_turn(turn)]
    assert [json.loads(frame) for frame in frames] == [
        {"type": "agent_response", "content": "then.", "is_final": False, "event_id": 5},
        {"type": "agent_response", "content": "", "is_final": True, "event_id": 5},
    ]
    assert turn.state.name == "FINISHED"
