"""One server in a process of its own: ours, the official session's, or the bare library's.

All three listen with the same settings of ``websockets``, say the same frames, and answer pings;
the bare one does so without any protocol. Commands come as lines on stdin, answers as JSON on
stdout: ``memory`` (bytes that Python holds), ``cpu`` (seconds of CPU time). The end of stdin ends
the server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import sys
import time
import tracemalloc
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .texts import PIECES, PONG, reply_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

HOST = "127.0.0.1"
KEEPALIVE_SECONDS = 20.0
MAX_FRAME_BYTES = 16 * 1024 * 1024

_PONG_MARK = b'"ping"'
_TRANSCRIPT_MARK = b'"user_transcript"'
_TYPE_WITHIN = 40
"""The type stands within the first bytes of each of our frames."""


class Talk:
    """What is said in reply to a transcript.

    Args:
        pieces: how many pieces.
        pause: seconds between them, as of an LLM that streams; 0 sends them all at once.
    """

    def __init__(self, pieces: int, pause: float) -> None:
        self._pieces = pieces
        self._pause = pause

    async def words(self) -> AsyncGenerator[str]:
        """Yield the pieces."""
        for word in itertools.islice(itertools.cycle(PIECES), self._pieces):
            if self._pause:
                await asyncio.sleep(self._pause)
            yield word

    def frames(self) -> list[str]:
        """Return the frames of the whole reply, made beforehand."""
        words = itertools.islice(itertools.cycle(PIECES), self._pieces)
        return [*(reply_frame(word, False, 1) for word in words), reply_frame("", True, 1)]

    async def answer(self, _: object, session: Any) -> None:
        """Answer a transcript, as the handler of a session."""
        await session.send_response(self.words())


@asynccontextmanager
async def _raw(talk: Talk) -> AsyncGenerator[int]:
    frames = talk.frames()

    async def react(message: bytes, ws: ServerConnection) -> None:
        head = message[:_TYPE_WITHIN]
        if _PONG_MARK in head:
            await ws.send(PONG)
        elif _TRANSCRIPT_MARK in head:
            for frame in frames:
                await ws.send(frame)

    async def converse(ws: ServerConnection) -> None:
        try:
            while True:  # nothing is kept of a message while the next one is waited for
                await react(await ws.recv(decode=False), ws)
        except ConnectionClosed:
            pass

    async with _listen(converse) as port:
        yield port


@asynccontextmanager
async def _official(talk: Talk) -> AsyncGenerator[int]:
    from elevenlabs.speech_engine import SpeechEngineServer

    server = SpeechEngineServer(disable_auth=True, on_transcript=talk.answer)

    async def converse(ws: ServerConnection) -> None:
        await server.handle_connection(ws).run()

    async with _listen(converse) as port:
        yield port


@asynccontextmanager
async def _ours(talk: Talk) -> AsyncGenerator[int]:
    from speech_engine_transports.server import SpeechEngineServer

    warnings.simplefilter("ignore", UserWarning)  # no token is verified here, on purpose
    async with SpeechEngineServer(
        host=HOST, port=0, disable_auth=True, on_transcript=talk.answer
    ) as server:
        yield server.port


@asynccontextmanager
async def _listen(converse: Callable[[ServerConnection], Any]) -> AsyncGenerator[int]:
    async with serve(
        converse,
        HOST,
        0,
        compression=None,
        max_size=MAX_FRAME_BYTES,
        ping_interval=KEEPALIVE_SECONDS,
        ping_timeout=KEEPALIVE_SECONDS,
        server_header=None,
    ) as listener:
        yield next(iter(listener.sockets)).getsockname()[1]


KINDS = {"raw": _raw, "official": _official, "ours": _ours}


def _answer(command: str) -> float:
    if command == "memory":
        gc.collect()
        return float(tracemalloc.get_traced_memory()[0])
    if command == "cpu":
        return time.process_time()
    raise ValueError(f"command: expected memory or cpu, got {command!r}")


async def _obey(stdin: asyncio.StreamReader) -> None:
    while command := (await stdin.readline()).decode().strip():
        print(json.dumps(_answer(command)), flush=True)


async def _main(kind: str, talk: Talk) -> None:
    stdin = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    async with KINDS[kind](talk) as port:
        print(json.dumps(port), flush=True)
        await _obey(stdin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--trace-memory", action="store_true")
    options = parser.parse_args()
    if options.trace_memory:
        tracemalloc.start(1)
    asyncio.run(_main(options.kind, Talk(options.pieces, options.pause)))
