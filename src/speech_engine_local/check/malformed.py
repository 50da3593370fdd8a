"""One bad message is one bad message: the call goes on, and so does the reply in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._call import HELLO, Unseen
from ._check import Finding, Group, failed, passed

if TYPE_CHECKING:
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("malformed")


@GROUP.check("json", "what is no JSON does not end the call", silent=True)
async def json(target: Target) -> Finding:
    return await _survives(target, '{"type":"user_transcript","user_tr')


@GROUP.check("empty", "an empty message does not end the call", silent=True)
async def empty(target: Target) -> Finding:
    return await _survives(target, "")


@GROUP.check("not-object", "JSON that is no object does not end the call", silent=True)
async def not_object(target: Target) -> Finding:
    return await _survives(target, "[]", "null", "1", '"ping"', "true")


@GROUP.check("no-type", "an object without `type` does not end the call", silent=True)
async def no_type(target: Target) -> Finding:
    return await _survives(target, "{}", '{"type":null}', '{"type":[1]}')


@GROUP.check("utf-8", "a binary message of broken UTF-8 does not end the call", silent=True)
async def utf_8(target: Target) -> Finding:
    return await _survives(target, b'{"type":"ping\xff"}')


@GROUP.check(
    "utf-8-text",
    "a text frame of broken UTF-8 is ignored or, better, fails the connection (RFC 6455, 8.1)",
    silent=True,
)
async def utf_8_text(target: Target) -> Finding:
    async with target.call() as call:
        await call.send_raw(b'{"type":"ping\xff"}', text=True)
        try:
            await call.ping()
        except Unseen:
            if call.code in (1006, 1007):  # with or without the close frame that should be sent
                return passed(f"the connection failed, with {call.code}")
            raise
        return passed("the call goes on")


@GROUP.check("nesting", "100,000 nested lists do not end the call", silent=True)
async def nesting(target: Target) -> Finding:
    return await _survives(target, "[" * 100_000 + "]" * 100_000)


@GROUP.check("init", "an `init` without its id does not end the call", silent=True)
async def init(target: Target) -> Finding:
    return await _survives(target, '{"type":"init"}', '{"type":"init","conversation_id":7}')


@GROUP.check("error", "an `error` without its text does not end the call", silent=True)
async def error(target: Target) -> Finding:
    return await _survives(target, '{"type":"error"}', '{"type":"error","message":{}}')


@GROUP.check(
    "content-null", "a message with `content: null` in a history does not end the call", silent=True
)
async def content_null(target: Target) -> Finding:
    return await _survives(target, _transcript('{"role":"user","content":null}'))


@GROUP.check("content-number", "a `content` that is no text does not end the call", silent=True)
async def content_number(target: Target) -> Finding:
    return await _survives(target, _transcript('{"role":"user","content":5}'))


@GROUP.check("items", "a history of what is no message does not end the call", silent=True)
async def items(target: Target) -> Finding:
    return await _survives(target, _transcript("1"), _transcript('{"role":"user"}'))


@GROUP.check("event-id", "an `event_id` that is no integer does not end the call", silent=True)
async def event_id(target: Target) -> Finding:
    item = '{"role":"user","content":"Hello"}'
    return await _survives(target, *(_transcript(item, id) for id in ('"7"', "1.5", "{}", "true")))


@GROUP.check("no-transcript", "a `user_transcript` without its required field is not answered")
async def no_transcript(target: Target) -> Finding:
    async with target.call() as call:
        await call.send(type="user_transcript", event_id=1)
        await call.ask(HELLO, 2)
        if call.replies(1):
            return failed("answered, as if somebody had spoken")
        return passed("not answered; the next question was")


@GROUP.check(
    "keeps-reply", "a bad transcript does not cut the reply in flight", silent=True, commands=True
)
async def keeps_reply(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("say 10 words slowly", 1)
        await call.piece()
        await call.send(type="user_transcript", user_transcript=[{"role": "user"}], event_id=2)
        try:
            await call.reply(1)
        except Unseen as unseen:
            return failed(f"cut: {unseen}")
        return passed("it came to its end")


@GROUP.check("reported", "a message that cannot be read reaches `on_error`", commands=True)
async def reported(target: Target) -> Finding:
    name = target.name("reported")
    async with target.call(name) as call:
        await call.send_raw("no JSON")
        events = await call.ask(f"events of {name}", 1)
        return passed("reported") if "error" in events.split() else failed("reported nowhere")


async def _survives(target: Target, *bad: str | bytes) -> Finding:
    """Send bad messages, then ping and ask."""
    async with target.call() as call:
        for data in bad:
            await call.send_raw(data)
        try:
            await call.ping()
        except Unseen as unseen:
            return failed(str(unseen))
        await call.ask(HELLO, 1_000)
        return passed("the call goes on")


def _transcript(item: str, event_id: Any = "1") -> str:
    return f'{{"type":"user_transcript","user_transcript":[{item}],"event_id":{event_id}}}'
