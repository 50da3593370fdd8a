"""What carries management requests over httpx: the key, time limits, retries, redirects.

The rules are in `speech_engine_proto.rest`; here is what needs a socket, a clock or chance.
"""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, TypedDict

import anyio
import attrs
import httpx

from speech_engine_proto import rest
from speech_engine_proto.rest import (
    ApiRequest,
    ApiResponse,
    RetryPolicy,
    TransportError,
    transport_error,
)

from .resource import SpeechEngineResource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from speech_engine_proto.rest import Engine

KEY_HEADER = "xi-api-key"
TIMEOUT_SECONDS = 240.0
"""For a whole answer, as the official SDKs have it (fact sheet, section 4)."""

CONNECT_SECONDS = 10.0
"""For a connection: a host that does not answer by then will not."""

MAX_REDIRECTS = 5

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RequestOptions(TypedDict, total=False):
    """Options of a single request, as the official SDK has them.

    ``timeout_in_seconds`` and ``max_retries`` replace the client's; the ``additional_...`` are
    put into the request. ``chunk_size`` is for downloads, and means nothing here.
    """

    timeout_in_seconds: float
    max_retries: int
    additional_headers: dict[str, Any]
    additional_query_parameters: dict[str, Any]
    additional_body_parameters: dict[str, Any]
    chunk_size: int


@attrs.frozen
class Setup:
    """What a client was made with; the repr shows neither the key nor other headers."""

    base_url: str
    api_key: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    timeout: float | None
    retry: RetryPolicy
    follow_redirects: bool

    def prepare(self, request: ApiRequest, options: RequestOptions | None) -> Call:
        """Join a request with its options and what all requests have.

        Raises:
            TypeError: an unknown option.
        """
        chosen = options or RequestOptions()
        known = RequestOptions.__annotations__
        if unknown := sorted(chosen.keys() - known.keys()):
            raise TypeError(
                f"request_options: unknown {unknown[0]!r}; expected some of {', '.join(known)}"
            )
        request = request.extended(
            query=chosen.get("additional_query_parameters"),
            body=chosen.get("additional_body_parameters"),
        )
        headers = _joined(
            {"user-agent": "speech-engine-proto"},
            request.headers,
            self.headers,
            {KEY_HEADER: self.api_key},
            chosen.get("additional_headers") or {},
        )
        retries = chosen.get("max_retries", self.retry.max_retries)
        seconds = chosen.get("timeout_in_seconds")
        return Call(
            request.method,
            request.url(self.base_url),
            headers,
            request.body,
            _timeout(self.timeout if seconds is None else seconds),
            attrs.evolve(self.retry, max_retries=retries),
        )

    def redirect(self, response: httpx.Response, followed: int) -> httpx.Request | None:
        """Return the request that follows a redirect, None if there is none to follow.

        Only within the origin: httpx would send the key along to any other.
        """
        target = response.next_request
        if target is None or not self.follow_redirects or followed >= MAX_REDIRECTS:
            return None
        return target if _origin(target.url) == _origin(response.request.url) else None

    def read(self, response: httpx.Response) -> ApiResponse:
        """Take over a response; an error that quotes the key loses it."""
        pairs, body = list(response.headers.items()), response.content
        if not response.is_success:
            pairs = [(name, value.replace(self.api_key, "...")) for name, value in pairs]
            body = body.replace(self.api_key.encode(), b"...")
        return ApiResponse(response.status_code, pairs, body)

    def failure(self, error: httpx.HTTPError) -> TransportError:
        """Make an error of our own: httpx's holds the request, and with it the key.

        To be raised outside the ``except`` block, so that it does not hold httpx's either.
        """
        words = str(error).replace(self.api_key, "...")
        name = type(error).__name__
        return transport_error(
            f"no answer from {self.base_url}: {name}{f': {words}' if words else ''}",
            sent=not isinstance(error, _NEVER_SENT),
        )


