"""Every asynchronous test here runs on asyncio, on asyncio with eager tasks, and on trio."""

from __future__ import annotations

from typing import Any

import pytest

from .clock import BACKENDS, virtual


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual(request.param)
