"""The command line as a user runs it: processes, exit codes, a terminal that is a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from click.testing import CliRunner

from speech_engine_local import cli
from speech_engine_local._commands import commands
from tests.local.servers import answering, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-W", "error", "-m", "speech_engine_local"]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return {**kept, **more}


def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestDemo:
    def test_without_a_terminal_it_plays_a_conversation(self) -> None:
        # A key in the environment asks for nothing: the agent stays the offline one.
        done = run("demo", OPENAI_API_KEY="sk-not-used")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Offline example agent, no key and no network; a real Web")
        assert "[interrupted; heard: One, two, three, four, five, six,]" in done.stdout
        assert done.stdout.endswith("5 turns, 1 of them interrupted, broken rules: none.\n")

    def test_it_loads_neither_a_terminal_library_nor_a_model(self) -> None:
        script = (
            "import sys\n"
            "from speech_engine_local.cli import main\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n"
            "    print(end.code, [m for m in ('openai', 'prompt_toolkit', 'trio') "
            "if m in sys.modules])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "demo"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "0 []"

    def test_a_port_in_use_is_one_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = run("demo", "--port", str(taken.getsockname()[1]))
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "address already in use" in line

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--model", "tiny"], "--model: expected together with"),
            (["--llm", "openai"], "OPENAI_API_KEY: expected a key, got none"),
            (["--llm", "other"], "'other' is not 'openai'"),
            (["--base-url", "http://x", "--words-per-second", "3"], "the built-in agent only"),
            (["--words-per-second", "0"], "--words-per-second"),
            (["--port", "65536"], "--port"),
        ],
    )
    def test_wrong_usage_is_told_with_code_2(self, arguments: list[str], complaint: str) -> None:
        env = dict.fromkeys([k for k in os.environ if k.endswith("_API_KEY")], None)
        done = CliRunner(env=env).invoke(commands, ["demo", *arguments])
        assert done.exit_code == 2
        assert complaint in done.stderr

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        done = CliRunner().invoke(commands, ["demo", "--llm", "openai"])
        assert done.exit_code == 1
        assert "pip install 'speech-engine-proto[llm]'" in done.stderr

    def test_an_endpoint_that_is_not_there_fails_the_agent_in_one_line(self) -> None:
        done = run("demo", "--base-url", "http://127.0.0.1:9/v1", "--model", "tiny")
        assert done.returncode == 1
        assert done.stdout.startswith("tiny at http://127.0.0.1:9/v1, which is not offline; ")
        assert "speech-engine: the agent failed: APIConnectionError" in done.stderr


@pytest.mark.anyio
class TestChat:
    async def test_talks_with_any_server(self) -> None:
        async with raw_server(answering()) as server:
            done = await anyio.run_process(
                [*COMMAND, "chat", server.url], input=b"good day\nbye\n", env=environment()
            )
        assert done.stdout.decode() == (
            "you:   good day\nagent: good day \nyou:   bye\nagent: bye \n"
        )
        assert server.call.types[-1] == "close"

    async def test_a_broken_rule_is_code_1(self) -> None:
        async def twice(call: object, event_id: int) -> None:
            from tests.local.test_engine import two_terminators

            await two_terminators(call, event_id)  # type: ignore[arg-type]

        async with raw_server(answering(twice)) as server:
            done = await anyio.run_process(
                [*COMMAND, "chat", server.url], input=b"hi\n", env=environment(), check=False
            )
        assert done.returncode == 1
        assert done.stderr.decode().startswith("speech-engine: broken rule: ")

    async def test_it_sends_headers_as_an_engine_does(self) -> None:
        async with raw_server(answering()) as server:
            headers = ["--header", "X-Agent-Secret: a:b", "--header", "X-Tenant:7"]
            await anyio.run_process(
                [*COMMAND, "chat", server.url, *headers], input=b"hi\n", env=environment()
            )
        sent = server.requests[0].headers
        assert (sent["x-agent-secret"], sent["x-tenant"]) == ("a:b", "7")

    @pytest.mark.parametrize("header", ["no colon", ": no name", "X-A: b\r\nX-C: d", "X-A: \u00e9"])
    def test_what_is_no_header_is_wrong_usage(self, header: str) -> None:
        result = CliRunner().invoke(commands, ["chat", "ws://127.0.0.1:1/", "--header", header])
        assert result.exit_code == 2
        assert "expected 'NAME: VALUE'" in result.output

    async def test_the_key_comes_from_the_environment(self) -> None:
        async with raw_server(answering()) as server:
            await anyio.run_process(
                [*COMMAND, "chat", server.url],
                input=b"hi\n",
                env=environment(ELEVENLABS_API_KEY="sk_env"),
            )
        assert server.requests[0].headers["X-Elevenlabs-Speech-Engine-Authorization"]

    def test_wrong_addresses_and_keys_are_one_line(self) -> None:
        for arguments, complaint in (
            (["http://127.0.0.1"], "url: expected ws://host:port/path"),
            (["ws://127.0.0.1:9/ws"], "127.0.0.1:9: nobody listens there"),
            (["ws://127.0.0.1:9/ws", "--api-key", " "], "API key: expected a key, got a blank one"),
        ):
            done = run("chat", *arguments)
            (line,) = done.stderr.splitlines()
            assert complaint in line
            assert done.returncode == 1


class TestTheCommandItself:
    def test_help_names_commands_examples_and_variables(self) -> None:
        done = run("--help")
        assert done.returncode == 0
        for word in ("demo", "chat", "Examples:", "ELEVENLABS_API_KEY", "Exit codes:"):
            assert word in done.stdout

    def test_version(self) -> None:
        assert re.fullmatch(r"speech-engine, version \d+\.\d+\.\d+\S*\n", run("--version").stdout)

    def test_a_missing_extra_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delitem(sys.modules, "speech_engine_local._commands")
        monkeypatch.setitem(sys.modules, "click", None)
        with pytest.raises(SystemExit, match="1"):
            cli.main()
        assert capsys.readouterr().err == (
            "speech-engine: click is not installed: pip install 'speech-engine-proto[local]'\n"
        )


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, *arguments: str) -> None:
        own, its = pty.openpty()
        termios.tcsetwinsize(its, (24, 80))
        self._own = own
        self._seen = ""
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(its)

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def until(self, text: str) -> str:
        """Read until a text is on the screen; what came since the last call is returned."""
        deadline = time.monotonic() + 30
        while text not in self._seen:
            ready, _, _ = select.select([self._own], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {self._seen!r}"
            self._seen += os.read(self._own, 65536).decode()
        before, _, self._seen = self._seen.partition(text)
        return before + text

    def wait(self) -> int:
        """Read what is left, and return the exit code."""
        while True:
            try:
                data = os.read(self._own, 65536)
            except OSError:  # how Linux says that nobody holds the other end
                break
            self._seen += data.decode()
        return self.process.wait(timeout=30)

    @property
    def rest(self) -> str:
        return self._seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal("demo", "--words-per-second", "40")
    yield made
    made.close()


class TestInATerminal:
    def test_typing_while_it_speaks_interrupts_it(self, terminal: Terminal) -> None:
        terminal.until("Type, and press Enter.")
        terminal.type("count to 100\r")
        terminal.until("three, ")
        terminal.type("stop\r")
        terminal.until("[interrupted]")
        terminal.until("I am listening.")
        terminal.type("/history\r")
        terminal.until("user: count to 100")
        heard = terminal.until("user: stop")
        assert "agent: One, two, three, " in heard
        assert "hundred" not in heard
        terminal.type("/quit\r")
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.rest

    @pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
    def test_a_key_leaves_even_while_it_speaks(self, terminal: Terminal, key: str) -> None:
        terminal.until("Type, and press Enter.")
        terminal.type("count to 100\r")
        terminal.until("three, ")
        terminal.type(key)
        assert terminal.wait() == 0
        assert "[interrupted]" in terminal.rest
        assert "Traceback" not in terminal.rest

    def test_a_signal_leaves_too(self, terminal: Terminal) -> None:
        terminal.until("Type, and press Enter.")
        terminal.type("hello\r")
        terminal.until("agent: ")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.rest
