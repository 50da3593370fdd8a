"""The management API over a real socket: every route, and what comes of wrong requests."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from speech_engine_local.cloud import Cloud, MemoryStore, serve
from speech_engine_local.cloud.server import as_host
from speech_engine_local.cloud.tickets import TicketError
from speech_engine_local.cloud.wires import WireLine, Wires

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from speech_engine_local.cloud import Engine

pytestmark = pytest.mark.anyio

KEY = "sk_test_0123456789"
AGENT = {"ws_url": "ws://127.0.0.1:3001/ws"}
ENGINES = "/v1/speech-engine"
TOKEN = "/v1/convai/conversation/token"
SIGNED_URL = "/v1/convai/conversation/get-signed-url"


class Clock:
    """Unix time, which a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.5

    def __call__(self) -> float:
        return self.seconds


class Api:
    """A client that has the key, and keeps the last answer."""

    def __init__(self, cloud: Cloud, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.cloud = cloud
        self.http = http
        self.clock = clock
        self.status = 0
        self.headers: Any = {}

    async def __call__(self, method: str, path: str, **request: Any) -> Any:
        """Send a request, and return the JSON of the answer."""
        headers = {"xi-api-key": KEY, **request.pop("headers", {})}
        url = f"{self.cloud.url}{path}"
        async with self.http.request(method, url, headers=headers, **request) as answer:
            self.status, self.headers = answer.status, answer.headers
            return await answer.json() if answer.content_type == "application/json" else None

    async def make(self, **body: Any) -> str:
        made = await self("POST", ENGINES, json={"speech_engine": AGENT, **body})
        assert self.status == 201
        return str(made["speech_engine_id"])

    async def mistakes(self, method: str, path: str, **request: Any) -> list[list[Any]]:
        told = await self(method, path, **request)
        assert self.status == 422
        assert told["request_id"] == self.headers["request-id"]
        return [entry["loc"] for entry in told["detail"]]

    async def problem(self, method: str, path: str, **request: Any) -> tuple[int, str, str]:
        told = await self(method, path, **request)
        detail = told["detail"]
        assert detail["request_id"] == self.headers["request-id"]
        assert re.fullmatch("[0-9a-f]{32}", detail["request_id"])
        assert detail["status"] == detail["code"]
        assert detail["message"]
        return self.status, detail["type"], detail["code"]


@asynccontextmanager
async def running(**options: Any) -> AsyncGenerator[Api]:
    clock = Clock()
    async with Cloud(api_key=KEY, clock=clock, **options).listen() as cloud:
        async with aiohttp.ClientSession() as http:
            yield Api(cloud, http, clock)


@pytest.fixture
async def api() -> AsyncGenerator[Api]:
    async with running() as made:
        yield made


class TestEngines:
    async def test_create_and_get(self, api: Api) -> None:
        made = await api("POST", ENGINES, json={"speech_engine": AGENT, "name": "Ada"})
        assert api.status == 201
        assert made["name"] == "Ada"
        assert made["speech_engine"] == {**AGENT, "request_headers": {}}
        assert made["metadata"]["created_at_unix_secs"] == 1_000
        assert await api("GET", f"{ENGINES}/{made['speech_engine_id']}") == made
        assert api.status == 200

    async def test_the_other_prefix_names_the_same_engine(self, api: Api) -> None:
        engine_id = await api.make()
        other = engine_id.replace("seng_", "agent_")
        assert (await api("GET", f"{ENGINES}/{other}"))["speech_engine_id"] == engine_id
        assert (await api("PATCH", f"{ENGINES}/{other}", json={"name": "B"}))["name"] == "B"
        await api("GET", TOKEN, params={"agent_id": other})
        assert api.status == 200
        await api("DELETE", f"{ENGINES}/{other}")
        assert api.status == 200
        await api("GET", f"{ENGINES}/{engine_id}")
        assert api.status == 404

    async def test_update(self, api: Api) -> None:
        engine_id = await api.make(tts={"speed": 1.2})
        api.clock.seconds += 60
        changed = await api("PATCH", f"{ENGINES}/{engine_id}", json={"tts": {"stability": 1}})
        assert api.status == 200
        assert (changed["tts"]["speed"], changed["tts"]["stability"]) == (1.2, 1)
        assert changed["metadata"]["created_at_unix_secs"] == 1_000
        assert changed["metadata"]["updated_at_unix_secs"] == 1_060
        assert await api("GET", f"{ENGINES}/{engine_id}") == changed

    async def test_a_refused_update_changes_nothing(self, api: Api) -> None:
        engine_id = await api.make()
        before = await api("GET", f"{ENGINES}/{engine_id}")
        body = {"name": "B", "tags": "x", "speech_engine": {"ws_url": "http://x"}}
        assert await api.mistakes("PATCH", f"{ENGINES}/{engine_id}", json=body) == [
            ["body", "speech_engine", "ws_url"],
            ["body", "tags"],
        ]
        assert await api("GET", f"{ENGINES}/{engine_id}") == before

    async def test_delete(self, api: Api) -> None:
        engine_id = await api.make()
        await api("DELETE", f"{ENGINES}/{engine_id}")
        assert api.status == 200
        await api("DELETE", f"{ENGINES}/{engine_id}")
        assert api.status == 404
        assert (await api("GET", ENGINES))["speech_engines"] == []

    @pytest.mark.parametrize(
        ("request_", "name"),
        [
            ({"json": {"name": "B"}}, "B"),
            ({"json": {}}, "A"),
            ({"data": b"null"}, "A"),  # what the TypeScript SDK sends without an argument
            ({}, "A"),
        ],
    )
    async def test_duplicate(self, api: Api, request_: dict[str, Any], name: str) -> None:
        engine_id = await api.make(name="A", tags=["x"])
        second = await api("POST", f"{ENGINES}/{engine_id}/duplicate", **request_)
        assert api.status == 200
        assert (second["name"], second["tags"]) == (name, ["x"])
        assert second["speech_engine_id"] != engine_id
        assert len((await api("GET", ENGINES))["speech_engines"]) == 2

    async def test_duplicate_with_a_wrong_name(self, api: Api) -> None:
        path = f"{ENGINES}/{await api.make()}/duplicate"
        assert await api.mistakes("POST", path, json={"name": 5}) == [["body", "name"]]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ENGINES + "/{id}"),
            ("PATCH", ENGINES + "/{id}"),
            ("DELETE", ENGINES + "/{id}"),
            ("POST", ENGINES + "/{id}/duplicate"),
            ("GET", TOKEN + "?agent_id={id}"),
            ("GET", SIGNED_URL + "?agent_id={id}"),
        ],
    )
    @pytest.mark.parametrize("engine_id", ["seng_" + "0" * 28, "x", "a%2Fb", "%00", "é"])
    async def test_unknown_engines(self, api: Api, method: str, path: str, engine_id: str) -> None:
        problem = await api.problem(method, path.format(id=engine_id), data=b"{")
        assert problem == (404, "not_found", "speech_engine_not_found")


