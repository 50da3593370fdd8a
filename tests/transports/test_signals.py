"""SIGINT and SIGTERM stop a server process with a call on the line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token

from .peer import transcript

if TYPE_CHECKING:
    from collections.abc import Generator

SERVER = """
import asyncio, sys
import anyio
from speech_engine_transports import SpeechEngineServer

async def endless(transcript, session):
    await session.send_response("well, ", final=False)
    try:
        let_go = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, let_go.set)
        await let_go.wait()
    finally:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        print("cancelled", flush=True)
        if {stubborn}:
            await anyio.sleep_forever()

class Server(SpeechEngineServer):
    async def drain(self, *arguments):
        print("draining", flush=True)
        return await super().drain(*arguments)

async def main():
    server = Server(
        host="127.0.0.1", port=0, api_key="sk_test", handle_signals={handle},
        drain_timeout={drain}, on_transcript=endless,
        on_disconnect=lambda s: print("disconnected", flush=True),
    )
    async with server:
        print(server.port, flush=True)
        await server.wait_stopped()
    print("stopped", flush=True)

asyncio.run(main())
print("done", flush=True)
"""


class Process:
    """A server process with one call on the line."""

    def __init__(self, process: subprocess.Popen[str], ws: ClientConnection) -> None:
        self.process = process
        self.ws = ws

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def let_go(self) -> None:
        """Let the handler return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close_code(self) -> int | None:
        try:
            self.ws.recv()
        except ConnectionClosed:
            pass
        return self.ws.close_code


@contextmanager
def process(
    *, handle: bool = True, stubborn: bool = False, drain: float = 0.05
) -> Generator[Process]:
    code = SERVER.format(handle=handle, stubborn=stubborn, drain=drain)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            url = f"ws://127.0.0.1:{child.stdout.readline().strip()}/"
            header = (AUTHORIZATION_HEADER, sign_token("sk_test", now=time.time()))
            with connect(url, additional_headers=[header], proxy=None) as ws:
                ws.send(transcript("hi", id=1))
                assert json.loads(ws.recv())["content"] == "well, "
                yield Process(child, ws)
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_with_a_call_on_the_line(number: signal.Signals) -> None:
    with process() as server:
        server.process.send_signal(number)
        assert number == signal.SIGINT or server.line() == "draining"
        assert server.close_code() == 1001
        assert sorted([server.line(), server.line()]) == ["cancelled", "disconnected"]
        assert [server.line(), server.line()] == ["stopped", "done"]
        assert server.process.wait() == 0


def test_a_second_signal_ends_a_server_that_cannot_stop() -> None:
    with process(stubborn=True) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.close_code() == 1001
        server.line()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == -signal.SIGTERM


def test_sigterm_lets_the_reply_end_and_then_closes() -> None:
    with process(drain=60) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "draining"
        server.ws.send('{"type":"ping"}')
        assert json.loads(server.ws.recv()) == {"type": "pong"}
        server.let_go()
        assert json.loads(server.ws.recv())["is_final"]
        assert server.close_code() == 1001
        assert sorted([server.line(), server.line()]) == ["cancelled", "disconnected"]
        assert server.process.wait() == 0


def test_a_signal_while_it_drains_ends_it_at_once() -> None:
    with process(drain=60) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.line() == "draining"
        server.process.send_signal(signal.SIGTERM)
        assert server.close_code() == 1001
        assert server.process.wait() == 0


def test_signals_are_left_alone_where_that_is_asked() -> None:
    with process(handle=False) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait() == -signal.SIGTERM
        assert server.line() == ""
