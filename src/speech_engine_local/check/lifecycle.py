"""A conversation begins, goes on beside others, and is not thrown by what is new or odd in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ._call import HELLO, Unseen
from ._check import Finding, Group, differs, failed, passed

if TYPE_CHECKING:
    from ._call import Call
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("lifecycle")


@GROUP.check("init", "after `init` a transcript is answered")
async def init(target: Target) -> Finding:
    async with target.call() as call:
        return await _answers(call)


@GROUP.check("no-init", "a transcript before `init` is answered as well", silent=True)
async def no_init(target: Target) -> Finding:
    async with target.call(init=False) as call:
        try:
            return await _answers(call)
        except Unseen as unseen:
            return failed(str(unseen)) if call.is_broken else differs(str(unseen))


@GROUP.check("conversation-id", "the session knows the id that `init` gave it", commands=True)
async def conversation_id(target: Target) -> Finding:
    async with target.call(target.name("named")) as call:
        got = await call.ask("conversation")
    return passed("it does") if got == target.name("named") else failed("it knows another, or none")


@GROUP.check("second-init", "a second `init` does not rename the call", silent=True, commands=True)
async def second_init(target: Target) -> Finding:
    async with target.call(target.name("first")) as call:
        await call.send(type="init", conversation_id=target.name("second"))
        if await call.ask("conversation") == target.name("first"):
            return passed("the first id stayed")
        return differs("the second id took its place")


@GROUP.check("error", "an `error` message ends neither call nor server")
async def error(target: Target) -> Finding:
    async with target.call() as call:
        await call.send(type="error", message="the check made this up")
        return await _answers(call)


@GROUP.check("unknown-type", "a message of an unknown type is ignored", silent=True)
async def unknown_type(target: Target) -> Finding:
    async with target.call() as call:
        await call.send(type="speech_engine_check", content="x")
        return await _answers(call)


@GROUP.check("own-messages", "messages of the other direction are ignored", silent=True)
async def own_messages(target: Target) -> Finding:
    async with target.call() as call:
        await call.send(type="pong")
        await call.send(type="agent_response", content="x", is_final=True, event_id=1)
        return await _answers(call)


@GROUP.check("unknown-keys", "unknown keys are ignored", silent=True)
async def unknown_keys(target: Target) -> Finding:
    async with target.call(init=False) as call:
        await call.send(type="init", conversation_id=target.name("extra"), extra={"a": [1]})
        call.history.append({"role": "user", "content": HELLO, "extra": None})
        await call.say_again(1, extra=1)
        return _answered(await call.reply(1))


@GROUP.check("role", "a role that is neither user nor agent is read over", silent=True)
async def role(target: Target) -> Finding:
    async with target.call() as call:
        call.history.append({"role": "system", "content": "Be brief."})
        return await _answers(call)


@GROUP.check("binary", "a message in a binary frame is read", silent=True)
async def binary(target: Target) -> Finding:
    async with target.call() as call:
        await call.send_raw(_question(1).encode())
        try:
            return _answered(await call.reply(1))
        except Unseen as unseen:
            return failed(str(unseen)) if call.is_broken else differs(str(unseen))


@GROUP.check("fragments", "a message in several WebSocket fragments is one message (RFC 6455)")
async def fragments(target: Target) -> Finding:
    async with target.call() as call:
        text = _question(1)
        await call.send_raw([text[:9], text[9:30], text[30:]])
        return _answered(await call.reply(1))


@GROUP.check("long-history", "a history of more than 1 MiB is read", silent=True)
async def long_history(target: Target) -> Finding:
    async with target.call() as call:
        for _ in range(12):
            call.history.append({"role": "user", "content": "one two three " * 7_500})
            call.history.append({"role": "agent", "content": "Yes."})
        try:
            return await _answers(call)
        except Unseen as unseen:
            return failed(str(unseen)) if call.is_broken else differs(str(unseen))


@GROUP.check("two-calls", "two calls at once do not mix", commands=True)
async def two_calls(target: Target) -> Finding:
    names = [target.name("a"), target.name("b")]
    async with target.call(names[0]) as a, target.call(names[1]) as b:
        await a.say("conversation")
        await b.say("conversation")
        heard = [await a.reply(), await b.reply()]
    return passed("each its own") if heard == names else failed("each should know its own id")


@GROUP.check(
    "slow-init",
    "what `on_init` does is done before the first transcript is handled",
    silent=True,
    commands=True,
)
async def slow_init(target: Target) -> Finding:
    async with target.call(target.name("slow_init_order")) as call:
        order = await call.ask("init done?")
    return passed("init first") if order == "yes" else differs("the transcript did not wait")


async def _answers(call: Call) -> Finding:
    return _answered(await call.ask(HELLO))


def _answered(reply: str) -> Finding:
    return passed("answered") if reply else failed("a reply without a word")


def _question(id: int) -> str:
    history = [{"role": "user", "content": HELLO}]
    return json.dumps({"type": "user_transcript", "user_transcript": history, "event_id": id})
