"""What importing the package does, what it exports, and how large it is."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import speech_engine_proto

PACKAGE = Path(speech_engine_proto.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
SUBMODULES = {"auth", "llm", "rest", "testing", "_testing_strategies"}
CORE = [path for path in MODULES if path.stem not in SUBMODULES and "_rest_" not in path.stem]

NOT_IMPORTED = "asyncio anyio trio socket ssl logging jwt hypothesis email urllib httpx".split()
NEVER_NAMED = {"asyncio", "anyio", "trio", "socket", "ssl", "threading", "time", "logging", "httpx"}


def test_importing_the_package_loads_no_framework() -> None:
    program = (
        "import sys; before = set(sys.modules); import speech_engine_proto;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    assert "speech_engine_proto" in loaded
    assert [name for name in NOT_IMPORTED if name in loaded] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_names_io_clocks_or_logs(path: Path) -> None:
    assert _imported(path) & NEVER_NAMED == set()


def test_what_is_exported() -> None:
    """``__all__`` is every public name, and nothing else."""
    public = {
        name
        for name, value in vars(speech_engine_proto).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(speech_engine_proto.__all__) == public
    assert len(speech_engine_proto.__all__) == len(public)


def test_every_public_name_is_explained() -> None:
    for name in speech_engine_proto.__all__:
        value = getattr(speech_engine_proto, name)
        if isinstance(value, type):
            assert value.__doc__, name
            for attribute, member in vars(value).items():
                if isinstance(member, FunctionType | property) and not attribute.startswith("_"):
                    assert member.__doc__, f"{name}.{attribute}"


def test_the_core_is_small() -> None:
    assert sum(map(_code_lines, CORE)) <= 1000


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_functions_are_short(path: Path) -> None:
    functions = {
        node.name: _length(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > 40} == {}


def test_the_rules_are_named_in_the_source() -> None:
    """Each rule of the agent's side stands above the branch that keeps it."""
    text = "".join(path.read_text(encoding="utf-8") for path in CORE)
    assert [n for n in range(1, 8) if f"Rule {n}" not in text] == []


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines from the first statement on, the docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _code_lines(path: Path) -> int:
    """Count lines that hold code: no blank lines, comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)
