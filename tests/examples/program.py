"""The examples as a user starts them: processes of their own, called over a socket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from websockets.exceptions import ConnectionClosed

from speech_engine_local import ConnectError, LocalEngine
from tests.transports.caller import INIT, KEY, ask, call

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

EXAMPLES = Path(__file__).parents[2] / "examples"

LONGEST_LINE = 65536

_ADDRESS = re.compile(r"(?:ws|http)://127\.0\.0\.1:(?P<port>[1-9]\d*)")


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has set no keys but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ELEVENLABS_", "OPENAI_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", "COLUMNS": "100", **more}


class Program:
    """An example that listens."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self.output = ""
        self.port = 0

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def engine(self, key: str | None = KEY) -> LocalEngine:
        """The service's side of a call: patient, since this machine may be busy."""
        return LocalEngine(self.address, api_key=key, cascade_timeout=100, silence_timeout=100)

    async def listen(self) -> None:
        """Read what it prints until that tells the port."""
        while (found := _ADDRESS.search(await self.line())) is None:
            pass
        self.port = int(found["port"])

    async def line(self) -> str:
        """Read the next line it prints."""
        try:
            line = await self._stdout.receive_until(b"\n", LONGEST_LINE)
        except (anyio.IncompleteRead, anyio.EndOfStream):
            raise AssertionError(f"it ended after:\n{self.output}") from None
        self.output += f"{line.decode()}\n"
        return line.decode()

    async def says(self, text: str) -> None:
        """Read lines up to one that has this text."""
        while text not in await self.line():
            pass

    def send(self, number: signal.Signals) -> None:
        """Send a signal, and do not wait."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Read the rest of what it prints, and return the exit code."""
        await self._read_rest()
        return await self._process.wait()

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, read the rest of what it prints, and return the exit code."""
        self.send(number)
        return await self.ended()

    async def kill(self) -> None:
        """End it at once, if it runs: a test has failed already."""
        if self._process.returncode is None:
            self._process.kill()
            await self._read_rest()
        await self._process.aclose()

    async def _read_rest(self) -> None:
        while True:
            try:
                self.output += (await self._stdout.receive()).decode()
            except anyio.EndOfStream:
                return


@asynccontextmanager
async def running(name: str, *arguments: str, **env: str) -> AsyncGenerator[Program]:
    """Run an example on a free port; what it printed is shown where the test fails."""
    process = await anyio.open_process(
        command(name, "--port", "0", *arguments),
        stderr=subprocess.STDOUT,
        env=environment(ELEVENLABS_API_KEY=KEY, **env),
    )
    program = Program(process)
    try:
        await program.listen()
        yield program
    finally:
        with anyio.CancelScope(shield=True):
            await program.kill()
        print(program.output)


async def refuses_strangers(program: Program) -> None:
    """Without a token, or with another key's, it answers 401; those who have one are served on."""
    for key in (None, "another key"):
        with pytest.raises(ConnectError) as refusal:
            async with program.engine(key):
                pass
        assert refusal.value.status == 401
    async with program.engine() as engine:
        assert (await engine.say("Hello")).text


async def logs_errors(program: Program) -> None:
    """What the service complains of is logged by its kind, not its words; the call goes on."""
    async with call(program.port) as ws:
        await ws.send(INIT)
        await ws.send('{"type":"error","message":"words of the caller"}')
        while "conv_1: ServiceError" not in await program.line():
            pass
        assert await ask(ws, "Hello", 1)
    assert "words of the caller" not in program.output


async def ends_at(
    program: Program, number: signal.Signals, *, close_code: int, exit_code: int
) -> None:
    """A signal closes the call on the line, and ends the program without a complaint."""
    async with call(program.port) as ws:
        assert await program.end(number) == exit_code
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == close_code
    assert_clean(program)


def assert_clean(program: Program) -> None:
    """Nothing failed, and no key was printed."""
    for word in ("Traceback", "Warning", KEY):
        assert word not in program.output
