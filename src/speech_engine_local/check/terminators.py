"""Each reply ends with exactly one terminator, however its handler ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._call import HELLO, is_final
from ._check import Finding, Group, failed, passed

if TYPE_CHECKING:
    from ._call import Call
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("terminators")

QUIET_SECONDS = 0.5
"""How long it is listened for what must not come."""


@GROUP.check("one", "a reply ends with one `is_final: true`, and nothing follows")
async def one(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO)
        return await _just_one(call)


@GROUP.check("empty", 'the terminator has `content: ""`')
async def empty(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO)
        last = next(frame for frame in call.frames if is_final(frame))
        return passed('""') if last.get("content") == "" else failed("it carries words")


@GROUP.check("no-words", "a stream without a word ends with a terminator as well", commands=True)
async def no_words(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("say 0 words")
        return await _just_one(call)


@GROUP.check("nothing", "a handler that says nothing ends its turn", silent=True, commands=True)
async def nothing(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("nothing")
        return await _just_one(call)


@GROUP.check("raise", "a handler that raises ends its turn", silent=True, commands=True)
async def raise_(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("raise")
        return await _just_one(call)


@GROUP.check(
    "after-raise", "after a handler that raised, the next question is answered", commands=True
)
async def after_raise(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("raise", 1)
        await call.ask("echo still here", 2)
        return passed("answered")


@GROUP.check("stream-error", "a stream that fails ends its turn", silent=True, commands=True)
async def stream_error(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("break stream")
        return await _just_one(call)


@GROUP.check(
    "abort-error", "an error whose text has `abort` in it is an error", silent=True, commands=True
)
async def abort_error(target: Target) -> Finding:
    name = target.name("abort")
    async with target.call(name) as call:
        await call.say("raise transaction aborted", 1)
        got = await call.ask(f"events of {name}", 2)
        return passed("reported") if "error" in got.split() else failed("reported nowhere")


@GROUP.check(
    "twice", "a turn that is answered twice has one terminator", silent=True, commands=True
)
async def twice(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("reply twice")
        return await _just_one(call)


async def _just_one(call: Call) -> Finding:
    later = await call.listen(QUIET_SECONDS)
    if call.code is not None:
        return failed(f"one, and then the connection was closed with {call.code}")
    if later:
        return failed(f"{len(later)} frames after it, {sum(map(is_final, later))} terminators")
    return passed("one, and nothing after it")