class TestLists:
    async def test_pages(self, api: Api) -> None:
        ids = []
        for _ in range(5):
            ids.append(await api.make())
            api.clock.seconds += 1
        first = await api("GET", ENGINES, params={"page_size": 3})
        assert first["has_more"] is True
        params = {"page_size": 3, "cursor": first["next_cursor"]}
        second = await api("GET", ENGINES, params=params)
        assert (second["has_more"], second["next_cursor"]) == (False, None)
        found = [*first["speech_engines"], *second["speech_engines"]]
        assert [entry["speech_engine_id"] for entry in found] == ids[::-1]

    async def test_thirty_are_a_page(self, api: Api) -> None:
        for _ in range(31):
            await api.make()
        assert len((await api("GET", ENGINES))["speech_engines"]) == 30

    async def test_search_and_order(self, api: Api) -> None:
        for name in ("Ada", "bob", "ABBA"):
            await api.make(name=name)
            api.clock.seconds += 1

        async def names(**params: Any) -> list[str]:
            listed = await api("GET", ENGINES, params=params)
            return [entry["name"] for entry in listed["speech_engines"]]

        assert await names() == ["ABBA", "bob", "Ada"]
        assert await names(search="b") == ["ABBA", "bob"]
        assert await names(sort_by="name") == ["ABBA", "Ada", "bob"]
        assert await names(sort_by="name", sort_direction="desc") == ["bob", "Ada", "ABBA"]
        assert await names(sort_direction="asc") == ["Ada", "bob", "ABBA"]
        assert await names(sort_by="call_count_7d") == ["ABBA", "bob", "Ada"]

    @pytest.mark.parametrize(
        ("params", "wrong"),
        [
            ({"page_size": "0"}, ["page_size"]),
            ({"page_size": "101"}, ["page_size"]),
            ({"page_size": "-1"}, ["page_size"]),
            ({"page_size": "٣"}, ["page_size"]),
            ({"page_size": "9" * 5000}, ["page_size"]),
            ({"page_size": ""}, ["page_size"]),
            ({"sort_by": "age"}, ["sort_by"]),
            ({"cursor": "x"}, ["cursor"]),
            (
                {"page_size": "x", "sort_by": "x", "sort_direction": "up", "cursor": "x"},
                ["page_size", "sort_by", "sort_direction"],
            ),
        ],
    )
    async def test_wrong_parameters(
        self, api: Api, params: dict[str, str], wrong: list[str]
    ) -> None:
        expected = [["query", name] for name in wrong]
        assert await api.mistakes("GET", ENGINES, params=params) == expected

    async def test_a_hundred_may_be_asked_for(self, api: Api) -> None:
        await api("GET", ENGINES, params={"page_size": "100", "cursor": ""})
        assert api.status == 200


