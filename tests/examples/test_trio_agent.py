"""examples/trio_agent.py: a server beside a kitchen, which cooks for no time or for ever."""

from __future__ import annotations

import signal
import sys

import anyio
import pytest

from tests.transports.caller import KEY

from .program import assert_clean, ends_at, environment, logs_errors, refuses_strangers, running

pytestmark = pytest.mark.anyio

NAME = "trio_agent.py"
AT_ONCE = ("--seconds", "0")
FOR_EVER = ("--seconds", "1e9")


async def test_the_kitchen_cooks_what_calls_order() -> None:
    async with running(NAME, *AT_ONCE) as program, program.engine() as engine:
        assert (await engine.say("Hello")).text == "Hello! A pizza or a salad?"
        reply = await engine.say("A pizza, please")
        assert reply.pieces == ("One pizza, just a moment. ", "Your pizza is ready.")
        assert (await engine.say("And a salad")).text.endswith("Your salad is ready.")
        assert not engine.violations


async def test_it_is_called_as_the_readme_tells() -> None:
    async with running(NAME, *AT_ONCE) as program:
        done = await anyio.run_process(
            [sys.executable, "-m", "speech_engine_local", "chat", program.address],
            input=b"A pizza, please\n",
            env=environment(ELEVENLABS_API_KEY=KEY),
        )
    assert done.stdout.decode() == (
        "you:   A pizza, please\nagent: One pizza, just a moment. Your pizza is ready.\n"
    )


async def test_interrupting_calls_the_order_off_before_the_next_turn() -> None:
    async with running(NAME, *FOR_EVER) as program, program.engine() as engine:
        pizza = await engine.ask("A pizza, please")
        async for _ in pizza:
            break
        salad = await engine.interrupt("No, a salad")
        async for piece in salad:
            assert piece == "One salad, just a moment. "
            break
        assert pizza.interrupted
        answer = await (await engine.interrupt("Nothing at all")).wait()
        assert answer.text == "Hello! A pizza or a salad?"
        assert not engine.violations
        assert await program.end(signal.SIGINT) == 0
        assert program.output.count("called off") == 2
        assert_clean(program)


async def test_hanging_up_calls_the_order_off() -> None:
    async with running(NAME, *FOR_EVER) as program:
        async with program.engine() as engine:
            async for _ in await engine.ask("A pizza, please"):
                break
        while "called off" not in await program.line():
            pass


async def test_ctrl_c_ends_server_and_kitchen_in_order() -> None:
    async with running(NAME, *FOR_EVER) as program, program.engine() as engine:
        async for _ in await engine.ask("A pizza, please"):
            break
        assert await program.end(signal.SIGINT) == 0
        await engine.wait_ended()
        said = program.output
        assert said.index("SIGINT") < said.index("called off") < said.index("kitchen is closed")
        assert_clean(program)


async def test_sigterm_lets_the_pizza_be_served() -> None:
    async with running(NAME, "--seconds", "0.5") as program, program.engine() as engine:
        reply = await engine.ask("A pizza, please")
        async for _ in reply:
            break
        program.send(signal.SIGTERM)
        assert (await reply.wait()).text == "One pizza, just a moment. Your pizza is ready."
        assert await program.ended() == 0
        await engine.wait_ended()
        assert engine.close_code == 1001
        assert_clean(program)


async def test_strangers_are_refused() -> None:
    async with running(NAME, *AT_ONCE) as program:
        await refuses_strangers(program)


async def test_errors_are_logged() -> None:
    async with running(NAME, *AT_ONCE) as program:
        await logs_errors(program)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it(number: signal.Signals) -> None:
    async with running(NAME, *AT_ONCE) as program:
        await ends_at(program, number, close_code=1001, exit_code=0)
