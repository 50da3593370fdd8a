"""A caller talks over the agent: the old reply stops, and the new question is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._call import HELLO, Unseen, is_final, is_reply
from ._check import Finding, Group, differs, failed, passed

if TYPE_CHECKING:
    from ._call import Call
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("interruption")

SOON = 2.0
"""Seconds that an answer may take beside a handler that needs 4 s to end."""

_COUNT = "say 40 words slowly"
"""It takes 2 s."""


@GROUP.check("answered", "the question that interrupts is answered", commands=True)
async def answered(target: Target) -> Finding:
    async with target.call() as call:
        await _interrupt(call, "echo new words")
        return passed("answered") if await call.reply(2) == "new words" else failed("other words")


@GROUP.check("stops", "a new transcript stops the reply in flight", commands=True)
async def stops(target: Target) -> Finding:
    async with target.call() as call:
        await _interrupt(call, "echo new words")
        if await call.reply(2) != "new words":
            return failed("its words are mixed with the new ones")
        later = [f for f in await call.listen(2.2) if is_reply(f) and f.get("content")]
        return failed(f"{len(later)} more pieces of it") if later else passed("not a piece more")


@GROUP.check(
    "old-terminator", "no terminator follows for a reply that was cut", silent=True, commands=True
)
async def old_terminator(target: Target) -> Finding:
    async with target.call() as call:
        await _interrupt(call, "echo new words")
        await call.reply(2)
        await call.listen(2.2)
        return differs("one came") if call.finals(1) else passed("none")


@GROUP.check("stream-closed", "the stream of the old reply is closed", commands=True)
async def stream_closed(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("witness", 1)
        await call.piece()
        got = await call.ask("was it closed?", 2)
        return passed("closed") if got == "closed" else failed("still open after 1 s")


@GROUP.check(
    "swallowed",
    "a handler that will not end does not hold the next turn up",
    silent=True,
    commands=True,
)
async def swallowed(target: Target) -> Finding:
    async with target.call() as call:
        await _interrupt(call, "echo new words", what="swallow cancellation")
        await call.reply(2, within=SOON)
        return passed(f"answered within {SOON:g} s")


@GROUP.check(
    "background",
    "what an interrupted turn still says in the background is not said in the next",
    silent=True,
    commands=True,
)
async def background(target: Target) -> Finding:
    async with target.call() as call:
        await _interrupt(call, "let it speak", what="speak later")
        await call.reply(2)
        await call.listen(0.5)
        if any("late" in str(f.get("content")) for f in call.replies(2)):
            return failed("old words under the new id")
        return passed("not a word of it under the new id")


@GROUP.check("burst", "of ten questions at once, the last gets one reply", commands=True)
async def burst(target: Target) -> Finding:
    async with target.call() as call:
        for id in range(1, 11):
            await call.say("sleep 0.3", id)
        await call.reply(10)
        await call.listen(0.8)
        finals = sum(map(is_final, call.frames))
        if (call.finals(10), finals) == (1, 1):
            return passed("one terminator, of the last")
        if call.finals(10) == 1:
            return differs(f"one, and {finals - 1} terminators of older questions")
        return failed(f"{call.finals(10)} terminators for the last")


@GROUP.check("before-a-word", "an interruption before the first word is one as well", commands=True)
async def before_a_word(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("sleep 0.5", 1)
        await call.say("echo new words", 2)
        await call.reply(2)
        later = [f for f in await call.listen(1) if is_reply(f)]
        if any(f.get("event_id") == 2 for f in later):
            return failed("the old reply came under the new id")
        return differs("the old reply came, under its own id") if later else passed("nothing more")


@GROUP.check("at-once", "a question right behind another is answered")
async def at_once(target: Target) -> Finding:
    async with target.call() as call:
        await call.say(HELLO, 1)
        await call.say("And another thing.", 2)
        await call.reply(2)
        return passed("answered")


@GROUP.check("once-more", "twenty interruptions in a row, and the last is answered", commands=True)
async def once_more(target: Target) -> Finding:
    async with target.call() as call:
        for id in range(1, 21):
            await call.say("say 40 words slowly", id)
            await call.piece(id)
        await call.ask("echo enough", 21)
        return passed("answered")


async def _interrupt(call: Call, words: str, *, what: str = _COUNT) -> None:
    """Let the agent begin, and talk over it."""
    await call.say(what, 1)
    if "later" not in what:
        await call.piece()
    try:
        await call.ping(within=SOON)  # whoever answers has read the first question
    except Unseen:
        pass
    await call.say(words, 2)
