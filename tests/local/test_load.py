"""Load runs over real sockets: against our server, and against servers that are broken."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme

from speech_engine_local import ConnectError
from speech_engine_local.load import LoadPlan, LoadProgress, LoadReport, run_load
from speech_engine_proto.auth import AuthenticationError
from speech_engine_transports import SpeechEngineServer
from tests.local.servers import answering, raw_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.local.servers import Call

pytestmark = pytest.mark.anyio


async def load(url: str, *, api_key: str | None = None, **plan: Any) -> LoadReport:
    quick: dict[str, Any] = {"calls": 3, "ramp": 0, "turns": 2, "think": 0, "interrupt": 0}
    return await run_load(url, LoadPlan(**{**quick, **plan}), api_key=api_key)


async def words() -> AsyncIterator[str]:
    for word in ("one ", "two ", "three "):
        yield word
        await anyio.lowlevel.checkpoint()


async def on_transcript(transcript: object, session: Any) -> None:
    await session.send_response(words())


class TestOurServer:
    async def test_a_few_calls(self) -> None:
        shown: list[LoadProgress] = []
        names: list[str] = []

        async def on_init(conversation_id: str, session: object) -> None:
            names.append(conversation_id)

        async with SpeechEngineServer(
            host="127.0.0.1", port=0, path="/ws", api_key="k", on_init=on_init,
            on_transcript=on_transcript,
        ) as server:  # fmt: skip
            report = await run_load(
                f"ws://user:pass@127.0.0.1:{server.port}/ws?tenant=7",
                LoadPlan(calls=5, ramp=0.05, turns=3, think=0.01, interrupt=0, ping=0.01),
                api_key="k",
                on_progress=shown.append,
            )
        assert report.errors.kinds == {}
        assert report.target == f"ws://127.0.0.1:{server.port}/ws"
        assert (report.calls.connected, report.calls.finished) == (5, 5)
        assert (report.turns.asked, report.turns.finished, report.pieces) == (15, 15, 45)
        assert report.first_word.count == report.terminator.count == 15
        assert report.pong.count > 0
        assert len(set(names)) == 5
        last = shown[-1]
        assert (last.planned, last.begun, last.open, last.ended) == (5, 5, 0, 5)
        assert (last.turns, last.pieces, last.errors) == (15, 45, 0)

    async def test_interruptions(self) -> None:
        async def endless(transcript: list[Any], session: Any) -> None:
            async def stream() -> AsyncIterator[str]:
                while True:
                    yield "blah "
                    await anyio.sleep(0.001)

            last = sum(message.role == "user" for message in transcript) == 4
            await session.send_response("Bye." if last else stream())

        async with SpeechEngineServer(
            host="127.0.0.1", port=0, path="/ws", api_key="k", on_transcript=endless
        ) as server:
            url = f"ws://127.0.0.1:{server.port}/ws"
            report = await load(url, api_key="k", turns=4, interrupt=1)
        assert report.errors.kinds == {}
        assert (report.turns.interrupted, report.turns.finished) == (9, 3)
        assert report.silence.count == 9

    async def test_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        async with SpeechEngineServer(
            host="127.0.0.1", port=0, path="/ws", api_key="k", ssl=context,
            on_transcript=on_transcript,
        ) as server:  # fmt: skip
            url = f"wss://localhost:{server.port}/ws"
            refused = await load(url, api_key="k", calls=1)
            with authority.cert_pem.tempfile() as path:
                monkeypatch.setenv("SSL_CERT_FILE", path)
                report = await load(url, api_key="k")
        assert refused.errors.kinds == {"not connected": 1}
        assert "TLS failed: CERTIFICATE_VERIFY_FAILED" in refused.errors.examples["not connected"]
        assert (report.calls.finished, report.errors.total) == (3, 0)


class TestBrokenServers:
    @pytest.mark.parametrize("status", [401, 503])
    async def test_refused(self, status: int) -> None:
        async with raw_server(answering(), refuse=status) as server:
            report = await load(server.url)
        assert report.errors.kinds == {f"refused {status}": 3}
        assert f"answered {status}: " in report.errors.examples[f"refused {status}"]
        assert (report.calls.begun, report.calls.connected, report.calls.failed) == (3, 0, 3)

    async def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        report = await load(f"ws://127.0.0.1:{port}/ws")
        assert report.errors.kinds == {"not connected": 3}
        assert "nobody listens there" in report.errors.examples["not connected"]

    async def test_a_turn_that_never_ends(self) -> None:
        async def forgetful(call: Call, event_id: int) -> None:
            await call.piece("Well, ", event_id)

        async with raw_server(answering(forgetful, forgetful, forgetful)) as server:
            report = await load(server.url, turn_timeout=0.2)
        assert report.errors.kinds == {"no terminator": 3}
        assert [call.types[-1] for call in server.calls] == ["close"] * 3

    async def test_one_bad_call_leaves_the_others_alone(self) -> None:
        async def crash(call: Call, _: int) -> None:
            await call.ws.close(1011)

        async with raw_server(answering(crash)) as server:
            report = await load(server.url, calls=4)
        assert report.errors.kinds == {"closed 1011": 1}
        assert (report.calls.finished, report.calls.failed) == (3, 1)

    async def test_closed_at_once(self) -> None:
        async def leave(call: Call, message: dict[str, Any]) -> None:
            await call.ws.close(1000)

        async with raw_server(leave) as server:
            report = await load(server.url, think=60)
        assert report.errors.kinds == {"closed 1000": 3}
        assert report.turns.asked == 0

    async def test_lost(self) -> None:
        async def vanish(call: Call, _: int) -> None:
            call.ws.transport.abort()

        async with raw_server(answering(vanish)) as server:
            report = await load(server.url, calls=1)
        assert report.errors.kinds == {"lost": 1}

    async def test_stale_words(self) -> None:
        async def stale(call: Call, event_id: int) -> None:
            await call.piece("new ", event_id)
            await call.piece("old ", event_id - 1)
            await call.end(event_id)

        async with raw_server(answering(stale, stale)) as server:
            report = await load(server.url, calls=1)
        assert report.errors.kinds == {"stale text": 2}
        assert report.calls.finished == 1

    async def test_garbage(self) -> None:
        async def garbage(call: Call, event_id: int) -> None:
            await call.ws.send("{")
            await call.piece("Yes.", event_id)
            await call.end(event_id)

        async with raw_server(answering(garbage)) as server:
            report = await load(server.url, calls=1)
        assert report.errors.kinds == {"protocol violation": 1}


class TestArguments:
    async def test_no_address(self) -> None:
        with pytest.raises(ConnectError, match=r"^url: expected ws://"):
            await load("http://127.0.0.1/")

    async def test_no_key(self) -> None:
        with pytest.raises(AuthenticationError, match="got a blank one"):
            await load("ws://127.0.0.1:9/ws", api_key=" ")

    async def test_headers_reach_the_server(self) -> None:
        async with raw_server(answering()) as server:
            await run_load(
                server.url, LoadPlan(calls=1, ramp=0, turns=1, think=0), headers=[("X-Tenant", "7")]
            )
        assert server.requests[0].headers["X-Tenant"] == "7"
