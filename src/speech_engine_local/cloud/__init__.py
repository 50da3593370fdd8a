"""The service's side on your own machine, for the official SDKs and browser clients (extra
``local``): the management API, the conversation's WebSocket and a page to try them.

::

    async with Cloud(api_key="sk_test").listen() as cloud:
        client = AsyncElevenLabs(api_key="sk_test", base_url=cloud.url)
"""

try:
    import aiohttp as _  # noqa: F401  # first, so that its absence is told in one place
except ImportError as error:
    raise ImportError(
        "speech_engine_local.cloud needs aiohttp: pip install 'speech-engine-proto[local]'",
        name="aiohttp",
    ) from error

from .engines import Engine
from .server import Cloud, serve
from .stores import EngineStore, Listing, MemoryStore, Page, SQLiteStore, StoreError

__all__ = [
    "Cloud",
    "Engine",
    "EngineStore",
    "Listing",
    "MemoryStore",
    "Page",
    "SQLiteStore",
    "StoreError",
    "serve",
]
