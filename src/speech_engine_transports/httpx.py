"""The management API on httpx (extra ``client``): on asyncio, on trio, and blocking.

The names and arguments are those of the official SDK, so the quickstart runs with one line
changed::

    from speech_engine_transports.httpx import AsyncElevenLabs

    elevenlabs = AsyncElevenLabs()
    engine = await elevenlabs.speech_engine.get("seng_8k3m9xr4hjnfg983brhmhkd98n6")
    await engine.serve(port=3001, path="/ws", on_transcript=on_transcript)

Errors are those of `speech_engine_proto.rest`; none of them, no repr and no log holds the key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from speech_engine_proto.rest import RetryPolicy, check_api_key, resolve_base_url

try:
    import httpx
except ImportError as error:  # pragma: no cover - the message is tested in a bare environment
    raise ImportError(
        "speech_engine_transports.httpx needs httpx: pip install 'speech-engine-proto[client]'"
    ) from error

from ._rest_async import (
    AsyncConversationalAiClient,
    AsyncConversationsClient,
    AsyncSpeechEngineClient,
)
from ._rest_blocking import ConversationalAiClient, ConversationsClient, SpeechEngineClient
from ._rest_carrier import TIMEOUT_SECONDS, AsyncCarrier, Carrier, RequestOptions, Setup

if TYPE_CHECKING:
    import enum
    from collections.abc import Mapping
    from types import TracebackType

__all__ = [
    "AsyncConversationalAiClient",
    "AsyncConversationsClient",
    "AsyncElevenLabs",
    "AsyncSpeechEngineClient",
    "ConversationalAiClient",
    "ConversationsClient",
    "ElevenLabs",
    "RequestOptions",
    "SpeechEngineClient",
]


class AsyncElevenLabs:
    """The management API on asyncio or trio.

    As a context manager it keeps connections from one request to the next and closes them at the
    end; without, each request has a connection of its own, and nothing is left to close.

    Args:
        base_url: where the API is, such as the URL of a local cloud. It outranks
            ``environment``, which outranks ``ELEVENLABS_BASE_URL``.
        environment: a host of the service, or a region of data residency: ``"eu"``, ``"in"``,
            ``"sg"``, ``"us"``. With no host named at all it is the one of the key's suffix
            ``_residency_...``, or else the global one.
        api_key: the key; by default ``ELEVENLABS_API_KEY``. Both variables are read when the
            client is made.
        headers: further headers of each request.
        timeout: seconds for an answer; a connection is given up after 10.
        follow_redirects: follow them within the same origin; never to another, which would get
            the key.
        httpx_client: a client of yours; it is not closed here.
        retry: when to try again.

    Raises:
        ValueError: there is no key, or an argument is malformed; never shows the key.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        environment: enum.Enum | str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = TIMEOUT_SECONDS,
        follow_redirects: bool | None = True,
        httpx_client: httpx.AsyncClient | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        _check_client(httpx_client, httpx.AsyncClient)
        setup = _setup(base_url, environment, api_key, headers, timeout, follow_redirects, retry)
        self._carrier = AsyncCarrier(setup, httpx_client)
        self.speech_engine = AsyncSpeechEngineClient(self._carrier)
        self.conversational_ai = AsyncConversationalAiClient(self._carrier)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._carrier.setup.base_url!r})"

    async def __aenter__(self) -> Self:
        await self._carrier.keep_connections()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, unless ``httpx_client`` was given."""
        await self._carrier.close()


class ElevenLabs:
    """The management API, blocking; may be used from several threads.

    It keeps connections until `close`, the end of its ``with`` block, or its own end.

    Args:
        base_url: as for `AsyncElevenLabs`, like all that follow.
        environment: a host or region.
        api_key: the key.
        headers: further headers.
        timeout: seconds for an answer.
        follow_redirects: within the same origin.
        httpx_client: a client of yours.
        retry: when to try again.

    Raises:
        ValueError: there is no key, or an argument is malformed; never shows the key.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        environment: enum.Enum | str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = TIMEOUT_SECONDS,
        follow_redirects: bool | None = True,
        httpx_client: httpx.Client | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        _check_client(httpx_client, httpx.Client)
        setup = _setup(base_url, environment, api_key, headers, timeout, follow_redirects, retry)
        self._carrier = Carrier(setup, httpx_client)
        self.speech_engine = SpeechEngineClient(self._carrier)
        self.conversational_ai = ConversationalAiClient(self._carrier)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._carrier.setup.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless ``httpx_client`` was given."""
        self._carrier.close()


def _check_client(client: Any, kind: type[Any]) -> None:
    """Raise TypeError where the httpx client is of the other kind."""
    if client is not None and not isinstance(client, kind):
        name = type(client).__name__
        raise TypeError(f"httpx_client: expected an httpx.{kind.__name__}, got {name}")


def _setup(
    base_url: str | None,
    environment: enum.Enum | str | None,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    timeout: float | None,
    follow_redirects: bool | None,
    retry: RetryPolicy | None,
) -> Setup:
    key = check_api_key(api_key or os.environ.get("ELEVENLABS_API_KEY"))
    url = base_url
    if url is None and environment is None:
        url = os.environ.get("ELEVENLABS_BASE_URL")
    return Setup(
        base_url=resolve_base_url(base_url=url, environment=environment, api_key=key),
        api_key=key,
        headers=dict(headers or {}),
        timeout=timeout,
        retry=RetryPolicy() if retry is None else retry,
        follow_redirects=bool(follow_redirects),
    )