class TestTokensAndSignedUrls:
    async def test_a_token_is_given_with_one_warning(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine_id = await api.make()
        caplog.set_level(logging.INFO)
        params = {"agent_id": engine_id, "participant_name": "Ada", "source": "js_sdk"}
        given = await api("GET", TOKEN, params=params)
        assert given["token"]
        assert re.fullmatch("conv_[a-z0-9]{28}", given["conversation_id"])
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("speech_engine_local", "WARNING")
        assert "LiveKit" in record.getMessage()
        assert "signed_url" in record.getMessage()
        assert given["token"] not in record.getMessage()

    async def test_a_signed_url_is_good_for_one_conversation(self, api: Api) -> None:
        engine_id = await api.make()
        signed = await api("GET", SIGNED_URL, params={"agent_id": engine_id})
        base = api.cloud.url.replace("http://", "ws://")
        pattern = (
            rf"{base}/v1/convai/conversation\?agent_id={engine_id}&conversation_signature=(.+)"
        )
        found = re.fullmatch(pattern, signed["signed_url"])
        assert found is not None
        ticket = api.cloud.tickets.redeem(found[1], engine_id)
        assert ticket.conversation_id is None
        with pytest.raises(TicketError):
            api.cloud.tickets.redeem(found[1], engine_id)

    async def test_it_may_name_the_conversation(self, api: Api) -> None:
        engine_id = await api.make()
        params = {"agent_id": engine_id, "include_conversation_id": "true"}
        signed = await api("GET", SIGNED_URL, params=params)
        pattern = r".*conversation_signature=([^&]+)&conversation_id=(conv_[a-z0-9]{28})"
        found = re.fullmatch(pattern, signed["signed_url"])
        assert found is not None
        assert api.cloud.tickets.redeem(found[1], engine_id).conversation_id == found[2]

    async def test_it_begins_with_the_host_of_the_request_or_the_public_url(self, api: Api) -> None:
        params = {"agent_id": await api.make()}
        signed = await api("GET", SIGNED_URL, params=params, headers={"host": "cloud.test:99"})
        assert signed["signed_url"].startswith("ws://cloud.test:99/v1/convai/conversation?")
        async with running(public_url="https://cloud.test/some/where/") as other:
            params = {"agent_id": await other.make()}
            signed = await other("GET", SIGNED_URL, params=params)
        assert signed["signed_url"].startswith("wss://cloud.test/some/where/v1/convai/conv")

    async def test_a_host_that_is_none(self, api: Api) -> None:
        params = {"agent_id": await api.make()}
        problem = await api.problem("GET", SIGNED_URL, params=params, headers={"host": "a b&c"})
        assert problem == (400, "validation_error", "invalid_host")

    @pytest.mark.parametrize("path", [TOKEN, SIGNED_URL])
    async def test_the_engine_must_be_named(self, api: Api, path: str) -> None:
        assert await api.mistakes("GET", path) == [["query", "agent_id"]]

    async def test_flags_are_true_or_false(self, api: Api) -> None:
        params = {"agent_id": await api.make(), "include_conversation_id": "perhaps"}
        wrong = await api.mistakes("GET", SIGNED_URL, params=params)
        assert wrong == [["query", "include_conversation_id"]]


class TestTheKey:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", ENGINES),
            ("POST", ENGINES),
            ("PATCH", f"{ENGINES}/x"),
            ("GET", TOKEN),
            ("GET", SIGNED_URL),
            ("GET", "/v1/local/wires/x"),
            ("GET", "/v1/no-such-thing"),
            ("PUT", ENGINES),
            ("OPTIONS", ENGINES),
        ],
    )
    async def test_comes_before_everything_else(self, api: Api, method: str, path: str) -> None:
        problem = await api.problem(method, path, headers={"xi-api-key": "wrong"}, data=b"{")
        assert problem == (401, "authentication_error", "invalid_api_key")
        async with api.http.request(method, f"{api.cloud.url}{path}") as answer:
            told = (await answer.json())["detail"]
        assert (answer.status, told["code"]) == (401, "missing_api_key")

    @pytest.mark.parametrize(
        "key", ["", KEY[:-1], KEY + "x", KEY.upper(), "ключ", KEY + ", " + KEY]
    )
    async def test_is_compared_whole(self, api: Api, key: str) -> None:
        await api("GET", ENGINES, headers={"xi-api-key": key})
        assert api.status == 401

    async def test_is_sent_once(self, api: Api) -> None:
        headers = [("xi-api-key", KEY), ("xi-api-key", KEY)]
        async with api.http.get(f"{api.cloud.url}{ENGINES}", headers=headers) as answer:
            assert answer.status == 401

    @pytest.mark.parametrize(
        "path", ["//v1/speech-engine", "/V1/speech-engine", "/x/../v1/speech-engine", "/%761/x"]
    )
    async def test_no_spelling_of_a_path_goes_around_it(self, api: Api, path: str) -> None:
        await api.make()
        status, body = await raw(api.cloud, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status in (401, 404)
        assert b"seng_" not in body

    async def test_bytes_that_are_no_text(self, api: Api) -> None:
        request = (
            b"GET " + ENGINES.encode() + b" HTTP/1.1\r\nhost: x\r\nxi-api-key: \xff\xfe\r\n\r\n"
        )
        assert (await raw(api.cloud, request))[0] == 401

    async def test_a_random_one_is_made_where_none_is_given(self) -> None:
        first, second = Cloud(), Cloud()
        assert first.api_key != second.api_key
        assert len(first.api_key) > 40
        assert first.api_key not in repr(first)

    async def test_a_blank_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="api_key: expected a key, got a blank one"):
            Cloud(api_key=" \n")

    @pytest.mark.parametrize(
        "url", ["", "cloud.test", "ws://x", "http://", "https://x:y", "https://x/?a", "https://x#"]
    )
    async def test_a_public_url_is_http(self, url: str) -> None:
        with pytest.raises(ValueError, match="public_url: expected http"):
            Cloud(public_url=url)

    async def test_nothing_of_it_is_logged(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        params = {"agent_id": await api.make()}
        signed = await api("GET", SIGNED_URL, params=params)
        await api.mistakes("POST", ENGINES, json={})
        await api("GET", ENGINES, headers={"xi-api-key": KEY + "x"})
        secret = signed["signed_url"].partition("conversation_signature=")[2]
        assert KEY not in caplog.text
        assert secret not in caplog.text


async def raw(cloud: Cloud, request: str | bytes) -> tuple[int, bytes]:
    """Send bytes, and read an answer that ends with the connection or its length."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
    writer.write(request.encode() if isinstance(request, str) else request)
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None
    body = await reader.readexactly(int(found[1]))
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def pieces(body: bytes) -> AsyncGenerator[bytes]:
    """Send a body without telling its length."""
    for start in range(0, len(body), 0x10000):
        yield body[start : start + 0x10000]


class TestBadRequests:
    @pytest.mark.parametrize(
        "data",
        [
            b"{",
            b"\xff",
            b"\xef\xbb\xbf{}",
            b"NaN",
            b'{"name": 1e999}',
            b'{"name": "\\ud800"}',
            b'{"name": "\\ud800\\ud800 x"}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"{} {}",
            "{}".encode("utf-16"),
            b'{"speech_engine": {"ws_url": "ws://x"}, "tts": {"other": %s}}' % (b"9" * 5000),
            b'{"speech_engine": {"ws_url": "ws://x"}, "vad": %s}'
            % (b'{"a":' * 20 + b"1" + b"}" * 20),
            b'{"speech_engine": {"ws_url": "ws://x"}, "vad": %s}'
            % (b'{"a":' * 800 + b"1" + b"}" * 800),
        ],
        ids=range(14),
    )
    async def test_what_is_no_json(self, api: Api, data: bytes) -> None:
        told = await api("POST", ENGINES, data=data)
        assert api.status == 422
        (entry,) = told["detail"]
        assert (entry["loc"], entry["type"]) == (["body"], "json_invalid")

    @pytest.mark.parametrize("data", [b"", b" \n"])
    async def test_no_body_where_one_must_be(self, api: Api, data: bytes) -> None:
        engine_id = await api.make()
        for method, path in (("POST", ENGINES), ("PATCH", f"{ENGINES}/{engine_id}")):
            told = await api(method, path, data=data)
            (entry,) = told["detail"]
            assert (api.status, entry["loc"], entry["type"]) == (422, ["body"], "missing")

    @pytest.mark.parametrize("data", [b"[]", b"1", b'"x"', b"true", b"null"])
    async def test_json_that_is_no_object(self, api: Api, data: bytes) -> None:
        engine_id = await api.make()
        for method, path in (("POST", ENGINES), ("PATCH", f"{ENGINES}/{engine_id}")):
            assert await api.mistakes(method, path, data=data) == [["body"]]

    async def test_a_body_of_twenty_levels_is_fine(self, api: Api) -> None:
        deep: dict[str, Any] = {}
        for _ in range(18):
            deep = {"a": deep}
        made = await api("POST", ENGINES, json={"speech_engine": AGENT, "vad": deep})
        assert (api.status, made["vad"]) == (201, deep)

    async def test_no_more_than_a_hundred_mistakes_are_told(self, api: Api) -> None:
        body = {"speech_engine": AGENT, "tags": [1] * 100_000}
        assert len(await api.mistakes("POST", ENGINES, json=body)) == 100

    async def test_every_wrong_field_is_told(self, api: Api) -> None:
        body = {"speech_engine": {"ws_url": "http://x"}, "tags": [1], "language": None, "name": {}}
        assert await api.mistakes("POST", ENGINES, json=body) == [
            ["body", "speech_engine", "ws_url"],
            ["body", "name"],
            ["body", "tags", 0],
        ]

    async def test_a_body_of_10_mb(self, api: Api) -> None:
        engine_id = await api.make()
        for method, path in (
            ("POST", ENGINES),
            ("PATCH", f"{ENGINES}/{engine_id}"),
            ("POST", f"{ENGINES}/{engine_id}/duplicate"),
        ):
            problem = await api.problem(method, path, data=io.BytesIO(b" " * 10_000_000))
            assert problem == (413, "invalid_request", "body_too_large")
        await api("GET", f"{ENGINES}/{engine_id}")
        assert api.status == 200

    async def test_a_body_that_is_too_large_is_refused_before_it_is_there(self, api: Api) -> None:
        head = f"POST {ENGINES} HTTP/1.1\r\nhost: x\r\nxi-api-key: {KEY}\r\n"
        status, body = await raw(api.cloud, f"{head}content-length: 10000000\r\n\r\n")
        assert (status, json.loads(body)["detail"]["code"]) == (413, "body_too_large")

    async def test_a_body_that_does_not_tell_its_length(self, api: Api) -> None:
        head = f"POST {ENGINES} HTTP/1.1\r\nhost: x\r\nxi-api-key: {KEY}\r\n"
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        # 17 chunks are 64 KiB too many, and the end of the body never comes.
        request = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunk * 17
        assert (await raw(api.cloud, request))[0] == 413

    async def test_a_body_of_just_1_mib_is_read(self, api: Api) -> None:
        body = json.dumps({"speech_engine": AGENT}).encode()
        await api("POST", ENGINES, data=io.BytesIO(body.ljust(1024 * 1024)))
        assert api.status == 201
        await api("POST", ENGINES, data=io.BytesIO(body.ljust(1024 * 1024 + 1)))
        assert api.status == 413
        await api("POST", ENGINES, data=pieces(body.ljust(1024 * 1024)))
        assert api.status == 201
        await api("POST", ENGINES, data=pieces(body.ljust(1024 * 1024 + 1)))
        assert api.status == 413

    @pytest.mark.parametrize(
        "path", ["/v1/speech-engines", "/v1/speech-engine/", "/v1/speech-engine/x/y", "/v1/", "/x"]
    )
    async def test_unknown_routes(self, api: Api, path: str) -> None:
        assert await api.problem("GET", path) == (404, "not_found", "not_found")

    async def test_other_methods(self, api: Api) -> None:
        problem = await api.problem("PUT", ENGINES)
        assert problem == (405, "invalid_request", "method_not_allowed")
        assert set(api.headers["allow"].split(",")) == {"GET", "HEAD", "POST"}

    async def test_other_origins_get_no_leave_to_read(self, api: Api) -> None:
        # The page has the cloud's own origin; another page asks its own server for a signed URL.
        await api("GET", ENGINES, headers={"origin": "https://other.test"})
        assert not [name for name in api.headers if name.lower().startswith("access-control")]

    async def test_success_has_a_request_id_too(self, api: Api) -> None:
        await api("GET", ENGINES)
        first = api.headers["request-id"]
        await api("GET", ENGINES)
        assert api.headers["request-id"] != first


class BrokenStore(MemoryStore):
    """Fails with a secret in the message."""

    async def get(self, engine_id: str) -> Engine | None:
        raise OSError("s3cret disk path")


class TestFailures:
    async def test_show_nothing_of_the_inside(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running(store=BrokenStore()) as api:
            problem = await api.problem("GET", f"{ENGINES}/x")
            assert problem == (500, "internal_error", "internal_error")
            await api("GET", ENGINES)
            assert api.status == 200
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.exc_info is not None
        assert re.fullmatch("request [0-9a-f]{32} failed", record.getMessage())

    async def test_an_engine_deleted_in_the_middle_of_its_update_is_unknown(self) -> None:
        async with running(store=HastyStore()) as api:
            path = f"{ENGINES}/{await api.make()}"
            assert (await api.problem("PATCH", path, json={}))[0] == 404

    async def test_in_the_middle_of_an_answer_cut_it_off(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.cloud.wires = BreakingWires()
        url = f"{api.cloud.url}/v1/local/wires/conv_1"
        async with api.http.get(url, headers={"xi-api-key": KEY}) as answer:
            assert json.loads(await answer.content.readline())["frame"] == "{}"
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.name == "speech_engine_local"
        await api("GET", ENGINES)
        assert api.status == 200


class HastyStore(MemoryStore):
    """Somebody else deletes whatever is looked at."""

    async def get(self, engine_id: str) -> Engine | None:
        found = await super().get(engine_id)
        await self.remove(engine_id)
        return found


class BreakingWires(Wires):
    """Wires that break after one line."""

    async def follow(self, conversation_id: str) -> AsyncIterator[WireLine]:
        yield WireLine(0.0, "client", "in", "{}")
        raise LookupError(conversation_id)


class TestWires:
    async def test_are_streamed_until_the_conversation_ends(self, api: Api) -> None:
        url = f"{api.cloud.url}/v1/local/wires/conv_1"
        with api.cloud.wires.open("conv_1") as wire:
            wire.record("client", "in", '{"type":"user_message","text":"hi"}')
            async with api.http.get(url, headers={"xi-api-key": KEY}) as answer:
                assert answer.content_type == "application/x-ndjson"
                first = json.loads(await answer.content.readline())
                assert first["t"] >= 0
                del first["t"]
                assert first == {
                    "link": "client",
                    "dir": "in",
                    "frame": '{"type":"user_message","text":"hi"}',
                }
                wire.record("agent", "out", "{}")
                assert json.loads(await answer.content.readline())["link"] == "agent"
                wire.end()
                assert await answer.content.readline() == b""
        assert api.cloud.streams == set()

    async def test_of_an_unknown_conversation(self, api: Api) -> None:
        problem = await api.problem("GET", "/v1/local/wires/conv_2")
        assert problem == (404, "not_found", "conversation_not_found")

    async def test_a_reader_that_leaves_is_no_failure(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = f"{api.cloud.url}/v1/local/wires/conv_1"
        with api.cloud.wires.open("conv_1") as wire:
            wire.record("client", "in", "{}")
            async with api.http.get(url, headers={"xi-api-key": KEY}) as answer:
                await answer.content.readline()
                (task,) = api.cloud.streams
                answer.close()
            await asyncio.wait([task])
        assert api.cloud.streams == set()
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []

    async def test_end_with_the_cloud(self) -> None:
        async with aiohttp.ClientSession() as http:
            cloud = Cloud(api_key=KEY)
            with cloud.wires.open("conv_1") as wire:
                async with cloud.listen():
                    wire.record("client", "in", "{}")
                    url = f"{cloud.url}/v1/local/wires/conv_1"
                    answer = await http.get(url, headers={"xi-api-key": KEY})
                    await answer.content.readline()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.content.read()
                answer.close()


class TestTheApplication:
    async def test_closes_its_sockets_when_it_stops(self) -> None:
        cloud = Cloud(api_key=KEY, page=False)

        async def answer(request: web.Request) -> web.StreamResponse:
            ws: web.WebSocketResponse[Any] = web.WebSocketResponse()
            await ws.prepare(request)
            cloud.sockets.add(ws)
            await ws.send_str("ready")
            await ws.receive()
            cloud.sockets.discard(ws)
            return ws

        app = cloud.app()
        app.router.add_get("/ws", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as http:
            ws = await http.ws_connect(f"http://127.0.0.1:{port}/ws")
            assert await ws.receive_str() == "ready"
            stopping = asyncio.ensure_future(runner.cleanup())
            assert (await ws.receive()).data == 1001
            await stopping

    async def test_knows_its_address_only_while_it_listens(self) -> None:
        cloud = Cloud()
        assert repr(cloud) == "<Cloud at no address yet>"
        async with cloud.listen() as same:
            assert same is cloud
            assert repr(cloud) == f"<Cloud at http://127.0.0.1:{cloud.port}>"

    async def test_a_taken_port_is_an_error(self) -> None:
        async with Cloud().listen() as first:
            with pytest.raises(OSError, match="address already in use"):
                async with Cloud().listen(port=first.port):
                    pass

    @pytest.mark.parametrize(
        ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]
    )
    async def test_other_interfaces(self, host: str, shown: str) -> None:
        async with Cloud(api_key=KEY).listen(host) as cloud:
            assert cloud.url == f"http://{shown}:{cloud.port}"

    @pytest.mark.parametrize(
        ("host", "shown"), [("", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]")]
    )
    async def test_interfaces_that_not_every_machine_has(self, host: str, shown: str) -> None:
        assert as_host(host) == shown

    async def test_a_cloud_off_the_main_thread_runs_until_it_is_cancelled(self) -> None:
        started = threading.Event()

        async def run() -> None:
            task = asyncio.ensure_future(serve(port=0, on_start=lambda _: started.set()))
            await asyncio.to_thread(started.wait)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        await asyncio.to_thread(asyncio.run, run())

    async def test_what_goes_wrong_at_the_start_is_raised_as_it_is(self) -> None:
        def fail(_: Cloud) -> None:
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            await serve(port=0, on_start=fail)


class TestThePage:
    async def test_is_there_without_a_key(self, api: Api) -> None:
        async with api.http.get(f"{api.cloud.url}/") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            f"connect-src 'self' ws://127.0.0.1:{api.cloud.port} wss://127.0.0.1:{api.cloud.port}"
        )
        for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
            async with api.http.get(f"{api.cloud.url}/{name}") as answer:
                assert (answer.status, answer.content_type) == (200, kind)

    async def test_a_host_cannot_write_the_policy(self, api: Api) -> None:
        headers = {"host": "x; script-src *"}
        async with api.http.get(f"{api.cloud.url}/", headers=headers) as answer:
            assert answer.headers["content-security-policy"].endswith("; connect-src 'self'")

    async def test_may_be_left_out(self) -> None:
        async with running(page=False) as api:
            assert (await api.problem("GET", "/"))[0] == 404
            assert (await api.problem("GET", "/page.js"))[0] == 404

    @pytest.mark.parametrize("path", ["/index.html", "/../server.py", "/%2e%2e%2fserver.py", "/x"])
    async def test_nothing_else_is_served(self, api: Api, path: str) -> None:
        status, _ = await raw(api.cloud, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status == 404


def test_the_package_alone_loads_no_server() -> None:
    code = "import sys, speech_engine_local; print('aiohttp' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
