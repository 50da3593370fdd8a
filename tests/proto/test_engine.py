"""The service's side by example; the cell table and the pair hold the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_proto import (
    ConnectionClosedError,
    ConnectionLost,
    ConversationEnded,
    ConversationMessage,
    ConversationState,
    EngineConnection,
    EngineEvent,
    Limits,
    LocalProtocolError,
    MessageIgnored,
    MessageIgnoredReason,
    PongReceived,
    ProtocolViolation,
    ReplyFinished,
    ReplyText,
    StaleReply,
    TurnState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO = [ConversationMessage("user", "Hello?")]


def opened(limits: Limits | None = None) -> EngineConnection:
    connection = EngineConnection(limits=limits)
    connection.send_init("conv_1")
    return connection


def current(connection: EngineConnection) -> tuple[int | None, TurnState | None]:
    return connection.event_id, connection.turn_state


def reply(content: str, final: bool = False, **fields: object) -> str:
    return json.dumps({"type": "agent_response", "content": content, "is_final": final, **fields})


def violation(event: EngineEvent) -> str:
    assert isinstance(event, ProtocolViolation)
    return str(event.error)


def test_a_conversation() -> None:
    connection = EngineConnection()
    assert (connection.state, connection.is_open) == (ConversationState.OPENING, True)
    assert current(connection) == (None, None)
    assert connection.send_init("conv_1") == '{"type":"init","conversation_id":"conv_1"}'
    assert connection.send_ping() == '{"type":"ping"}'
    assert connection.receive('{"type":"pong"}') == PongReceived()
    frame = connection.send_transcript(HELLO)
    assert json.loads(frame) == {
        "type": "user_transcript",
        "user_transcript": [{"role": "user", "content": "Hello?"}],
        "event_id": 1,
    }
    assert current(connection) == (1, TurnState.WAITING)
    assert connection.receive(reply("Yes?", event_id=1)) == ReplyText(1, "Yes?")
    assert current(connection)[1] is TurnState.SPEAKING
    assert connection.receive(reply("", True, event_id=1)) == ReplyFinished(1, "")
    assert current(connection)[1] is TurnState.FINISHED
    assert connection.send_error("cascade") == '{"type":"error","message":"cascade"}'
    assert connection.send_close() == '{"type":"close"}'
    assert not connection.is_open
    assert connection.receive_eof() == connection.receive_eof() == ConversationEnded()


def test_the_socket_ends_in_mid_reply() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    lost = connection.receive_eof()
    assert lost == ConnectionLost()
    assert connection.receive_eof() is lost
    assert current(connection)[1] is TurnState.INTERRUPTED
    assert connection.state is ConversationState.LOST


def test_a_close_interrupts() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    connection.send_close()
    assert current(connection)[1] is TurnState.INTERRUPTED
    ignored = MessageIgnored(None, MessageIgnoredReason.AFTER_END)
    assert connection.receive(reply("late", event_id=1)) == ignored


def test_nothing_is_sent_after_the_end() -> None:
    connection = opened()
    connection.send_close()
    verbs: list[Callable[[], str]] = [
        lambda: connection.send_init("conv_1"),
        lambda: connection.send_transcript(HELLO),
        connection.send_ping,
        lambda: connection.send_error("x"),
        connection.send_close,
    ]
    for verb in verbs:
        with pytest.raises(ConnectionClosedError, match="session is closed: conversation ended"):
            verb()


def test_strict_out() -> None:
    connection = EngineConnection()
    with pytest.raises(LocalProtocolError, match="user_transcript may not be sent while opening"):
        connection.send_transcript(HELLO)
    with pytest.raises(ValueError, match="conversation_id: expected at least one character"):
        connection.send_init("")
    assert connection.state is ConversationState.OPENING
    connection.send_init("conv_1")
    with pytest.raises(LocalProtocolError, match="init may not be sent while open"):
        connection.send_init("conv_2")


def test_a_name_that_cannot_be_written_opens_nothing() -> None:
    connection = EngineConnection()
    with pytest.raises(TypeError):
        connection.send_init(object())  # type: ignore[arg-type]
    assert connection.state is ConversationState.OPENING


@pytest.mark.parametrize(
    ("transcript", "event_id", "message"),
    [
        ([], None, "transcript: expected at least one message, got none"),
        (
            [*HELLO, ConversationMessage("tool", "x")],
            None,
            r"transcript\[1\].role: expected 'user' or 'agent', got 'tool'",
        ),
        (HELLO, True, "event_id: expected a 64-bit int, got True"),
        (HELLO, 1.0, "event_id: expected a 64-bit int, got 1.0"),
        (HELLO, 2**63, "event_id: expected a 64-bit int"),
        (HELLO, -(2**63) - 1, "event_id: expected a 64-bit int"),
    ],
)
def test_what_is_no_question(transcript: Any, event_id: Any, message: str) -> None:
    connection = opened()
    with pytest.raises(ValueError, match=message):
        connection.send_transcript(transcript, event_id)
    assert connection.event_id is None


def test_ids_count_up() -> None:
    connection = opened()
    given = [None, None, 7, None, 3, None]
    seen = [json.loads(connection.send_transcript(HELLO, i))["event_id"] for i in given]
    assert seen == [1, 2, 7, 8, 3, 9]
    assert connection.event_id == 9


def test_the_last_id_has_no_next() -> None:
    connection = opened()
    connection.send_transcript(iter(HELLO), 2**63 - 1)
    with pytest.raises(ValueError, match="event_id"):
        connection.send_transcript(HELLO)


def test_a_reply_without_an_id_is_the_current_one() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    assert connection.receive(reply("Yes?", event_id=None)) == ReplyText(1, "Yes?")
    assert connection.receive(reply("", True)) == ReplyFinished(1, "")


def test_what_crosses_on_the_way_is_stale() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    connection.send_transcript(HELLO)
    assert connection.receive(reply("Yes?", event_id=1)) == StaleReply(1, "Yes?")
    assert connection.receive(reply("", True, event_id=1)) == StaleReply(1, "")
    assert current(connection)[1] is TurnState.WAITING


def test_replies_that_answer_nothing() -> None:
    connection = opened()
    assert violation(connection.receive(reply("x"))) == (
        "expected a reply after a transcript, got one before any at $.event_id"
    )
    connection.send_transcript(HELLO)
    assert violation(connection.receive(reply("x", event_id=2))) == (
        "expected an event_id of at most 1, got 2 at $.event_id"
    )
    assert violation(connection.receive("{")).startswith("expected a JSON object")
    assert current(connection)[1] is TurnState.WAITING


@pytest.mark.parametrize("said", ["", "Yes?"])
def test_nothing_comes_after_the_terminator(said: str) -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    if said:
        connection.receive(reply(said))
    connection.receive(reply("", True))
    for late in (reply("x"), reply(""), reply("", True), reply("x", True)):
        assert violation(connection.receive(late)) == (
            "expected nothing after the terminator, got more of the same reply at $.event_id"
        )
    assert current(connection)[1] is TurnState.FINISHED


def test_an_empty_piece_says_nothing() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    assert connection.receive(reply("")) == ReplyText(1, "")
    assert current(connection)[1] is TurnState.WAITING
    connection.receive(reply("Yes?"))
    assert connection.receive(reply("")) == ReplyText(1, "")
    assert current(connection)[1] is TurnState.SPEAKING


def test_text_in_the_terminator_is_told() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    assert connection.receive(reply("Yes?", True)) == ReplyFinished(1, "Yes?")
    connection.send_transcript(HELLO, 1)
    assert current(connection)[1] is TurnState.FINISHED


@pytest.mark.parametrize("crosses", [False, True])
def test_a_re_send_after_an_empty_reply_asks_again(crosses: bool) -> None:
    """Whether the empty reply arrives before the re-send leaves, or they cross."""
    connection = opened()
    connection.send_transcript(HELLO)
    if crosses:
        connection.send_transcript(HELLO, 1)
        connection.receive(reply("", True))
    else:
        connection.receive(reply("", True))
        connection.send_transcript(HELLO, 1)
    assert current(connection)[1] is TurnState.WAITING
    assert connection.receive(reply("Yes?")) == ReplyText(1, "Yes?")
    assert connection.receive(reply("", True)) == ReplyFinished(1, "")
    assert current(connection)[1] is TurnState.FINISHED
    connection.send_transcript(HELLO, 1)
    assert isinstance(connection.receive(reply("more")), ProtocolViolation)


def test_a_refused_terminator_does_not_settle_the_question() -> None:
    connection = opened()
    connection.send_transcript(HELLO)
    connection.receive(reply("", True))
    assert isinstance(connection.receive(reply("x", True)), ProtocolViolation)
    connection.send_transcript(HELLO, 1)
    assert connection.receive(reply("Yes?")) == ReplyText(1, "Yes?")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('{"type":"init","conversation_id":"x"}', "init"),
        ('{"type":"user_transcript","user_transcript":[]}', "user_transcript"),
        ('{"type":"ping"}', "ping"),
        ('{"type":"close"}', "close"),
        ('{"type":"error","message":"x"}', "error"),
    ],
)
def test_our_own_messages_mean_nothing(message: str, kind: str) -> None:
    connection = opened()
    ignored = MessageIgnored(kind, MessageIgnoredReason.WRONG_DIRECTION)
    assert connection.receive(message) == ignored
    assert connection.is_open


def test_an_unknown_type_means_nothing() -> None:
    assert opened().receive('{"type":"x"}') == MessageIgnored(
        "x", MessageIgnoredReason.UNKNOWN_TYPE
    )


def test_limits() -> None:
    connection = opened(Limits(max_frame_bytes=10))
    assert violation(connection.receive('{"type":"pong"}')).startswith("expected at most 10 bytes")


def test_only_bytes_and_text_are_received() -> None:
    with pytest.raises(TypeError, match="message: expected bytes"):
        opened().receive(None)  # type: ignore[arg-type]
