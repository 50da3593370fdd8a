"""The page of the state machine says what the tables say."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from speech_engine_proto._states import CONVERSATION_MOVES, TURN_MOVES
from tests.docs.pages import DOCS

SCRIPT = DOCS / "state_diagram.py"


@pytest.fixture(name="script")
def _script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_page_is_up_to_date(script: dict[str, Any]) -> None:
    text = script["PAGE"].read_text(encoding="utf-8")
    assert text == script["updated"](text), "run: python docs/state_diagram.py"


def test_every_fence_of_the_page_is_generated(script: dict[str, Any]) -> None:
    text = script["PAGE"].read_text(encoding="utf-8")
    for content in script["generated"]().values():
        text = text.replace(content, "")
    assert "```" not in text


def test_no_other_page_draws_by_hand(script: dict[str, Any]) -> None:
    pages = [page for page in DOCS.glob("*/*.md") if page != script["PAGE"]]
    assert [page for page in pages if "```mermaid" in page.read_text(encoding="utf-8")] == []


def test_each_move_to_another_state_is_an_arrow(script: dict[str, Any]) -> None:
    generated = script["generated"]()
    for name, table in (("conversation", CONVERSATION_MOVES), ("turn", TURN_MOVES)):
        drawing: str = generated[f"{name} diagram"]
        moves = [(s, m, f) for s, ms in table.items() for m, f in ms.items() if f is not s]
        assert len(moves) > 3
        for state, move, following in moves:
            arrow = f"    {state.value} --> {following.value}: "
            (line,) = (line for line in drawing.splitlines() if line.startswith(arrow))
            assert move.value in line.removeprefix(arrow).split("<br/>")


def test_a_marker_that_is_gone_is_an_error(script: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="marker"):
        script["updated"]("no markers")
