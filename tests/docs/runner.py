"""Runs the blocks of one page in order, as a reader would who types all of it.

What a block is says its language, and where that is not enough the comment before it:

===================  ==========================================================================
``python``           a script of its own: run, and it must exit with 0, warnings being errors
.. ``continues``     goes on from the script before: both are run as one
.. ``file NAME``     written to the reader's directory; a command or a later file must use it.
                     The same holds for ``html``
``console``          ``$`` commands, each followed by its output; ``...`` stands for anything
.. ``exit=1``        the same, but the last command must exit with 1
.. ``make``          targets of the Makefile; the demo is run and compared, ``make test`` is
                     what runs this, so only the existence of its parts is tested
.. ``install``       makes an environment: tested is that the extras exist
``text``, ``output`` what the script before it prints
``json``             frames, one per line: each is a message of the protocol
``yaml``             objects of Kubernetes that fit each other
``nginx``            what stands in its ``http`` block: read by nginx where the machine has one
``text``, ``haproxy``  a configuration, likewise
``mermaid``          must be generated; `test_state_diagram` tells whether it is up to date
``{...}``            a directive of Sphinx, which the build of the docs checks
===================  ==========================================================================

A block that fits nothing is a failure. A command that ends in ``&`` is a server: port 3001 of the
text becomes a free one, and it must be called by a later command and stop cleanly. That is a file
of the page, or one of the servers that carry ASGI applications. A page has one at a time.

``speech-engine cloud --port 8787 &`` begins a page where several run at once, each until the page
ends or until the same command comes again. Its programs name each other's ports before anybody
listens there, so the ports are chosen then, and put in place of those in `PORTS`. Whatever calls
the cloud with a Python file also calls the agent on 3001.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from speech_engine_proto import wire
from tests.docs.configurations import check_haproxy, check_kubernetes, check_nginx
from tests.docs.pages import ROOT, Block

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

BIN = Path(sys.executable).parent
SECONDS = 180

# Runs a file with the log on stderr, where a server tells the port that it got.
_WITH_LOG = (
    "import logging, runpy, sys; logging.basicConfig(level=logging.INFO);"
    " sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
_PORT = re.compile(
    r"listening on .*port (?P<port>\d+)"
    r"|(?:running on|listening at:) http://[\w.]+:(?P<http_port>\d+)"
    r"|server listening on 0\.0\.0\.0:(?P<ipv4_port>\d+)"
    r"|cloud at http://[\w.]+:(?P<cloud_port>\d+)",
    re.IGNORECASE,
)

_ERROR = re.compile(
    r"^\w*(?:Error|Exception|Warning)\b(?! in callback StreamReaderProtocol)|\[ERROR\]",
    re.MULTILINE,
)

PORTS = ("3001", "3002", "8787")
"""Of the agent, of the web server of a page, and of the cloud, where a page has all of them."""

CLOUD = "speech-engine cloud "

ASGI_SERVERS = ("uvicorn", "hypercorn", "gunicorn")

# Hypothesis as it is set by default, but with the same examples each time, and patient: a machine
# that is busy with other things is no failure.
_CONFTEST = """
from hypothesis import HealthCheck, settings

