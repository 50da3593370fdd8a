"""``speech-engine load`` as a user runs it."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from click.testing import CliRunner

from speech_engine_local._commands import commands
from speech_engine_local.load import LoadPlan, show
from tests.local.ready import KEY, ready_target
from tests.local.servers import answering, raw_server

if TYPE_CHECKING:
    from tests.local.servers import Call

COMMAND = [sys.executable, "-W", "error", "-m", "speech_engine_local", "load"]
QUICK = ("--calls", "3", "--ramp", "0", "--turns", "2", "--think", "0", "--interrupt", "0")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return {**kept, "COLUMNS": "100", **more}


async def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return await anyio.run_process(
        [*COMMAND, *arguments], env=environment(**env), check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.anyio
class TestRun:
    async def test_a_good_server(self) -> None:
        async with raw_server(answering()) as server:
            done = await run(server.url, *QUICK, "--say", "good day", ELEVENLABS_API_KEY="k")
        assert (done.returncode, done.stderr) == (0, b"")
        said = done.stdout.decode().splitlines()
        assert said[:4] == [
            server.url,
            "  calls      3 of 3: 3 finished, 0 failed; at most 3 at once",
            "  turns      6: 6 finished, 0 interrupted",
            "  pieces     12",
        ]
        assert server.requests[0].headers["X-Elevenlabs-Speech-Engine-Authorization"]
        assert {m["content"] for t in server.calls[0].transcripts for m in t["user_transcript"]
                if m["role"] == "user"} == {"good day"}  # fmt: skip

    async def test_json_is_alone_on_stdout(self) -> None:
        async with raw_server(answering()) as server:
            done = await run(server.url, *QUICK, "--json", "--seed", "7")
        assert (done.returncode, done.stderr) == (0, b"")
        document = json.loads(done.stdout)
        assert document["plan"]["seed"] == 7
        assert document["calls"]["finished"] == 3
        assert document["errors"] == {"total": 0, "kinds": {}, "examples": {}}

    async def test_the_garbage_collector_is_left_as_it_was(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
        async with raw_server(answering()) as server:
            plan = LoadPlan(calls=1, ramp=0, turns=1, think=0)
            assert await show.run(server.url, plan, api_key=None, json=True) == 0
        assert gc.get_threshold() == thresholds
        assert gc.get_freeze_count() <= frozen  # Python 3.12 has some of its own at the start
        assert json.loads(capsys.readouterr().out)["calls"]["finished"] == 1

    async def test_errors_are_exit_code_1(self) -> None:
        async with raw_server(answering(), refuse=401) as server:
            done = await run(server.url, *QUICK)
        assert (done.returncode, done.stderr) == (1, b"")
        assert "refused 401       3   127.0.0.1:" in done.stdout.decode()

    async def test_ctrl_c_ends_the_calls_and_prints_what_there_is(self) -> None:
        asked = anyio.Event()

        async def stay_silent(call: Call, event_id: int) -> None:
            asked.set()

        async with raw_server(answering(stay_silent)) as server:
            arguments = ("--calls", "1", "--ramp", "0", "--think", "0", "--json")
            process = await anyio.open_process(
                [*COMMAND, server.url, *arguments], env=environment(), stdin=subprocess.DEVNULL
            )
            async with process:
                assert process.stdout is not None
                await asked.wait()
                process.send_signal(signal.SIGINT)
                said = b"".join([part async for part in process.stdout])
                assert await process.wait() == 130
            assert server.call.types[-1] == "close"
        document = json.loads(said)
        assert document["stopped"] == "interrupted"
        assert document["calls"]["cut"] == 1
        assert document["errors"]["total"] == 0

    async def test_a_limit_on_files_is_told_before_the_first_call(self) -> None:
        async with raw_server(answering()) as server:
            shell = f'ulimit -n 200 && exec "$@" {server.url} --calls 500'
            done = await anyio.run_process(
                ["sh", "-c", shell, "sh", *COMMAND], env=environment(), check=False
            )
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("Error: calls: expected at most 100 at once")
        assert server.calls == []

    async def test_a_terminal_sees_how_far_it_is(self) -> None:
        shown = anyio.Event()

        async def wait(call: Call, event_id: int) -> None:
            await shown.wait()
            await call.end(event_id)

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        async with raw_server(answering(wait)) as server:
            arguments = ("--calls", "1", "--ramp", "0", "--turns", "1", "--think", "0", "--json")
            process = await anyio.open_process(
                [*COMMAND, server.url, *arguments], env=environment(TERM="xterm"), stderr=theirs
            )
            os.close(theirs)
            async with process:
                now = "0 of 1 calls ended, 1 open, 1 turns, 0 pieces, 0 errors"
                await anyio.to_thread.run_sync(_read_until, ours, now)
                shown.set()
                await anyio.to_thread.run_sync(_read_until, ours, None)
                assert process.stdout is not None
                said = b"".join([part async for part in process.stdout])
            os.close(ours)
        assert json.loads(said)["errors"]["kinds"] == {"empty reply": 1}


def _read_until(descriptor: int, text: str | None) -> None:
    """Read a terminal until it shows a text, or to its end, which Linux tells by an error."""
    said = ""
    while text is None or text not in said:
        try:
            said += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:
            assert text is None, said
            return


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "Missing argument 'URL'"),
            (["http://h/ws"], "url: expected ws://host:port/path"),
            (["ws://h/ws", "--calls", "0"], "calls: expected an int of at least 1, got 0"),
            (["ws://h/ws", "--interrupt", "1.5"], "interrupt: expected a number of at least 0 and"),
            (["ws://h/ws", "--ramp", "soon"], "expected a time such as 10, 10s, 500ms or 2m"),
            (["ws://h/ws", "--think", "-1"], "expected a time such as"),
        ],
    )
    def test_what_cannot_be_is_told_with_code_2(self, arguments: list[str], complaint: str) -> None:
        done = CliRunner().invoke(commands, ["load", *arguments])
        assert done.exit_code == 2
        assert complaint in done.stderr

    def test_a_blank_key_is_one_line(self) -> None:
        done = CliRunner().invoke(commands, ["load", "ws://h/ws", "--api-key", " "])
        assert done.exit_code == 1
        assert "got a blank one" in done.stderr

    def test_every_option_reaches_the_plan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plans: list[LoadPlan] = []

        async def note(url: str, plan: LoadPlan, **_: Any) -> int:
            plans.append(plan)
            return 0

        monkeypatch.setattr(show, "run", note)
        options = (
            "--calls 8 --at-once 4 --ramp 1.5m --turns 6 --think 250ms --interrupt 0.4 "
            "--interrupt-pieces 9 --history 12 --ping 0 --timeout 3 --max-time 90s --seed 5 --say a"
        )
        runner = CliRunner()
        assert runner.invoke(commands, ["load", "ws://h/ws", *options.split()]).exit_code == 0
        assert runner.invoke(commands, ["load", "ws://h/ws"]).exit_code == 0
        assert plans == [
            LoadPlan(
                calls=8, at_once=4, ramp=90, turns=6, think=0.25, interrupt=0.4,
                interrupt_pieces=9, history=12, ping=None, turn_timeout=3, max_seconds=90,
                seed=5, say=("a",),
            ),
            LoadPlan(),
        ]  # fmt: skip

    @pytest.mark.parametrize("missing", ["hdrh.histogram", "rich.console"])
    def test_a_missing_library_is_named(self, missing: str) -> None:
        script = (
            f"import sys\nsys.modules[{missing!r}] = None\n"
            "from speech_engine_local.cli import main\nmain()"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "load", "ws://h/ws"],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "pip install 'speech-engine-proto[local]'" in line

    def test_other_commands_load_neither_library(self) -> None:
        script = (
            "import sys\n"
            "from speech_engine_local._commands import commands\n"
            "print({'rich', 'hdrh', 'speech_engine_local.load'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.anyio
async def test_500_calls_against_our_asyncio_server_end_without_an_error() -> None:
    async with ready_target("asyncio") as url:
        done = await run(
            url, "--calls", "500", "--ramp", "4", "--turns", "3", "--think", "1",
            "--interrupt", "0.3", "--interrupt-pieces", "3", "--ping", "2",
            "--say", "say 10 words slowly", "--json", ELEVENLABS_API_KEY=KEY,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["errors"] == {"total": 0, "kinds": {}, "examples": {}}
    assert document["calls"]["finished"] == 500
    turns = document["turns"]
    assert turns["asked"] == turns["finished"] + turns["interrupted"] == 1500
    assert turns["interrupted"] > 200
    assert document["silence"]["count"] == turns["interrupted"]
    assert document["pong"]["count"] > 500
