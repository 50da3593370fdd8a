"""ASGI servers in processes of their own, all with `agent_app.app`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

APP = "tests.transports.agent_app:app"
ROOT = Path(__file__).parents[2]

COMMANDS = {
    "uvicorn-sansio": ["uvicorn", APP, "--fd={fd}", "--ws=websockets-sansio"],
    "uvicorn-legacy": ["uvicorn", APP, "--fd={fd}", "--ws=websockets"],
    "uvicorn-wsproto": ["uvicorn", APP, "--fd={fd}", "--ws=wsproto"],
    "hypercorn-asyncio": ["hypercorn", APP, "--bind=fd://{fd}", "--workers=0", "-k=asyncio"],
    "hypercorn-trio": ["hypercorn", APP, "--bind=fd://{fd}", "--workers=0", "-k=trio"],
    "uvicorn-workers": ["uvicorn", APP, "--fd={fd}", "--workers=2"],
    "gunicorn": [
        "gunicorn", APP, "--bind=fd://{fd}", "--workers=2",
        "--worker-class=uvicorn_worker.UvicornWorker", "--no-control-socket",
    ],
}  # fmt: skip


@contextmanager
def running(name: str) -> Generator[int]:
    """Run a server while the block runs, and yield its port."""
    with started(name) as (port, _):
        yield port


@contextmanager
def started(name: str) -> Generator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a server while the block runs, and yield its port and its process.

    Its listening socket is ours, so that a caller who is early waits instead of being refused.
    """
    module, *arguments = COMMANDS[name]
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile() as output:
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", module, *(each.format(fd=fd) for each in arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()])},
            pass_fds=[fd],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield listener.getsockname()[1], process
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its workers, where it left any
                process.wait()
                output.seek(0)
                print(output.read().decode())


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
