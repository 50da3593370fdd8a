"""The routes of the management API, and of the page (fact sheet 4)."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
from aiohttp import web

from . import engines
from .problems import Problem, ValidationProblem, detail, of_status
from .stores import Listing, SortBy, read_cursor

if TYPE_CHECKING:
    from .engines import Engine
    from .server import Cloud

__all__ = ["MAX_BODY_BYTES", "add_routes"]

logger = logging.getLogger("speech_engine_local")

MAX_BODY_BYTES = 1024 * 1024
"""Largest request body. An engine is a few kilobytes; more is a mistake or an attack."""

_MAX_DEPTH = 20
"""Of lists and objects in a body; an engine has 4."""

_MAX_PAGE = 100
_DEFAULT_PAGE = 30


def add_routes(app: web.Application, cloud: Cloud) -> None:
    """Give an application all routes of a cloud."""
    api = _Api(cloud)
    router = app.router
    router.add_get("/v1/speech-engine", api.list)
    router.add_post("/v1/speech-engine", api.create)
    router.add_get("/v1/speech-engine/{id}", api.get)
    router.add_patch("/v1/speech-engine/{id}", api.update)
    router.add_delete("/v1/speech-engine/{id}", api.delete)
    router.add_post("/v1/speech-engine/{id}/duplicate", api.duplicate)
    router.add_get("/v1/convai/conversation/token", api.token)
    router.add_get("/v1/convai/conversation/get-signed-url", api.signed_url)
    router.add_get("/v1/convai/conversation", api.converse, allow_head=False)
    router.add_get("/v1/local/wires/{id}", api.wires, allow_head=False)
    if cloud.page:
        for path, page_file in _page_files().items():
            router.add_get(path, page_file.answer)


class _Api:
    """The handlers, one per route."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def create(self, request: web.Request) -> web.Response:
        engine = engines.create(await _body(request), now=self._cloud.now())
        await self._cloud.store.add(engine)
        return web.json_response(engines.response(engine), status=201)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(engines.response(await self._find(request.match_info["id"])))

    async def list(self, request: web.Request) -> web.Response:
        page = await self._cloud.store.page(_listing(request))
        return web.json_response(
            {
                "speech_engines": [engines.summary(engine) for engine in page.engines],
                "next_cursor": page.next_cursor,
                "has_more": page.next_cursor is not None,
            }
        )

    async def update(self, request: web.Request) -> web.Response:
        engine_id = engines.normal_id(request.match_info["id"])
        await self._find(engine_id)  # an unknown engine is 404, whatever the body says
        body = await _body(request)
        now = self._cloud.now()
        changed = await self._cloud.store.change(
            engine_id, lambda engine: engines.patch(engine, body, now=now)
        )
        if changed is None:
            raise _unknown_engine()
        return web.json_response(engines.response(changed))

    async def delete(self, request: web.Request) -> web.Response:
        if not await self._cloud.store.remove(engines.normal_id(request.match_info["id"])):
            raise _unknown_engine()
        return web.json_response({})

    async def duplicate(self, request: web.Request) -> web.Response:
        source = await self._find(request.match_info["id"])
        body = await _body(request, optional=True)
        engine = engines.duplicate(source, body, now=self._cloud.now())
        await self._cloud.store.add(engine)
        return web.json_response(engines.response(engine))

    async def token(self, request: web.Request) -> web.Response:
        await self._find(_agent_id(request))
        logger.warning(
            "a WebRTC token was asked for: it is of use only with a LiveKit server, and this cloud "
            "has none; take a signed_url (GET /v1/convai/conversation/get-signed-url) instead"
        )
        conversation_id = engines.new_id("conv_")
        return web.json_response(
            {"token": f"local_{secrets.token_urlsafe(32)}", "conversation_id": conversation_id}
        )

    async def signed_url(self, request: web.Request) -> web.Response:
        include = _flag(request, "include_conversation_id")
        engine = await self._find(_agent_id(request))
        conversation_id = engines.new_id("conv_") if include else None
        secret = self._cloud.tickets.issue(engine.engine_id, conversation_id)
        query = f"agent_id={engine.engine_id}&conversation_signature={secret}"
        if conversation_id is not None:
            query += f"&conversation_id={conversation_id}"
        address = f"{self._origin(request)}/v1/convai/conversation?{query}"
        return web.json_response({"signed_url": address})

    async def converse(self, request: web.Request) -> web.StreamResponse:
        from . import talk

        return await talk.answer(self._cloud, request)

    async def wires(self, request: web.Request) -> web.StreamResponse:
        """Stream both wires of a conversation as lines of JSON, until it ends."""
        try:
            lines = self._cloud.wires.follow(request.match_info["id"])
        except KeyError as error:
            message = "There is no conversation with this id, or it ended a while ago."
            raise Problem(404, "conversation_not_found", message) from error
        response = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
        )
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cloud.streams.add(task)
        try:
            await response.prepare(request)
            async for line in lines:
                await response.write(line.to_json().encode() + b"\n")
            await response.write_eof()
        finally:
            self._cloud.streams.discard(task)
        return response

    async def _find(self, engine_id: str) -> Engine:
        engine = await self._cloud.store.get(engines.normal_id(engine_id))
        if engine is None:
            raise _unknown_engine()
        return engine

    def _origin(self, request: web.Request) -> str:
        """Tell where clients reach the cloud, as the scheme and host of a WebSocket address.

        Raises:
            Problem: 400, the request names no host that an address could hold.
        """
        if self._cloud.public_url is None and not _HOST.fullmatch(request.host):
            raise Problem(400, "invalid_host", "The Host header holds no host.")
        origin = self._cloud.public_url or f"{request.scheme}://{request.host}"
        return "ws" + origin.removeprefix("http")