@attrs.frozen
class Call:
    """A request as httpx takes it."""

    method: str
    url: str
    headers: dict[str, str] = attrs.field(repr=False)
    content: bytes | None = attrs.field(repr=False)
    timeout: httpx.Timeout | None
    retry: RetryPolicy

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of ``httpx.Client.request``."""
        arguments: dict[str, Any] = {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "content": self.content,
            "follow_redirects": False,
        }
        return arguments if self.timeout is None else {**arguments, "timeout": self.timeout}

    def wait(self, outcome: ApiResponse | TransportError, retries: int) -> float | None:
        """Return how many seconds to wait before the next try; None if there is none."""
        if isinstance(outcome, TransportError):
            if outcome.sent:
                return None
            response = None
        else:
            response = outcome
        return self.retry.delay(retries, response, now=time.time(), chance=random.random())


class Carrier:
    """Carries requests with a blocking httpx client.

    Args:
        setup: what the client was made with.
        client: the user's own, which stays open; or None.
    """

    def __init__(self, setup: Setup, client: httpx.Client | None) -> None:
        self.setup = setup
        self.sleep: Callable[[float], None] = time.sleep
        self._owned = client is None
        self._client = client
        self._closed = False

    def send(self, request: ApiRequest, options: RequestOptions | None = None) -> ApiResponse:
        """Send a request, again where that may help, and return the answer.

        Raises:
            TransportError: there was none.
        """
        call = self.setup.prepare(request, options)
        retries = 0
        while True:
            outcome = self._try(call)
            seconds = call.wait(outcome, retries)
            if seconds is None:
                return answer(outcome)
            self.sleep(seconds)
            retries += 1

    def close(self) -> None:
        """Close the connections, unless the httpx client is the user's."""
        self._closed = True
        if self._owned and self._client is not None:
            self._client.close()

    def _try(self, call: Call) -> ApiResponse | TransportError:
        client = self._open()
        try:
            response = client.request(**call.arguments())
            for followed in count():
                target = self.setup.redirect(response, followed)
                if target is None:
                    break
                response = client.send(target, follow_redirects=False)
        except httpx.HTTPError as error:
            return self.setup.failure(error)
        return self.setup.read(response)

    def _open(self) -> httpx.Client:
        if self._client is None:
            check_open(self._closed)
            self._client = httpx.Client(timeout=_timeout(TIMEOUT_SECONDS))
            weakref.finalize(self, self._client.close)  # where nobody calls `close`
        return self._client


class AsyncCarrier:
    """Carries requests with httpx on asyncio and trio.

    Connections are kept for the next request only after `keep_connections`: a client that nobody
    closes would leave one behind, and with asyncio it would belong to a loop that has ended.

    Args:
        setup: what the client was made with.
        client: the user's own, which stays open; or None.
    """

    def __init__(self, setup: Setup, client: httpx.AsyncClient | None) -> None:
        self.setup = setup
        self.sleep: Callable[[float], Awaitable[None]] = anyio.sleep
        self._owned = client is None
        self._client = client
        self._kept = 0
        self._closed = False

    async def send(self, request: ApiRequest, options: RequestOptions | None = None) -> ApiResponse:
        """Send a request, again where that may help, and return the answer.

        Raises:
            TransportError: there was none.
        """
        call = self.setup.prepare(request, options)
        retries = 0
        while True:
            outcome = await self._try(call)
            seconds = call.wait(outcome, retries)
            if seconds is None:
                return answer(outcome)
            await self.sleep(seconds)
            retries += 1

    async def keep_connections(self) -> None:
        """Keep connections from here on: someone will close them."""
        if self._owned and self._client is not None:
            await self._client.aclose()
            self._client = None
        self._kept = 20

    async def close(self) -> None:
        """Close the connections, unless the httpx client is the user's."""
        self._closed = True
        if self._owned and self._client is not None:
            await self._client.aclose()

    async def _try(self, call: Call) -> ApiResponse | TransportError:
        client = self._open()
        try:
            response = await client.request(**call.arguments())
            for followed in count():
                target = self.setup.redirect(response, followed)
                if target is None:
                    break
                response = await client.send(target, follow_redirects=False)
        except httpx.HTTPError as error:
            return self.setup.failure(error)
        return self.setup.read(response)

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            check_open(self._closed)
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=self._kept)
            self._client = httpx.AsyncClient(timeout=_timeout(TIMEOUT_SECONDS), limits=limits)
        return self._client


def engine_at(response: ApiResponse, engine_id: str) -> Engine:
    """Read the engine that was asked for by its id."""
    return rest.read_engine(response, engine_id=engine_id, now=time.time())


def resource_of(setup: Setup, engine: Engine, engine_id: str | None = None) -> SpeechEngineResource:
    """Make the resource; as in the official SDK, its id is the one that was asked for."""
    return SpeechEngineResource(engine_id or engine.engine_id, api_key=setup.api_key, config=engine)


def answer(outcome: ApiResponse | TransportError) -> ApiResponse:
    """Return the answer, or raise what came instead."""
    if isinstance(outcome, TransportError):
        raise outcome
    return outcome


def check_open(closed: bool) -> None:
    """Raise RuntimeError for a client that is closed."""
    if closed:
        raise RuntimeError("the client is closed")


def _joined(*parts: Mapping[str, Any]) -> dict[str, str]:
    """Join headers; of two with the same name, in any case, the later one is sent."""
    return {
        name.lower(): str(value)
        for part in parts
        for name, value in part.items()
        if value is not None
    }


def _timeout(seconds: float | None) -> httpx.Timeout | None:
    """Make httpx's object; None leaves it to the httpx client."""
    if seconds is None:
        return None
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
