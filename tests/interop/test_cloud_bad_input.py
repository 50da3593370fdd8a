"""What goes wrong, end to end: each client gets its documented error, and the others are served on.

The refusals are those of the fact sheet: 4 for the management API, 5.3 and 5.7 for conversations.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs
import httpx
import pytest
from websockets.asyncio.client import connect

from tests.local.servers import Call, answering, raw_server

from .callers import QUIET, Caller, calling
from .diary import PATIENCE
from .talkers import KEY, Talker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from speech_engine_local.cloud import Cloud, Engine
    from tests.local.servers import Behaviour

pytestmark = pytest.mark.anyio

HERE = {"xi-api-key": KEY}
BROWSER = "convai"


class Site:
    """The cloud as its clients reach it."""

    def __init__(self, cloud: Cloud, http: httpx.AsyncClient) -> None:
        self.cloud = cloud
        self.http = http

    async def new_engine(self, ws_url: str, **settings: Any) -> str:
        body = {"speech_engine": {"ws_url": ws_url}, **settings}
        response = await self.http.post("/v1/speech-engine", json=body, headers=HERE)
        assert response.is_success, response.text
        engine_id: str = response.json()["speech_engine_id"]
        return engine_id

    async def hurry(self, engine_id: str) -> None:
        """Make an engine less patient than the API allows, so that no test waits 6 seconds."""

        def change(engine: Engine) -> Engine:
            return attrs.evolve(
                engine, settings={**engine.settings, "cascade_timeout_seconds": 0.2}
            )

        assert await self.cloud.store.change(engine_id, change)

    def address(self, engine_id: str, **query: str) -> str:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        url = self.cloud.url.replace("http", "ws", 1)
        return f"{url}/v1/convai/conversation?agent_id={engine_id}{more}"

    async def signed_url(self, engine_id: str) -> str:
        response = await self.http.get(
            "/v1/convai/conversation/get-signed-url",
            params={"agent_id": engine_id},
            headers=HERE,
        )
        url: str = response.json()["signed_url"]
        return url


class Bystander:
    """Another client, in the middle of a reply while something goes wrong elsewhere."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def begin(self) -> None:
        await self._caller.begin(**QUIET)
        await self._caller.say("count")
        await self._caller.part("three, ")

    async def go_on(self) -> None:
        """Interrupt the reply, and have two more turns answered."""
        await self._caller.say("Are you there?")
        assert await self._caller.reply() == "One, two, three, "
        assert await self._caller.reply() == "You said: Are you there?."
        await self._caller.say("Good")
        assert await self._caller.reply() == "You said: Good."
        assert self._caller.diary.all("error") == []
        assert self._caller.diary.all("closed") == []


@pytest.fixture
async def site(cloud: Cloud) -> AsyncGenerator[Site]:
    async with httpx.AsyncClient(base_url=cloud.url, trust_env=False, timeout=PATIENCE) as http:
        yield Site(cloud, http)


@asynccontextmanager
async def others_served(site: Site, talker: Talker, count: int = 1) -> AsyncGenerator[None]:
    """Hold other conversations across the block: begun before it, and gone on with after it."""
    engine_id = await site.new_engine(talker.url)
    async with AsyncExitStack() as stack:
        others = [
            Bystander(await stack.enter_async_context(calling(site.address(engine_id))))
            for _ in range(count)
        ]
        for other in others:
            await other.begin()
        yield
        for other in others:
            await other.go_on()


# --- the management API

Sent = dict[str, Any]
"""The keywords of a request, as httpx takes them."""