settings.register_profile(
    "page",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("page")
"""


class Reader:
    """Someone who works through one page, with a directory and a shell of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ELEVENLABS_", "OPENAI_", "PYTEST_", "HYPOTHESIS_", "MAKE"))
            and name not in ("ARGS", "CI", "FORCE_COLOR", "MFLAGS", "PYTHONWARNINGS")
        }
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self._environment |= {"PATH": path, "NO_COLOR": "1", "COLUMNS": "100"}
        # Only the tests of our pytest plugin want them, and they say things on stderr.
        self._environment["PYTEST_ADDOPTS"] = "-p no:asyncio -p no:trio"
        self._script = ""
        self._output: str | None = None
        self._unused: set[str] = set()
        self._servers: dict[str, _Server] = {}
        self._ports: dict[str, str] = {}
        (directory / "conftest.py").write_text(_CONFTEST, encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            for server in self._servers.values():
                server.kill()
            return
        self._stop_servers(*self._servers)
        assert not self._unused, f"written and never run: {sorted(self._unused)}"

    def do(self, block: Block) -> None:
        """Run one block; AssertionError where it does not do what the page says."""
        match block.language, *block.how:
            case "python" | "html", "file", name:
                self._write(name, block.text)
            case ["python"]:
                self._run_script(block.text)
            case "python", "continues":
                self._run_script(f"{self._script}\n{block.text}")
            case "text", "output":
                assert self._output is not None, "no script stands before this output"
                expect(block.text, self._output)
                self._output = None
            case ["console"]:
                self._run_console(block.text, 0)
            case "console", str(code) if code.startswith("exit="):
                self._run_console(block.text, int(code.removeprefix("exit=")))
            case "console", "make":
                self._run_make(block.text)
            case "console", "install":
                check_install(block.text)
            case ["json"]:
                for line in block.text.splitlines():
                    check_frame(line)
            case ["yaml"]:
                check_kubernetes(block.text)
            case ["nginx"]:
                check_nginx(block.text, self._directory)
            case ["text", "haproxy"]:
                check_haproxy(block.text, self._directory)
            case ["mermaid"]:
                pass
            case [str(name)] if name.startswith("{"):
                pass
            case _:
                raise AssertionError(f"no way to run {block.language!r} {' '.join(block.how)!r}")

    def _write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(self._here(text), encoding="utf-8")
        imported = re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
        self._unused -= {f"{module}.py" for module in imported}
        self._unused = {file for file in self._unused if f'"{file}"' not in text} | {name}

    def _run_script(self, text: str) -> None:
        self._script = text
        done = self._run([sys.executable, "-W", "error", "-c", text])
        assert done.returncode == 0, done.stdout + done.stderr
        self._output = done.stdout

    def _run_console(self, text: str, code: int) -> None:
        commands = split(text)
        for number, (command, output) in enumerate(commands, 1):
            self._unused -= {
                re.sub(r"^(\w+):\w+$", r"\1.py", word) for word in re.split(r"[\s()]", command)
            }
            if command.startswith("export "):
                self._export(self._here(command))
            elif command.endswith("&"):
                self._start_server(self._here(command.removesuffix("&")).split())
            else:
                last = number == len(commands)
                self._run_command(command, output, code if last else 0)

    def _export(self, command: str) -> None:
        name = command.removeprefix("export ").partition("=")[0]
        done = self._run(["bash", "-ec", f'{command}; test "${name}"; printf %s "${name}"'])
        assert done.returncode == 0, done.stdout + done.stderr
        self._environment[name] = done.stdout
        self._mark_called(command)

    def _run_command(self, command: str, output: str, code: int) -> None:
        here = self._here(command)
        if not self._ports and (server := self._servers.get("3001")):
            here = here.replace(":3001", f":{server.port}")
        self._mark_called(here)
        done = self._run(["bash", "-c", here])
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        for port, server in self._servers.items():
            said = said.replace(f":{server.port}", f":{port}")
        expect(output, said)

    def _mark_called(self, command: str) -> None:
        through_cloud = "8787" in self._servers and "python " in command
        for port, server in self._servers.items():
            through = through_cloud and port != "3002"
            server.was_called |= through or f":{server.port}" in command

    def _here(self, text: str) -> str:
        """Put the chosen ports in place of the page's, if any were chosen."""
        pattern = "|".join(self._ports)
        return re.sub(pattern, lambda found: self._ports[found[0]], text) if pattern else text

    def _run_make(self, text: str) -> None:
        for command, output in split(text):
            make, *targets = command.split()
            assert make == "make", command
            # In `make test` this is a make within a make, which would announce its directories.
            dry_run = ["make", "--dry-run", "--no-print-directory", *targets]
            plan = subprocess.check_output(dry_run, cwd=ROOT, env=self._environment, text=True)
            if targets == ["demo"]:
                self._run_command(plan.splitlines()[-1].replace(".venv/bin/", ""), output, 0)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def _start_server(self, command: list[str]) -> None:
        name, *arguments = command
        if f"{name} {arguments[0]} " == CLOUD:
            assert not self._servers, "the cloud comes before all other servers"
            self._ports = {port: str(_free_port()) for port in PORTS}
            for name in tuple(self._unused):
                self._write(name, (self._directory / name).read_text(encoding="utf-8"))
            arguments = self._here(" ".join(arguments)).split()
            script = [sys.executable, "-m", "speech_engine_local", *arguments]
        elif name in ASGI_SERVERS:
            free = [argument.replace("3001", "0") for argument in arguments]
            script = [sys.executable, "-m", name, *free]
        else:
            assert name == "python", command
            path = self._directory / arguments[0]
            if not self._ports:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("3001", "0"), encoding="utf-8")
            script = [sys.executable, "-W", "error", "-c", _WITH_LOG, path.name]
        alone = not self._ports
        self._stop_servers(*(p for p, s in self._servers.items() if alone or s.command == script))
        server = _Server(script, self._directory, self._environment)
        named = {chosen: port for port, chosen in self._ports.items()}
        self._servers[named.get(str(server.port), "3001")] = server

    def _stop_servers(self, *ports: str) -> None:
        stopped = [self._servers.pop(port) for port in ports]
        for server in stopped:
            server.stop()
        for server in stopped:
            assert server.was_called, f"{server.name} was started and never called"


