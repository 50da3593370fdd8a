"""The methods of `AsyncElevenLabs`."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self, Unpack

from speech_engine_proto import rest

from ._rest_carrier import engine_at, resource_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speech_engine_proto.rest import (
        EngineChanges,
        EnginePage,
        EngineSettings,
        EngineSummary,
        ListOptions,
        SettingsObject,
        SignedURL,
        SignedURLOptions,
        TokenOptions,
        WebRTCToken,
    )

    from ._rest_carrier import AsyncCarrier, RequestOptions
    from .resource import SpeechEngineResource


class AsyncSpeechEngineClient:
    """The Speech Engines of an account: ``client.speech_engine``.

    Every method takes ``request_options``, see `RequestOptions`, and raises a
    `speech_engine_proto.rest.ApiError` when the service refuses, fails or does not answer, and a
    ``ValueError`` or ``TypeError`` that names the argument before anything is sent.
    """

    def __init__(self, carrier: AsyncCarrier) -> None:
        self._carrier = carrier

    async def create(
        self,
        *,
        speech_engine: SettingsObject,
        request_options: RequestOptions | None = None,
        **settings: Unpack[EngineSettings],
    ) -> SpeechEngineResource:
        """Make a Speech Engine.

        Args:
            speech_engine: ``{"ws_url": "wss://..."}``, optionally with ``request_headers``.
            request_options: of this request.
            settings: see `speech_engine_proto.rest.EngineSettings`.
        """
        request = rest.create_engine(speech_engine=speech_engine, **settings)
        response = await self._carrier.send(request, request_options)
        return resource_of(self._carrier.setup, rest.read_engine(response, now=time.time()))

    async def get(
        self, speech_engine_id: str, *, request_options: RequestOptions | None = None
    ) -> SpeechEngineResource:
        """Return a Speech Engine: its settings, and what serves it.

        Args:
            speech_engine_id: its id.
            request_options: of this request.
        """
        request = rest.get_engine(speech_engine_id)
        response = await self._carrier.send(request, request_options)
        return resource_of(
            self._carrier.setup, engine_at(response, speech_engine_id), speech_engine_id
        )

    async def update(
        self,
        speech_engine_id: str,
        *,
        request_options: RequestOptions | None = None,
        **changes: Unpack[EngineChanges],
    ) -> SpeechEngineResource:
        """Change the settings that are named, and no others.

        Args:
            speech_engine_id: its id.
            request_options: of this request.
            changes: see `speech_engine_proto.rest.EngineChanges`.
        """
        request = rest.update_engine(speech_engine_id, **changes)
        response = await self._carrier.send(request, request_options)
        return resource_of(
            self._carrier.setup, engine_at(response, speech_engine_id), speech_engine_id
        )

    async def duplicate(
        self,
        speech_engine_id: str,
        *,
        name: str | None = None,
        request_options: RequestOptions | None = None,
    ) -> SpeechEngineResource:
        """Make a copy, and return it.

        Args:
            speech_engine_id: the id of the original.
            name: the name of the copy; by default the original's.
            request_options: of this request.
        """
        request = rest.duplicate_engine(speech_engine_id, name=name)
        response = await self._carrier.send(request, request_options)
        return resource_of(self._carrier.setup, rest.read_engine(response, now=time.time()))

    async def delete(
        self, speech_engine_id: str, *, request_options: RequestOptions | None = None
    ) -> None:
        """Delete a Speech Engine.

        Args:
            speech_engine_id: its id.
            request_options: of this request.
        """
        request = rest.delete_engine(speech_engine_id)
        rest.read_nothing(await self._carrier.send(request, request_options), now=time.time())

    async def list(
        self,
        *,
        request_options: RequestOptions | None = None,
        **options: Unpack[ListOptions],
    ) -> EnginePage:
        """Return one page of Speech Engines.

        Args:
            request_options: of this request.
            options: see `speech_engine_proto.rest.list_engines`.
        """
        request = rest.list_engines(**options)
        return rest.read_page(await self._carrier.send(request, request_options), now=time.time())

    def list_all(
        self,
        *,
        request_options: RequestOptions | None = None,
        **options: Unpack[ListOptions],
    ) -> AsyncIterator[EngineSummary]:
        """Go through all Speech Engines, page by page as they are asked for.

        Args:
            request_options: of each request.
            options: see `speech_engine_proto.rest.list_engines`.
        """
        rest.list_engines(**options)  # what is wrong is said here, and not at the first step
        return _Engines(self, request_options, options)


class _Engines:
    """All engines, page by page.

    No generator: one that is left early would have to be closed, and trio says so.
    """

    def __init__(
        self,
        client: AsyncSpeechEngineClient,
        request_options: RequestOptions | None,
        options: ListOptions,
    ) -> None:
        self._client = client
        self._request_options = request_options
        self._options = options
        self._ready: deque[EngineSummary] = deque()
        self._at_end = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> EngineSummary:
        while not self._ready:
            if self._at_end:
                raise StopAsyncIteration
            page = await self._client.list(request_options=self._request_options, **self._options)
            cursor = page.cursor_after(self._options.get("cursor"))
            self._options["cursor"] = cursor
            self._at_end = cursor is None
            self._ready.extend(page.speech_engines)
        return self._ready.popleft()


class AsyncConversationsClient:
    """What a client needs to begin a conversation: ``client.conversational_ai.conversations``."""

    def __init__(self, carrier: AsyncCarrier) -> None:
        self._carrier = carrier

    async def get_webrtc_token(
        self,
        *,
        agent_id: str,
        request_options: RequestOptions | None = None,
        **options: Unpack[TokenOptions],
    ) -> WebRTCToken:
        """Return a token for a conversation over WebRTC.

        Args:
            agent_id: the id of the Speech Engine.
            request_options: of this request.
            options: see `speech_engine_proto.rest.get_webrtc_token`.
        """
        request = rest.get_webrtc_token(agent_id=agent_id, **options)
        return rest.read_token(await self._carrier.send(request, request_options), now=time.time())

    async def get_signed_url(
        self,
        *,
        agent_id: str,
        request_options: RequestOptions | None = None,
        **options: Unpack[SignedURLOptions],
    ) -> SignedURL:
        """Return a URL for a conversation over a WebSocket.

        Args:
            agent_id: the id of the Speech Engine.
            request_options: of this request.
            options: see `speech_engine_proto.rest.get_signed_url`.
        """
        request = rest.get_signed_url(agent_id=agent_id, **options)
        response = await self._carrier.send(request, request_options)
        return rest.read_signed_url(response, now=time.time())


class AsyncConversationalAiClient:
    """The part of the API that ``conversations`` stands in, as in the official SDK."""

    def __init__(self, carrier: AsyncCarrier) -> None:
        self.conversations = AsyncConversationsClient(carrier)
