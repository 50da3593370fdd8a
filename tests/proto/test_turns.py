"""The handle of a turn, and what can be told of the reply before it."""

from __future__ import annotations

import sys
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto import ConversationMessage, HeardReply, Turn, TurnState
from speech_engine_proto._states import Move
from speech_engine_proto._turns import COMPARED, SentReply
from speech_engine_proto.wire import AgentResponse, decode


def user(content: str) -> ConversationMessage:
    return ConversationMessage("user", content)


def agent(content: str) -> ConversationMessage:
    return ConversationMessage("agent", content)


def state(turn: Turn) -> TurnState:
    return turn.state


HELLO = (user("Hello?"),)


def test_a_new_turn() -> None:
    turn = Turn(5, HELLO)
    assert (turn.event_id, turn.transcript, turn.attempt) == (5, HELLO, 1)
    assert state(turn) is TurnState.WAITING
    assert turn.text_sent == ""
    assert turn.pieces_sent == 0
    assert turn.heard is None
    assert turn.in_flight
    assert not turn.interrupted
    assert turn.sent_reply() is None


def test_a_whole_reply() -> None:
    turn = Turn(None, HELLO)
    frame = turn.add_piece("Good ")
    assert decode(frame) == AgentResponse("Good ", False, None)
    assert state(turn) is TurnState.SPEAKING
    assert turn.in_flight
    assert decode(turn.add_piece("day.")) == AgentResponse("day.", False, None)
    turn.move(Move.TERMINATOR)
    assert turn.text_sent == "Good day."
    assert turn.pieces_sent == 2
    assert state(turn) is TurnState.FINISHED
    assert not turn.in_flight
    assert not turn.interrupted


def test_an_interrupted_reply() -> None:
    turn = Turn(5, HELLO)
    turn.move(Move.INTERRUPT)
    assert turn.interrupted
    assert not turn.in_flight


def test_a_re_send_is_the_same_turn() -> None:
    turn = Turn(5, HELLO)
    turn.resend_as(6)
    assert (turn.event_id, turn.attempt, turn.state) == (6, 2, TurnState.WAITING)
    assert decode(turn.add_piece("Yes?")) == AgentResponse("Yes?", False, 6)


@pytest.mark.parametrize("end", [Move.TERMINATOR, Move.INTERRUPT])
def test_what_is_over_makes_no_move(end: Move) -> None:
    turn = Turn(5, HELLO)
    turn.move(end)
    for move in Move:
        with pytest.raises(KeyError):
            turn.move(move)


def test_a_re_send_in_mid_reply_is_no_move() -> None:
    turn = Turn(5, HELLO)
    turn.add_piece("Good ")
    with pytest.raises(KeyError):
        turn.resend_as(6)
    assert turn.event_id == 5


def test_the_repr_shows_no_words() -> None:
    turn = Turn(5, HELLO)
    turn.add_piece("secret")
    assert repr(turn) == "<Turn 5 speaking: attempt 1, 1 messages, 6 characters sent>"
    heard = HeardReply("secret", "sec", interrupted=True)
    assert repr(heard) == (
        "HeardReply(sent=<6 characters>, heard=<3 characters>, interrupted=True)"
    )


def after(sent: str, *entries: ConversationMessage) -> HeardReply | None:
    """Say ``sent`` in reply to `HELLO`; return what a next turn with ``entries`` heard of it."""
    turn = Turn(1, HELLO)
    turn.add_piece(sent)
    return Turn(2, entries, previous=turn.sent_reply()).heard


def test_all_was_heard() -> None:
    heard = after("Good day.", *HELLO, agent("Good day."), user("Bye."))
    assert heard == HeardReply("Good day.", "Good day.", interrupted=False)


def test_white_space_does_not_count() -> None:
    heard = after(" Good\n day. ", *HELLO, agent("Good day."), user("Bye."))
    assert heard == HeardReply(" Good\n day. ", "Good day.", interrupted=False)


def test_a_part_was_heard() -> None:
    heard = after("Good day.", *HELLO, agent("Good"), user("Stop."))
    assert heard == HeardReply("Good day.", "Good", interrupted=True)