REFUSED: dict[str, tuple[Sent, int, str]] = {
    "no key": ({"json": {}}, 401, "missing_api_key"),
    "wrong key": ({"json": {}, "headers": {"xi-api-key": "sk_wrong"}}, 401, "invalid_api_key"),
    "key not in ASCII": ({"headers": {"xi-api-key": "ключ".encode()}}, 401, "invalid_api_key"),
    "wrong key, 10 MB": (
        {"content": b" " * 10_000_000, "headers": {"xi-api-key": "sk_wrong"}},
        401,
        "invalid_api_key",
    ),
    "10 MB": ({"content": b"[" * 10_000_000, "headers": HERE}, 413, "body_too_large"),
    "unknown address": ({"url": "/v1/speech-engines", "headers": HERE}, 404, "not_found"),
    "wrong method": (
        {"url": "/v1/speech-engine/seng_x", "headers": HERE}, 405, "method_not_allowed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_is_refused(name: str, site: Site, talker: Talker) -> None:
    sent, status, code = REFUSED[name]
    async with others_served(site, talker):
        response = await post(site, **sent)
    assert response.status_code == status
    detail = response.json()["detail"]
    assert detail["code"] == code
    assert detail["type"]
    assert detail["message"]
    assert detail["request_id"]


WS_URL = {"ws_url": "ws://127.0.0.1:1/ws"}

INVALID: dict[str, tuple[bytes, list[Any]]] = {
    "no JSON": (b"{", ["body"]),
    "no UTF-8": (b'{"name": "\xff"}', ["body"]),
    "nested without end": (b"[" * 100_000, ["body"]),
    "an array": (b"[]", ["body"]),
    "null": (b"null", ["body"]),
    "nothing in it": (b"{}", ["body", "speech_engine"]),
    "no address": (b'{"speech_engine": {}}', ["body", "speech_engine", "ws_url"]),
    "an http address": (
        b'{"speech_engine": {"ws_url": "http://x/ws"}}', ["body", "speech_engine", "ws_url"]
    ),
    "a number for a name": (
        json.dumps({"speech_engine": WS_URL, "name": 5}).encode(), ["body", "name"]
    ),
    "a timeout that is too long": (
        json.dumps({"speech_engine": WS_URL, "cascade_timeout_seconds": 16}).encode(),
        ["body", "cascade_timeout_seconds"],
    ),
    "a string among the tags": (
        json.dumps({"speech_engine": WS_URL, "tags": ["a", 1]}).encode(), ["body", "tags", 1]
    ),
    "a string for a boolean": (
        json.dumps({"speech_engine": WS_URL, "overrides": {"first_message": "yes"}}).encode(),
        ["body", "overrides", "first_message"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
async def test_a_body_is_wrong(name: str, site: Site, talker: Talker) -> None:
    body, where = INVALID[name]
    async with others_served(site, talker):
        response = await post(site, content=body, headers=HERE)
    assert response.status_code == 422
    (detail,) = response.json()["detail"]
    assert detail["loc"][: len(where)] == where
    assert detail["msg"]
    assert detail["type"]


@pytest.mark.parametrize(
    "path", ["/v1/speech-engine/{}", "/v1/convai/conversation/token?agent_id={}"]
)
async def test_an_engine_is_unknown(path: str, site: Site, talker: Talker) -> None:
    async with others_served(site, talker):
        response = await site.http.get(path.format("seng_nobody"), headers=HERE)
    assert response.status_code == 404
    assert response.json()["detail"]["type"] == "not_found"


async def post(site: Site, url: str = "/v1/speech-engine", **sent: Any) -> httpx.Response:
    return await site.http.post(url, **sent)


# --- conversations that are refused: accepted, and closed with a reason that a browser can show


async def test_a_conversation_with_an_unknown_engine(site: Site, talker: Talker) -> None:
    async with others_served(site, talker), calling(site.address("seng_nobody")) as caller:
        code, reason = await caller.refused()
    assert code == 1008
    assert reason


async def test_no_engine_is_named(site: Site, talker: Talker) -> None:
    url = site.address("x").removesuffix("?agent_id=x")
    async with others_served(site, talker), calling(url) as caller:
        code, reason = await caller.refused()
    assert code == 1008
    assert "agent_id" in reason


async def test_a_signed_url_is_good_for_one_conversation(site: Site, talker: Talker) -> None:
    engine_id = await site.new_engine(talker.url, auth={"enable_auth": True})
    url = await site.signed_url(engine_id)
    async with calling(url) as first:
        await first.begin(**QUIET)
        async with calling(url) as second:
            code, reason = await second.refused()
        assert code == 1008
        assert "used" in reason
        await first.say("Hello")
        assert await first.reply() == "You said: Hello."
    await talker.ended.wait()
    assert [each for each in talker.events if each.startswith("init")] == talker.events[:1]


async def test_many_want_one_signed_url_at_once(site: Site, talker: Talker) -> None:
    engine_id = await site.new_engine(talker.url, auth={"enable_auth": True})
    url = await site.signed_url(engine_id)

    async def attempt() -> str:
        async with calling(url) as caller:
            await caller.send("conversation_initiation_client_data", **QUIET)
            begun = asyncio.create_task(caller.diary.next("conversation_initiation_metadata"))
            closed = asyncio.create_task(caller.diary.next("closed"))
            done, rest = await asyncio.wait({begun, closed}, return_when="FIRST_COMPLETED")
            for task in rest:
                task.cancel()
            return "begun" if begun in done else "closed"

    results = await asyncio.gather(*(attempt() for _ in range(8)))
    assert sorted(results) == ["begun"] + ["closed"] * 7


@pytest.mark.parametrize(
    "query", [{}, {"conversation_signature": "made_up"}], ids=["no ticket", "a made-up ticket"]
)
async def test_a_private_engine_wants_a_ticket(
    query: dict[str, str], site: Site, talker: Talker
) -> None:
    engine_id = await site.new_engine(talker.url, auth={"enable_auth": True})
    async with others_served(site, talker), calling(site.address(engine_id, **query)) as caller:
        code, reason = await caller.refused()
    assert code == 1008
    assert reason


async def test_an_engine_is_full(site: Site, talker: Talker) -> None:
    limits = {"agent_concurrency_limit": 1}
    url = site.address(await site.new_engine(talker.url, call_limits=limits))
    async with calling(url) as first:
        await first.begin(**QUIET)
        async with calling(url) as second:
            code, reason = await second.refused()
        assert code == 1008
        assert reason
        await first.say("Hello")
        assert await first.reply() == "You said: Hello."
    await talker.ended.wait()
    while site.cloud.sockets:  # the agent may hear of the end before the cloud is done with it
        await anyio.lowlevel.checkpoint()
    async with calling(url) as third:
        await third.begin(**QUIET)


async def test_no_subprotocol(site: Site, talker: Talker) -> None:
    """The official Python client offers none: it is served."""
    url = site.address(await site.new_engine(talker.url))
    async with calling(url, subprotocol=None) as caller:
        assert caller.ws.subprotocol is None
        await caller.begin(**QUIET)
        await caller.say("Hello")
        assert await caller.reply() == "You said: Hello."


async def test_the_subprotocol_is_echoed(site: Site, talker: Talker) -> None:
    url = site.address(await site.new_engine(talker.url))
    async with calling(url) as caller:
        assert caller.ws.subprotocol == BROWSER
    async with calling(url, subprotocol="other") as caller:
        assert caller.ws.subprotocol is None


async def test_no_websocket_at_all(site: Site, talker: Talker) -> None:
    engine_id = await site.new_engine(talker.url)
    async with others_served(site, talker):
        response = await site.http.get(f"/v1/convai/conversation?agent_id={engine_id}")
    assert response.status_code == 426


# --- frames that are wrong

FIRST_FRAMES: dict[str, tuple[str | bytes, int]] = {
    "another frame first": ('{"type":"user_message","text":"x"}', 1002),
    "no JSON": ("{", 1002),
    "binary": (b"\x00\x01", 1002),
    "an override that is not allowed": (
        json.dumps(
            {
                "type": "conversation_initiation_client_data",
                "conversation_config_override": {"agent": {"prompt": {"prompt": "Be rude."}}},
            }
        ),
        1008,
    ),
    "a first message where it is not allowed": (
        json.dumps(
            {
                "type": "conversation_initiation_client_data",
                "conversation_config_override": {"agent": {"first_message": "Hi."}},
            }
        ),
        1008,
    ),
}


@pytest.mark.parametrize("name", FIRST_FRAMES)
async def test_the_first_frame_is_wrong(name: str, site: Site, talker: Talker) -> None:
    frame, code = FIRST_FRAMES[name]
    url = site.address(await site.new_engine(talker.url))
    async with others_served(site, talker), calling(url) as caller:
        await caller.ws.send(frame)
        (error,) = await caller.diary.next("error")
        assert error["code"] == code
        assert error["message"]
        assert (await caller.closed())[0] == code
    assert "conversation_initiation_metadata" not in caller.diary.kinds()
    assert len([each for each in talker.events if each.startswith("init")]) == 1  # the bystander's


LATER_FRAMES: dict[str, str | bytes] = {
    "no JSON": "{",
    "binary": b"\x00\x01",
    "an array": "[]",
    "no type": "{}",
    "a number for a type": '{"type":5}',
    "a message without text": '{"type":"user_message"}',
    "a message of null": '{"type":"user_message","text":null}',
    "no base64": '{"user_audio_chunk":"*"}',
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("name", LATER_FRAMES)
async def test_a_later_frame_is_wrong(name: str, site: Site, talker: Talker) -> None:
    """The client is told, and its conversation goes on."""
    url = site.address(await site.new_engine(talker.url))
    async with calling(url) as caller:
        await caller.begin(**QUIET)
        await caller.ws.send(LATER_FRAMES[name])
        (error,) = await caller.diary.next("error")
        assert error["code"] in (1002, 1008)
        await caller.say("Hello")
        assert await caller.reply() == "You said: Hello."


async def test_a_frame_of_10_MB(site: Site, talker: Talker) -> None:
    url = site.address(await site.new_engine(talker.url))
    async with others_served(site, talker), calling(url) as caller:
        await caller.begin(**QUIET)
        await caller.say("x" * 10_000_000)
        (error,) = await caller.diary.next("error")
        assert error["code"] == 1008


# --- agents that fail


async def garbage(call: Call, message: dict[str, Any]) -> None:
    """Send what is not the protocol, without end."""
    while True:
        await call.ws.send('{"type":"agent_response","content":5}')
        await call.ws.send("{")
        await call.ws.send(b"\xff\xfe")
        await anyio.lowlevel.checkpoint()  # a send that need not wait lets nobody else run


async def flood(call: Call, message: dict[str, Any]) -> None:
    """Answer with words without end."""
    if message["type"] == "user_transcript":
        while True:
            await call.piece("flood " * 1000, message["event_id"])
            await anyio.lowlevel.checkpoint()


async def leave(call: Call, event_id: int) -> None:
    await call.piece("I must ", event_id)
    call.ws.transport.abort()


async def never(call: Call, event_id: int) -> None:
    """Answer nothing."""


BROKEN: dict[str, Callable[[], Behaviour]] = {
    "answers garbage": lambda: garbage,
    "floods": lambda: flood,
    "vanishes": lambda: answering(leave),
    "never answers": lambda: answering(never, never, never),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_an_agent_is_broken(name: str, site: Site, talker: Talker) -> None:
    async with raw_server(BROKEN[name]()) as agent:
        engine_id = await site.new_engine(agent.url)
        if name == "never answers":
            await site.hurry(engine_id)
        async with others_served(site, talker, 2), calling(site.address(engine_id)) as caller:
            await caller.begin(**QUIET)
            await caller.say("Hello")
            await failed(caller)
        await agent.call.over.wait()
        if name == "never answers":
            assert len(agent.call.transcripts) == 3


async def test_an_agent_is_down(site: Site, talker: Talker) -> None:
    engine_id = await site.new_engine("ws://127.0.0.1:1/ws")
    async with others_served(site, talker), calling(site.address(engine_id)) as caller:
        await caller.begin(**QUIET)
        await failed(caller)


async def test_an_agent_refuses_the_call(site: Site, talker: Talker) -> None:
    async with raw_server(answering(), refuse=401) as agent:
        engine_id = await site.new_engine(agent.url)
        async with others_served(site, talker), calling(site.address(engine_id)) as caller:
            await caller.begin(**QUIET)
            reason = await failed(caller)
    assert "401" in reason
    assert KEY not in reason


async def failed(caller: Caller) -> str:
    """Wait until a client has been told that the agent failed, and return why."""
    (error,) = await caller.diary.next("error")
    assert error["code"] == 1011
    code, reason = await caller.closed()
    assert code == 1011
    assert error["message"].startswith(reason.rstrip("…"))
    assert len(caller.diary.all("error")) == 1
    return reason


# --- all of it at once


async def test_everything_at_once(site: Site, talker: Talker) -> None:
    """Three conversations go on while all of the above happens to others, together."""
    async with AsyncExitStack() as stack:
        broken = [
            await stack.enter_async_context(raw_server(BROKEN[name]()))
            for name in ("answers garbage", "floods", "vanishes")
        ]
        dead = [each.url for each in broken] + ["ws://127.0.0.1:1/ws"]
        engines = [await site.new_engine(url) for url in dead]
        good = await site.new_engine(talker.url)

        async def fail(engine_id: str) -> None:
            async with calling(site.address(engine_id)) as caller:
                await caller.begin(**QUIET)
                await caller.say("Hello")
                await failed(caller)

        async def send_first(frame: str | bytes, code: int) -> None:
            async with calling(site.address(good)) as caller:
                await caller.ws.send(frame)
                assert (await caller.closed())[0] == code

        async def request(sent: Sent, status: int) -> None:
            assert (await post(site, **sent)).status_code == status

        async def vanish() -> None:
            async with connect(site.address(good), proxy=None) as ws:
                ws.transport.abort()

        async with others_served(site, talker, 3), anyio.create_task_group() as group:
            for engine_id in engines:
                group.start_soon(fail, engine_id)
            for frame, code in FIRST_FRAMES.values():
                group.start_soon(send_first, frame, code)
            for sent, status, _ in REFUSED.values():
                group.start_soon(request, sent, status)
            group.start_soon(vanish)
