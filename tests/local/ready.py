"""Ready targets as users start them: a process each, so that every event loop can serve."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.interop.programs import running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

KEY = "sk_check_of_ready_targets"


@asynccontextmanager
async def ready_target(name: str, *, cwd: Path | None = None) -> AsyncGenerator[str]:
    """Run ``speech-engine check --serve`` while the block runs; give the server's address.

    Args:
        name: of the target.
        cwd: the folder to run it in.
    """
    command = (sys.executable, "-m", "speech_engine_local", "check", "--serve", name)
    path = os.pathsep.join(
        filter(None, sys.path)
    )  # the package under test is the one imported here
    env = {"ELEVENLABS_API_KEY": KEY, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    async with running(*command, cwd=cwd or Path.cwd(), env=env) as program:
        yield (await program.line(r"ws://\S+"))[0]
