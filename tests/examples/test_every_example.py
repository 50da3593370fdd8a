"""What holds for each example, and that none is forgotten."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from .program import EXAMPLES, command, environment

README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_file_is_a_program_with_a_test_file_or_the_readme() -> None:
    files = [path for path in EXAMPLES.rglob("*") if "__pycache__" not in path.parts]
    tests = [path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")]
    expected = {f"{name}.py" for name in tests if name != "every_example"} | {"README.md"}
    assert {str(path.relative_to(EXAMPLES)) for path in files} == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_tells_the_options(name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--port" in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_a_key_it_does_not_start(name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ELEVENLABS_API_KEY is not set" in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_readme_tells_of_it(name: str) -> None:
    assert f"[{name}]({name})" in README


def test_what_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert [link for link in links if not (EXAMPLES / link).exists()] == []
    with (EXAMPLES.parent / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    named = re.findall(r"pip install '\.\[(.+?)\]'", README)
    assert len(named) == len(PROGRAMS)
    assert {extra for each in named for extra in each.split(",")} <= extras


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_short_and_tells_what_to_change(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert 40 <= len(text.splitlines()) <= 110
    assert "# Change this: " in text
