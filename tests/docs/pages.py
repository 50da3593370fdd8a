"""The pages of the documentation and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_DIRECTIVE = re.compile(r"<!-- test: (?P<words>.+?) -->")


@attrs.frozen
class Block:
    """One fence.

    Args:
        language: the first word of its info string; ``{name}`` is a directive of Sphinx.
        how: the words of the comment ``<!-- test: ... -->`` right before it.
        text: what stands between the fences.
        line: where the fence begins, from 1.
    """

    language: str
    how: tuple[str, ...]
    text: str
    line: int


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page of docs."""
    built = DOCS / "_build"
    found = [path for path in DOCS.rglob("*.md") if built not in path.parents]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(found)]


def blocks(page: Path) -> Iterator[Block]:
    """All fences of a page in order, those in lists and quotes included.

    Raises:
        ValueError: a comment that no fence follows, or an indented block, which says no language.
    """
    how: tuple[str, ...] | None = None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block":
            raise ValueError(f"{page.name}:{line}: expected a fence, got an indented block")
        if token.type == "html_block" and (found := _DIRECTIVE.search(token.content)):
            how = tuple(found["words"].split())
        elif token.type == "fence":
            yield Block(token.info.partition(" ")[0], how or (), token.content, line)
            how = None
        elif how is not None:
            raise ValueError(f"{page.name}:{line}: expected a fence after the comment")
