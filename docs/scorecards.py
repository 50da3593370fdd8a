"""Write `reference/scorecards.md`: every check, on our servers and on both official SDKs.

``make scorecards`` runs it. The official TypeScript SDK is taken from the packages that ``make
clients`` installs.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from speech_engine_local.check import CHECKS, Report, Verdict, run_checks
from speech_engine_local.check.targets import OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT, TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "scorecards.md"
NODE_FOLDER = ROOT / "tests" / "interop" / "node"
KEY = "sk_scorecards"

LIBRARIES = {
    "asyncio": "websockets",
    "aiohttp": "aiohttp",
    "trio": "trio-websocket",
    "asgi": "uvicorn",
    "picows": "picows",
}
TARGETS = (*TRANSPORTS, OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT)
TITLES = {OFFICIAL_PYTHON: "official Python", OFFICIAL_TYPESCRIPT: "official TypeScript"}
MARKS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "**fail**",
    Verdict.DIFFERS: "differs",
    Verdict.SKIPPED: "skipped",
}

HEAD = """\
# Scorecards

Made by `make scorecards`; do not edit. What the verdicts mean stands
[with the checks](check.md). Each server is a ready target, started by
`speech-engine check --serve NAME`, and is called on loopback.
"""


def main() -> None:
    reports = {name: report_of(name) for name in TARGETS}
    PAGE.write_text(page(reports), encoding="utf-8")
    for name, report in reports.items():
        print(
            f"{name}: {report.count(Verdict.FAIL)} failed, {report.count(Verdict.DIFFERS)} differ"
        )


def report_of(name: str) -> Report:
    """Start a target, check it, and end it."""
    with target(name) as url:
        return anyio.run(check, url)


async def check(url: str) -> Report:
    return await run_checks(url, api_key=KEY)


@contextmanager
def target(name: str) -> Generator[str]:
    """Run a ready target while the block runs; give its address."""
    command = [sys.executable, "-m", "speech_engine_local", "check", "--serve", name]
    env = {**os.environ, "ELEVENLABS_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=NODE_FOLDER, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process:
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.terminate()


def page(reports: dict[str, Report]) -> str:
    """Return the whole page."""
    parts = [HEAD, versions(), summary(reports)]
    rows = list(enumerate(CHECKS))
    for group, members in groupby(rows, key=lambda row: row[1].group):
        lines = [
            row(["check", *map(title, TARGETS)]),
            row(["---"] * (len(TARGETS) + 1)),
            *(
                row([f"`{each.id}`", *(MARKS[reports[n].results[i].verdict] for n in TARGETS)])
                for i, each in members
            ),
        ]
        parts.append(f"## {group}\n\n" + "\n".join(lines) + "\n")
    parts += [faults(name, reports[name]) for name in (OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT)]
    return "\n".join(parts)


def versions() -> str:
    """Return what was checked, with versions."""
    ours = version("speech-engine-proto")
    lines = [
        row(["target", "server", "on"]),
        row(["---"] * 3),
        *(
            row([name, f"speech-engine-proto {ours}", f"{library} {version(library)}"])
            for name, library in LIBRARIES.items()
        ),
        row([title(OFFICIAL_PYTHON), f"elevenlabs {version('elevenlabs')}",
             f"websockets {version('websockets')}"]),
        row([title(OFFICIAL_TYPESCRIPT),
             f"@elevenlabs/elevenlabs-js {npm_version('@elevenlabs/elevenlabs-js')}",
             f"ws {npm_version('ws')}, Node {node_version()}"]),
    ]  # fmt: skip
    return "\n".join(lines) + f"\n\nPython {platform.python_version()}.\n"


def summary(reports: dict[str, Report]) -> str:
    """Return how many checks came out how, by target."""
    lines = [row(["verdict", *map(title, TARGETS)]), row(["---"] * (len(TARGETS) + 1))]
    for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.DIFFERS):
        counts = [str(reports[name].count(verdict)) for name in TARGETS]
        lines.append(row([verdict.value, *counts]))
    return "\n".join(lines) + "\n"


def faults(name: str, report: Report) -> str:
    """Return what was expected and seen wherever a target did not pass."""
    lines = [row(["check", "verdict", "expected", "seen"]), row(["---"] * 4)]
    for each in report.results:
        if each.verdict is not Verdict.PASS:
            cells = [f"`{each.check.id}`", each.verdict.value, each.check.expected, each.seen]
            lines.append(row(cells))
    return f"## What the {title(name)} SDK does otherwise\n\n" + "\n".join(lines) + "\n"


def title(name: str) -> str:
    return TITLES.get(name, name)


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def npm_version(package: str) -> str:
    path = NODE_FOLDER / "node_modules" / package / "package.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["version"])


def node_version() -> str:
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("v")


if __name__ == "__main__":
    main()
