"""The management client on a loopback socket: what it sends, returns, keeps and closes."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from speech_engine_proto.rest import (
    ElevenLabsEnvironment,
    Engine,
    RetryPolicy,
    UnexpectedResponseError,
)
from speech_engine_transports import SpeechEngineResource
from speech_engine_transports.httpx import AsyncElevenLabs, ElevenLabs

from .caller import INIT, ask, call
from .caller import KEY as CALLERS_KEY
from .clients import KEY, KINDS, Client, everything
from .management import ENGINE, Answer, Service, service

if TYPE_CHECKING:
    from collections.abc import Generator

WS = {"ws_url": "wss://example.com/ws"}


@pytest.fixture
def far() -> Generator[Service]:
    with service() as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ELEVENLABS_API_KEY", "ELEVENLABS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_create(kind: str, far: Service) -> None:
    engine = Client(kind, base_url=far.url).do(
        lambda client: client.speech_engine.create(name="Desk", speech_engine=WS, tags=["a"])
    )
    (seen,) = far.seen
    assert (seen.method, seen.target) == ("POST", "/v1/speech-engine")
    assert seen.json == {"name": "Desk", "speech_engine": WS, "tags": ["a"]}
    assert seen.headers["xi-api-key"] == KEY
    assert seen.headers["content-type"] == "application/json"
    assert isinstance(engine, SpeechEngineResource)
    assert engine.engine_id == "seng_1"
    assert isinstance(engine.config, Engine)
    assert engine.config.model_dump() == ENGINE


@pytest.mark.parametrize("call", ["get", "update"])
def test_get_and_update_keep_the_id_that_was_asked_for(kind: str, call: str, far: Service) -> None:
    engine = Client(kind, base_url=far.url).do(
        lambda client: getattr(client.speech_engine, call)("agent_1")
    )
    assert engine.engine_id == "agent_1"
    assert engine.config.engine_id == "seng_1"


def test_get(kind: str, far: Service) -> None:
    Client(kind, base_url=far.url).do(lambda client: client.speech_engine.get("seng_1"))
    (seen,) = far.seen
    assert (seen.method, seen.target, seen.body) == ("GET", "/v1/speech-engine/seng_1", b"")
    assert "content-type" not in seen.headers


def test_an_id_stays_one_segment_on_the_wire(kind: str, far: Service) -> None:
    Client(kind, base_url=far.url).do(lambda client: client.speech_engine.get("../a/b?c=d#e%2Ff"))
    assert far.seen[0].target == "/v1/speech-engine/..%2Fa%2Fb%3Fc%3Dd%23e%252Ff"


def test_update_as_in_the_quickstart(kind: str, far: Service) -> None:
    Client(kind, base_url=far.url).do(
        lambda client: client.speech_engine.update(
            speech_engine_id="seng_1", overrides={"first_message": True}
        )
    )
    (seen,) = far.seen
    assert (seen.method, seen.target) == ("PATCH", "/v1/speech-engine/seng_1")
    assert seen.json == {"overrides": {"first_message": True}}


def test_delete(kind: str, far: Service) -> None:
    far.answers = [Answer(204), Answer(200, {"status": "ok"})]
    client = Client(kind, base_url=far.url)
    assert client.do(lambda client: client.speech_engine.delete("seng_1")) is None
    assert client.do(lambda client: client.speech_engine.delete("seng_1")) is None
    assert [(seen.method, seen.target) for seen in far.seen] == [
        ("DELETE", "/v1/speech-engine/seng_1")
    ] * 2


def test_duplicate(kind: str, far: Service) -> None:
    far.answers = [Answer(200, {**ENGINE, "speech_engine_id": "seng_2"})]
    engine = Client(kind, base_url=far.url).do(
        lambda client: client.speech_engine.duplicate("seng_1", name="Copy")
    )
    assert engine.engine_id == "seng_2"
    assert far.seen[0].target == "/v1/speech-engine/seng_1/duplicate"
    assert far.seen[0].json == {"name": "Copy"}


def test_list(kind: str, far: Service) -> None:
    far.answers = [Answer(200, {"speech_engines": [ENGINE], "next_cursor": "c", "has_more": True})]
    page = Client(kind, base_url=far.url).do(
        lambda client: client.speech_engine.list(page_size=1, search="a b", cursor="x")
    )
    assert far.seen[0].query == [("page_size", "1"), ("search", "a b"), ("cursor", "x")]
    assert [engine.engine_id for engine in page.speech_engines] == ["seng_1"]
    assert page.next_cursor == "c"


def page_of(*ids: str, cursor: str | None) -> Answer:
    entries = [{"speech_engine_id": engine_id} for engine_id in ids]
    more = cursor is not None
    return Answer(200, {"speech_engines": entries, "next_cursor": cursor, "has_more": more})


def test_list_all_goes_from_page_to_page(kind: str, far: Service) -> None:
    far.answers = [page_of("1", "2", cursor="c1"), page_of(cursor="c2"), page_of("3", cursor=None)]
    engines = Client(kind, base_url=far.url).do(
        lambda client: everything(client.speech_engine.list_all(page_size=2, sort_by="name"))
    )
    assert [engine.engine_id for engine in engines] == ["1", "2", "3"]
    first = [("page_size", "2"), ("sort_by", "name")]
    assert [seen.query for seen in far.seen] == [
        first,
        [*first, ("cursor", "c1")],
        [*first, ("cursor", "c2")],
    ]


def test_list_all_does_not_go_round_in_circles(kind: str, far: Service) -> None:
    far.answers = [page_of("1", cursor="c"), page_of("1", cursor="c")]
    client = Client(kind, base_url=far.url)
    with pytest.raises(UnexpectedResponseError, match="another cursor"):
        client.do(lambda client: everything(client.speech_engine.list_all()))
    assert len(far.seen) == 2


def test_the_token_and_the_signed_url(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    token = client.do(
        lambda client: client.conversational_ai.conversations.get_webrtc_token(
            agent_id="seng_1", participant_name="Ann"
        )
    )
    signed = client.do(
        lambda client: client.conversational_ai.conversations.get_signed_url(
            agent_id="seng_1", include_conversation_id=True
        )
    )
    assert (token.token, token.conversation_id) == ("t0ken", "conv_1")
    assert signed.signed_url == "wss://a/v1/convai/conversation?s=1"
    assert [seen.target for seen in far.seen] == [
        "/v1/convai/conversation/token?agent_id=seng_1&participant_name=Ann",
        "/v1/convai/conversation/get-signed-url?agent_id=seng_1&include_conversation_id=true",
    ]


def test_what_is_wrong_is_said_before_anything_is_sent(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    with pytest.raises(ValueError, match="got https://; write wss:// instead"):
        client.do(lambda client: client.speech_engine.create(speech_engine={"ws_url": "https://a"}))
    with pytest.raises(ValueError, match="speech_engine_id: expected text, got NoneType"):
        client.do(lambda client: client.speech_engine.get(None))
    with pytest.raises(TypeError, match="unknown setting 'override'"):
        client.do(lambda client: client.speech_engine.update("seng_1", override={}))
    assert far.seen == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_list_all_may_be_left_early(backend: str, far: Service) -> None:
    far.answers = [page_of("1", "2", cursor="c1")]

    async def main() -> str:
        client = AsyncElevenLabs(api_key=KEY, base_url=far.url)
        with pytest.raises(ValueError, match="page_size: expected an int"):
            client.speech_engine.list_all(page_size=0)
        async for engine in client.speech_engine.list_all():
            return engine.engine_id
        return "nothing"

    assert anyio.run(main, backend=backend) == "1"
    assert len(far.seen) == 1


# --- options of a request


def test_one_header_is_sent_once(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url, headers={"XI-API-Key": "sk_no", "User-Agent": "mine"})
    client.do(lambda client: client.speech_engine.get("seng_1"))
    assert far.seen[0].headers["user-agent"] == "mine"
    assert far.seen[0].headers["xi-api-key"] == KEY
    names = [name.lower() for name, _ in far.seen[0].pairs]
    assert len(names) == len(set(names))


def test_the_options_of_a_request(kind: str, far: Service) -> None:
    options = {
        "timeout_in_seconds": 5,
        "max_retries": 0,
        "additional_headers": {"X-Team": "a", "X-Number": 1, "X-None": None},
        "additional_query_parameters": {"later": True},
        "additional_body_parameters": {"new": {"a": 1}},
        "chunk_size": 100,
    }
    Client(kind, base_url=far.url, headers={"X-Team": "b", "X-All": "c"}).do(
        lambda client: client.speech_engine.update("seng_1", name="x", request_options=options)
    )
    (seen,) = far.seen
    assert (seen.headers["x-team"], seen.headers["x-all"], seen.headers["x-number"]) == (
        "a",
        "c",
        "1",
    )
    assert "x-none" not in seen.headers
    assert seen.query == [("later", "true")]
    assert seen.json == {"name": "x", "new": {"a": 1}}


def test_every_method_takes_options(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    options: Any = {"additional_headers": {"X-Team": "a"}}
    calls: list[Any] = [
        lambda c: c.speech_engine.create(speech_engine=WS, request_options=options),
        lambda c: c.speech_engine.get("seng_1", request_options=options),
        lambda c: c.speech_engine.update("seng_1", request_options=options),
        lambda c: c.speech_engine.duplicate("seng_1", request_options=options),
        lambda c: c.speech_engine.delete("seng_1", request_options=options),
        lambda c: c.speech_engine.list(request_options=options),
        lambda c: everything(c.speech_engine.list_all(request_options=options)),
        lambda c: c.conversational_ai.conversations.get_webrtc_token(
            agent_id="seng_1", request_options=options
        ),
        lambda c: c.conversational_ai.conversations.get_signed_url(
            agent_id="seng_1", request_options=options
        ),
    ]
    for each in calls:
        client.do(each)
    assert [seen.headers["x-team"] for seen in far.seen] == ["a"] * len(calls)


def test_an_unknown_option_is_named(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    with pytest.raises(TypeError, match="request_options: unknown 'retries'; expected some of"):
        client.do(lambda c: c.speech_engine.get("seng_1", request_options={"retries": 1}))


# --- keys and hosts


@pytest.mark.parametrize("make", [ElevenLabs, AsyncElevenLabs])
def test_the_environment_is_read_when_a_client_is_made(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="got none; pass api_key= or set ELEVENLABS_API_KEY"):
        make(api_key=None)
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_env_residency_eu")
    assert repr(make()) == f"{make.__name__}(base_url='https://api.eu.residency.elevenlabs.io')"
    monkeypatch.setenv("ELEVENLABS_BASE_URL", "http://127.0.0.1:1")
    client = make()
    monkeypatch.delenv("ELEVENLABS_API_KEY")
    monkeypatch.delenv("ELEVENLABS_BASE_URL")
    assert repr(client) == f"{make.__name__}(base_url='http://127.0.0.1:1')"


@pytest.mark.parametrize("make", [ElevenLabs, AsyncElevenLabs])
def test_arguments_outrank_the_environment(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_BASE_URL", "http://127.0.0.1:1")
    assert "http://a.example" in repr(make(api_key=KEY, base_url="http://a.example"))
    eu = ElevenLabsEnvironment.PRODUCTION_EU
    assert eu.value in repr(make(api_key=KEY, environment=eu))
    assert eu.value in repr(make(api_key=KEY, environment="eu"))
    assert "http://127.0.0.1:1" in repr(make(api_key=f"{KEY}_residency_eu"))


def test_the_key_of_the_environment_is_sent(
    kind: str, far: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", " sk_env\n")
    monkeypatch.setenv("ELEVENLABS_BASE_URL", f"{far.url}/")
    client = Client(kind, api_key=None)
    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_later")
    engine = client.do(lambda client: client.speech_engine.get("seng_1"))
    assert far.seen[0].headers["xi-api-key"] == "sk_env"
    assert engine._api_key == "sk_env"


def test_a_path_of_the_base_is_kept(kind: str, far: Service) -> None:
    client = Client(kind, base_url=f"{far.url}/under")
    client.do(lambda client: client.speech_engine.get("seng_1"))
    assert far.seen[0].path == "/under/v1/speech-engine/seng_1"


# --- connections


def test_a_with_block_keeps_a_connection_and_closes_it(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)

    def get(client: Any) -> Any:
        return client.speech_engine.get("seng_1")

    client.inside(get, get, get)
    assert (len(far.seen), far.connections) == (3, 1)
    with pytest.raises(RuntimeError, match="closed"):
        client.do(get)


def test_a_closed_client_is_not_opened_again(kind: str, far: Service) -> None:
    client = Client(kind, base_url=far.url)
    client.do(lambda client: closing(client))
    client.do(lambda client: closing(client))
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.do(lambda client: client.speech_engine.get("seng_1"))
    assert far.seen == []


def closing(client: Any) -> Any:
    return client.close()


def test_a_blocking_client_keeps_a_connection(far: Service) -> None:
    client = ElevenLabs(api_key=KEY, base_url=far.url)
    client.speech_engine.get("seng_1")
    client.speech_engine.get("seng_1")
    assert far.connections == 1  # which is closed when the client is collected


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_a_loop_nothing_is_left_open(backend: str, far: Service) -> None:
    """So that a client may outlive the loop that it was first used on."""
    client = Client(backend, base_url=far.url)
    for _ in range(2):
        client.do(lambda client: client.speech_engine.get("seng_1"))
    assert far.connections == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_used_client_can_be_entered(backend: str, far: Service) -> None:
    async def main() -> None:
        client = AsyncElevenLabs(api_key=KEY, base_url=far.url)
        await client.speech_engine.get("seng_1")
        async with client:
            await client.speech_engine.get("seng_1")
            await client.speech_engine.get("seng_1")
        assert far.connections == 2

    anyio.run(main, backend=backend)


def own_client(kind: str, **options: Any) -> httpx.Client | httpx.AsyncClient:
    return httpx.Client(**options) if kind == "blocking" else httpx.AsyncClient(**options)


def get_and_close(client: Any) -> Any:
    if isinstance(client, ElevenLabs):
        engine = client.speech_engine.get("seng_1")
        client.close()
        return engine

    async def both() -> Any:
        engine = await client.speech_engine.get("seng_1")
        await client.close()
        return engine

    return both()


def test_a_client_of_httpx_may_be_given(kind: str, far: Service) -> None:
    limits = httpx.Limits(max_keepalive_connections=0)
    mine = own_client(kind, headers={"X-Mine": "1"}, follow_redirects=True, limits=limits)
    client = Client(kind, base_url=far.url, httpx_client=mine, timeout=None)
    for _ in range(2):
        client.do(get_and_close)
    assert far.seen[1].headers["x-mine"] == "1"
    assert far.seen[1].headers["xi-api-key"] == KEY
    assert not mine.is_closed


def test_the_other_kind_of_httpx_client_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected an httpx\.AsyncClient, got Client"):
        AsyncElevenLabs(api_key=KEY, httpx_client=httpx.Client())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected an httpx\.Client, got AsyncClient"):
        ElevenLabs(api_key=KEY, httpx_client=httpx.AsyncClient())  # type: ignore[arg-type]


# --- what a resource is for


class Listening(logging.Handler):
    """Tells the port once a server says that it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.happened = anyio.Event()
        self.port = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("listening on"):
            self.port = int(record.getMessage().rpartition(" ")[2])
            self.happened.set()


