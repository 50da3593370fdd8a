"""What the page on several processes says of SIGTERM is what live calls see."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.docs.pages import DOCS
from tests.transports.agent_server import COMMANDS, running
from tests.transports.caller import INIT, ask, call

ROWS = {
    "uvicorn": ("uvicorn-sansio", "uvicorn-legacy", "uvicorn-wsproto"),
    "uvicorn, `--workers 2`": ("uvicorn-workers",),
    "gunicorn with uvicorn's worker": ("gunicorn",),
    "hypercorn, asyncio worker": ("hypercorn-asyncio",),
    "hypercorn, trio worker": ("hypercorn-trio",),
}

# Our own `serve` and aiohttp's `attach`: the contract of an adapter and the tests of aiohttp.
MEASURED_ELSEWHERE = {"1001"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def documented() -> dict[str, str]:
    """The rows of the table of close codes."""
    text = (DOCS / "how-to" / "outgrow-one-process.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| server | close code |\n| --- | --- |\n")
    rows = table.partition("\n\n")[0].splitlines()
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {server: code for server, code in cells}


@pytest.mark.anyio
@pytest.mark.parametrize(("row", "server"), [(r, name) for r in ROWS for name in ROWS[r]])
async def test_close_code_at_sigterm(row: str, server: str) -> None:
    async with AsyncExitStack() as calls:
        with running(server) as port:
            ws = await calls.enter_async_context(call(port))
            await ws.send(INIT)
            assert await ask(ws, "hi") == "You said hi"
        await ws.wait_closed()
    assert str(ws.close_code) == documented()[row]


def test_every_row_is_measured() -> None:
    rows = documented()
    assert {code for row, code in rows.items() if row not in ROWS} == MEASURED_ELSEWHERE
    assert set(ROWS) <= set(rows)
    assert {name for names in ROWS.values() for name in names} == set(COMMANDS)
