"""The API key is sent, and is nowhere else: in no repr, log or error, nor behind an error."""

from __future__ import annotations

import logging
import socket
import traceback
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from speech_engine_proto.rest import ApiError, TransportError, get_engine
from speech_engine_transports.httpx import AsyncElevenLabs, ElevenLabs

from .clients import KEY, KINDS, Client
from .management import Answer, Service, service

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def far() -> Generator[Service]:
    with service() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(client: Any) -> Any:
    return client.speech_engine.get("seng_1")


def raised(client: Client) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client.do(get)
    return caught.value


def everything_about(error: BaseException) -> str:
    """Return what an error handler could write down, and what stands behind the error."""
    shown = [
        str(error),
        repr(error),
        repr(vars(error)),
        *traceback.format_exception(error),
    ]
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            shown.append(everything_about(behind))
            shown += [repr(value) for value in vars(behind).values()]
            request = getattr(behind, "request", None)
            shown.append(repr(getattr(request, "headers", "")))
    return "\n".join(shown)


def test_httpx_itself_would_show_the_key() -> None:
    """Why no error of httpx may stand behind one of ours."""
    assert KEY in repr(httpx.Request("GET", "http://a", headers={"xi-api-key": KEY}).headers)


def test_no_repr_shows_it(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    carrier = client.client._carrier
    engine = client.do(get)
    call = carrier.setup.prepare(get_engine("seng_1"), None)
    assert call.headers["xi-api-key"] == KEY
    things = [client.client, carrier, carrier.setup, call, engine, engine.config]
    things += [client.client.speech_engine, client.client.conversational_ai.conversations]
    for thing in things:
        assert KEY not in repr(thing)
        assert KEY not in str(thing)


def test_no_log_shows_it(kind: str, far: Service, caplog: pytest.LogCaptureFixture) -> None:
    far.answers = [Answer(503), Answer(401, {"detail": f"bad key {KEY}"})]
    with caplog.at_level(logging.DEBUG):
        raised(Client(kind, base_url=far.url))
        Client(kind, base_url=far.url).do(get)
    assert "HTTP Request: GET" in caplog.text
    assert KEY not in caplog.text


def test_a_service_that_quotes_the_key(kind: str, far: Service) -> None:
    far.answers = [
        Answer(401, {"detail": {"message": f"wrong key {KEY}", "code": KEY}}, {"X-Key": KEY}),
        Answer(403, f"<html>{KEY}</html>".encode(), {"Request-Id": KEY}),
    ]
    client = Client(kind, base_url=far.url)
    first = raised(client)
    assert str(first) == "401 wrong key ... (code ...)"
    assert KEY not in everything_about(first)
    assert KEY not in everything_about(raised(client))


def test_no_error_of_httpx_stands_behind_ours(kind: str, far: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    far.answers = [Answer(hang_up=True)]
    for url in (far.url, f"http://127.0.0.1:{port}"):
        error = raised(Client(kind, base_url=url))
        assert isinstance(error, TransportError)
        assert (error.__cause__, error.__context__) == (None, None)
        assert KEY not in everything_about(error)


@pytest.mark.parametrize("make", [ElevenLabs, AsyncElevenLabs])
@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: a", f"{KEY} {KEY}", f"{KEY}ü", f"{KEY}\0"])
def test_a_key_that_no_header_holds_is_not_quoted(make: Any, key: str) -> None:
    with pytest.raises(ValueError, match="api_key: expected printable ASCII") as caught:
        make(api_key=key)
    assert KEY not in everything_about(caught.value)


@pytest.mark.parametrize("make", [ElevenLabs, AsyncElevenLabs])
def test_an_unknown_region_does_not_quote_the_key(make: Any) -> None:
    with pytest.raises(ValueError, match="got 'mars'") as caught:
        make(api_key=f"{KEY}_residency_mars")
    assert KEY not in str(caught.value)
