"""A management API on a loopback socket that answers as it is told, and remembers what came."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Generator

ENGINE: dict[str, Any] = {
    "speech_engine_id": "seng_1",
    "name": "Desk",
    "speech_engine": {"ws_url": "wss://example.com/ws"},
    "overrides": {"first_message": False},
}
PAGE: dict[str, Any] = {"speech_engines": [], "next_cursor": None, "has_more": False}


@attrs.frozen
class Seen:
    """A request as it came over the wire."""

    method: str
    target: str
    pairs: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.pairs}

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@attrs.frozen
class Answer:
    """What is answered; with ``hang_up`` the connection ends instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = attrs.field(factory=dict)
    hang_up: bool = False


@attrs.define
class Service:
    """The far end: ``answers`` are given one after the other, then what fits the path.

    While ``silent`` it answers nothing; ``arrived`` is set by the first request.
    """

    url: str
    seen: list[Seen] = attrs.field(factory=list)
    answers: list[Answer] = attrs.field(factory=list)
    connections: int = 0
    arrived: threading.Event = attrs.field(factory=threading.Event)
    go_on: threading.Event = attrs.field(factory=threading.Event)
    silent: bool = False

    def answer(self, request: Seen) -> Answer:
        self.seen.append(request)
        self.arrived.set()
        if self.silent:
            self.go_on.wait()
        return self.answers.pop(0) if self.answers else _usual(request)


@contextmanager
def service() -> Generator[Service]:
    """Run one on a thread of its own, for clients on any loop and on none."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.service = Service(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.service
    finally:
        server.service.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    service: Service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no failure of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.service.connections += 1

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing goes to stderr."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = Seen(self.command, self.path, self.headers.items(), body)
        answer = self.server.service.answer(seen)
        self.close_connection = answer.hang_up
        if answer.hang_up:
            return
        content = answer.body if isinstance(answer.body, bytes) else _json(answer.body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if answer.status != 204 else b"")

    do_GET = do_POST = do_PATCH = do_DELETE = _serve


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _usual(request: Seen) -> Answer:
    match request.method, request.path:
        case "GET", "/v1/convai/conversation/token":
            return Answer(200, {"token": "t0ken", "conversation_id": "conv_1"})
        case "GET", "/v1/convai/conversation/get-signed-url":
            return Answer(200, {"signed_url": "wss://a/v1/convai/conversation?s=1"})
        case "GET", "/v1/speech-engine":
            return Answer(200, PAGE)
        case "DELETE", _:
            return Answer(204)
        case "POST", _:
            return Answer(201, ENGINE)
        case _:
            return Answer(200, ENGINE)
