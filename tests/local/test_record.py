"""The proxy on real sockets: what it passes on, and what it writes down."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from speech_engine_local import ConnectError, LocalEngine, _record
from speech_engine_local._commands import commands
from speech_engine_local._record import Proxy, Target
from speech_engine_local.journal import Recorder, read_journal, replay
from speech_engine_transports import SpeechEngineServer

from .recorded import only_file
from .servers import raw_server
from .test_cli import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from speech_engine_local.journal import Journal
    from speech_engine_transports import SpeechEngineSession

pytestmark = pytest.mark.anyio

KEY = "sk_secret_key"


@asynccontextmanager
async def proxy(
    to: str, directory: Path, on_end: Callable[[str], None] | None = None, **options: Any
) -> AsyncGenerator[str]:
    """A proxy before a server; yields its origin."""
    made = Proxy(Target.parse(to), Recorder(directory, **options), on_end)
    async with made.listen("127.0.0.1", 0) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


@asynccontextmanager
async def raw_agent(
    handle: Callable[[ServerConnection], Awaitable[None]], **options: Any
) -> AsyncGenerator[str]:
    """A WebSocket server that does what a test says; yields its origin."""
    async with serve(handle, "127.0.0.1", 0, **options) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


def journals(directory: Path) -> list[Journal]:
    return [read_journal(path) for path in sorted(directory.iterdir())]


class Agent:
    """A real server that remembers its sessions."""

    def __init__(self) -> None:
        self.sessions: list[SpeechEngineSession] = []
        self.server = SpeechEngineServer(
            host="127.0.0.1",
            port=0,
            path="/ws",
            api_key=KEY,
            on_init=lambda _, session: self.sessions.append(session),
            on_transcript=self.on_transcript,
        )

    async def on_transcript(self, transcript: list[Any], session: SpeechEngineSession) -> None:
        said = transcript[-1].content

        async def words() -> AsyncGenerator[str]:
            for number in range(1000 if said == "count" else 3):
                yield f"{said}{number} "
                await anyio.lowlevel.checkpoint()

        await session.send_response(words())

    @property
    def origin(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}"


@asynccontextmanager
async def agent_behind_proxy(directory: Path, **options: Any) -> AsyncGenerator[tuple[Agent, str]]:
    agent = Agent()
    async with agent.server, proxy(f"{agent.origin}/ws", directory, **options) as origin:
        yield agent, origin


class TestACall:
    async def test_it_goes_through_and_is_written_down(self, tmp_path: Path) -> None:
        ended: list[str] = []
        async with agent_behind_proxy(tmp_path, on_end=ended.append) as (agent, origin):
            url = f"{origin}/ws?tenant=7&x=%20"
            headers = [("X-Tenant", "blue"), ("X-Tenant", "green"), ("User-Agent", "the service")]
            async with LocalEngine(url, api_key=KEY, headers=headers) as engine:
                assert (await engine.say("hi")).text == "hi0 hi1 hi2 "
                long_reply = await engine.ask("count")
                async for _ in long_reply:
                    break
                assert (await (await engine.interrupt("stop")).wait()).text == "stop0 stop1 stop2 "
                await engine.ping()
                assert engine.violations == ()
            assert engine.close_code == 1000
            request = agent.sessions[0].request
        assert (request.path, request.query) == ("/ws", "tenant=7&x=%20")
        assert request.headers["x-tenant"] == "blue, green"
        assert request.headers["user-agent"] == "the service"
        (journal,) = journals(tmp_path)
        assert journal.conversation_id == engine.conversation_id
        found = replay(journal)
        assert found.divergence is None
        assert (found.turns, found.interruptions) == (3, 1)
        assert found.frames_in + found.frames_out == len(journal.lines)
        (line,) = ended
        assert line.endswith(f"{found.frames_in} in, {found.frames_out} out, closed with 1000")

    async def test_no_token_is_in_the_journal(self, tmp_path: Path) -> None:
        async with agent_behind_proxy(tmp_path) as (_, origin):
            async with LocalEngine(f"{origin}/ws", api_key=KEY) as engine:
                await engine.say("hi")
        text = (only_file(tmp_path) or tmp_path).read_text()
        assert "eyJ" not in text  # how a token begins
        assert "authorization" not in text.lower()

    async def test_redacted_no_word_is(self, tmp_path: Path) -> None:
        async with agent_behind_proxy(tmp_path, redact=True) as (_, origin):
            async with LocalEngine(f"{origin}/ws", api_key=KEY) as engine:
                assert (await engine.say("secret")).text == "secret0 secret1 secret2 "
        assert "secret" not in (only_file(tmp_path) or tmp_path).read_text()
        assert replay(journals(tmp_path)[0]).divergence is None

    async def test_several_at_once_have_a_journal_each(self, tmp_path: Path) -> None:
        async def talk(origin: str, number: int) -> None:
            name = f"conv_{number}"
            async with LocalEngine(
                f"{origin}/ws", api_key=KEY, conversation_id=name, ping_interval=None
            ) as engine:
                for turn in range(5):
                    said = f"{number}.{turn}."
                    assert (await engine.say(said)).text == "".join(f"{said}{n} " for n in range(3))

        async with agent_behind_proxy(tmp_path) as (_, origin):
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(talk, origin, number)
        found = {journal.conversation_id: journal for journal in journals(tmp_path)}
        assert sorted(map(str, found)) == [f"conv_{number}" for number in range(10)]
        for journal in found.values():
            assert replay(journal).divergence is None
            assert len(journal.lines) == 1 + 5 * 5 + 1

    async def test_interruptions_that_cross_replies_replay(self, tmp_path: Path) -> None:
        async with agent_behind_proxy(tmp_path) as (_, origin):
            url = f"{origin}/ws"
            async with LocalEngine(url, api_key=KEY, ping_interval=None) as engine:
                for turn in range(50):
                    if turn % 5 in (1, 3):
                        reply = await engine.ask("count")
                        async for _ in reply:
                            if len(reply.pieces_read) > turn:
                                break
                    else:
                        await engine.say(f"turn {turn}")
                assert engine.violations == ()
        (journal,) = journals(tmp_path)
        found = replay(journal)
        assert found.divergence is None
        assert (found.turns, found.interruptions) == (50, 20)
        assert found.frames_in + found.frames_out == len(journal.lines)

    async def test_dialled_without_a_path_it_is_the_servers(self, tmp_path: Path) -> None:
        async with agent_behind_proxy(tmp_path) as (agent, origin):
            async with LocalEngine(f"{origin}/?a=b", api_key=KEY) as engine:
                await engine.say("hi")
            request = agent.sessions[0].request
        assert (request.path, request.query) == ("/ws", "a=b")

    async def test_a_call_without_a_frame_has_no_journal(self, tmp_path: Path) -> None:
        ended: list[str] = []

        async def leave(ws: ServerConnection) -> None:
            await ws.close(4000)

        async with raw_agent(leave) as origin, proxy(origin, tmp_path, ended.append) as url:
            async with connect(url) as ws:
                await ws.wait_closed()
        assert only_file(tmp_path) is None
        assert ended == ["nothing was said, no journal: 0 in, 0 out, closed with 4000"]

    async def test_text_bytes_and_subprotocol_stay_what_they_are(self, tmp_path: Path) -> None:
        async def echo(ws: ServerConnection) -> None:
            async for message in ws:
                await ws.send(message)

        async with (
            raw_agent(echo, subprotocols=["b"]) as origin,
            proxy(origin, tmp_path) as url,
            connect(url, subprotocols=["a", "b"]) as ws,  # type: ignore[list-item]
        ):
            assert ws.subprotocol == "b"
            for message in ("grüße", b"\xff\x00", "", "x" * 2**19):
                await ws.send(message)
                assert await ws.recv() == message


class TestRefusals:
    async def test_those_of_the_server_are_passed_on(self, tmp_path: Path) -> None:
        async with agent_behind_proxy(tmp_path) as (_, origin):
            for path, key, status in (("/ws", "wrong", 401), ("/no", KEY, 404), ("/ws", None, 401)):
                with pytest.raises(ConnectError) as caught:
                    async with LocalEngine(origin + path, api_key=key):
                        pass
                assert caught.value.status == status
        assert only_file(tmp_path) is None

    @pytest.mark.parametrize("status", [302, 403, 429, 500, 503])
    async def test_whatever_its_status(self, tmp_path: Path, status: int) -> None:
        async with raw_server(lambda *_: asyncio.sleep(0), refuse=status) as server:
            async with proxy(server.url, tmp_path) as url:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(url)
        assert caught.value.response.status_code == status
        assert caught.value.response.body == b"no\n"

    async def test_nobody_behind_it_is_502(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with proxy("ws://127.0.0.1:9", tmp_path) as url:
            with pytest.raises(InvalidStatus) as caught:
                await connect(url)
        assert caught.value.response.status_code == 502
        assert capsys.readouterr().err == "speech-engine: the server: ConnectionRefusedError\n"

    async def test_a_server_that_never_answers_is_504(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_record, "DIAL_SECONDS", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            async with proxy(f"ws://127.0.0.1:{port}", tmp_path) as url:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(url)
        assert caught.value.response.status_code == 504

    async def test_a_target_that_is_no_path_is_400(self, tmp_path: Path) -> None:
        async with proxy("ws://127.0.0.1:9", tmp_path) as url:
            port = int(url.rpartition(":")[2])
            stream = await anyio.connect_tcp("127.0.0.1", port)
            async with stream:
                await stream.send(
                    b"GET @elsewhere/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
                )
                assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")


class TestTheEnd:
    async def test_the_agents_close_code_reaches_the_caller(self, tmp_path: Path) -> None:
        async def leave(ws: ServerConnection) -> None:
            await ws.send("last words")
            await ws.close(4001, "bye")

        async with raw_agent(leave) as origin, proxy(origin, tmp_path) as url:
            async with connect(url) as ws:
                assert await ws.recv() == "last words"
                await ws.wait_closed()
                assert (ws.close_code, ws.close_reason) == (4001, "bye")

    @pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1011, "oops"), (4002, "grüße")])
    async def test_the_callers_close_code_reaches_the_agent(
        self, tmp_path: Path, code: int, reason: str
    ) -> None:
        seen: list[tuple[int | None, str | None]] = []
        over = anyio.Event()

        async def listen(ws: ServerConnection) -> None:
            await ws.wait_closed()
            seen.append((ws.close_code, ws.close_reason))
            over.set()

        async with raw_agent(listen) as origin, proxy(origin, tmp_path) as url:
            async with connect(url) as ws:
                await ws.close(code, reason)
            await over.wait()
        assert seen == [(code, reason)]

    async def test_a_caller_that_vanishes_is_one_that_vanished(self, tmp_path: Path) -> None:
        seen: list[int | None] = []
        over = anyio.Event()

        async def listen(ws: ServerConnection) -> None:
            await ws.wait_closed()
            seen.append(ws.close_code)
            over.set()

        async with raw_agent(listen) as origin, proxy(origin, tmp_path) as url:
            async with connect(url) as ws:
                await ws.send("hello")
                ws.transport.abort()
                await over.wait()
        assert seen == [1006]

    async def test_an_agent_that_vanishes_is_one_that_vanished(self, tmp_path: Path) -> None:
        async def vanish(ws: ServerConnection) -> None:
            ws.transport.abort()

        async with raw_agent(vanish) as origin, proxy(origin, tmp_path) as url:
            async with connect(url) as ws:
                await ws.wait_closed()
                assert ws.close_code == 1006

    async def test_stopping_it_closes_both_ends_with_1001(self, tmp_path: Path) -> None:
        seen: list[int | None] = []

        async def listen(ws: ServerConnection) -> None:
            await ws.wait_closed()
            seen.append(ws.close_code)

        async with raw_agent(listen) as origin, AsyncExitStack() as stack:
            async with proxy(origin, tmp_path) as url:
                ws = await stack.enter_async_context(connect(url))
                await ws.send("hello")
            with pytest.raises(ConnectionClosed):
                await ws.recv()
        assert (ws.close_code, seen) == (1001, [1001])

    async def test_a_caller_that_leaves_while_it_is_dialled_leaves_nothing(
        self, tmp_path: Path
    ) -> None:
        dialled, go_on, over = anyio.Event(), anyio.Event(), anyio.Event()

        async def wait(*_: Any) -> None:
            dialled.set()
            await go_on.wait()

        async def listen(ws: ServerConnection) -> None:
            await ws.wait_closed()
            over.set()

        async with (
            raw_agent(listen, process_request=wait) as origin,
            proxy(origin, tmp_path) as url,
        ):
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    with pytest.raises((ConnectionError, InvalidMessage)):
                        await connect(url)

                group.start_soon(call)
                await dialled.wait()
                group.cancel_scope.cancel()
            go_on.set()
            await over.wait()
        assert only_file(tmp_path) is None


class TestBackpressure:
    async def test_a_caller_that_does_not_read_slows_the_agent_down(self, tmp_path: Path) -> None:
        frames, size = 400, 2**17
        sent = 0

        async def flood(ws: ServerConnection) -> None:
            nonlocal sent
            for number in range(frames):
                await ws.send(f"{number} " + "x" * size)
                sent += 1
            await ws.close()

        async with raw_agent(flood) as origin, proxy(origin, tmp_path) as url:
            async with connect(url, max_size=None, max_queue=1, ping_interval=None) as ws:
                before, unchanged = 0, 0
                while not sent or unchanged < 2000:  # the loop goes round, and nothing moves
                    await anyio.lowlevel.checkpoint()
                    unchanged = unchanged + 1 if sent == before else 0
                    before = sent
                assert sent < frames
                got = [int((await ws.recv()).split()[0]) for _ in range(frames)]
        assert got == list(range(frames))
        assert sent == frames


class TestTheCommand:
    async def test_ctrl_c_ends_it_and_every_call(self, tmp_path: Path) -> None:
        agent = Agent()
        directory = tmp_path / "new"
        async with agent.server:
            arguments = ["--listen", "127.0.0.1:0", "--to", f"{agent.origin}/ws"]
            process = await anyio.open_process(
                [*COMMAND, "record", *arguments, "--dir", str(directory), "--redact"],
                env=environment(),
                stderr=subprocess.PIPE,
            )
            assert process.stdout is not None
            assert process.stderr is not None
            said = ""
            while "Ctrl-C ends it." not in said:
                said += (await process.stdout.receive()).decode()
            url = next(word for word in said.split() if word.startswith("ws://"))
            async with LocalEngine(url, api_key=KEY) as engine:
                assert (await engine.say("secret")).text == "secret0 secret1 secret2 "
                process.send_signal(signal.SIGINT)
                await engine.wait_ended()
                assert engine.close_code == 1001
            said += b"".join([chunk async for chunk in process.stdout]).decode()
            errors = b"".join([chunk async for chunk in process.stderr]).decode()
            assert (await process.wait(), errors) == (0, "")
            await process.aclose()
        assert said.startswith(f"Recording calls, without their words, in {directory}\n")
        path = only_file(directory)
        assert path is not None
        assert f"{path}: 2 in, 4 out, closed with 1001" in said
        assert "secret" not in path.read_text()

    @pytest.mark.parametrize(
        ("arguments", "code", "complaint"),
        [
            (["--to", "http://x"], 1, "--to: expected ws://host:port/path or wss://..., got some"),
            (["--to", "ws://x:99999"], 1, "--to: expected ws://host:port/path"),
            (["--to", "ws://x/?a=b"], 1, "--to: expected ws://host:port/path"),
            (["--to", "ws://u:p@x/"], 1, "--to: expected ws://host:port/path"),
            (["--listen", "4000", "--to", "ws://x"], 2, "expected HOST:PORT"),
            (["--listen", "x:99999", "--to", "ws://x"], 2, "expected HOST:PORT"),
            ([], 2, "Missing option '--to'"),
        ],
    )
    def test_wrong_usage_is_told(
        self, tmp_path: Path, arguments: list[str], code: int, complaint: str
    ) -> None:
        done = CliRunner().invoke(commands, ["record", "--dir", str(tmp_path), *arguments])
        assert done.exit_code == code
        assert complaint in done.stderr

    def test_a_directory_or_port_that_cannot_be_had_is_one_line(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for options, complaint in (
                (["--dir", "/proc/none"], "/proc/none"),
                (["--dir", str(tmp_path), "--listen", f"127.0.0.1:{port}"], "address already in"),
            ):
                done = subprocess.run(
                    [*COMMAND, "record", "--to", "ws://x", *options],
                    env=environment(),
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                assert done.returncode == 1
                (line,) = done.stderr.splitlines()
                assert complaint in line

    def test_it_loads_no_websocket_library_before_it_runs(self) -> None:
        script = (
            "import sys\n"
            "from speech_engine_local._commands import commands\n"
            "print([m for m in ('websockets', 'aiohttp') if m in sys.modules])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "[]\n"

    def test_an_ipv6_address_stands_in_brackets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: dict[str, Any] = {}

        async def run(**options: Any) -> int:
            seen.update(options)
            return 0

        monkeypatch.setattr(_record, "run", run)
        arguments = ["--listen", "[::1]:0", "--to", "ws://x", "--dir", os.fspath(tmp_path)]
        done = CliRunner().invoke(commands, ["record", *arguments, "--fsync"])
        assert done.exit_code == 0
        assert (seen["host"], seen["port"], seen["fsync"]) == ("::1", 0, True)