def _unknown_engine() -> Problem:
    return Problem(
        404, "speech_engine_not_found", "There is no Speech Engine with this id.", param="agent_id"
    )


async def _body(request: web.Request, *, optional: bool = False) -> object:
    """Read a JSON body. Where its length is not told, aiohttp refuses it once it is too large.

    Raises:
        Problem: 413.
        ValidationProblem: none where one must be, or no JSON.
    """
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise of_status(413)
    data = await request.read()
    if len(data) > MAX_BODY_BYTES:
        raise of_status(413)
    if not data.strip():
        if optional:
            return None
        raise ValidationProblem([detail(("body",), "Field required", "missing")])
    try:
        body: object = msgspec.json.decode(data)
        msgspec.json.encode(body)  # a lone surrogate may decode, and could be neither kept nor sent
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        message = "expected a JSON document in UTF-8, got something else"
        raise ValidationProblem([detail(("body",), message, "json_invalid")]) from error
    if _is_deep(body):
        message = f"expected at most {_MAX_DEPTH} levels of lists and objects, got more"
        raise ValidationProblem([detail(("body",), message, "json_invalid")])
    return body


def _is_deep(body: object) -> bool:
    """Tell whether a body is nested so deep that to copy it would overflow the stack."""
    level: list[object] = [body]
    for _ in range(_MAX_DEPTH + 1):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(cast("dict[str, object]", value).values())
            elif isinstance(value, list):
                inner.extend(cast("list[object]", value))
        level = inner
    return bool(level)


def _agent_id(request: web.Request) -> str:
    """Read the engine's id from the query, where it has the name that agents' ids have.

    Raises:
        ValidationProblem: there is none.
    """
    agent_id = request.query.get("agent_id")
    if not agent_id:
        raise ValidationProblem([detail(("query", "agent_id"), "Field required", "missing")])
    return agent_id


def _flag(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "false").lower()
    if value not in _FLAGS:
        message = "expected true or false, got something else"
        raise ValidationProblem([detail(("query", name), message, "bool_parsing")])
    return _FLAGS[value]


def _listing(request: web.Request) -> Listing:
    """Read what to list; `created_at` is the order, and names are listed from A to Z.

    Raises:
        ValidationProblem: with every wrong parameter.
    """
    wrong: list[dict[str, Any]] = []
    query = request.query
    size = query.get("page_size", str(_DEFAULT_PAGE))
    if not re.fullmatch(r"[0-9]{1,9}", size) or not 1 <= int(size) <= _MAX_PAGE:
        message = f"expected a whole number from 1 to {_MAX_PAGE}, got something else"
        wrong.append(detail(("query", "page_size"), message, "int_parsing"))
    sort_by = query.get("sort_by", "created_at")
    if sort_by not in get_args(SortBy):
        message = f"expected one of {', '.join(get_args(SortBy))}, got something else"
        wrong.append(detail(("query", "sort_by"), message, "enum"))
    direction = query.get("sort_direction", "asc" if sort_by == "name" else "desc")
    if direction not in ("asc", "desc"):
        message = "expected asc or desc, got something else"
        wrong.append(detail(("query", "sort_direction"), message, "enum"))
    if wrong:
        raise ValidationProblem(wrong)
    order, descending = cast("SortBy", sort_by), direction == "desc"
    after = None
    if cursor := query.get("cursor"):
        try:
            after = read_cursor(cursor, order, descending=descending)
        except ValueError as error:
            raise ValidationProblem([detail(("query", "cursor"), str(error), "cursor")]) from error
    return Listing(int(size), query.get("search", ""), order, descending, after)


class _PageFile:
    """One file of the page, with headers that keep everything foreign out of it."""

    def __init__(self, content: bytes, content_type: str) -> None:
        self._content = content
        self._content_type = content_type

    async def answer(self, request: web.Request) -> web.Response:
        # 'self' means the WebSocket's scheme too only in newer browsers: name it.
        host = request.host if _HOST.fullmatch(request.host) else ""
        sockets = f" ws://{host} wss://{host}" if host else ""
        return web.Response(
            body=self._content,
            content_type=self._content_type,
            charset="utf-8",
            headers={
                "Content-Security-Policy": f"{_POLICY}; connect-src 'self'{sockets}",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            },
        )


def _page_files() -> dict[str, _PageFile]:
    found: dict[str, _PageFile] = {}
    folder = files(__package__ or __name__).joinpath("page")
    if folder.is_dir():
        for item in folder.iterdir():
            kind = _KINDS.get(item.name.rpartition(".")[2])
            if kind is not None:
                path = "/" if item.name == "index.html" else f"/{item.name}"
                found[path] = _PageFile(item.read_bytes(), kind)
    return found


_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
