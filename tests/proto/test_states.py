"""The table of legal moves, read as a table."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from speech_engine_proto import ConversationState, Role, TurnState
from speech_engine_proto import _states as states
from speech_engine_proto._states import CONVERSATION_MOVES, OVER, SENDERS, TURN_MOVES, Move

WIRE = {"init", "user_transcript", "ping", "close", "error", "piece", "terminator", "pong"}


def test_every_state_has_its_row() -> None:
    assert set(CONVERSATION_MOVES) == set(ConversationState)
    assert set(TURN_MOVES) == set(TurnState)


def test_every_message_has_one_sender() -> None:
    assert {move.value for move in SENDERS} == WIRE
    asks = {"init", "user_transcript", "ping", "close", "error"}
    assert {m.value for m, role in SENDERS.items() if role is Role.ENGINE} == asks


@pytest.mark.parametrize("state", sorted(OVER, key=str))
def test_over_is_over(state: ConversationState) -> None:
    assert set(CONVERSATION_MOVES[state].values()) == {state}
    assert not set(CONVERSATION_MOVES[state]) & set(SENDERS)


@pytest.mark.parametrize("state", [ConversationState.OPENING, ConversationState.OPEN])
def test_an_open_conversation_takes_every_message_but_a_second_init(
    state: ConversationState,
) -> None:
    second_init = {Move.INIT} if state is ConversationState.OPEN else set()
    assert set(CONVERSATION_MOVES[state]) & set(SENDERS) == set(SENDERS) - second_init
    assert CONVERSATION_MOVES[state][Move.CLOSE] is ConversationState.ENDED
    assert CONVERSATION_MOVES[state][Move.SOCKET_END] is ConversationState.LOST
    assert CONVERSATION_MOVES[state][Move.LEAVE] is ConversationState.CLOSED


def test_only_init_opens() -> None:
    opening = CONVERSATION_MOVES[ConversationState.OPENING]
    into_open = [move for move, to in opening.items() if to is ConversationState.OPEN]
    assert into_open == [Move.INIT]


def test_what_is_tolerated_is_a_move() -> None:
    assert states.TOLERATED == {(ConversationState.OPENING, Move.TRANSCRIPT)}
    assert all(move in CONVERSATION_MOVES[state] for state, move in states.TOLERATED)


def test_a_turn_ends_once() -> None:
    assert TURN_MOVES[TurnState.FINISHED] == TURN_MOVES[TurnState.INTERRUPTED] == {}
    for state in (TurnState.WAITING, TurnState.SPEAKING):
        assert TURN_MOVES[state][Move.TERMINATOR] is TurnState.FINISHED
        assert TURN_MOVES[state][Move.INTERRUPT] is TurnState.INTERRUPTED
        assert TURN_MOVES[state][Move.PIECE] is TurnState.SPEAKING
    assert Move.RESEND not in TURN_MOVES[TurnState.SPEAKING]
    assert TURN_MOVES[TurnState.WAITING][Move.RESEND] is TurnState.WAITING


def test_the_module_does_not_know_our_role() -> None:
    """It imports nothing of the package, and defines no function that could decide anything."""
    tree = ast.parse(Path(states.__file__).read_text(encoding="utf-8"))
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.If)]
    assert not imported
    assert not functions
