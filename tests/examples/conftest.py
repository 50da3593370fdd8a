"""What all tests of the examples share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The tests' own end is on asyncio; each example runs in a process of its own."""
    return "asyncio"
