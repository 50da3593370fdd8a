"""The session's task group on both loops, and one exception in the place of many."""

from __future__ import annotations

import asyncio
import sys

import anyio
import anyio.lowlevel
import pytest

from speech_engine_transports._groups import asyncio_task, session_group, single_exception


def raised(group: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught, single_exception():  # noqa: PT011
        raise group
    return caught.value


def test_the_first_one_is_raised_however_deep() -> None:
    first, second = ValueError("first"), ValueError("second")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [first, second])])
    assert raised(nested) is first


def test_it_keeps_its_cause_and_its_context() -> None:
    cause, context = KeyError("cause"), KeyError("context")
    error = ValueError("first")
    error.__context__ = context
    error.__cause__ = cause
    assert raised(ExceptionGroup("group", [error])).__cause__ is cause
    assert error.__context__ is context


def test_the_group_is_no_context_of_an_error_that_had_none() -> None:
    error = KeyboardInterrupt()
    assert raised(BaseExceptionGroup("group", [error])) is error
    assert error.__context__ is None


def test_what_is_no_group_leaves_as_it_is() -> None:
    error = ValueError("plain")
    assert raised(error) is error


@pytest.mark.anyio
async def test_a_call_has_made_its_first_step_when_start_returns() -> None:
    steps: list[str] = []

    async def call(name: str) -> None:
        steps.append(f"{name} begins")
        await anyio.lowlevel.checkpoint()
        steps.append(f"{name} ends")

    async with session_group() as group:
        group.start_soon(call, "soon")
        await group.start(call, "started")
        assert "started begins" in steps
    assert sorted(steps) == ["soon begins", "soon ends", "started begins", "started ends"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_where_tasks_are_eager_soon_is_not_now() -> None:
    """And whoever starts a call sees its first step, not its second, as with other tasks."""
    loop = asyncio.get_running_loop()
    steps: list[str] = []

    async def call(name: str) -> None:
        for step in ("first", "second"):
            steps.append(f"{step} of {name}")
            await anyio.lowlevel.checkpoint()

    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    try:
        async with session_group() as group:
            group.start_soon(call, "soon")
            assert steps == []
            await group.start(call, "started")
            assert steps == ["first of soon", "first of started"]
    finally:
        loop.set_task_factory(None)
    assert len(steps) == 4


@pytest.mark.anyio
async def test_an_error_in_a_task_ends_the_others() -> None:
    async def fail() -> None:
        raise ValueError("here")

    async def all_of_it() -> None:
        with single_exception():
            async with session_group() as group:
                await group.start(anyio.sleep_forever)
                await group.start(fail)

    with pytest.raises(ValueError, match="here"):
        await all_of_it()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_group_that_was_cancelled_takes_no_more_tasks() -> None:
    """The call it refuses is closed: no warning tells that it was never awaited."""
    refused: list[str] = []

    async def late() -> None:
        with pytest.raises(asyncio.CancelledError):
            await anyio.sleep_forever()
        with pytest.raises(RuntimeError, match="shutting down"):
            running.start_soon(anyio.sleep, 0)
        refused.append("late")

    group = session_group()
    running = await group.__aenter__()
    await running.start(late)
    error = ValueError("mine")
    with pytest.raises(ExceptionGroup):
        await group.__aexit__(ValueError, error, None)
    assert refused == ["late"]


def test_no_task_runs_outside_a_loop() -> None:
    assert asyncio_task() is None
