"""Writes the diagrams and the tables of the state machine's page from the tables in the source.

Run it after a change of ``speech_engine_proto._states``::

    python docs/state_diagram.py

A test fails while the page says something else.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from speech_engine_proto import ConversationState, Role, TurnState
from speech_engine_proto._states import (
    CONVERSATION_MOVES,
    OVER,
    SENDERS,
    TOLERATED,
    TURN_MOVES,
    Move,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

S = TypeVar("S", bound=Enum)

PAGE = Path(__file__).parent / "explanation" / "state-machine.md"

_LAST: set[Enum] = {TurnState.FINISHED, TurnState.INTERRUPTED, *OVER}


def diagram(states: Mapping[S, Mapping[Move, S]]) -> str:
    """Draw a table of moves as a Mermaid state diagram; moves that change nothing are one loop."""
    first, *_ = states
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.value}"]
    for state, moves in states.items():
        arrows: dict[S, list[str]] = {}
        for move, following in moves.items():
            arrows.setdefault(following, []).append(move.value)
        for following, names in arrows.items():
            if state not in _LAST:
                label = "<br/>".join(names)
                lines.append(f"    {state.value} --> {following.value}: {label}")
    lines += [f"    {state.value} --> [*]" for state in states if state in _LAST]
    return "\n".join([*lines, "```"])


def conversation_table() -> str:
    """Tell for each message and each state whether it is legal, and what follows."""
    rows = [_row("who", "move", *(state.value for state in ConversationState))]
    rows.append(_row(*["---"] * (2 + len(ConversationState))))
    for move in Move:
        if any(move in moves for moves in CONVERSATION_MOVES.values()):
            cells = (_conversation_cell(state, move) for state in ConversationState)
            rows.append(_row(_who(move), _name(move), *cells))
    return "\n".join(rows)


def turn_table() -> str:
    """Tell for each move of a turn and each state whether it is legal, and what follows."""
    rows = [_row("move", *(state.value for state in TurnState))]
    rows.append(_row(*["---"] * (1 + len(TurnState))))
    for move in Move:
        if any(move in moves for moves in TURN_MOVES.values()):
            cells = (_cell(state, TURN_MOVES[state].get(move)) for state in TurnState)
            rows.append(_row(_name(move), *cells))
    return "\n".join(rows)


def generated() -> dict[str, str]:
    """Everything that is generated, by the name in its markers."""
    return {
        "conversation diagram": diagram(CONVERSATION_MOVES),
        "conversation table": conversation_table(),
        "turn diagram": diagram(TURN_MOVES),
        "turn table": turn_table(),
    }


def updated(text: str) -> str:
    """Return the page's text with all that is between its markers renewed."""
    for name, content in generated().items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        before, _, rest = text.partition(begin)
        if not rest:
            raise ValueError(f"{PAGE.name}: expected the marker {begin}, got none")
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text


def _conversation_cell(state: ConversationState, move: Move) -> str:
    cell = _cell(state, CONVERSATION_MOVES[state].get(move))
    return f"{cell} (tolerated)" if (state, move) in TOLERATED else cell


def _cell(state: Enum, following: Enum | None) -> str:
    if following is None:
        return "-"
    return "stays" if following is state else f"**{following.value}**"


def _who(move: Move) -> str:
    sender = SENDERS.get(move)
    return {Role.ENGINE: "service", Role.AGENT: "agent", None: "either"}[sender]


def _name(move: Move) -> str:
    return f"`{move.value}`" if SENDERS.get(move) is Role.ENGINE else move.value


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _write() -> Iterator[str]:
    text = PAGE.read_text(encoding="utf-8")
    new = updated(text)
    if new != text:
        PAGE.write_text(new, encoding="utf-8")
        yield f"{PAGE.name} is renewed"


if __name__ == "__main__":
    for line in _write():
        print(line)
