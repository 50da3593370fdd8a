"""Every history of a conversation, step by step beside the model."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import speech_engine_proto
from tests.proto.model import Model
from tests.proto.subject import UNCHANGING, Action, Subject, model_view, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

History = tuple[Action, ...]

_PLAIN: tuple[Action, ...] = tuple(
    (name, ()) for name in ("init", "ping", "broken", "close", "eof", "leave")
)


def walk(
    core: Any = speech_engine_proto, *, turns: int, events: int, adopts: bool = True
) -> tuple[int, int]:
    """Compare the connection with the model on every history within the bounds.

    Histories that lead to the very same state, hidden fields and the turns' handles included,
    have the same futures: the shortest of them is followed, all of them are counted.

    Args:
        core: the package, or a mutant of it.
        turns: the most turns in a history.
        events: the most events in a history.
        adopts: whether re-sends are adopted.

    Returns:
        How many histories of at most ``events`` events were covered, and how many different
        states, one event before the last at most, they pass through.
    """
    start = _state(Subject(core, adopts=adopts))
    known: dict[Any, tuple[History, Model]] = {start: ((), Model(adopts))}
    moves: dict[Any, Counter[Any]] = {}
    ways: Counter[Any] = Counter({start: 1})
    histories = 0
    for depth in range(events):
        following: Counter[Any] = Counter()
        for state, count in ways.items():
            if state not in moves:
                moves[state] = _explore(core, known, state, turns, depth + 1 == events)
            histories += count * moves[state].total()
            for successor, edges in moves[state].items():
                following[successor] += count * edges
        ways = following
    return histories, len(moves)


def _explore(
    core: Any, known: dict[Any, tuple[History, Model]], state: Any, turns: int, last: bool
) -> Counter[Any]:
    """Do everything that can be done in a state; return where it leads, and by how many events."""
    history, model = known[state]
    successors: Counter[Any] = Counter()
    steady = _replay(core, history, model)
    for action in _alphabet(model):
        trial = model.fork()
        expected = _do(trial, action)
        if len(trial.asked) > turns:
            continue
        if model.over or expected[0] in UNCHANGING:
            # One connection for all that must change nothing: its state is compared at the end.
            assert _do(steady, action) == expected, (history, action)
            successors[state] += 1
            continue
        subject = _replay(core, history, model)
        assert _do(subject, action) == expected, (history, action)
        assert subject.view() == model_view(trial), (history, action)
        successor = None if last else _state(subject)
        known.setdefault(successor, ((*history, action), trial))
        successors[successor] += 1
    assert _state(steady) == state, f"what must change nothing did, after {history}"
    return successors


def _replay(core: Any, history: History, model: Model) -> Subject:
    subject = Subject(core, adopts=model.adopts)
    for action in history:
        _do(subject, action)
    return subject


def _do(side: Model | Subject, action: Action) -> tuple[object, ...]:
    name, arguments = action
    outcome: tuple[object, ...] = getattr(side, name)(*arguments)
    return outcome


def _state(subject: Subject) -> Any:
    return snapshot(subject.connection), snapshot(subject.turns)


def _alphabet(model: Model) -> Iterator[Action]:
    """List what may happen next: ids near the highest, words old and new, every turn's handle."""
    yield from _PLAIN
    highest = model.highest or 0
    asked = model.asked[-1].question if model.asked else 0
    yield "transcript", (highest + 1, asked + 1)
    yield "transcript", (highest + 1, asked)
    yield "transcript", (highest, asked)
    yield "transcript", (highest - 1, asked)
    yield "transcript", (None, asked)
    for turn in range(1, len(model.asked) + 1):
        yield "piece", (turn,)
        yield "terminator", (turn,)
