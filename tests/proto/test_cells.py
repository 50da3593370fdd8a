"""The cell table, cell by cell."""

from __future__ import annotations

import pytest

from tests.proto.cells import AGENT_EVENTS, CELLS, ENGINE_EVENTS, Cell, check


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell(cell: Cell) -> None:
    check(cell)


def test_the_table_is_whole() -> None:
    """Every row has a cell for every column, no cell stands twice, no meaning is unused."""
    assert len({(c.role, c.direction, c.row, c.column) for c in CELLS}) == len(CELLS) == 450
    used = {role: {c.word for c in CELLS if c.role == role} for role in ("agent", "engine")}
    assert used == {"agent": set(AGENT_EVENTS), "engine": set(ENGINE_EVENTS)}


def test_a_wrong_cell_is_found() -> None:
    with pytest.raises(AssertionError):
        check(Cell("agent", "receives", "speaking", "higher", "older"))
