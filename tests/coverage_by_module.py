"""Run each module's own test file alone: it must cover every line and branch of the module.

Coverage over all tests together cannot tell whether a module is tested or merely used.

    python tests/coverage_by_module.py [module ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "speech_engine_proto"


def main(chosen: list[str]) -> int:
    """Check the modules that are named, or all; return the exit code."""
    modules = [p for p in sorted(PACKAGE.glob("*.py")) if not chosen or p.stem in chosen]
    if len(modules) < len(chosen):
        print(f"no such module: {set(chosen) - {p.stem for p in modules}}")
        return 2
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(lambda module: check(module, Path(scratch)), modules))
    for module, failure in zip(modules, reports, strict=True):
        print(f"{'FAILED' if failure else 'whole ':7} {module.name} by {test_file(module).name}")
        if failure:
            print(failure)
    return 1 if any(reports) else 0


def test_file(module: Path) -> Path:
    """Return the test file that must cover a module by itself."""
    name = "package" if module.stem == "__init__" else module.stem.lstrip("_")
    return ROOT / "tests" / "proto" / f"test_{name}.py"


def check(module: Path, scratch: Path) -> str:
    """Return what is wrong, or an empty text."""
    data = scratch / module.stem
    environment = {
        **os.environ,
        "COVERAGE_FILE": str(data),
        "HYPOTHESIS_PROFILE": "coverage",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half of the start of each small run
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = "run --branch --source=speech_engine_proto -m pytest -q".split()
    run += "-p pytest_timeout -p no:cacheprovider".split()
    report = f"report --show-missing --fail-under=100 --include={module}".split()
    for arguments in ([*run, str(test_file(module))], report):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return done.stdout + done.stderr
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
