"""The asyncio transport behaves as every server of this package does."""

from __future__ import annotations

from typing import Any

import pytest

from .clock import ASYNCIO, real
from .surface import ServerSurface

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[*ASYNCIO, "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    uvloop = request.param == "uvloop"
    return ("asyncio", {"use_uvloop": True}) if uvloop else real(request.param)


class TestServer(ServerSurface):
    transport = "asyncio"
