"""Each question is answered, in the form that is documented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._call import HELLO, Unseen, is_final, is_reply
from ._check import Finding, Group, differs, failed, passed

if TYPE_CHECKING:
    from ._call import Frame
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("turns")
_TYPES: dict[str, Any] = {"content": str, "is_final": bool, "event_id": int}


@GROUP.check("shape", "text frames with `content`, `is_final`, `event_id` of the stated types")
async def shape(target: Target) -> Finding:
    async with target.call() as call:
        try:
            await call.ask(HELLO)
        except Unseen:
            if not call.frames:
                raise
        if call.binary:
            return failed("a binary frame")
        wrong = [fault for frame in call.frames if (fault := _fault(frame))]
        return failed(wrong[0]) if wrong else passed(f"{len(call.frames)} frames")


@GROUP.check("event-id", "a reply carries the `event_id` of its question")
async def event_id(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO, 41)
        ids = [frame.get("event_id") for frame in call.frames if is_reply(frame)]
        return passed("41") if set(ids) == {41} else failed(f"ids {ids[:5]}")


@GROUP.check("one-after-another", "three questions get three replies, in order")
async def one_after_another(target: Target) -> Finding:
    async with target.call() as call:
        for id in (1, 2, 3):
            await call.ask(HELLO, id)
        finals = [f.get("event_id") for f in call.frames if is_final(f)]
        return passed("1, 2, 3") if finals == [1, 2, 3] else failed(f"terminators of {finals}")


@GROUP.check("null-id", "a question with `event_id: null` gets a reply with null", silent=True)
async def null_id(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO, None)
        keys = all("event_id" in f for f in call.frames if is_reply(f))
        return passed("null") if keys else differs("answered, without the key")


@GROUP.check("no-id", "a question without `event_id` is answered: it is optional")
async def no_id(target: Target) -> Finding:
    async with target.call() as call:
        history = [{"role": "user", "content": HELLO}]
        await call.send(type="user_transcript", user_transcript=history)
        await call.reply(None)
        keys = all("event_id" in f for f in call.frames if is_reply(f))
        return passed("answered with null") if keys else passed("answered without one")


@GROUP.check("null-ids", "two questions without an id are both answered", silent=True)
async def null_ids(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO, None)
        await call.ask("And now?", None)
        return passed("both answered")


@GROUP.check("gaps", "ids only grow; they need not be consecutive", silent=True)
async def gaps(target: Target) -> Finding:
    async with target.call() as call:
        for id in (2, 5, 2**40):
            await call.ask(HELLO, id)
        return passed("2, 5 and 2^40 answered")


@GROUP.check("history", "the handler gets the full history, both roles", commands=True)
async def history(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask("echo one", 1)
        await call.ask("echo two", 2)
        got = await call.ask("history", 3)
        wanted = "user agent user agent user"
        return passed(wanted) if got == wanted else failed(f"the handler saw: {got[:80]}")


@GROUP.check("words", "every character comes through, in both directions", commands=True)
async def words(target: Target) -> Finding:
    text = '  a\tb\n"\\/ \u2028 é \U0001f600 \x7f ‮ 你好 </script> '
    async with target.call() as call:
        got = await call.ask(f"echo {text}")
        return passed(f"{len(text)} characters") if got == text else failed("other characters")


@GROUP.check("surrogate", "half a character in the history is no reason for silence", silent=True)
async def surrogate(target: Target) -> Finding:
    async with target.call() as call:
        call.history.append({"role": "agent", "content": "cut \ud83d"})
        await call.ask(HELLO)
        return passed("answered")


@GROUP.check(
    "surrogate-reply",
    "a reply with half a character does not silence the call",
    silent=True,
    commands=True,
)
async def surrogate_reply(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("echo half \ud83d", 1)
        await call.reply(1)
        return passed("answered")


@GROUP.check("stream", "a streamed reply comes in pieces, whole and in order", commands=True)
async def stream(target: Target) -> Finding:
    async with target.call() as call:
        got = await call.ask("say 20 words")
        pieces = sum(bool(f.get("content")) for f in call.replies(1))
        if got != "".join(f"word{n} " for n in range(1, 21)):
            return failed(f"other words, in {pieces} pieces")
        return passed(f"{pieces} pieces")


@GROUP.check("no-waiting", "the first piece is sent before the last is known", commands=True)
async def no_waiting(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("say 1 word and wait")
        await call.piece()
        return passed("the first piece came while the stream waited")


@GROUP.check("long-reply", "a reply of 100,000 characters comes whole", commands=True)
async def long_reply(target: Target) -> Finding:
    text = "x" * 100_000
    async with target.call() as call:
        got = await call.ask(f"echo {text}")
        return passed("whole") if got == text else failed(f"{len(got)} characters came")


def _fault(frame: Frame) -> str | None:
    """Say what of a frame is not as documented."""
    if frame.get("type") != "agent_response":
        return f"a message of type {str(frame.get('type'))[:40]!r}"
    for name, type_ in _TYPES.items():
        if type(frame.get(name)) is not type_:
            return f"`{name}` is {type(frame.get(name)).__name__}"
    return None
