"""``speech-engine demo --web`` as a user runs it: a process, its address, the page behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from speech_engine_local._commands import commands

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-W", "error", "-m", "speech_engine_local", "demo", "--web"]
FAST = ("--words-per-second", "100")


class Demo:
    """The command in a process of its own, that listens."""

    def __init__(self, process: subprocess.Popen[str], stdout: IO[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        while "Ctrl-C ends it.\n" not in self.lines:
            line = stdout.readline()
            assert line, self.lines
            self.lines.append(line)
        found = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+)/#key=([\w-]+)\n", self.lines[1])
        assert found is not None, self.lines
        self.url, self.key = found.groups()

    def get(self, path: str, key: str | None = None) -> tuple[bytes, dict[str, str]]:
        headers = {} if key is None else {"xi-api-key": key}
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read(), dict(response.headers)

    def engine(self) -> dict[str, Any]:
        (engine,) = json.loads(self.get("/v1/speech-engine", self.key)[0])["speech_engines"]
        return dict(engine)

    @contextmanager
    def conversation(self) -> Generator[Callable[[str], dict[str, Any]]]:
        """Converse as the page does: say something, or wait for a frame of a type."""
        query = f"agent_id={self.engine()['speech_engine_id']}"
        path = f"/v1/convai/conversation/get-signed-url?{query}"
        address = json.loads(self.get(path, self.key)[0])["signed_url"]
        with connect(address, subprotocols=["convai"]) as ws:  # type: ignore[list-item]

            def wait_for(kind: str) -> dict[str, Any]:
                while True:
                    frame: dict[str, Any] = json.loads(ws.recv(timeout=30))
                    if frame["type"] == kind:
                        return frame

            ws.send('{"type":"conversation_initiation_client_data"}')
            wait_for("conversation_initiation_metadata")
            ws.send('{"type":"user_message","text":"Please count to twenty"}')
            yield wait_for

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit code, and what stood on stderr."""
        self.process.send_signal(number)
        _, complaints = self.process.communicate(timeout=30)
        return self.process.returncode, complaints


@contextmanager
def running(*arguments: str, **env: str) -> Generator[Demo]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**kept, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Demo(process, process.stdout)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with running(*FAST) as made:
        yield made


class TestThePage:
    def test_its_files_are_in_the_package(self) -> None:
        names = {
            item.name for item in files("speech_engine_local.cloud").joinpath("page").iterdir()
        }
        assert {"index.html", "page.css", "page.js"} <= names

    def test_the_document_and_all_that_it_loads_are_served_with_a_strict_policy(
        self, demo: Demo
    ) -> None:
        waiting, seen = ["/"], dict[str, str]()
        while waiting:
            path = waiting.pop()
            body, headers = demo.get(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            seen[path] = headers["Content-Type"].partition(";")[0]
            text = body.decode()
            asked = re.findall(r'(?:src|href)="(/[^"]*)"|^import .* from "([^"]+)"', text, re.M)
            waiting += [a or b for a, b in asked if (a or b) not in seen]
        assert seen.pop("/") == "text/html"
        assert seen.pop("/page.css") == "text/css"
        assert set(seen.values()) == {"text/javascript"}
        folder = files("speech_engine_local.cloud").joinpath("page")
        assert set(seen) == {f"/{i.name}" for i in folder.iterdir() if i.name.endswith(".js")}

    def test_nothing_in_it_needs_more_than_the_policy_allows(self) -> None:
        folder = files("speech_engine_local.cloud").joinpath("page")
        document = folder.joinpath("index.html").read_text(encoding="utf-8")
        assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", document) == []
        for item in folder.iterdir():
            text = item.read_text(encoding="utf-8")
            if item.name.endswith(".js"):
                assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b", text) == []
            addresses = set(re.findall(r"(?:https?:)?//[\w.]+\.[a-z]{2,}", text))
            assert addresses <= {"http://www.w3.org"}, item.name  # a name, never loaded


class TestTheCommand:
    def test_it_prints_one_address_whose_fragment_opens_the_engine(self, demo: Demo) -> None:
        assert demo.lines[0] == "Offline example agent, no key and no network.\n"
        assert len(demo.lines) == 3
        assert demo.engine()["name"] == "Demo agent"
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            demo.get("/v1/speech-engine", "another")
        refused.value.close()

    def test_the_agent_answers_in_words_and_sound(self, demo: Demo) -> None:
        with demo.conversation() as wait_for:
            wait_for("agent_chat_response_part")
            assert len(wait_for("audio")["audio_event"]["audio_base_64"]) > 1000

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_all_of_it_in_mid_reply(self, number: signal.Signals) -> None:
        with running(*FAST) as made, made.conversation() as wait_for:
            wait_for("audio")
            assert made.end(number) == (0, "")

    def test_the_page_has_the_port_that_was_asked_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = subprocess.run(
                [*COMMAND, "--port", port], capture_output=True, text=True, timeout=60, check=False
            )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "address already in use" in line

    def test_open_hands_the_address_to_the_browser(self, tmp_path: Path) -> None:
        pipe, script = tmp_path / "pipe", tmp_path / "browser"
        os.mkfifo(pipe)
        script.write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')
        script.chmod(0o755)
        with running("--open", BROWSER=f"{script} %s") as made:
            assert pipe.read_text() == f"{made.url}/#key={made.key}\n"

    def test_what_fails_in_the_agent_is_one_line(self) -> None:
        arguments = ("--base-url", "http://127.0.0.1:9/v1", "--model", "tiny")
        with running(*arguments) as made:
            assert made.lines[0].startswith("tiny at http://127.0.0.1:9/v1, which is not offline")
            with made.conversation() as wait_for:
                told = wait_for("agent_response")["agent_response_event"]["agent_response"]
                assert told == "Sorry, I could not think of an answer."
            code, complaints = made.end(signal.SIGINT)
        assert code == 0
        assert complaints == (
            "speech-engine: the agent failed: APIConnectionError: Connection error.\n"
        )

    def test_open_alone_is_wrong_usage(self) -> None:
        done = CliRunner().invoke(commands, ["demo", "--open"])
        assert done.exit_code == 2
        assert "--open: expected together with --web" in done.stderr

    def test_a_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [n for n in sys.modules if n.startswith("speech_engine_local.cloud")]:
            monkeypatch.delitem(sys.modules, name)
        for name in ("_web_demo", "_cloud_command"):
            monkeypatch.delitem(sys.modules, f"speech_engine_local.{name}", raising=False)
        monkeypatch.setitem(sys.modules, "aiohttp", None)
        done = CliRunner().invoke(commands, ["demo", "--web"])
        assert done.exit_code == 1
        assert "pip install 'speech-engine-proto[local]'" in done.stderr
