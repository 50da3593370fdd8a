"""examples/aiohttp_llm.py, with the real openai SDK and a model's endpoint on loopback."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import anyio
import pytest

from tests.transports.caller import KEY

from .llm_endpoint import Endpoint, serving
from .program import (
    Program,
    assert_clean,
    command,
    ends_at,
    environment,
    refuses_strangers,
    running,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

NAME = "aiohttp_llm.py"
LLM_KEY = "sk-of-the-model"
# Patient beyond the test's own limit: that an HTTP stream ends must have another reason.
OPTIONS = ("--model", "tiny", "--timeout", "1000")
FALLBACK = "I am sorry, I lost my train of thought. Could you say that again?"


@asynccontextmanager
async def agent() -> AsyncGenerator[tuple[Program, Endpoint]]:
    async with (
        serving() as endpoint,
        running(NAME, *OPTIONS, OPENAI_BASE_URL=endpoint.url, OPENAI_API_KEY=LLM_KEY) as it,
    ):
        yield it, endpoint


async def test_the_model_gets_the_conversation_and_its_words_are_said() -> None:
    async with agent() as (program, endpoint), program.engine() as engine:
        first = await engine.say("good day")
        second = await engine.say("a room, please")
        assert first.pieces == ("You ", "said: ", "good ", "day")
        assert second.text == "You said: a room, please"
        assert not engine.violations
        request = endpoint.requests[-1]
        assert (request["model"], request["stream"]) == ("tiny", True)
        system, *history = request["messages"]
        assert system["role"] == "system"
        assert history == [
            {"role": "user", "content": "good day"},
            {"role": "assistant", "content": "You said: good day"},
            {"role": "user", "content": "a room, please"},
        ]
        assert endpoint.keys == [f"Bearer {LLM_KEY}"] * 2


async def test_interrupting_closes_the_stream_of_the_model() -> None:
    async with agent() as (program, endpoint), program.engine() as engine:
        reply = await engine.ask("go on")
        async for piece in reply:
            assert piece == "On "
            break
        answer = await engine.interrupt("stop")
        await endpoint.gone.wait()
        assert (await answer.wait()).text == "You said: stop"
        assert reply.interrupted
        assert endpoint.requests[-1]["messages"][1:] == [
            {"role": "user", "content": "go on"},
            {"role": "assistant", "content": "On "},
            {"role": "user", "content": "stop"},
        ]
        assert not engine.violations


async def test_interrupting_before_the_first_word_ends_the_request() -> None:
    async with agent() as (program, endpoint), program.engine() as engine:
        await engine.ask("think")
        await endpoint.arrived.wait()
        answer = await engine.interrupt("stop")
        await endpoint.gone.wait()
        assert (await answer.wait()).text == "You said: stop"


async def test_hanging_up_closes_the_stream_of_the_model() -> None:
    async with agent() as (program, endpoint):
        async with program.engine() as engine:
            await engine.ask("think")
            await endpoint.arrived.wait()
        await endpoint.gone.wait()
        assert await program.end(signal.SIGINT) == 0
        assert_clean(program)


async def test_a_model_that_fails_is_followed_by_the_fallback_and_the_call_goes_on() -> None:
    async with agent() as (program, endpoint), program.engine() as engine:
        assert (await engine.say("fail")).text == FALLBACK
        assert len(endpoint.requests) == 2  # the SDK has tried again
        assert (await engine.say("break")).text == f"I was {FALLBACK}"
        assert (await engine.say("well?")).text == "You said: well?"
        assert not engine.violations
        assert await program.end(signal.SIGTERM) == 0
        assert f"{engine.conversation_id}: InternalServerError (request " in program.output
        assert f"{engine.conversation_id}: APIError (request " in program.output
        assert "fail, please" not in program.output
        assert LLM_KEY not in program.output
        assert_clean(program)


async def test_an_endpoint_that_is_not_there_is_followed_by_the_fallback() -> None:
    arguments = ("--base-url", "http://127.0.0.1:9/v1")
    async with running(NAME, *arguments) as program, program.engine() as engine:
        assert (await engine.say("Hello?")).text == FALLBACK
        assert await program.end(signal.SIGINT) == 0
        assert "APIConnectionError" in program.output


async def test_strangers_are_refused_and_other_routes_are_open() -> None:
    async with agent() as (program, endpoint), aiohttp.ClientSession() as client:
        await refuses_strangers(program)
        assert len(endpoint.requests) == 1
        async with client.get(f"{program.http}/health") as response:
            assert await response.json() == {"status": "ok"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it(number: signal.Signals) -> None:
    async with agent() as (program, _):
        await ends_at(program, number, close_code=1001, exit_code=0)


async def test_sigterm_lets_the_reply_end() -> None:
    async with agent() as (program, endpoint), program.engine() as engine:
        reply = await engine.ask("hold")
        async for _ in reply:
            break
        program.send(signal.SIGTERM)
        await program.says("draining: 1 calls")
        endpoint.let_go.set()
        assert (await reply.wait()).text == "One moment. Here it is."
        assert await program.ended() == 0
        await engine.wait_ended()
        assert engine.close_code == 1001
        assert not engine.violations
        assert_clean(program)


async def test_without_a_model_it_does_not_start() -> None:
    done = await anyio.run_process(
        command(NAME), check=False, env=environment(ELEVENLABS_API_KEY=KEY)
    )
    assert done.returncode == 2
    assert b"OPENAI_API_KEY is not set" in done.stderr
