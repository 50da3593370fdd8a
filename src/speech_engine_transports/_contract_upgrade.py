"""The contract's tests of who may connect, and what a session knows of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speech_engine_proto import wire
from speech_engine_proto.auth import AUTHORIZATION_HEADER

from ._contract_caller import API_KEY, expect, said, token
from ._contract_stage import ContractHooks

if TYPE_CHECKING:
    from ._socket import Request
    from .session import SpeechEngineSession

__all__ = ["UpgradeContract"]


class UpgradeContract(ContractHooks):
    """The checks of an upgrade request are the server's; the adapter hands over and answers."""

    async def test_without_a_valid_token_it_is_401(self) -> None:
        """Also where the header is there twice, and whatever the path."""
        cases: dict[str, list[tuple[str, str]]] = {
            "none": [],
            "another key": [token("sk_other")],
            "rubbish": [(AUTHORIZATION_HEADER, "rubbish")],
            "empty": [(AUTHORIZATION_HEADER, "")],
            "twice": [token(), token()],
            "twice, one in small letters": [token(), (token()[0].lower(), "rubbish")],
            "the key itself": [("xi-api-key", API_KEY)],
        }
        async with self.serving(on_transcript=answer, path="/ws") as stage:
            for name, headers in cases.items():
                for path in ("/ws", "/other"):
                    status = await stage.refusal(path, headers)
                    expect(status, 401, f"the status for a token ({name}) and the path {path}")
        expect(stage.scopes, [], "conversations begun")

    async def test_another_path_is_404(self) -> None:
        """The path is the whole path, and nothing but the path."""
        async with self.serving(on_transcript=answer, path="/ws") as stage:
            for path in ("/", "/other", "/ws/", "/ws/more", "/WS", "/other?/ws"):
                expect(await stage.refusal(path, [token()]), 404, f"the status for {path}")
        expect(stage.scopes, [], "conversations begun")

    async def test_authorize_refuses_with_403(self) -> None:
        """The user's own check comes after the token."""

        def authorize(request: Request) -> bool:
            return request.headers.get("x-tenant") == "7"

        async with self.serving(on_transcript=answer, authorize=authorize) as stage:
            expect(await stage.refusal("/ws", [token()]), 403, "the status")
            expect(await stage.refusal("/ws", []), 401, "the status without a token")
            async with stage.calling(headers=[token(), ("X-Tenant", "7")]) as caller:
                await caller.gets_pong()

    async def test_query_is_ignored(self) -> None:
        """A query string is no part of the path."""
        async with self.serving(on_transcript=answer, path="/ws") as stage:
            for path in ("/ws", "/ws?", "/ws?a=1&b=/other", "/ws?x=%3F"):
                async with stage.calling(path) as caller:
                    await caller.asks("hi", id=1)
                    await caller.hears(*said(1, "hello"))

    async def test_every_path_where_none_is_given(self) -> None:
        """Without a path of its own, a server takes any."""
        async with self.serving(on_transcript=answer) as stage:
            for path in ("/", "/any/thing?at=all"):
                async with stage.calling(path) as caller:
                    await caller.gets_pong()

    async def test_request(self) -> None:
        """A session knows path, query, headers and peer, and the token is not among them."""
        requests: list[Request] = []

        def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
            requests.append(session.request)

        headers = [token(), ("X-Customer", "42"), ("X-Many", "a"), ("x-many", "b")]
        async with self.serving(on_transcript=answer, on_init=on_init) as stage:
            async with stage.calling("/a%20b/ws?x=1&y=%41", headers) as caller:
                await caller.sends(wire.Init("conv_1"))
                await caller.asks("hi", id=1)
                await caller.hears(*said(1, "hello"))
        [request] = requests
        expect((request.path, request.query), ("/a%20b/ws", "x=1&y=%41"), "path and query")
        expect(request.peer, "127.0.0.1", "the peer")
        expect(request.headers["x-customer"], "42", "a header")
        expect(request.headers["X-MANY"], "a, b", "a header that is there twice")
        expect(AUTHORIZATION_HEADER in request.headers, False, "the token is among the headers")


async def answer(transcript: list[Any], session: SpeechEngineSession) -> None:
    """Greet."""
    await session.send_response("hello")
