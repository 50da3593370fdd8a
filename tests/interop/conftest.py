"""What the tests with the official clients share: the cloud, agents, and engines between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from speech_engine_local.cloud import Cloud
from tests.interop.llm import Model, modelling
from tests.interop.talkers import KEY, Talker, talking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@pytest.fixture
def anyio_backend() -> str:
    """The loop of the real sockets and programs: most of the official clients know asyncio only."""
    return "asyncio"


@pytest.fixture
async def cloud() -> AsyncGenerator[Cloud]:
    """A cloud without a voice."""
    async with Cloud(api_key=KEY).listen() as running:
        yield running


@pytest.fixture
async def talker() -> AsyncGenerator[Talker]:
    async with talking() as running:
        yield running


@pytest.fixture
async def model() -> AsyncGenerator[Model]:
    async with modelling() as running:
        yield running
