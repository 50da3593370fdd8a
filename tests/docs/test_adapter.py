"""The adapter that lives in the docs is as short as its page says; the page runs its contract."""

from __future__ import annotations

from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "how-to" / "write-an-adapter.md"
MOST_LINES = 60
"""Of the whole file, imports and comments included, empty lines left out."""


def test_it_is_at_most_60_lines() -> None:
    [adapter] = (b for b in blocks(PAGE) if b.how == ("file", "tornado_adapter.py"))
    lines = [line for line in adapter.text.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 100


def test_the_page_runs_the_whole_contract() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "class TestTornado(AdapterContract):" in text
    assert "pytest -q -W error test_tornado_adapter.py" in text
