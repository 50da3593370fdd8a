"""The service sends a question again where no word came in time; old ones may come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._call import HELLO, Unseen, is_final, is_reply
from ._check import Finding, Group, differs, failed, passed
from .terminators import QUIET_SECONDS

if TYPE_CHECKING:
    from ._call import Call
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("re-sends")


@GROUP.check(
    "in-flight",
    "the same question again while it is being answered: one reply",
    silent=True,
    commands=True,
)
async def in_flight(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("sleep 0.6", 1)
        await call.say_again(1)
        await call.reply(1)
        await call.listen(QUIET_SECONDS + 0.6)
        finals = call.finals(1)
        return passed("one reply") if finals == 1 else failed(f"{finals} replies")


@GROUP.check("answered", "the same id after its reply is not answered again", silent=True)
async def answered(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO, 1)
        call.history.pop()
        await call.say_again(1)
        try:
            await call.reply(1, within=min(target.patience, 2))
        except Unseen:
            return passed("no second reply") if call.code is None else _ended(call)
        return differs("a second reply")


@GROUP.check(
    "failed", "the same id after a try that said nothing is a new try", silent=True, commands=True
)
async def failed_try(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("raise once", 1)
        await call.listen(QUIET_SECONDS)
        await call.say_again(1)
        try:
            with_words = await call.reply(1)
        except Unseen:
            return failed("the second try got no reply")
        return passed("answered") if with_words else failed("a reply without a word")


@GROUP.check(
    "new-id",
    "the same question under a new id, before a word was said, is answered once",
    silent=True,
    commands=True,
)
async def new_id(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("run for 1 s", 1)
        await call.listen(0.3)
        await call.say_again(2)
        run = await call.reply(2)
        await call.listen(1.2)
        if call.finals(2) != 1:
            return failed(f"{call.finals(2)} terminators for the new id")
        if run == "run 1":
            return passed("once; the reply goes on under the new id")
        return differs("once; the handler was started anew")


@GROUP.check("older", "an older id after a newer reply is not answered", silent=True)
async def older(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO, 7)
        await call.say(HELLO, 3)
        try:
            await call.reply(3, within=min(target.patience, 2))
        except Unseen:
            return passed("no reply") if call.code is None else _ended(call)
        return differs("a reply, under the older id")


@GROUP.check(
    "older-in-flight",
    "an older id does not cancel the newest question: a new user turn carries a higher id",
    commands=True,
)
async def older_in_flight(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("sleep 0.6", 7)
        await call.say("echo older", 3)
        reply = await call.reply(7)
        return passed("the newest was answered") if reply == "slept" else failed("other words")


@GROUP.check(
    "many", "a question that comes three times at once gets one reply", silent=True, commands=True
)
async def many(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("run for 0.5 s", 1)
        await call.say_again(1)
        await call.say_again(1)
        await call.reply(1)
        later = [f for f in await call.listen(1) if is_reply(f) and is_final(f)]
        return failed(f"{1 + len(later)} replies") if later else passed("one reply")


def _ended(call: Call) -> Finding:
    return failed(f"the connection was closed with {call.code}")
