"""The official package, with its HTTP connections closed at the end, which it leaves to the caller.

Importing its conversation client warns about a library that it is built on.
"""

from __future__ import annotations

import warnings
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx
from elevenlabs import AsyncElevenLabs, ElevenLabs

from .talkers import KEY

with warnings.catch_warnings():
    # It names a type that the newer `websockets` deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from elevenlabs.conversational_ai.conversation import (
        AsyncConversation,
        Conversation,
        ConversationInitiationData,
    )

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from speech_engine_local.cloud import Cloud

__all__ = [
    "AsyncConversation",
    "Conversation",
    "ConversationInitiationData",
    "async_client_of",
    "client_of",
]


@asynccontextmanager
async def async_client_of(cloud: Cloud) -> AsyncGenerator[AsyncElevenLabs]:
    """Give the official asynchronous client of a cloud while the block runs."""
    async with httpx.AsyncClient(trust_env=False) as http:
        yield AsyncElevenLabs(api_key=KEY, base_url=cloud.url, httpx_client=http)


@contextmanager
def client_of(cloud: Cloud) -> Generator[ElevenLabs]:
    """Give the official client of a cloud while the block runs."""
    with httpx.Client(trust_env=False) as http:
        yield ElevenLabs(api_key=KEY, base_url=cloud.url, httpx_client=http)
