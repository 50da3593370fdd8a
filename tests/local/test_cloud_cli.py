"""``speech-engine cloud`` as a user runs it: a process, its words, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any

import pytest

from speech_engine_local import _cloud_command
from speech_engine_local.cloud import Cloud, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

COMMAND = [sys.executable, "-W", "error", "-m", "speech_engine_local", "cloud"]
KEY = "sk_mine_0123456789"


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    return {**kept, **more}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Process:
    """A cloud in a process of its own, that listens."""

    def __init__(self, process: subprocess.Popen[str], stdout: IO[str]) -> None:
        self._process = process
        self._stdout = stdout
        self.said = ""
        while "Ctrl-C ends it." not in self.said:
            line = stdout.readline()
            assert line, self.said
            self.said += line
        found = re.match(r"Speech Engine cloud at (http://127\.0\.0\.1:\d+)\n", self.said)
        assert found is not None
        self.url = found[1]

    def ask(self, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"xi-api-key": key, "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        """End it by a signal; return its code, everything it said, and its complaints."""
        self._process.send_signal(number)
        stdout, stderr = self._process.communicate(timeout=60)
        return self._process.returncode, self.said + stdout, stderr


@contextmanager
def running(*arguments: str, **env: str) -> Generator[Process]:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--no-audio", *arguments],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Process(process, process.stdout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def make(cloud: Process, key: str) -> str:
    body = {"speech_engine": {"ws_url": "ws://127.0.0.1:3001/ws"}}
    status, made = cloud.ask("POST", "/v1/speech-engine", key, body)
    assert status == 201
    return str(made["speech_engine_id"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_ends_it(number: signal.Signals) -> None:
    with running() as cloud:
        found = re.search(r"key: +(sk_local_\w+) \(random", cloud.said)
        assert found is not None
        engine_id = make(cloud, found[1])
        assert cloud.ask("GET", f"/v1/speech-engine/{engine_id}", found[1])[0] == 200
        assert cloud.ask("GET", f"/v1/speech-engine/{engine_id}", KEY)[0] == 401
        code, _, stderr = cloud.end(number)
    assert (code, stderr) == (0, "")


def test_it_tells_how_to_use_it() -> None:
    with running() as cloud:
        assert f"ELEVENLABS_BASE_URL={cloud.url}" in cloud.said
        assert f'base_url="{cloud.url}"' in cloud.said
        assert f'baseUrl: "{cloud.url}"' in cloud.said
        assert f"page:    {cloud.url}/#key=sk_local_" in cloud.said
        with urllib.request.urlopen(f"{cloud.url}/", timeout=30) as page:
            assert page.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("as_option", [True, False])
def test_a_key_of_ones_own_is_used_and_never_shown(as_option: bool) -> None:
    arguments = ["--api-key", KEY] if as_option else []
    env = {} if as_option else {"ELEVENLABS_API_KEY": KEY}
    with running(*arguments, **env) as cloud:
        engine_id = make(cloud, KEY)
        cloud.ask("GET", f"/v1/convai/conversation/token?agent_id={engine_id}", KEY)
        code, stdout, stderr = cloud.end(signal.SIGTERM)
    assert code == 0
    assert KEY not in stdout + stderr
    (line,) = stderr.splitlines()
    assert "LiveKit" in line


def test_engines_in_a_file_survive_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "engines.db")
    with running("--db", path, "--api-key", KEY) as cloud:
        assert f"engines: in {path}" in cloud.said
        engine_id = make(cloud, KEY)
        assert cloud.end(signal.SIGTERM)[0] == 0
    assert os.listdir(tmp_path) == ["engines.db"]
    with running("--db", path, "--api-key", KEY) as cloud:
        listed = cloud.ask("GET", "/v1/speech-engine", KEY)[1]["speech_engines"]
    assert [engine["speech_engine_id"] for engine in listed] == [engine_id]


def test_two_may_share_a_file(tmp_path: Path) -> None:
    arguments = ["--db", str(tmp_path / "engines.db"), "--api-key", KEY]
    with running(*arguments) as first, running(*arguments) as second:
        engine_id = make(first, KEY)
        body = {"name": "B"}
        assert second.ask("PATCH", f"/v1/speech-engine/{engine_id}", KEY, body)[0] == 200
        assert first.ask("GET", f"/v1/speech-engine/{engine_id}", KEY)[1]["name"] == "B"


def test_signed_urls_begin_with_the_public_url() -> None:
    with running("--api-key", KEY, "--public-url", "https://cloud.test") as cloud:
        path = f"/v1/convai/conversation/get-signed-url?agent_id={make(cloud, KEY)}"
        assert cloud.ask("GET", path, KEY)[1]["signed_url"].startswith("wss://cloud.test/v1/")


def test_other_machines_are_let_in_with_a_warning() -> None:
    with running("--host", "0.0.0.0") as cloud:
        stderr = cloud.end(signal.SIGINT)[2]
    (line,) = stderr.splitlines()
    assert line.startswith("speech-engine: --host 0.0.0.0: other machines can reach this cloud")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--api-key", " "], "Error: api_key: expected a key, got a blank one"),
        (["--public-url", "cloud.test"], "Error: public_url: expected http://"),
        (["--db", "missing/engines.db"], "missing/engines.db: cannot be opened: No such file"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
    ],
)
def test_what_cannot_be_used_is_one_line(arguments: list[str], complaint: str) -> None:
    done = run("--no-audio", "--port", "0", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert complaint in line


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--no-audio", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "address already in use" in line


def test_a_foreign_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
    done = run("--no-audio", "--port", "0", "--db", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("expected an engine store of speech-engine, got another database")


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--db", "."], ["more"]])
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr


def test_help_tells_every_option() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--host", "--port", "--api-key", "--db", "--public-url", "--no-audio"):
        assert word in done.stdout
    assert "127.0.0.1" in done.stdout
    assert "8787" in done.stdout


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys\nsys.modules['aiohttp'] = None\n"
        "from speech_engine_local.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "cloud"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("needs aiohttp: pip install 'speech-engine-proto[local]'")


def test_without_a_voice_replies_are_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "speech_engine_local.cloud.espeak", None)
    assert _cloud_command.voice() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("speech-engine: no audio: ")
    said = _cloud_command.welcome(Cloud(store=MemoryStore()), own_key=False, db=None)
    assert "audio:   none, replies are text" in said
