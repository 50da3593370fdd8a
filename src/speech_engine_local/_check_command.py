"""What ``speech-engine check`` does and says."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from importlib import resources
from typing import TYPE_CHECKING, NoReturn

import anyio

from speech_engine_transports._signals import stop_event

from .check import as_json, as_list, as_table, run_checks, select
from .check.targets import OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT, TRANSPORTS, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TARGETS", "run", "serve", "show"]

TARGETS = (*TRANSPORTS, OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT)
"""The names of the ready targets."""


def show(only: Sequence[str]) -> str:
    """Return the list of checks.

    Raises:
        ValueError: there is no check and no group of a name.
    """
    return as_list(select(only))


async def run(url: str, *, api_key: str | None, only: Sequence[str], json: bool) -> int:
    """Check a server, print the report, and return the exit code: 0 if nothing failed.

    Raises:
        ConnectionError: nobody listens there.
        ValueError: the key, the address or a name cannot be used.
    """
    report = await run_checks(url, api_key=api_key, checks=select(only))
    width = shutil.get_terminal_size((100, 24)).columns
    print(as_json(report) if json else as_table(report, width=width), flush=True)
    return 0 if report.is_good else 1


def serve(name: str, *, port: int, api_key: str | None) -> int:
    """Serve a ready target until a signal; its address is the first line on stdout.

    Raises:
        ImportError: what it is built on is not installed.
        OSError: the port is taken.
    """
    key = api_key or secrets.token_urlsafe(24)
    if api_key is None:
        print(f"speech-engine: its key for this run is {key}", file=sys.stderr, flush=True)
    if name == OFFICIAL_TYPESCRIPT:
        return _serve_with_node(port, key)
    backend = "trio" if name == "trio" else "asyncio"
    anyio.run(_serve, name, port, key, backend=backend)
    return 0


async def _serve(name: str, port: int, key: str) -> None:
    async with serving(name, port=port, api_key=key) as url, stop_event() as stopped:
        print(url, flush=True)
        await stopped.wait()


def _serve_with_node(port: int, key: str) -> NoReturn:
    """Become Node: its signals and its end are then those of this process."""
    node = shutil.which("node")
    if node is None:
        raise ImportError(f"{OFFICIAL_TYPESCRIPT} needs Node.js on the PATH")
    env = {**os.environ, "ELEVENLABS_API_KEY": key}
    with resources.as_file(resources.files("speech_engine_local.check") / "target.mjs") as script:
        sys.stdout.flush()
        os.execve(node, [node, str(script), str(port)], env)
