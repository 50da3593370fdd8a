"""The head of an upgrade request, read and judged without a socket."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from speech_engine_transports._upgrade import (
    BadRequestError,
    Head,
    check_upgrade,
    refusal_bytes,
)
from speech_engine_transports.server import Refusal

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
GOOD = {
    "Host": "here",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "WebSocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def test_a_head() -> None:
    head = Head.parse(b"GET /ws?a=b HTTP/1.1\r\nHost: here\r\nX-A:1\r\nx-a: \t2 3 \r\nEmpty:")
    assert (head.method, head.target) == ("GET", "/ws?a=b")
    assert head.headers == (("Host", "here"), ("X-A", "1"), ("x-a", "2 3"), ("Empty", ""))


def test_a_head_keeps_its_secrets() -> None:
    assert "secret" not in repr(Head.parse(b"GET /?secret HTTP/1.1\r\nCookie: secret"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.0",
        b"GET / HTTP/2",
        b"GET  HTTP/1.1",
        b" / HTTP/1.1",
        b"GET / / HTTP/1.1",
        b"GET /",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\n: no name",
        b"GET / HTTP/1.1\r\nHost : here",
        b"GET / HTTP/1.1\r\nHost: here\r\n folded",
        b"GET / HTTP/1.1\r\nH\xf6st: here",
        b"GET / HTTP/1.1\r\nHost: he\nre",
        b"GET / HTTP/1.1\r\nHost: he\rre",
        b"GET / HTTP/1.1\r\nHost: he\0re",
    ],
)
def test_what_is_no_head(data: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"expected|control"):
        Head.parse(data)


def test_a_bare_head_has_the_key_and_nothing_else_of_the_peer() -> None:
    pairs = "\r\n".join(f"{name}: {value}" for name, value in GOOD.items())
    head = Head.parse(f"GET /theirs HTTP/1.1\r\n{pairs}\r\nX-Theirs: theirs".encode())
    bare = head.bare()
    assert KEY.encode() in bare
    assert b"theirs" not in bare
    again = Head.parse(bare.removesuffix(b"\r\n\r\n"))
    assert check_upgrade(again.method, again.headers) is None


def test_a_good_upgrade() -> None:
    assert check_upgrade("GET", GOOD.items()) is None
    assert check_upgrade("GET", [(k.upper(), v) for k, v in GOOD.items()]) is None


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Connection": "close"}, 426),
        ({"Connection": "Upgraded"}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Upgrade": None}, 426),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Host": None}, 400),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": KEY[2:]}, 400),
        ({"Sec-WebSocket-Key": "A" * 23}, 400),
        ({"Sec-WebSocket-Key": "ä" * 24}, 400),
    ],
)
def test_a_bad_upgrade(changed: dict[str, str | None], status: int) -> None:
    pairs = [(name, value) for name, value in {**GOOD, **changed}.items() if value is not None]
    refusal = check_upgrade("GET", pairs)
    assert refusal is not None
    assert refusal.status == status


@pytest.mark.parametrize("name", ["Host", "Sec-WebSocket-Key"])
def test_a_header_that_may_come_once(name: str) -> None:
    refusal = check_upgrade("GET", [*GOOD.items(), (name, GOOD[name])])
    assert refusal is not None
    assert refusal.status == HTTPStatus.BAD_REQUEST


def test_only_get_upgrades() -> None:
    refusal = check_upgrade("POST", GOOD.items())
    assert refusal is not None
    assert refusal.status == HTTPStatus.UPGRADE_REQUIRED


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.UPGRADE_REQUIRED])
def test_a_refusal_on_the_wire(status: HTTPStatus) -> None:
    head, _, body = refusal_bytes(Refusal(status, "nö\n")).partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == f"HTTP/1.1 {status.value} {status.phrase}"
    assert body == "nö\n".encode()
    values = dict(header.split(": ") for header in headers)
    assert values["Content-Length"] == "4"
    assert values["Connection"].startswith("close")
    assert (values.get("Upgrade") == "websocket") == (status == HTTPStatus.UPGRADE_REQUIRED)