def _free_port() -> int:
    """Return a port that nobody listens on, below those that outgoing connections get."""
    while True:
        port = random.randint(20_000, 32_000)
        with suppress(OSError), socket.create_server(("", port)):
            return port


class _Server:
    """A server that a page starts with ``&``."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.name = " ".join(word for word in command[1:] if word != _WITH_LOG)
        self.command = command
        self.was_called = False
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            # gunicorn leaves a socket at home, and a pipe would get some prints at the end only.
            env={**environment, "HOME": str(directory), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self.port = self._read_port()
        # Read on, or the server stops when the pipe is full.
        self._rest = threading.Thread(target=self._lines.extend, args=(self._output,))
        self._rest.start()

    def _read_port(self) -> int:
        port = 0
        # The parent of uvicorn's workers tells its port before one of them listens.
        is_ready = "uvicorn" not in self.command
        for line in self._output:
            self._lines.append(line)
            if found := _PORT.search(line):
                port = int(next(filter(None, found.groups())))
            is_ready = is_ready or "startup complete" in line
            if port and is_ready:
                return port
        self._process.wait(SECONDS)
        self._output.close()
        raise AssertionError(f"{self.name} did not listen:\n{''.join(self._lines)}")

    def stop(self) -> None:
        """Stop it: a file as Ctrl-C would, a server of ASGI applications as a deployment does."""
        assert self._process.poll() is None, f"{self.name} died:\n{''.join(self._lines)}"
        by_hand = "-c" in self.command
        self._process.send_signal(signal.SIGINT if by_hand else signal.SIGTERM)
        self._wait()
        said = "".join(self._lines)
        # A loop that does not handle Ctrl-C dies of it, and on Python 3.11 asyncio complains in a
        # callback where hypercorn cancels a connection; any other exception is a failure.
        errors = _ERROR.findall(said)
        assert not errors, said

    def kill(self) -> None:
        """End it at once, and its workers: something has failed already."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        self._process.wait(SECONDS)
        self._rest.join(SECONDS)
        self._output.close()


def split(text: str) -> list[tuple[str, str]]:
    """Split a console block into its commands, each with its output."""
    assert text.startswith("$ "), f"expected a command first, got {text.splitlines()[0]!r}"
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append((command, output))
    return found


def expect(expected: str, got: str) -> None:
    """Compare output, white space at line ends aside.

    A line ``...`` stands for any lines or none, ``...`` within a line for anything in that line.
    """
    if not expected.strip():
        return  # a command that is shown without its output
    pattern = "".join(map(_line_pattern, _lines(expected)))
    assert re.fullmatch(pattern, "".join(_lines(got))), f"expected:\n{expected}\ngot:\n{got}"


def _line_pattern(line: str) -> str:
    if line == "...\n":
        return r"(?:.*\n)*"
    return ".*".join(re.escape(part) for part in line.split("..."))


def _lines(text: str) -> list[str]:
    return [f"{line.rstrip()}\n" for line in text.strip().splitlines()]


def check_install(text: str) -> None:
    """Look up the extras that a page names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for command, _ in split(text):
        found = re.fullmatch(r"pip install '(?:\.|speech-engine-proto)\[(.+)\]'", command)
        assert found, f"expected pip install '.[...]', got {command!r}"
        assert set(found[1].split(",")) <= set(project["optional-dependencies"]), command


def check_frame(line: str) -> None:
    """Read a line as a message of the protocol, of a known type."""
    assert not isinstance(wire.decode(line), wire.Unknown), line
