"""Server processes, and the loop in which this process calls them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from .servers import HOST

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

__all__ = ["Server", "run", "serving"]

T = TypeVar("T")


class Server:
    """A server process, and how to ask it; see `server` for what."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"ws://{HOST}:{self._read()}/"

    def ask(self, command: str) -> Any:
        """Return what the server answers to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with status {self._process.wait()}")
        return json.loads(line)


@contextmanager
def serving(kind: str, *options: str) -> Generator[Server]:
    """Run a server in a process of its own while the block runs."""
    command = [sys.executable, "-m", "benchmarks.server", kind, *options]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C comes to us alone, and we end it
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the calling side, on the fastest loop there is: it must not be the bottleneck."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
