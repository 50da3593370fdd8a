"""The agent's side by example; the cell table and the model hold the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from speech_engine_proto import (
    AgentConnection,
    ConnectionClosedError,
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    ConversationStarted,
    ConversationState,
    ErrorReceived,
    HeardReply,
    Limits,
    MessageIgnored,
    MessageIgnoredReason,
    PingReceived,
    ProtocolViolation,
    StaleTurnError,
    TranscriptIgnored,
    TranscriptIgnoredReason,
    Turn,
    TurnFinishedError,
    TurnResent,
    TurnStarted,
    TurnState,
)

INIT = '{"type":"init","conversation_id":"conv_1"}'
USER, AGENT = "user", "agent"


def transcript(event_id: object, *entries: tuple[str, str]) -> str:
    """Write a transcript; ``...`` leaves the id out."""
    told = [{"role": role, "content": content} for role, content in entries or ((USER, "Hello?"),)]
    fields = {} if event_id is ... else {"event_id": event_id}
    return json.dumps({"type": "user_transcript", "user_transcript": told, **fields})


def begin(connection: AgentConnection, event_id: object, *entries: tuple[str, str]) -> Turn:
    """Receive a transcript that begins a turn."""
    event = connection.receive(transcript(event_id, *entries))
    assert isinstance(event, TurnStarted)
    assert event.turn is connection.turn
    return event.turn


def test_a_conversation() -> None:
    connection = AgentConnection()
    assert (connection.state, connection.is_open) == (ConversationState.OPENING, True)
    assert connection.conversation_id is None
    assert connection.receive(INIT.encode()) == ConversationStarted("conv_1")
    assert connection.conversation_id == "conv_1"
    event = connection.receive(transcript(1))
    assert isinstance(event, TurnStarted)
    turn = event.turn
    assert event == TurnStarted(turn, 1, (ConversationMessage(USER, "Hello?"),), None)
    assert connection.send_text(turn, "Yes?") == (
        '{"type":"agent_response","content":"Yes?","is_final":false,"event_id":1}'
    )
    assert connection.receive('{"type":"ping"}') == PingReceived()
    assert connection.end_turn(turn) == (
        '{"type":"agent_response","content":"","is_final":true,"event_id":1}'
    )
    assert connection.turn is None
    assert connection.receive('{"type":"close"}') == ConversationEnded(None)
    assert connection.receive('{"type":"close"}') == MessageIgnored(
        None, MessageIgnoredReason.AFTER_END
    )
    assert connection.receive_eof() == connection.receive_eof() == ConversationEnded(None)


# Rule 1


def test_rule_1_nothing_for_a_turn_that_is_not_current() -> None:
    connection = AgentConnection()
    old = begin(connection, 1)
    new = begin(connection, 2, (USER, "Stop."))
    assert old.interrupted
    with pytest.raises(StaleTurnError, match="turn 1 is no longer current: it was interrupted"):
        connection.send_text(old, "x")
    with pytest.raises(StaleTurnError, match="turn 1 is no longer current: it was interrupted"):
        connection.end_turn(old)
    connection.end_turn(new)
    with pytest.raises(TurnFinishedError, match="turn 2 already has its terminator"):
        connection.send_text(new, "x")
    with pytest.raises(TurnFinishedError, match="turn 2 already has its terminator"):
        connection.end_turn(new)


def test_rule_1_two_turns_without_an_id_are_two() -> None:
    connection = AgentConnection()
    old, new = begin(connection, None), begin(connection, None)
    with pytest.raises(StaleTurnError):
        connection.send_text(old, "x")
    assert json.loads(connection.send_text(new, "x"))["event_id"] is None


@pytest.mark.parametrize("turn", [None, 1, "turn", object()])
@pytest.mark.parametrize("in_flight", [False, True])
def test_rule_1_a_turn_is_a_turn(turn: Any, in_flight: bool) -> None:
    connection = AgentConnection()
    if in_flight:
        begin(connection, 1)
    with pytest.raises(TypeError, match=f"turn: expected a Turn, got {type(turn).__name__}"):
        connection.send_text(turn, "x")
    with pytest.raises(TypeError, match=f"turn: expected a Turn, got {type(turn).__name__}"):
        connection.end_turn(turn)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "text: expected at least one character, got an empty str"),
        (None, TypeError, "text: expected str, got NoneType"),
        (b"x", TypeError, "text: expected str, got bytes"),
    ],
)
def test_rule_1_only_text_is_a_piece(text: Any, error: type[Exception], message: str) -> None:
    connection = AgentConnection()
    turn = begin(connection, 1)
    with pytest.raises(error, match=message):
        connection.send_text(turn, text)
    assert turn.state is TurnState.WAITING


# Rule 2


def test_rule_2_a_higher_id_interrupts() -> None:
    connection = AgentConnection()
    old = begin(connection, 1)
    event = connection.receive(transcript(3, (USER, "Stop.")))
    assert isinstance(event, TurnStarted)
    assert event.interrupted is old


def test_rule_2_same_and_lower_ids() -> None:
    connection = AgentConnection()
    turn = begin(connection, 5)
    reasons = TranscriptIgnoredReason
    assert connection.receive(transcript(5)) == TranscriptIgnored(5, reasons.DUPLICATE)
    assert connection.receive(transcript(4)) == TranscriptIgnored(4, reasons.OLDER)
    connection.send_text(turn, "Yes?")
    assert connection.receive(transcript(5)) == TranscriptIgnored(5, reasons.DUPLICATE)
    connection.end_turn(turn)
    assert connection.receive(transcript(5)) == TranscriptIgnored(5, reasons.ALREADY_ANSWERED)
    assert connection.receive(transcript(4)) == TranscriptIgnored(4, reasons.OLDER)
    assert connection.turn is None


def test_rule_2_after_an_empty_reply_the_same_id_is_a_new_attempt() -> None:
    connection = AgentConnection()
    connection.end_turn(begin(connection, 5))
    turn = begin(connection, 5)
    assert turn.attempt == 2
    connection.end_turn(turn)
    assert begin(connection, 5).attempt == 3


def test_rule_2_without_an_id_nothing_is_a_duplicate() -> None:
    connection = AgentConnection()
    turns = [begin(connection, event_id) for event_id in (7, None, ..., None)]
    assert [turn.event_id for turn in turns] == [7, None, None, None]
    assert [turn.interrupted for turn in turns] == [True, True, True, False]
    assert connection.receive(transcript(6)) == TranscriptIgnored(6, TranscriptIgnoredReason.OLDER)
    assert begin(connection, 7).attempt == 2


# Rule 3


def test_rule_3_the_same_question_under_a_new_id() -> None:
    connection = AgentConnection()
    turn = begin(connection, 5)
    assert connection.receive(transcript(6)) == TurnResent(turn, 6, 5)
    assert (turn.event_id, turn.attempt, connection.turn) == (6, 2, turn)
    assert json.loads(connection.send_text(turn, "Yes?"))["event_id"] == 6
    assert begin(connection, 7).attempt == 1
    assert turn.interrupted


@pytest.mark.parametrize("why", ["switched off", "spoken", "other words", "no id", "over", "none"])
def test_rule_3_what_is_no_re_send(why: str) -> None:
    connection = AgentConnection(adopt_resends=why != "switched off")
    old = None if why == "none" else begin(connection, None if why == "no id" else 5)
    if why == "spoken" and old:
        connection.send_text(old, "Yes?")
    if why == "over" and old:
        connection.end_turn(old)
    new = begin(connection, 6, (USER, "Stop." if why == "other words" else "Hello?"))
    assert new is not old


def test_rule_3_an_id_after_a_null_one_is_no_re_send() -> None:
    connection = AgentConnection()
    begin(connection, 5)
    null = begin(connection, None)
    assert begin(connection, 6) is not null


# Rules 4 to 7


@pytest.mark.parametrize("bad", [transcript("6"), "{", b"\xff", INIT, "[]"])
def test_rule_4_a_bad_message_never_touches_the_turn(bad: bytes | str) -> None:
    connection = AgentConnection()
    connection.receive(INIT)
    turn = begin(connection, 5)
    event = connection.receive(bad)
    assert isinstance(event, ProtocolViolation)
    assert connection.turn is turn
    assert connection.conversation_id == "conv_1"
    assert turn.in_flight


def test_rule_5_nothing_after_the_end() -> None:
    for end in (
        lambda c: c.receive('{"type":"close"}'),
        lambda c: c.receive_eof(),
        lambda c: c.close(),
    ):
        connection = AgentConnection()
        turn = begin(connection, 5)
        end(connection)  # type: ignore[no-untyped-call]
        assert turn.interrupted
        assert connection.turn is None
        assert not connection.is_open
        for message in ('{"type":"ping"}', transcript(6), "{"):
            assert connection.receive(message).reply is None
        message = "session is closed: conversation " + connection.state.value
        with pytest.raises(ConnectionClosedError, match=message):
            connection.send_text(turn, "x")
        with pytest.raises(ConnectionClosedError, match=message):
            connection.end_turn(turn)


def test_the_end_is_told_once_and_stays() -> None:
    connection = AgentConnection()
    turn = begin(connection, 5)
    lost = connection.receive_eof()
    assert lost == ConnectionLost(turn)
    connection.close()
    assert connection.receive_eof() is lost
    assert connection.state is ConversationState.LOST


def test_leaving_ends_in_order() -> None:
    connection = AgentConnection()
    turn = begin(connection, 5)
    connection.close()
    connection.close()
    assert connection.state is ConversationState.CLOSED
    assert connection.receive_eof() == ConversationEnded(turn)


def test_rule_6_tolerant_in() -> None:
    connection = AgentConnection()
    turn = begin(connection, ..., ("narrator", ""))
    assert connection.state is ConversationState.OPENING
    assert connection.receive(INIT) == ConversationStarted("conv_1")
    assert connection.turn is turn
    second = connection.receive(INIT.replace("conv_1", "conv_2"))
    assert isinstance(second, ProtocolViolation)
    assert str(second.error) == "expected one init, got a second init at $.type"


@pytest.mark.parametrize(
    ("message", "kind", "reason"),
    [
        ('{"type":"vad_score"}', "vad_score", "UNKNOWN_TYPE"),
        ('{"type":"pong"}', "pong", "WRONG_DIRECTION"),
        (
            '{"type":"agent_response","content":"","is_final":true}',
            "agent_response",
            "WRONG_DIRECTION",
        ),
    ],
)
def test_rule_6_what_means_nothing(message: str, kind: str, reason: str) -> None:
    event = AgentConnection().receive(message)
    assert event == MessageIgnored(kind, MessageIgnoredReason[reason])


def test_an_error_is_passed_on() -> None:
    event = AgentConnection().receive('{"type":"error","message":"cascade"}')
    assert event == ErrorReceived("cascade")


def test_rule_7_limits() -> None:
    connection = AgentConnection(limits=Limits(max_messages=1))
    event = connection.receive(transcript(1, (USER, "a"), (USER, "b")))
    assert isinstance(event, ProtocolViolation)
    assert connection.turn is None


def test_rule_7_a_reply_cannot_kill_its_own_socket() -> None:
    connection = AgentConnection()
    turn = begin(connection, 1)
    assert json.loads(connection.send_text(turn, "a\ud83d").encode())["content"] == "a\ufffd"


def test_only_bytes_and_text_are_received() -> None:
    with pytest.raises(TypeError, match="message: expected bytes, bytearray, memoryview or str"):
        AgentConnection().receive(5)  # type: ignore[arg-type]


# What was heard


def test_what_was_heard_of_the_reply_before() -> None:
    connection = AgentConnection()
    turn = begin(connection, 1)
    assert turn.heard is None
    connection.send_text(turn, "Good day to you.")
    turn = begin(connection, 2, (USER, "Hello?"), (AGENT, "Good"), (USER, "Stop."))
    assert turn.heard == HeardReply("Good day to you.", "Good", interrupted=True)
    connection.end_turn(turn)
    assert begin(connection, 3, (USER, "Well?")).heard is None


def test_a_new_attempt_still_knows_the_reply_before_the_first() -> None:
    connection = AgentConnection()
    turn = begin(connection, 1)
    connection.send_text(turn, "Yes?")
    connection.end_turn(turn)
    history = ((USER, "Hello?"), (AGENT, "Yes?"), (USER, "Tea."))
    connection.end_turn(begin(connection, 2, *history))
    again = begin(connection, 2, *history)
    assert again.heard == HeardReply("Yes?", "Yes?", interrupted=False)


def test_a_reply_without_an_id_in_between_is_the_one_before() -> None:
    connection = AgentConnection()
    connection.end_turn(begin(connection, 1))
    turn = begin(connection, None)
    connection.send_text(turn, "Yes?")
    connection.end_turn(turn)
    again = begin(connection, 1, (USER, "Hello?"), (AGENT, "Yes?"), (USER, "Tea."))
    assert again.heard == HeardReply("Yes?", "Yes?", interrupted=False)
