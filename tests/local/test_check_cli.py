"""``speech-engine check`` as a user runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import anyio
import pytest
from click.testing import CliRunner

from speech_engine_local._commands import commands
from speech_engine_local.check import CHECKS, as_list, select
from tests.local.ready import KEY, ready_target
from tests.local.servers import answering, raw_server

COMMAND = [sys.executable, "-W", "error", "-m", "speech_engine_local", "check"]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def run_beside(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return await anyio.to_thread.run_sync(lambda: run(*arguments, **env))


@pytest.mark.anyio
class TestRun:
    async def test_a_good_server(self) -> None:
        async with ready_target("asyncio") as url:
            table = await run_beside(url, "--only", "keep-alive", ELEVENLABS_API_KEY=KEY)
            document = await run_beside(url, "--only", "turns", "--json", "--api-key", KEY)
        assert (table.returncode, table.stderr) == (0, "")
        assert table.stdout.startswith(f"{url}\n\nkeep-alive\n  pass     keep-alive.pong ")
        assert table.stdout.endswith("passed, 0 failed, 0 differs, 0 skipped\n")
        assert (document.returncode, document.stderr) == (0, "")
        report = json.loads(document.stdout)
        assert report["summary"] == {
            "passed": len(select(["turns"])), "failed": 0, "differs": 0, "skipped": 0,
        }  # fmt: skip

    async def test_one_failure_is_exit_code_1(self) -> None:
        async with raw_server(answering()) as server:
            done = await run_beside(server.url, "--json", "--only", "malformed.json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["summary"]["failed"] == 1

    async def test_what_differs_or_is_skipped_is_no_failure(self) -> None:
        async with raw_server(answering()) as server:
            done = await run_beside(server.url, "--json", "--only", "close.hang-up")
        assert done.returncode == 0
        assert json.loads(done.stdout)["summary"]["skipped"] == 1

    async def test_nobody_there(self) -> None:
        async with raw_server(answering()) as server:
            pass
        done = await run_beside(server.url, "--json")
        assert (done.returncode, done.stdout) == (1, "")
        assert "nobody listens there" in done.stderr


class TestUsage:
    def test_the_list(self) -> None:
        done = CliRunner().invoke(commands, ["check", "--list"])
        assert (done.exit_code, done.stdout) == (0, f"{as_list(CHECKS)}\n")
        done = CliRunner().invoke(commands, ["check", "--list", "--only", "turns"])
        assert done.stdout == f"{as_list(select(['turns']))}\n"

    @pytest.mark.parametrize("arguments", [[], ["ws://h/ws", "--list"], ["--list", "--serve", "x"]])
    def test_one_thing_at_a_time(self, arguments: list[str]) -> None:
        done = CliRunner().invoke(commands, ["check", *arguments])
        assert done.exit_code == 2
        assert "expected one of URL, --list and --serve" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--list", "--only", "turnz"], "got 'turnz'"),
            (["ws://127.0.0.1:1/ws", "--only", "turnz"], "got 'turnz'"),
            (["http://127.0.0.1/"], "expected ws://"),
            (["--serve", "telepathy"], "got 'telepathy'"),
        ],
    )
    def test_what_cannot_be_used_is_one_line(self, arguments: list[str], complaint: str) -> None:
        done = run(*arguments, ELEVENLABS_API_KEY=KEY)
        assert (done.returncode, done.stdout) == (1, "")
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("name", ["asyncio", "trio", "official-python"])
    def test_a_port_that_is_taken(self, name: str) -> None:
        if name == "official-python":
            pytest.importorskip("elevenlabs")  # not on the other Pythons
        with socket.create_server(("", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = run("--serve", name, "--port", port, ELEVENLABS_API_KEY=KEY)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
        assert "in use" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_typescript_without_node(self) -> None:
        done = run("--serve", "official-typescript", PATH="/nowhere", ELEVENLABS_API_KEY=KEY)
        assert (done.returncode, done.stdout) == (1, "")
        assert "needs Node.js on the PATH" in done.stderr