def test_nothing_was_heard() -> None:
    heard = after("Good day.", *HELLO, user("Stop."))
    assert heard == HeardReply("Good day.", "", interrupted=True)


def test_several_entries_are_one_reply() -> None:
    heard = after("Good day.", *HELLO, agent("Good"), agent("day."), user("Bye."))
    assert heard == HeardReply("Good day.", "Good day.", interrupted=False)


def test_the_known_prefix_is_not_heard_again() -> None:
    """The caller's words may have been corrected; what the agent said before them is known."""
    known = (user("Hello?"), agent("Yes?"), user("I wan"))
    turn = Turn(1, known)
    turn.add_piece("What?")
    corrected = (*known[:2], user("I want tea."), agent("What?"), user("Tea."))
    assert Turn(2, corrected, previous=turn.sent_reply()).heard == HeardReply(
        "What?", "What?", interrupted=False
    )


def test_it_is_worked_out_once() -> None:
    turn = Turn(2, HELLO, previous=SentReply("Hi.", HELLO))
    assert turn.heard is turn.heard
    assert turn.heard == HeardReply("Hi.", "", interrupted=True)


def test_a_reply_that_was_cut_is_interrupted_although_all_of_it_was_heard() -> None:
    turn = Turn(1, HELLO)
    turn.add_piece("One,")
    turn.move(Move.INTERRUPT)
    following = (*HELLO, agent("One,"), user("Stop."))
    assert Turn(2, following, previous=turn.sent_reply()).heard == HeardReply(
        "One,", "One,", interrupted=True
    )


def test_who_said_it_counts() -> None:
    """The same words of another role are another message: here all but the first was heard."""
    known = (user("Hello?"), user("Good day."))
    heard = SentReply("Good day.", known).heard_in((*HELLO, agent("Good day."), user("Bye.")))
    assert heard == HeardReply("Good day.", "Good day.", interrupted=False)


_entries = st.builds(
    ConversationMessage, st.sampled_from(["user", "agent"]), st.sampled_from("abc")
)
_few = st.lists(_entries, max_size=4)
_histories = st.lists(_entries, max_size=COMPARED // 2).map(tuple)


@given(st.sampled_from([0, 1, COMPARED - 4, COMPARED, 2 * COMPARED]), _histories, _few, st.data())
def test_a_long_history_is_heard_as_if_all_of_it_were_compared(
    settled: int,
    known: tuple[ConversationMessage, ...],
    said: list[ConversationMessage],
    data: st.DataObject,
) -> None:
    """Whatever a service rewrites in the last messages, and however it goes on."""
    early = (user("early"), agent("words")) * settled
    kept = data.draw(st.integers(0, len(known)), "kept")
    later = (*early, *known[:kept], *data.draw(_few, "rewritten"), *said)
    before = (*early, *known)
    pairs = zip(before, later, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    expected = " ".join(m.content for m in later[same:] if m.role == "agent")
    assert SentReply("a", before).heard_in(later).heard == expected


@pytest.mark.parametrize(("back", "noticed"), [(COMPARED, True), (COMPARED + 1, False)])
def test_what_stands_far_back_is_taken_as_known(back: int, noticed: bool) -> None:
    before = [agent(f"words {number}") for number in range(100)]
    later = [*before, agent("Good day.")]
    later[-back - 1] = agent("other words")
    heard = SentReply("Good day.", tuple(before)).heard_in(tuple(later)).heard
    assert heard.startswith("other words") is noticed
    assert (heard == "Good day.") is not noticed


def test_a_history_that_is_shorter_than_what_is_known_holds_nothing() -> None:
    before = tuple(agent(f"words {number}") for number in range(100))
    reply = SentReply("Good day.", before)
    assert reply.heard_in(before[:10]) == HeardReply("Good day.", "", interrupted=True)


def test_what_is_kept_does_not_grow_with_the_call() -> None:
    kept = {
        messages: sys.getsizeof(SentReply("Hi.", HELLO * messages)._fingerprints)
        for messages in (COMPARED, 10_000)
    }
    assert kept[COMPARED] == kept[10_000]
