"""The writing side: pongs never make the reader wait."""

from __future__ import annotations

import anyio
import pytest

from speech_engine_transports import SpeechEngineSession
from speech_engine_transports._outbox import MAX_UNSENT_PONGS

from .clock import settle
from .peer import PING, Call, Peer, cut, said

pytestmark = pytest.mark.anyio

Session = SpeechEngineSession


async def test_a_pong_that_cannot_be_written_waits_beside_the_reader() -> None:
    async with Call(on_transcript=lambda t, s: s.send_response("x"), peer=Peer(stalled=True)) as c:
        await c.gets(PING, PING)
        await c.says("hi", id=1)
        assert c.peer.frames == []
        c.peer.read_again()
        await settle()
        assert c.peer.pongs == 2
        assert c.replies == said(1, "x")
        await c.gets(PING)
        assert c.peer.pongs == 3


async def test_pongs_keep_their_order_behind_a_waiting_one() -> None:
    class Counting(Peer):
        tried = 0

        def try_send(self, frame: str) -> bool:
            self.tried += 1
            return super().try_send(frame)

    peer = Counting(stalled=True)
    async with Call(on_transcript=lambda t, s: None, peer=peer) as call:
        await call.gets(PING, PING, PING)
        assert peer.tried == 2  # the first one is being written, so the second one was tried too
        peer.read_again()
        await settle()
        assert call.peer.pongs == 3


async def test_a_peer_that_pings_and_does_not_read_is_dropped() -> None:
    async with Call(on_transcript=lambda t, s: None, peer=Peer(stalled=True)) as call:
        await call.gets(*[PING] * (MAX_UNSENT_PONGS + 1))
        assert call.session.is_open
        await call.gets(PING)
        assert call.peer.aborted == 1
        await call.ended.wait()
        assert call.events == ["disconnected"]
        assert call.peer.frames == []


async def test_a_waiting_pong_does_not_outlive_the_socket() -> None:
    async with Call(on_transcript=lambda t, s: None, peer=Peer(stalled=True)) as call:
        await call.gets(PING, PING)
        call.peer.vanish()
        await call.ended.wait()
        assert call.peer.frames == []


async def test_where_a_lock_is_needed_a_pong_waits_for_it_outside_the_reader() -> None:
    peer = Peer()
    peer.lock = anyio.Lock()
    peer.try_send = lambda frame: False  # type: ignore[method-assign]

    async def answer(t: object, s: Session) -> None:
        await s.send_response("a", final=False)
        await anyio.sleep_forever()

    async with Call(on_transcript=answer, peer=peer) as call:
        async with peer.lock:
            await call.gets(PING)
            await call.says("hi", id=1)
            assert call.peer.frames == []
        await settle()
        assert call.peer.pongs == 1
        assert call.replies == cut(1, "a")
