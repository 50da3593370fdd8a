"""Faults for the targets of `broken`: what comes in, what goes out, and what handlers do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio

from speech_engine_local.check.targets import Obedient

from .broken import Fault, Refused, admit

if TYPE_CHECKING:
    from collections.abc import Callable
    from http import HTTPStatus

    from websockets.asyncio.server import Server, ServerConnection
    from websockets.http11 import Request, Response

    from .broken import Admit, Data, Frame

KNOWN = {
    "init": {"type", "conversation_id"},
    "user_transcript": {"type", "user_transcript", "event_id"},
    "ping": {"type"},
    "close": {"type"},
    "error": set[str](),
}


def answering(status: HTTPStatus) -> Admit:
    def refuse(ws: ServerConnection, _: Request, __: Server) -> Response:
        return ws.respond(status, "no\n")

    return refuse


def admit_all(_: ServerConnection, __: Request, ___: Server) -> None:
    return None


def fragile(ws: ServerConnection, request: Request, server: Server) -> Response | None:
    """End the whole server at a path that is not the right one."""
    if request.path.partition("?")[0] != "/ws":
        server.close()
    return admit(ws, request, server)


def strict(code: int) -> Callable[[], Callable[[Data], list[Data]]]:
    """Close the call, with this code, at everything that could be found fault with."""

    def new() -> Callable[[Data], list[Data]]:
        last: list[int] = []
        seen: list[str] = []

        def read(data: Data) -> list[Data]:
            if isinstance(data, bytes) or len(data) > 2**20:
                raise Refused(code)
            try:
                message = json.loads(data)
                check_message(message, seen)
                if message["type"] == "user_transcript":
                    check_transcript(message, last)
            except (AssertionError, KeyError, TypeError, ValueError, RecursionError):
                raise Refused(code) from None
            seen.append(message["type"])
            return [data]

        return read

    return new


def check_message(message: Any, seen: list[str]) -> None:
    assert message.keys() <= KNOWN[message["type"]], "an unknown key, or an error"
    if message["type"] == "init":
        assert type(message["conversation_id"]) is str
        assert "init" not in seen, "a second init"
    else:
        assert "init" in seen, "something before init"


def check_transcript(message: Any, last: list[int]) -> None:
    assert type(message["event_id"]) is int
    assert message["event_id"] == (last[-1] if last else 0) + 1, "a gap, or an old id"
    for item in message["user_transcript"]:
        assert item.keys() == {"role", "content"}
        assert item["role"] in ("user", "agent")
        item["content"].encode()  # half a character is refused here
    last.append(message["event_id"])


def outgoing(change: Callable[[Frame], list[Frame | bytes]]) -> Fault:
    """Change each frame of a reply, and each pong, on its way out."""
    return Fault(outgoing=lambda: change)


def incoming(change: Callable[[Frame], Frame | None]) -> Fault:
    """Change or drop each well-formed message on its way in."""

    def read(data: Data) -> list[Data]:
        try:
            message = json.loads(data)
        except ValueError:
            return [data]
        changed = change(message) if isinstance(message, dict) else message
        return [] if changed is None else [json.dumps(changed)]

    return Fault(incoming=lambda: read)


def remembering() -> Callable[[Data], list[Data]]:
    """Drop a transcript whose id has been there, whatever became of it."""
    ids: list[Any] = []

    def read(data: Data) -> list[Data]:
        message = json.loads(data)
        id = message.get("event_id")
        if message["type"] == "user_transcript" and id in ids:
            return []
        ids.append(id)
        return [data]

    return read


def decoded(data: Data) -> list[Data]:
    try:
        return [data if isinstance(data, str) else data.decode()]
    except UnicodeDecodeError:
        raise Refused(1011) from None


def first_only() -> Callable[[Data], list[Data]]:
    """Drop every transcript but the first."""
    transcripts: list[Data] = []

    def read(data: Data) -> list[Data]:
        if "user_transcript" in str(data):
            transcripts.append(data)
            return [data] if len(transcripts) == 1 else []
        return [data]

    return read


def every_second_pong() -> Callable[[Frame], list[Frame | bytes]]:
    pongs: list[Frame] = []

    def send(frame: Frame) -> list[Frame | bytes]:
        if frame["type"] == "pong":
            pongs.append(frame)
            return [] if len(pongs) % 2 else [frame]
        return [frame]

    return send


def at_the_end() -> Callable[[Frame], list[Frame | bytes]]:
    """Hold a reply back until it is whole."""
    held: list[Frame | bytes] = []

    def send(frame: Frame) -> list[Frame | bytes]:
        if frame["type"] == "pong":
            return [frame]
        held.append(frame)
        if not frame["is_final"]:
            return []
        whole = held[:]
        held.clear()
        return whole

    return send


def mute_at_half() -> Callable[[Frame], list[Frame | bytes]]:
    """Fall silent once half a character has to be sent."""
    broken: list[Frame] = []

    def send(frame: Frame) -> list[Frame | bytes]:
        if "�" in frame.get("content", ""):
            broken.append(frame)
        return [] if broken else [frame]

    return send


class Shared(Obedient):
    """Knows one conversation for all calls."""

    name = "nobody"

    async def on_init(self, conversation_id: str, session: Any) -> None:
        self.name = conversation_id
        await super().on_init(conversation_id, session)

    async def on_transcript(self, transcript: list[Any], session: Any) -> None:
        if transcript[-1].content == "conversation":
            await anyio.sleep(0.3)
            await session.send_response(self.name)
        else:
            await super().on_transcript(transcript, session)


class Noisy(Obedient):
    """Tells of an end twice."""

    async def on_disconnect(self, session: Any) -> None:
        await super().on_disconnect(session)
        await super().on_disconnect(session)


class Stays(Obedient):
    """Does not hang up when it is told to."""

    async def on_transcript(self, transcript: list[Any], session: Any) -> None:
        if transcript[-1].content != "hang up":
            await super().on_transcript(transcript, session)


class Eager(Obedient):
    """Does not wait for `on_init`, and says so."""

    async def on_init(self, conversation_id: str, session: Any) -> None:
        pass

    async def on_transcript(self, transcript: list[Any], session: Any) -> None:
        if transcript[-1].content == "init done?":
            await session.send_response("no")
        else:
            await super().on_transcript(transcript, session)


class Leaving(Obedient):
    """Takes every other call down with one that drops."""

    def __init__(self, group: Any) -> None:
        super().__init__(group)
        self.sessions: list[Any] = []

    async def on_init(self, conversation_id: str, session: Any) -> None:
        self.sessions.append(session)

    async def on_disconnect(self, session: Any) -> None:
        for each in self.sessions:
            each.close()


def swap(**fields: Any) -> Fault:
    return outgoing(lambda frame: [{**frame, **fields} if "content" in frame else frame])


def with_content(change: Callable[[str], str]) -> Fault:
    return outgoing(lambda f: [{**f, "content": change(f["content"])} if f.get("content") else f])


def final(change: Callable[[Frame], list[Frame | bytes]]) -> Fault:
    return outgoing(lambda frame: change(frame) if frame.get("is_final") else [frame])


def without_null_id(frame: Frame) -> list[Frame | bytes]:
    return [{k: v for k, v in frame.items() if v is not None}]


def last_only(message: Frame) -> Frame:
    if message.get("user_transcript"):
        message["user_transcript"] = message["user_transcript"][-1:]
    return message


def without_init_done(message: Frame) -> Frame | None:
    return None if "init done?" in str(message) else message


def repaired(message: Frame) -> Frame:
    """Fill in what is missing, and answer to it."""
    if message.get("type") == "user_transcript":
        items = message.get("user_transcript", [{"role": "user"}])
        message["user_transcript"] = [{"content": "echo x", **item} for item in items]
    return message
