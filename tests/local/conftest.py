"""What all tests of the service's side share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The loop of the real sockets: the ``websockets`` library runs on asyncio alone."""
    return "asyncio"