def test_the_engine_serves_with_the_clients_key(
    far: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The quickstart's server, on a port of its own."""

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(f"You said {transcript[-1].content}.")

    async def main() -> None:
        caplog.set_level(logging.INFO, logger="speech_engine_transports")
        logging.getLogger("speech_engine_transports").addHandler(listening := Listening())
        elevenlabs = AsyncElevenLabs(api_key=CALLERS_KEY, base_url=far.url)
        engine = await elevenlabs.speech_engine.get("seng_1")
        async with anyio.create_task_group() as group:

            async def serve() -> None:
                await engine.serve(
                    host="127.0.0.1", port=0, path="/ws", on_transcript=on_transcript
                )

            group.start_soon(serve)
            await listening.happened.wait()
            async with call(listening.port) as ws:
                await ws.send(INIT)
                assert await ask(ws, "hello", 1) == "You said hello."
            group.cancel_scope.cancel()
        logging.getLogger("speech_engine_transports").removeHandler(listening)

    anyio.run(main)


# --- imports


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_loads_no_library_that_httpx_does_not() -> None:
    code = (
        "import sys, httpx; before = set(sys.modules); import speech_engine_transports.httpx;"
        "print([m for m in ('elevenlabs', 'aiohttp', 'trio', 'websockets', 'pydantic',"
        " 'hypothesis') if m in set(sys.modules) - before])"
    )
    assert python(code) == "[]"


def test_its_name_does_not_hide_the_library() -> None:
    code = (
        "import speech_engine_transports.httpx as ours, httpx;"
        "print(httpx.__name__, hasattr(httpx, 'ElevenLabs'), ours.__name__)"
    )
    assert python(code) == "httpx False speech_engine_transports.httpx"


def test_a_missing_library_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "try:\n    import speech_engine_transports.httpx\n"
        "except ImportError as error:\n    print(error)"
    )
    assert "pip install 'speech-engine-proto[client]'" in python(code)


def test_the_default_policy_is_that_of_the_proto() -> None:
    assert ElevenLabs(api_key=KEY)._carrier.setup.retry == RetryPolicy()
