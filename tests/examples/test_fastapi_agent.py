"""examples/fastapi_agent.py: a call and HTTP requests that share two tables."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from .program import Program, ends_at, logs_errors, refuses_strangers, running

if TYPE_CHECKING:
    from speech_engine_local import LocalEngine, Reply

pytestmark = pytest.mark.anyio

NAME = "fastapi_agent.py"
FULL = "We are full. Stay on the line, and you get the next free table. "


async def request(program: Program, method: str, path: str) -> tuple[int, Any]:
    """Return the status and what the body says; None where there is none."""
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, f"{program.http}{path}") as response,
    ):
        return response.status, await response.json() if response.content_length else None


async def book_both(program: Program) -> None:
    assert await request(program, "POST", "/bookings?name=Ada") == (201, {"number": 1})
    assert await request(program, "POST", "/bookings?name=Grace") == (201, {"number": 2})


async def wait_for_a_table(engine: LocalEngine) -> Reply:
    """Ask for a table, and return once the agent has said that there is none."""
    reply = await engine.ask("A table, please")
    async for piece in reply:
        assert piece == FULL
        break
    return reply


async def test_what_is_booked_on_the_phone_is_seen_over_http() -> None:
    async with running(NAME) as program, program.engine() as engine:
        assert (await engine.say("Hello")).text == "Good evening! Would you like a table?"
        assert (await engine.say("A table, yes")).text == "You have a table, booking number 1."
        name = engine.conversation_id
        status = {"calls": [name], "bookings": {"1": f"call {name}"}}
        assert await request(program, "GET", "/status") == (200, status)
        assert not engine.violations


async def test_who_waits_on_the_phone_gets_the_table_that_is_given_back() -> None:
    async with running(NAME) as program, program.engine() as engine:
        await book_both(program)
        status, _ = await request(program, "POST", "/bookings?name=Edsger")
        assert status == 409
        reply = await wait_for_a_table(engine)
        assert await request(program, "DELETE", "/bookings/1") == (204, None)
        assert (await reply.wait()).text == f"{FULL}You have a table, booking number 3."


async def test_who_interrupts_the_wait_takes_no_table() -> None:
    async with running(NAME) as program, program.engine() as engine:
        await book_both(program)
        reply = await wait_for_a_table(engine)
        answer = await (await engine.interrupt("Never mind")).wait()
        assert answer.text == "Good evening! Would you like a table?"
        assert reply.interrupted
        await request(program, "DELETE", "/bookings/1")
        assert await request(program, "POST", "/bookings?name=Edsger") == (201, {"number": 3})
        assert not engine.violations


async def test_who_hangs_up_is_no_longer_shown_and_takes_no_table() -> None:
    async with running(NAME) as program:
        await book_both(program)
        async with program.engine() as engine:
            await wait_for_a_table(engine)
        while (await request(program, "GET", "/status"))[1]["calls"]:
            pass  # the call ends a moment after its caller has
        await request(program, "DELETE", "/bookings/2")
        status = {"calls": [], "bookings": {"1": "Ada"}}
        assert await request(program, "GET", "/status") == (200, status)


async def test_a_booking_that_is_not_there_is_404() -> None:
    async with running(NAME) as program:
        status, _ = await request(program, "DELETE", "/bookings/7")
        assert status == 404


async def test_strangers_are_refused() -> None:
    async with running(NAME) as program:
        await refuses_strangers(program)


async def test_errors_are_logged() -> None:
    async with running(NAME) as program:
        await logs_errors(program)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)]
)
async def test_a_signal_ends_it(number: signal.Signals, exit_code: int) -> None:
    async with running(NAME) as program:
        await ends_at(program, number, close_code=1012, exit_code=exit_code)


async def test_a_signal_ends_a_wait() -> None:
    async with running(NAME) as program, program.engine() as engine:
        await book_both(program)
        await wait_for_a_table(engine)
        assert await program.end(signal.SIGINT) == 0
        await engine.wait_ended()
