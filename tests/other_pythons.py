"""Run the tests of the core, the session and the engine on every other Python of this machine.

An interpreter counts when ``python3.N`` on the PATH answers, or where pyenv keeps one. Each gets
a virtual environment of its own beside the one that runs this, with what those tests need and no
more: so it is also where a missing optional dependency shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("aiohttp", "trio", "asgi", "picows", "client", "local", "llm", "otel", "testing")
TESTS = ("tests/proto", "tests/transports")
TESTS_OF_THE_NEWEST = (*TESTS, "tests/local")
"""A difference between versions that is no matter of the event loop shows on one of them."""

WORKERS = min(4, (os.cpu_count() or 1) + 1)  # as in the Makefile
PARALLEL = (f"--numprocesses={WORKERS}", "--dist=loadfile")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Test each interpreter that is found; the exit code tells whether all passed."""
    failed: list[str] = []
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {version: find(version) for version in VERSIONS if version != ours}
    newest = max((version for version in found if found[version]), key=VERSIONS.index, default="")
    for version, interpreter in found.items():
        if interpreter is None:
            print(f"Python {version}: not on this machine", flush=True)
            continue
        tests = TESTS_OF_THE_NEWEST if version == newest else TESTS
        print(f"Python {version}: {', '.join(tests)}", flush=True)
        if not run_tests(interpreter, version, tests):
            failed.append(version)
    if failed:
        print(f"failed on Python {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def find(version: str) -> str | None:
    """Return an interpreter of this version that answers, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    for candidate in (f"python{version}", *map(str, reversed(kept))):
        if answers(candidate, version):
            return candidate
    return None


def answers(candidate: str, version: str) -> bool:
    """Tell whether a command is a Python of this version; pyenv's shims may be empty shells."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [candidate, "-c", code], capture_output=True, text=True, check=False, timeout=30
        )
    except OSError:
        return False
    return done.stdout.strip() == version


def run_tests(interpreter: str, version: str, tests: tuple[str, ...]) -> bool:
    """Install what the tests need and run those that are not marked slow."""
    home = Path(sys.prefix) / f"python{version}"
    python = str(home / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    steps = [
        [interpreter, "-m", "venv", str(home)],
        [*pip, "-c", "requirements.lock", *requirements()],
        [*pip, "--no-deps", "-e", "."],
        [python, "-m", "pytest", "-q", "-m", "not slow", *PARALLEL, *tests],
    ]
    return all(subprocess.run(step, cwd=ROOT, check=False).returncode == 0 for step in steps)


def requirements() -> list[str]:
    """Return the packages of ``pyproject.toml`` that these tests need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    chosen = [requirement for name in EXTRAS for requirement in extras[name]]
    return [
        *project["project"]["dependencies"],
        *chosen,
        *project["dependency-groups"]["test"],
    ]


if __name__ == "__main__":
    sys.exit(main())
