"""The conversation's WebSocket: who may talk, with which engine, and the socket's own limits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from aiohttp import web

from speech_engine_transports.aiohttp import AiohttpSocket

from . import engines
from .convai import POLICY, close_reason
from .conversation import Conversation
from .problems import Problem
from .tickets import Ticket, TicketError

if TYPE_CHECKING:
    from .engines import Engine
    from .server import Cloud

__all__ = ["answer"]

logger = logging.getLogger("speech_engine_local")

SUBPROTOCOL = "convai"
"""What browsers offer and want back (fact sheet 5.7, 1). The Python client offers nothing."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Past it the socket is closed with 1009. A frame that is merely too long for the protocol is
answered with an error frame, and the conversation goes on."""

KEEPALIVE_SECONDS = 20.0
"""Between WebSocket pings: a client that vanished without a word is found by them."""

PATIENCE_SECONDS = 1.0
"""How long the first frame of a client is waited for that may not talk. One that is closed before
it could send it reports a broken connection instead of the reason, as the Python client does."""


class _TalkSocket(web.WebSocketResponse):
    """A WebSocket that knows which engine it talks with."""

    engine_id: str | None = None


class _Refusal(Exception):
    """Why a client may not talk, in words for it."""


async def answer(cloud: Cloud, request: web.Request) -> web.StreamResponse:
    """Hold a conversation over the WebSocket that a request asks for.

    A client that may not talk is let in and closed with 1008 and the reason: browsers never see
    the status of a refused upgrade. The agent is not dialled for it.

    Raises:
        Problem: 426, no upgrade is asked for.
    """
    if request.headers.get("Upgrade", "").strip().lower() != "websocket":
        raise Problem(426, headers={"Upgrade": "websocket"})
    ws = _TalkSocket(
        protocols=(SUBPROTOCOL,),
        max_msg_size=MAX_MESSAGE_BYTES + 1,  # aiohttp refuses a message as long as its limit, too
        heartbeat=KEEPALIVE_SECONDS,
        compress=False,
    )
    await ws.prepare(request)
    link = AiohttpSocket(ws)
    cloud.sockets.add(ws)
    try:
        engine, conversation_id = await _admit(cloud, request)
        ws.engine_id = engine.engine_id
        await _converse(cloud, link, engine, conversation_id)
    except _Refusal as refusal:
        logger.info("a client was refused: %s", refusal)
        with anyio.move_on_after(PATIENCE_SECONDS):
            await link.recv()
        await link.close(POLICY, close_reason(str(refusal)))
    finally:
        cloud.sockets.discard(ws)
    return ws


async def _admit(cloud: Cloud, request: web.Request) -> tuple[Engine, str]:
    """Tell which engine to talk with, and the conversation's name.

    Raises:
        _Refusal: this client may not talk, or not now.
    """
    agent_id = request.query.get("agent_id", "")
    engine = await cloud.store.get(engines.normal_id(agent_id)) if agent_id else None
    if engine is None:
        raise _Refusal("agent_id: expected the id of a Speech Engine, got another")
    limit = engine.concurrency_limit
    live = sum(getattr(ws, "engine_id", None) == engine.engine_id for ws in cloud.sockets)
    if 0 <= limit <= live:
        raise _Refusal(f"agent_concurrency_limit: expected at most {limit} conversations at once")
    ticket = _redeem(cloud, request.query.get("conversation_signature"), engine)
    return engine, ticket.conversation_id or engines.new_id("conv_")


def _redeem(cloud: Cloud, secret: str | None, engine: Engine) -> Ticket:
    if secret is not None:
        try:
            return cloud.tickets.redeem(secret, engine.engine_id)
        except TicketError as error:
            raise _Refusal(error.reason) from error
    if engine.requires_auth:
        raise _Refusal("conversation_signature: expected a signed URL, because auth is enabled")
    return Ticket(engine.engine_id)


async def _converse(cloud: Cloud, link: AiohttpSocket, engine: Engine, name: str) -> None:
    with cloud.wires.open(name) as wire:
        conversation = Conversation(
            link,
            engine,
            conversation_id=name,
            api_key=cloud.api_key,
            wire=wire,
            synthesizer=cloud.synthesizer,
        )
        logger.info("%s: begins, with %s", name, engine.engine_id)
        try:
            await conversation.run()
        finally:
            logger.info("%s: ended", name)
