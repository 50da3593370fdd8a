"""What was said, and keys and tokens, are in no log, wherever they stood and whatever went wrong.

Only ``debug=True`` shows conversations: on stdout, and nowhere else.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

from speech_engine_proto.auth import AUTHORIZATION_HEADER, sign_token
from speech_engine_transports import SpeechEngineServer, SpeechEngineSession
from speech_engine_transports.asyncio import connect

from .clock import ASYNCIO, real
from .peer import CLOSE, PING, Call, init, transcript

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from speech_engine_proto import ConversationMessage

pytestmark = pytest.mark.anyio

MARK = "xyzzy"
Session = SpeechEngineSession


class Everything(logging.Handler):
    """All records of all loggers, with everything that hangs on them."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))
        self.text.append(repr({k: v for k, v in record.__dict__.items() if k != "exc_info"}))
        error = record.exc_info[1] if record.exc_info else None
        while error is not None:
            self.text += [str(error), repr(error), *traceback.format_exception_only(error)]
            shown = None if error.__suppress_context__ else error.__context__
            error = error.__cause__ or shown


@pytest.fixture
def logged() -> Generator[Everything]:
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def answer(messages: list[ConversationMessage], session: Session) -> None:
    word = messages[-1].content.split()[-1] if messages else ""
    if word == "fail":
        raise ValueError("a handler failed")
    if word == "unclosed":
        await session.send_response(Unclosed(MARK))
    elif word == "provider":
        await session.send_response(words({"type": "error", "error": {"message": "overloaded"}}))
    elif word == "twice":
        await session.send_response(MARK)
        await session.send_response(MARK)
    elif word == "slow":
        await session.send_response(words(MARK, MARK), final=False)
        await anyio.sleep_forever()
    elif word != "silent":
        await session.send_response(words(MARK))


async def words(*pieces: Any) -> AsyncGenerator[Any]:
    for piece in pieces:
        yield piece


class Unclosed:
    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def __aiter__(self) -> AsyncGenerator[str]:
        return words(*self.pieces)

    def close(self) -> None:
        raise OSError(MARK)


def script() -> list[str | bytes]:
    """Return a long call in which everything happens that can be reported."""
    texts = ["fail", "unclosed", "provider", "twice", "slow", "silent", "good", "slow"]
    good = [transcript(f"{MARK} {text}", id=10 + i) for i, text in enumerate(texts)]
    entry = {"role": "user", "content": MARK}
    bad: list[Any] = [
        {"user_transcript": [entry]},
        {"type": "user_transcript", "user_transcript": entry},
        {"type": "user_transcript", "user_transcript": [entry, {"role": MARK}]},
        {"type": "user_transcript", "user_transcript": [entry, {"role": 1, "content": MARK}]},
        {"type": "user_transcript", "user_transcript": [MARK]},
        {"type": "user_transcript", "user_transcript": [entry], "event_id": MARK},
        {"type": "user_transcript", "user_transcript": [entry], "event_id": 1.5},
        {"type": "agent_response", "content": MARK, "is_final": True, "event_id": 1},
        {"type": "init", "conversation_id": [MARK]},
        [MARK],
        MARK,
    ]
    broken = [f'{{"type":"user_transcript","x":"{MARK}"', f'{MARK}"', f'"{MARK}\\ud"']
    late = [transcript(f"{MARK} good", id=3), transcript(f"{MARK} slow", id=17)]
    resent = [transcript(f"{MARK} silent", id=20), transcript(f"{MARK} silent", id=21)]
    encoded = [*broken, *map(json.dumps, bad)]
    return [
        *[init("conv_1"), PING, init(f"{MARK}"), *good, *late, *resent],
        *encoded,
        *(f"{text}".encode("utf-16") for text in broken),
        b"\xff" + MARK.encode(),
        transcript(f"{MARK} slow", id=99),
    ]


@pytest.mark.parametrize("listen", [True, False])
async def test_a_long_call_logs_no_word_of_it(
    listen: bool, logged: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Call(on_transcript=answer, listen=listen, fallback=lambda e: MARK) as call:
        for message in script():
            await call.gets(message)
        await call.gets(CLOSE)
        assert sum(MARK in content for _, content, _ in call.replies) >= 8
        errors = call.take_errors()
        assert (len(errors) >= 15) is listen
        assert [e for e in errors if MARK in f"{e} {e!r}"] == []
    assert len(logged.text) >= 8
    assert [text for text in logged.text if MARK in text] == []
    captured = capfd.readouterr()
    assert MARK not in captured.out + captured.err


async def test_debug_shows_the_conversation_on_stdout_and_only_there(
    logged: Everything, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Call(on_transcript=answer, debug=True) as call:
        await call.gets(init("conv_1"))
        await call.says(f"{MARK} hello", id=1)
        await call.gets('{"type":"user_transcript","user_transcript":[],"event_id":2}')
        call.take_errors()
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "[SpeechEngine] conversation conv_1",
        f"[SpeechEngine] turn 1, transcript of 1: user: {MARK} hello",
        f"[SpeechEngine] turn 1, finished: {MARK}",
        "[SpeechEngine] turn 2, transcript of 0: (empty)",
        f"[SpeechEngine] turn 2, finished: {MARK}",
    ]
    assert [text for text in logged.text if MARK in text] == []


async def test_a_call_without_debug_shows_nothing_beside_one_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with Call(on_transcript=answer, debug=True), Call(on_transcript=answer) as quiet:
        await quiet.says(f"{MARK} hello", id=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("anyio_backend", [pytest.param(real(b), id=b) for b in ASYNCIO])
async def test_a_real_call_logs_no_word_no_token_and_no_key(
    logged: Everything, capfd: pytest.CaptureFixture[str]
) -> None:
    key = f"sk_{MARK}"
    good = sign_token(key, now=time.time())
    secrets = [MARK, good, good.split(".")[2]]
    refused = [
        [],
        [(AUTHORIZATION_HEADER, MARK)],
        [(AUTHORIZATION_HEADER, f"Bearer {MARK}.{MARK}.{MARK}")],
        [(AUTHORIZATION_HEADER, sign_token("sk_other", now=time.time(), claims={"x": MARK}))],
        [(AUTHORIZATION_HEADER, good)] * 2,
    ]
    server = SpeechEngineServer(
        host="127.0.0.1", port=0, path="/ws", api_key=key, on_transcript=answer
    )
    async with server:
        url = f"ws://127.0.0.1:{server.port}/ws?customer={MARK}"
        quiet = logging.getLogger("a client that logs nothing")
        quiet.setLevel(logging.CRITICAL)
        for headers in refused:
            with pytest.raises(InvalidStatus):
                await dial(url, additional_headers=headers, proxy=None, logger=quiet)
        headers = [(AUTHORIZATION_HEADER, good), ("X-Customer", MARK)]
        with pytest.raises(InvalidStatus):
            async with connect(f"ws://127.0.0.1:{server.port}/{MARK}", headers=headers):
                pass
        async with connect(url, headers=headers) as socket:
            for message in script():
                await socket.send(message if isinstance(message, str) else message.decode("latin1"))
            await socket.send(CLOSE)
            while await socket.recv() is not None:
                pass
    assert len(logged.text) >= 8
    assert [text for text in logged.text for secret in secrets if secret in text] == []
    captured = capfd.readouterr()
    assert MARK not in captured.out + captured.err
