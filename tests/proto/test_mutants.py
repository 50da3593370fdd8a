"""The mutation gate: every seeded bug in the core must be noticed by a quick battery of tests.

The battery is the walk through all short histories, the cell table, the corpus of nasty inputs and
a few examples: what the long tests are made of, in small.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import speech_engine_proto
from tests.proto import cells, corpus
from tests.proto.mutants import MUTANTS, Mutant, planted
from tests.proto.walk import walk

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path


def battery(core: Any) -> None:
    """Raise whatever the first test that fails raises."""
    for cell in cells.CELLS:
        cells.check(cell, core)
    for nasty in corpus.REFUSED:
        corpus.check_refused(nasty, core)
    for nasty in corpus.IGNORED:
        corpus.check_ignored(nasty, core)
    for nasty in corpus.ACCEPTED:
        corpus.check_accepted(nasty, core)
    _check_limits(core)
    _check_privacy(core)
    _check_words(core)
    _check_that_a_re_send_keeps_its_count(core)
    _check_what_was_heard(core)
    walk(core, turns=3, events=5)
    walk(core, turns=3, events=3, adopts=False)


def test_the_battery_passes_the_core_itself() -> None:
    battery(speech_engine_proto)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_killed(mutant: Mutant, tmp_path: Path) -> None:
    with planted(mutant, tmp_path) as core, pytest.raises(Exception):  # noqa: B017, PT011
        battery(core)


def test_a_copy_without_a_bug_passes(tmp_path: Path) -> None:
    """So what kills the mutants is the bug, not the way they are loaded."""
    unchanged = Mutant("nothing", "_agent.py", "class AgentConnection:", "class AgentConnection:")
    with planted(unchanged, tmp_path) as core:
        assert core.AgentConnection is not speech_engine_proto.AgentConnection
        battery(core)


def test_a_text_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(LookupError, match=r"_agent\.py has 0 times"),
        planted(Mutant("lost", "_agent.py", "no such line", ""), tmp_path),
    ):
        pass


def test_no_bug_stands_twice() -> None:
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 25
    assert len({(m.file, m.before, m.after) for m in MUTANTS}) == len(MUTANTS)


def _check_limits(core: Any) -> None:
    limits = core.Limits(max_frame_bytes=60, max_messages=2)
    connection = core.AgentConnection(limits=limits)
    for size, name in ((60, "MessageIgnored"), (61, "ProtocolViolation")):
        data = '{"type":"x","y":"' + "é" * 20 + "z" * (size - 59) + '"}'
        assert len(data.encode()) == size
        assert type(connection.receive(data)).__name__ == name
        assert type(connection.receive(data.encode())).__name__ == name
    limits = core.Limits(max_messages=2)
    for count, name in ((2, "TurnStarted"), (3, "ProtocolViolation")):
        connection = core.AgentConnection(limits=limits)
        entries = [{"role": "user", "content": ""}] * count
        data = json.dumps({"type": "user_transcript", "user_transcript": entries})
        assert type(connection.receive(data)).__name__ == name


def _check_privacy(core: Any) -> None:
    error = core.AgentConnection().receive('{"type":"error","message":["secret"]}').error
    assert "secret" in error.excerpt
    assert "secret" not in f"{error} {error!r}"


def _check_words(core: Any) -> None:
    connection = core.AgentConnection()
    turn = connection.receive(cells.MESSAGES["higher"]).turn
    frame = connection.send_text(turn, 'a\ud83d \ud83d\ude00 "b"\n\\')
    assert json.loads(frame.encode())["content"] == 'a\ufffd \U0001f600 "b"\n\\'


def _check_that_a_re_send_keeps_its_count(core: Any) -> None:
    """A re-send under a new id, an empty end, and the same id again: the third attempt."""
    connection = core.AgentConnection()
    turn = connection.receive(cells.MESSAGES["same"]).turn
    connection.receive(cells.MESSAGES["higher-same"])
    connection.end_turn(turn)
    assert connection.receive(cells.MESSAGES["higher-same"]).turn.attempt == 3


def _check_what_was_heard(core: Any) -> None:
    """The newest 32 messages of a history may be rewritten; a reply is what follows the rest."""
    history = [{"role": "agent", "content": f"words {number}"} for number in range(40)]
    reply = {"role": "agent", "content": "Good"}
    for rewritten in (None, 40 - 32):
        connection = core.AgentConnection()
        turn = connection.receive(_transcript(history, 1)).turn
        connection.send_text(turn, "Good day.")
        later = [*history, reply]
        if rewritten is not None:
            later[rewritten] = {"role": "agent", "content": "other words"}
        heard = connection.receive(_transcript(later, 2)).turn.heard
        assert heard.heard == " ".join(m["content"] for m in later[rewritten or 40 :])


def _transcript(history: list[dict[str, str]], event_id: int) -> str:
    frame = {"type": "user_transcript", "user_transcript": history, "event_id": event_id}
    return json.dumps(frame)
