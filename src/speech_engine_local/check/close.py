"""How calls end, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._call import HELLO, is_reply
from ._check import Finding, Group, differs, failed, passed

if TYPE_CHECKING:
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("close")
_LEAVE_SECONDS = 1.5


@GROUP.check("1000", "after `close` the server closes the connection with 1000", silent=True)
async def closes(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO)
        await call.send(type="close")
        code = await call.end(_LEAVE_SECONDS)
        if code is None:
            return differs("it leaves that to the caller")
        if call.is_broken:
            return failed("closed with 1011: an error in the server")
        return passed("closed with 1000") if code == 1000 else differs(f"closed with {code}")


@GROUP.check("nothing-after", "after `close`, a clean disconnect, nothing is answered")
async def nothing_after(target: Target) -> Finding:
    async with target.call() as call:
        await call.send(type="close")
        await call.say(HELLO, 1)
        await call.end(_LEAVE_SECONDS)
        answers = [frame for frame in call.frames if is_reply(frame)]
        return failed("a transcript was answered") if answers else passed("nothing")


@GROUP.check("mid-reply", "`close` ends the reply in flight", commands=True)
async def mid_reply(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("say 40 words slowly", 1)
        await call.piece()
        await call.send(type="close")
        await call.listen(0.5)
        begin = len(call.frames)
        await call.listen(1)
        later = len(call.frames) - begin
        return failed(f"{later} more frames") if later else passed("nothing more")


@GROUP.check("handshake", "a caller's close frame is answered with one (RFC 6455)")
async def handshake(target: Target) -> Finding:
    async with target.call() as call:
        await call.ask(HELLO)
        answered = await call.hang_up()
        return passed("answered") if answered else failed("not answered within 2 s")


@GROUP.check("events", "`close` is told as `on_close`, and not as a drop as well", commands=True)
async def events(target: Target) -> Finding:
    name = target.name("events")
    async with target.call(name) as call:
        await call.ask("echo hello")
        await call.send(type="close")
        await call.end(_LEAVE_SECONDS)
    return _told(await _events(target, name), "close")


@GROUP.check("dropped", "a connection that drops is told as `on_disconnect`, once", commands=True)
async def dropped(target: Target) -> Finding:
    name = target.name("dropped")
    async with target.call(name) as call:
        await call.say("say 40 words slowly")
        await call.piece()
        call.vanish()
    return _told(await _events(target, name), "disconnect")


@GROUP.check("silent-end", "a caller who leaves without `close` has dropped", commands=True)
async def silent_end(target: Target) -> Finding:
    name = target.name("silent_end")
    async with target.call(name) as call:
        await call.ask("echo hello")
    return _told(await _events(target, name), "disconnect")


@GROUP.check("hang-up", "`session.close()` closes the WebSocket", commands=True)
async def hang_up(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("hang up")
        code = await call.end(2)
        if code is None:
            return failed("still open after 2 s")
        return passed("with 1000") if code == 1000 else differs(f"with {code}")


@GROUP.check("others", "a call that drops disturbs no other", commands=True)
async def others(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("say 10 words slowly", 1)
        await call.piece()
        async with target.call() as another:
            await another.say("say 40 words slowly", 1)
            await another.piece()
            another.vanish()
        await call.reply(1)
        return passed("the other reply came to its end")


async def _events(target: Target, name: str) -> str:
    async with target.call(target.name("asks")) as call:
        return await call.ask(f"events of {name}")


def _told(got: str, expected: str) -> Finding:
    told = got.replace(" ", " and ") or "nothing"
    return passed(told) if got == expected else failed(f"told: {told}")
