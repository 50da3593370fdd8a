"""The scorecards in the docs say what the tests of the same targets pin."""

from __future__ import annotations

import re

from speech_engine_local.check import CHECKS
from tests.docs.pages import DOCS
from tests.interop.test_check_official import (
    PYTHON_DIFFERS,
    PYTHON_FAILS,
    TYPESCRIPT_DIFFERS,
    TYPESCRIPT_FAILS,
)


def cards() -> dict[str, list[str]]:
    """The verdicts of each check, by the columns of the page."""
    text = (DOCS / "reference" / "scorecards.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.-]+)` \|((?: \S+ \|){7})$", text, re.MULTILINE)
    return {id: re.findall(r"[a-z]+", cells) for id, cells in rows}


def test_each_check_has_its_row() -> None:
    assert list(cards()) == [check.id for check in CHECKS]


def test_our_servers_pass() -> None:
    assert {verdict for verdicts in cards().values() for verdict in verdicts[:5]} == {"pass"}


def test_the_official_servers_are_as_pinned() -> None:
    python, typescript = -2, -1
    assert with_verdict("fail", python) == PYTHON_FAILS
    assert with_verdict("differs", python) == PYTHON_DIFFERS
    assert with_verdict("fail", typescript) == TYPESCRIPT_FAILS
    assert with_verdict("differs", typescript) == TYPESCRIPT_DIFFERS


def with_verdict(verdict: str, column: int) -> set[str]:
    return {id for id, verdicts in cards().items() if verdicts[column] == verdict}
