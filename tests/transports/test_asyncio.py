"""The asyncio transport behaves as every server of this package does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.exceptions import InvalidMessage

from speech_engine_transports import Limits

from .caller import call
from .clock import ASYNCIO, real
from .surface import ServerSurface

if TYPE_CHECKING:
    from speech_engine_transports import Request

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[*ASYNCIO, "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    uvloop = request.param == "uvloop"
    return ("asyncio", {"use_uvloop": True}) if uvloop else real(request.param)


class TestServer(ServerSurface):
    transport = "asyncio"

    @pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: here\r\n"])
    async def test_a_request_that_does_not_come_is_given_up(self, sent: bytes) -> None:
        async with self.serving(limits=Limits(handshake_timeout=0.05)) as server:
            stream = await anyio.connect_tcp("127.0.0.1", server.port)
            async with stream:
                await stream.send(sent)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            assert server.exceeded == {"handshake_timeout": 1}

    async def test_a_decision_that_does_not_come_is_given_up(self) -> None:
        async def authorize(request: Request) -> bool:
            await anyio.sleep_forever()
            return True

        limits = Limits(handshake_timeout=0.05)
        async with self.serving(authorize=authorize, limits=limits) as server:
            with pytest.raises((ConnectionError, InvalidMessage)):
                async with call(server.port):
                    pass
            assert server.exceeded == {"handshake_timeout": 1}
