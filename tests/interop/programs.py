"""Programs in processes of their own, followed by the lines that they print."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpx

from .diary import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
"""What a program gets of our environment: no key that a developer may have in it."""


class Program:
    """A running program. Its standard output and error are one stream of lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._over = False

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def line(self, pattern: str) -> re.Match[str]:
        """Return the first match of a pattern in the lines so far, or in those to come."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if found := re.search(pattern, self.output):
                    return found
                if self._over:
                    raise AssertionError(f"expected {pattern!r}, but it ended:\n{self.output}")
                await self._changed.wait()

    async def end(self) -> int:
        """Wait until it has ended by itself, and return its exit status."""
        async with asyncio.timeout(PATIENCE):
            while not self._over:
                await self._changed.wait()
            return await self.process.wait()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            self._tell()
        self._over = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def running(
    *command: str | Path, cwd: Path, env: Mapping[str, str]
) -> AsyncGenerator[Program]:
    """Run a program while the block runs; at its end it is told to terminate.

    Args:
        command: the program and its arguments.
        cwd: the folder to run in.
        env: added to the few variables of ours that it gets.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
    )
    program = Program(process)
    reader = asyncio.create_task(program.read())
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await reader
        except TimeoutError:
            process.kill()
            await reader
        await process.wait()
        print(program.output)


@asynccontextmanager
async def running_python(script: Path, *, env: Mapping[str, str]) -> AsyncGenerator[Program]:
    """Run a Python script with this interpreter while the block runs."""
    variables = {"PYTHONUNBUFFERED": "1", **env}
    async with running(sys.executable, script, cwd=script.parent, env=variables) as program:
        yield program


async def answers(program: Program, url: str) -> int:
    """Return the status with which a server answers a GET, once the program has one."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(PATIENCE):
        while True:
            try:
                return (await http.get(url)).status_code
            except httpx.ConnectError:
                assert program.process.returncode is None, program.output
                await asyncio.sleep(0.02)  # nothing tells when another process listens


def free_port() -> int:
    """Return a port that nobody listens on, for a program that must be told one.

    It lies below the ports that systems give to outgoing connections, so that none of those takes
    it before the program does.
    """
    while True:
        port = random.randint(20_000, 32_000)
        with suppress(OSError), socket.create_server(("", port)):
            return port
