"""Every block of code in README, CONTRIBUTING and docs is run; none is skipped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks, pages
from tests.docs.runner import Reader, expect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    with Reader(tmp_path) as reader:
        for block in blocks(page):
            try:
                reader.do(block)
            except Exception as error:
                error.add_note(f"{page.relative_to(ROOT)}:{block.line}")
                raise


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("language", "how"),
    [("python", ("nothing",)), ("ruby", ()), ("", ()), ("console", ("skip",)), ("text", ())],
)
def test_a_block_without_a_known_way_to_run_is_a_failure(
    language: str, how: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="no way to run"):
        Reader(tmp_path).do(Block(language, how, "", 1))


def test_a_script_that_fails_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        Reader(tmp_path).do(Block("python", (), "1 / 0", 1))


def test_a_command_that_exits_with_another_code_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Reader(tmp_path).do(Block("console", ("exit=1",), "$ true\n", 1))


def test_a_file_that_nothing_uses_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="never run"), Reader(tmp_path) as reader:
        reader.do(Block("python", ("file", "a.py"), "", 1))


def test_another_output_is_a_failure() -> None:
    expect("a\n...\nc", "a \nb\nc\n")
    with pytest.raises(AssertionError):
        expect("a\n...\nc", "a\nb\nd\n")


def test_a_comment_without_a_fence_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- test: output -->\n\nwords\n")
    with pytest.raises(ValueError, match="after the comment"):
        list(blocks(page))


def test_an_indented_block_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("words\n\n    print()\n")
    with pytest.raises(ValueError, match="indented"):
        list(blocks(page))


def test_each_page_is_of_one_kind() -> None:
    kinds = {"tutorial", "how-to", "explanation", "reference"}
    found = {page.relative_to(DOCS).parts[0] for page in DOCS.glob("*/*.md")}
    assert found - {"_build"} == kinds
