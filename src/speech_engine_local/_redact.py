"""Takes the words out of a frame and leaves what the protocol is made of.

What is kept is listed here, and everything else is replaced: a field that nobody thought of is
then a row of letters, not a leak.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

import attrs

from speech_engine_proto import RemoteProtocolError, wire

__all__ = ["redact"]

KEYS = frozenset(
    {
        "type",
        "conversation_id",
        "user_transcript",
        "role",
        "content",
        "event_id",
        "message",
        "is_final",
    }
)
TYPES = frozenset({"init", "user_transcript", "ping", "close", "error", "agent_response", "pong"})
ROLES = frozenset({"user", "agent", "assistant", "system", "tool"})
ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def redact(frame: str) -> str:
    """Return a frame with its words replaced, that means the same to the protocol.

    Each character of a text becomes ``x``, white space a space, so lengths stay; digits of numbers
    become ``1``. Kept are the spelling of the JSON, ``conversation_id``, ``event_id``, roles, and
    the field names and types of the protocol. What is no JSON becomes a row of ``x``.
    """
    try:
        json.loads(frame, parse_int=str)  # int() refuses thousands of digits, JSON does not
        frame.encode()
    except (ValueError, RecursionError):
        return "x" * len(frame)
    redacted = _Redaction().apply(frame)
    # A message that was refused for its size may be short enough without its words.
    return redacted if _meaning(redacted) == _meaning(frame) else "x" * len(frame)


_Meaning: TypeAlias = tuple[str, int | None, int | None] | None


def _meaning(frame: str) -> _Meaning:
    """What the protocol makes of a frame, words aside; None where it refuses it."""
    try:
        message = wire.decode(frame)
    except RemoteProtocolError:
        return None
    match message:
        case wire.UserTranscript(messages, event_id):
            return message.type, event_id, len(messages)
        case wire.AgentResponse(content, _, event_id):
            return message.type, event_id, len(content)
        case wire.Unknown(name):
            return "", None, len(name)
        case _:
            return message.type, None, None


_TOKEN = re.compile(
    r'(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")'
    r"|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<mark>[{}\[\]:,])"
    r"|(?P<other>[^\"{}\[\]:,0-9-]+|.)",
    re.DOTALL,
)


@attrs.define
class _Redaction:
    """Goes through the tokens of one JSON text, and knows under which key it is."""

    _depth: int = 0
    _objects: list[bool] = attrs.field(factory=list[bool])
    _key: str | None = None
    _at_key: bool = False

    def apply(self, frame: str) -> str:
        return "".join(self._token(match) for match in _TOKEN.finditer(frame))

    def _token(self, match: re.Match[str]) -> str:
        text = match[0]
        match match.lastgroup:
            case "string":
                return self._string(text)
            case "number":
                kept = self._key == "event_id" and self._depth == 1
                return text if kept else re.sub("[0-9]", "1", text)
            case "mark":
                self._mark(text)
                return text
            case _:
                return text

    def _mark(self, mark: str) -> None:
        match mark:
            case "{" | "[":
                self._objects.append(mark == "{")
                self._depth += 1
                self._at_key = mark == "{"
                if mark == "{":
                    self._key = None
            case "}" | "]":
                self._objects.pop()
                self._depth -= 1
                self._at_key = False
            case ":":
                self._at_key = False
            case _:
                self._at_key = self._objects[-1]

    def _string(self, token: str) -> str:
        text: str = json.loads(token)
        if self._at_key:
            self._key = text
            kept = text in KEYS
        else:
            kept = self._is_kept(text)
        return token if kept else f'"{_blank(text)}"'

    def _is_kept(self, text: str) -> bool:
        match self._key:
            case "type":
                return self._depth == 1 and text in TYPES
            case "role":
                return text in ROLES
            case "conversation_id":
                return self._depth == 1 and ID.fullmatch(text) is not None
            case _:
                return False


def _blank(text: str) -> str:
    return "".join(" " if character.isspace() else "x" for character in text)
