"""What the management client does when the service refuses, fails, moves or is silent."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from speech_engine_proto import rest
from speech_engine_proto.rest import ApiError, RetryPolicy, TransportError

from .clients import KEY, KINDS, Client
from .management import ENGINE, Answer, Service, service

if TYPE_CHECKING:
    from collections.abc import Generator

EXACT = RetryPolicy(jitter=0)
WS = {"ws_url": "wss://example.com/ws"}


@pytest.fixture
def far() -> Generator[Service]:
    with service() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(client: Any, **options: Any) -> Any:
    return client.speech_engine.get("seng_1", **options)


def create(client: Any) -> Any:
    return client.speech_engine.create(speech_engine=WS, name="Desk")


def detail(code: str) -> dict[str, Any]:
    return {"detail": {"type": "t", "code": code, "message": "words", "request_id": "req_1"}}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, rest.BadRequestError),
        (401, rest.UnauthorizedError),
        (403, rest.ForbiddenError),
        (404, rest.NotFoundError),
        (409, rest.ConflictError),
        (422, rest.UnprocessableEntityError),
        (451, ApiError),
    ],
)
def test_a_refusal_is_raised_at_once(
    kind: str, status: int, error: type[ApiError], far: Service
) -> None:
    far.answers = [Answer(status, detail("some_code"))]
    client = Client(kind, base_url=far.url)
    with pytest.raises(error) as caught:
        client.do(get)
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.code) == (status, "some_code")
    assert (caught.value.message, caught.value.request_id) == ("words", "req_1")
    assert (len(far.seen), client.waits) == (1, [])


def test_the_fields_of_a_422_are_named(kind: str, far: Service) -> None:
    wrong = {"loc": ["body", "name"], "msg": "too long", "type": "string_too_long"}
    far.answers = [Answer(422, {"detail": [wrong]})]
    with pytest.raises(rest.UnprocessableEntityError, match=r"body\.name: too long"):
        Client(kind, base_url=far.url).do(create)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(kind: str, status: int, far: Service) -> None:
    far.answers = [Answer(status), Answer(status, b"<html>")]
    client = Client(kind, base_url=far.url, retry=EXACT)
    assert client.do(create).engine_id == "seng_1"
    assert client.waits == [1.0, 2.0]
    assert len(far.seen) == 3
    assert far.seen[0].json == {"speech_engine": WS, "name": "Desk"}
    assert [(s.method, s.target, s.json) for s in far.seen[1:]] == [
        (far.seen[0].method, far.seen[0].target, far.seen[0].json)
    ] * 2


def test_it_waits_as_long_as_the_service_says(kind: str, far: Service) -> None:
    far.answers = [
        Answer(429, headers={"Retry-After": "7"}),
        Answer(503, headers={"Retry-After": "0.25"}),
    ]
    client = Client(kind, base_url=far.url)
    client.do(get)
    assert client.waits == [7.0, 0.25]


def test_a_wait_may_be_a_date(kind: str, far: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 784_111_777.0)
    far.answers = [Answer(503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:57 GMT"})]
    client = Client(kind, base_url=far.url)
    client.do(get)
    assert client.waits == [20.0]


def test_a_wait_that_is_too_long_is_left_to_the_caller(kind: str, far: Service) -> None:
    far.answers = [Answer(429, detail("rate_limit"), headers={"Retry-After": "3600"})]
    client = Client(kind, base_url=far.url)
    with pytest.raises(rest.RateLimitError) as caught:
        client.do(get)
    assert caught.value.retry_after == 3600.0
    assert (len(far.seen), client.waits) == (1, [])


def test_it_gives_up(kind: str, far: Service) -> None:
    far.answers = [Answer(503, detail(f"try_{n}")) for n in range(3)]
    client = Client(kind, base_url=far.url, retry=EXACT)
    with pytest.raises(rest.ServerError, match="try_2"):
        client.do(get)
    assert (len(far.seen), client.waits) == (3, [1.0, 2.0])


def test_one_request_may_have_other_retries(kind: str, far: Service) -> None:
    far.answers = [Answer(500)] * 5
    client = Client(kind, base_url=far.url, retry=EXACT)
    for tries in (0, 3):
        options = {"max_retries": tries}
        with pytest.raises(rest.ServerError):
            client.do(partial(get, request_options=options))
    assert client.waits == [1.0, 2.0, 4.0]
    assert len(far.seen) == 5


def test_a_service_that_is_not_there_is_tried_again(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(kind, base_url=f"http://127.0.0.1:{port}", retry=EXACT)
    with pytest.raises(TransportError, match=rf"no answer from http://127\.0\.0\.1:{port}: Conn"):
        client.do(create)
    assert client.waits == [1.0, 2.0]


def test_a_request_that_may_have_arrived_is_not_sent_twice(kind: str, far: Service) -> None:
    far.answers = [Answer(hang_up=True)]
    client = Client(kind, base_url=far.url)
    with pytest.raises(TransportError, match="no answer from") as caught:
        client.do(create)
    assert caught.value.sent
    assert (len(far.seen), client.waits) == (1, [])


def test_a_silent_service_is_given_up(kind: str, far: Service) -> None:
    far.silent = True
    # Only the wait for the answer is short: a busy machine may take its time to connect.
    patient = httpx.Timeout(60, read=0.02)
    mine: Any = (httpx.Client if kind == "blocking" else httpx.AsyncClient)(timeout=patient)
    client = Client(kind, base_url=far.url, httpx_client=mine, timeout=None)
    with pytest.raises(TransportError, match="ReadTimeout") as caught:
        client.do(get)
    assert caught.value.sent
    assert far.arrived.wait(60)
    assert (len(far.seen), client.waits) == (1, [])
    client.do(lambda _: mine.close() if kind == "blocking" else mine.aclose())


def test_time_limits(kind: str) -> None:
    def limit(seconds: float | None, **options: Any) -> httpx.Timeout | None:
        setup = Client(kind, timeout=seconds).client._carrier.setup
        timeout: httpx.Timeout | None = setup.prepare(rest.get_engine("seng_1"), options).timeout
        return timeout

    assert Client(kind).client._carrier.setup.timeout == 240
    assert limit(240) == httpx.Timeout(240, connect=10)
    assert limit(5) == httpx.Timeout(5, connect=5)
    assert limit(5, timeout_in_seconds=30) == httpx.Timeout(30, connect=10)
    assert limit(5, timeout_in_seconds=None) == httpx.Timeout(5, connect=5)
    assert limit(None) is None  # the httpx client's own


def test_success_without_an_engine(kind: str, far: Service) -> None:
    far.answers = [Answer(200, b"<html>It works!</html>"), Answer(201, {})]
    client = Client(kind, base_url=far.url)
    with pytest.raises(rest.UnexpectedResponseError, match="expected a JSON object, got str"):
        client.do(get)
    with pytest.raises(rest.UnexpectedResponseError, match="speech_engine_id"):
        client.do(create)


# On trio httpx leaves its own generators to the garbage collector, which trio warns about.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
def test_a_broken_encoding(kind: str, far: Service) -> None:
    far.answers = [Answer(200, b"no gzip", headers={"Content-Encoding": "gzip"})]
    with pytest.raises(TransportError, match="DecodingError"):
        Client(kind, base_url=far.url).do(get)


# --- redirects


def moved(target: str, status: int = 307) -> Answer:
    return Answer(status, headers={"Location": target})


def test_a_redirect_within_the_origin_is_followed(kind: str, far: Service) -> None:
    far.answers = [moved("/v1/speech-engine/"), moved(f"{far.url}/v2/x", 308), Answer(201, ENGINE)]
    assert Client(kind, base_url=far.url).do(create).engine_id == "seng_1"
    assert [(s.method, s.target) for s in far.seen] == [
        ("POST", "/v1/speech-engine"),
        ("POST", "/v1/speech-engine/"),
        ("POST", "/v2/x"),
    ]
    assert far.seen[2].json == far.seen[0].json
    assert far.seen[2].headers["xi-api-key"] == KEY


def test_the_key_does_not_follow_to_another_origin(kind: str, far: Service) -> None:
    with service() as other:
        far.answers = [moved(f"{other.url}/v1/speech-engine/seng_1")]
        with pytest.raises(ApiError, match="307 Temporary Redirect"):
            Client(kind, base_url=far.url).do(get)
        assert other.seen == []


def test_redirects_come_to_an_end(kind: str, far: Service) -> None:
    far.answers = [moved("/again")] * 9
    with pytest.raises(ApiError, match="307"):
        Client(kind, base_url=far.url).do(get)
    assert len(far.seen) == 6


def test_redirects_may_be_switched_off(kind: str, far: Service) -> None:
    far.answers = [moved("/again")]
    with pytest.raises(ApiError, match="307"):
        Client(kind, base_url=far.url, follow_redirects=False).do(get)
    assert len(far.seen) == 1
