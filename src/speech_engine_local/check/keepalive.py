"""Each ping gets its pong, whatever the agent is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._call import Unseen, is_final
from ._check import Finding, Group, failed, passed
from .interruption import SOON

if TYPE_CHECKING:
    from ._call import Call
    from ._target import Target

__all__ = ["GROUP"]

GROUP = Group("keep-alive")


@GROUP.check("pong", "`ping` is answered with `pong`, which has no other field")
async def pong(target: Target) -> Finding:
    async with target.call() as call:
        frame = await call.ping()
        fields = sorted(frame)
        return passed("a pong") if fields == ["type"] else failed(f"fields {', '.join(fields)}")


@GROUP.check("before-init", "a ping before `init` is answered", silent=True)
async def before_init(target: Target) -> Finding:
    async with target.call(init=False) as call:
        await call.ping()
        return passed("a pong")


@GROUP.check("each", "twenty pings get twenty pongs")
async def each(target: Target) -> Finding:
    async with target.call() as call:
        for _ in range(20):
            await call.send(type="ping")
        try:
            for _ in range(20):
                await call.pong()
        except Unseen:
            pongs = sum(f.get("type") == "pong" for f in call.frames)
            return failed(f"{pongs} pongs")
        return passed("20 pongs")


@GROUP.check("busy", "a ping is answered while a handler works", commands=True)
async def busy(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("sleep 4", 1)
        return await _soon(call)


@GROUP.check("streaming", "a ping is answered in the midst of a reply", commands=True)
async def streaming(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("say 40 words slowly", 1)
        await call.piece()
        await call.ping()
        if any(map(is_final, call.frames)):
            return failed("the pong came after the reply")
        return passed("before the reply had ended")


@GROUP.check("slow-init", "a ping is answered while `on_init` works", silent=True, commands=True)
async def slow_init(target: Target) -> Finding:
    async with target.call(target.name("slow_init")) as call:
        return await _soon(call)


@GROUP.check(
    "swallowed",
    "a ping is answered while the handler of an interrupted turn will not end",
    silent=True,
    commands=True,
)
async def swallowed(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("swallow cancellation", 1)
        await call.piece()
        await call.say("sleep 4", 2)
        return await _soon(call)


@GROUP.check("after-raise", "a ping is answered after a handler that raised", commands=True)
async def after_raise(target: Target) -> Finding:
    async with target.call() as call:
        await call.say("raise", 1)
        return await _soon(call)


@GROUP.check("websocket", "a ping of the WebSocket itself is answered (RFC 6455)")
async def websocket(target: Target) -> Finding:
    async with target.call() as call:
        came = await call.websocket_ping(SOON)
        return passed("a pong") if came else failed(f"no pong within {SOON:g} s")


async def _soon(call: Call) -> Finding:
    await call.ping(within=SOON)
    return passed(f"a pong within {SOON:g} s")
