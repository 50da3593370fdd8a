"""The adapters that come with the package keep the contract of an adapter."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import serve as websockets_serve

from speech_engine_transports import _trio_listener, aiohttp, asgi, asyncio, picows, trio
from speech_engine_transports.testing import AdapterContract

from .clock import ASYNCIO, real

if TYPE_CHECKING:
    from collections.abc import Generator

SECONDS = 0.1
"""Of keepalive, where a test waits for it."""

LOOPS = [*ASYNCIO, "uvloop"] if sys.platform != "win32" else [*ASYNCIO]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "uvloop":
        import uvloop

        return "asyncio", {"loop_factory": uvloop.new_event_loop}
    return real(request.param)


@contextmanager
def patched(**changes: Any) -> Generator[None]:
    """Set attributes of modules while the block runs: ``NAME=(module, value)``."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (module, value) in changes.items():
            patch.setattr(module, name, value)
        yield


@pytest.mark.anyio
class TestAsyncio(AdapterContract):
    listen = staticmethod(asyncio.listen)

    @contextmanager
    def short_keepalive(self) -> Generator[None]:
        """Besides the pings, the library waits for an answer to its close frame."""
        hasty = partial(websockets_serve, close_timeout=SECONDS)
        with patched(KEEPALIVE_SECONDS=(asyncio, SECONDS), _websockets_serve=(asyncio, hasty)):
            yield


@pytest.mark.anyio
class TestAiohttp(AdapterContract):
    listen = staticmethod(aiohttp.listen)

    @contextmanager
    def short_keepalive(self) -> Generator[None]:
        with patched(KEEPALIVE_SECONDS=(aiohttp, SECONDS)):
            yield


@pytest.mark.anyio
class TestASGI(AdapterContract):
    listen = staticmethod(asgi.listen)

    @contextmanager
    def short_keepalive(self) -> Generator[None]:
        with patched(KEEPALIVE_SECONDS=(asgi, SECONDS)):
            yield


@pytest.mark.anyio
class TestPicows(AdapterContract):
    listen = staticmethod(picows.listen)

    @contextmanager
    def short_keepalive(self) -> Generator[None]:
        hasty = {
            name: SECONDS if isinstance(value, float) else value
            for name, value in picows.KEEPALIVE.items()
        }
        with patched(KEEPALIVE=(picows, hasty)):
            yield


@pytest.mark.anyio
class TestTrio(AdapterContract):
    listen = staticmethod(trio.listen)

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    @contextmanager
    def short_keepalive(self) -> Generator[None]:
        with patched(KEEPALIVE_SECONDS=(_trio_listener, SECONDS)):
            yield
