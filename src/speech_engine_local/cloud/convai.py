"""The browser's protocol: what a client says, parsed, and what it is told, built.

Pure: text in, a frame out, or the other way round. Frames and fields are those of the fact sheet,
sections 5.2 and 5.3.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from speech_engine_proto.wire import without_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "INTERNAL",
    "MAX_FRAME_BYTES",
    "POLICY",
    "PROTOCOL",
    "AudioChunk",
    "ClientFrame",
    "FrameError",
    "Ignored",
    "Initiation",
    "Part",
    "Pong",
    "UserMessage",
    "agent_response",
    "audio",
    "close_reason",
    "correction",
    "error",
    "interruption",
    "metadata",
    "parse",
    "ping",
    "response_part",
]

PROTOCOL = 1002
"""Code of an error frame, and of a close: the client broke the protocol."""

POLICY = 1008
"""Code of an error frame, and of a close: what was asked for is not allowed."""

INTERNAL = 1011
"""Code of an error frame, and of a close: the agent failed."""

MAX_FRAME_BYTES = 1024 * 1024
"""Longest frame of a client: half a minute of the densest audio, or a long document."""

MAX_REASON_BYTES = 123
"""Room for the reason in a close frame (RFC 6455, 5.5)."""

MAX_NAME = 64
"""Characters of a client's own field name that an error repeats."""

Part: TypeAlias = Literal["start", "delta", "stop"]
"""The kinds of ``agent_chat_response_part``."""


@attrs.frozen
class Initiation:
    """``conversation_initiation_client_data``: the first frame, with the client's wishes.

    Args:
        first_message: what the agent shall say first; None where the client does not ask for it.
        text_only: whether no audio shall be sent; None leaves it to the engine.
        refused: names of the other overrides that are set. No engine allows any of them.
        variables: the dynamic variables, as text.
    """

    first_message: str | None = attrs.field(default=None, repr=False)
    text_only: bool | None = None
    refused: tuple[str, ...] = attrs.field(default=(), repr=False)
    variables: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)


@attrs.frozen
class UserMessage:
    """``user_message``: what the user typed."""

    text: str = attrs.field(repr=False)


@attrs.frozen
class AudioChunk:
    """``user_audio_chunk``: sound of the microphone.

    Args:
        size: bytes of sound.
    """

    size: int


@attrs.frozen
class Pong:
    """``pong``: the answer to a ping.

    Args:
        event_id: that of the ping.
    """

    event_id: int


@attrs.frozen
class Ignored:
    """A frame that asks for nothing here: activity, feedback, tool results, unknown types.

    Args:
        type: its type.
    """

    type: str = attrs.field(repr=False)


ClientFrame: TypeAlias = Initiation | UserMessage | AudioChunk | Pong | Ignored


class FrameError(Exception):
    """A frame of the client that cannot be read; the text is fit to be sent to that client.

    Args:
        message: the field, what was expected and what came, without a word of the content.
        code: `PROTOCOL` or `POLICY`.
    """

    def __init__(self, message: str, code: int = PROTOCOL) -> None:
        super().__init__(message)
        self.code = code


def parse(message: str | bytes) -> ClientFrame:
    """Read one WebSocket message of a client.

    Raises:
        FrameError: it is no frame of the protocol.
    """
    if isinstance(message, bytes):
        raise FrameError("frame: expected text, got a binary message")
    # Characters first: no more than the limit is ever encoded, and each is a byte or more.
    if len(message) > MAX_FRAME_BYTES or _size(message) > MAX_FRAME_BYTES:
        raise FrameError(f"frame: expected at most {MAX_FRAME_BYTES} bytes, got more", POLICY)
    try:
        body: Any = json.loads(message)
    except (ValueError, RecursionError):  # ValueError: also a number with thousands of digits
        raise FrameError("frame: expected JSON, got something else") from None
    if not isinstance(body, dict):
        raise FrameError(f"frame: expected an object, got {_kind(body)}")
    return _read(cast("dict[str, Any]", body))


def metadata(conversation_id: str, *, output_format: str, input_format: str) -> str:
    """Build the first frame: the conversation's name and its audio formats."""
    return _event(
        "conversation_initiation_metadata",
        conversation_id=conversation_id,
        agent_output_audio_format=output_format,
        user_input_audio_format=input_format,
    )


def audio(sound: bytes, event_id: int) -> str:
    """Build a frame of the agent's voice.

    Args:
        sound: encoded in the announced format.
        event_id: of the reply that it belongs to.
    """
    return _event("audio", audio_base_64=base64.b64encode(sound).decode(), event_id=event_id)


def agent_response(text: str, event_id: int) -> str:
    """Build the frame with the whole text of a reply."""
    return _event("agent_response", agent_response=text, event_id=event_id)


def correction(original: str, corrected: str, event_id: int) -> str:
    """Build the frame that cuts an interrupted reply to what was heard."""
    return _event(
        "agent_response_correction",
        original_agent_response=original,
        corrected_agent_response=corrected,
        event_id=event_id,
    )


def response_part(text: str, kind: Part, event_id: int) -> str:
    """Build a frame with a piece of a reply that streams."""
    part = {"text": text, "type": kind, "event_id": event_id}
    return _write({"type": "agent_chat_response_part", "text_response_part": part})


def interruption(event_id: int) -> str:
    """Build the frame that makes all audio with a lower id stale."""
    return _event("interruption", event_id=event_id)


def ping(event_id: int, ping_ms: int) -> str:
    """Build a ping.

    Args:
        event_id: what the pong will name.
        ping_ms: round trip of the last one in milliseconds; 0 before the first pong. Always there,
            because the official Python client reads it without a look.
    """
    return _event("ping", event_id=event_id, ping_ms=ping_ms)


def error(code: int, message: str, error_type: str | None = None) -> str:
    """Build an error frame.

    Args:
        code: 1000, `PROTOCOL`, `POLICY` or `INTERNAL`.
        message: for people.
        error_type: for programs; ``max_duration_exceeded`` ends the session in the browser.
    """
    told: dict[str, Any] = {"code": code, "message": message}
    if error_type is not None:
        told["error_type"] = error_type
    return _event("error", **told)


def close_reason(text: str) -> str:
    """Cut a text to the room that a close frame has for it (RFC 6455, 5.5)."""
    return without_lone_surrogates(text).encode()[:MAX_REASON_BYTES].decode(errors="ignore")


def _event(type_: str, **payload: Any) -> str:
    return _write({"type": type_, f"{type_}_event": payload})


def _write(body: dict[str, Any]) -> str:
    return without_lone_surrogates(json.dumps(body, ensure_ascii=False, separators=(",", ":")))


def _read(body: dict[str, Any]) -> ClientFrame:
    if "type" not in body and "user_audio_chunk" in body:
        return _read_audio(body["user_audio_chunk"])
    match _typed(body, "type", str, "a string"):
        case "conversation_initiation_client_data":
            return _read_initiation(body)
        case "user_message":
            return UserMessage(_text(body, "text"))
        case "multimodal_message" if body.get("text") is not None:
            message = _typed(body, "text", dict, "an object")
            return UserMessage(_text(message, "text"))
        case "pong":
            return Pong(_typed(body, "event_id", int, "an integer"))
        case other:
            return Ignored(other)


def _read_audio(chunk: object) -> AudioChunk:
    if not isinstance(chunk, str):
        raise FrameError(f"user_audio_chunk: expected a string, got {_kind(chunk)}")
    try:
        return AudioChunk(len(base64.b64decode(chunk, validate=True)))
    except (ValueError, binascii.Error):
        raise FrameError("user_audio_chunk: expected base64, got something else") from None


def _read_initiation(body: dict[str, Any]) -> Initiation:
    first_message: str | None = None
    text_only: bool | None = None
    refused: list[str] = []
    for path, value in _leaves(_optional_object(body, "conversation_config_override")):
        match path:
            case ("agent", "first_message"):
                if not isinstance(value, str):
                    raise FrameError(f"first_message: expected a string, got {_kind(value)}")
                first_message = without_lone_surrogates(value)
            # The official Python client puts it at the top, the browser's one below.
            case ("text_only",) | ("conversation", "text_only"):
                if not isinstance(value, bool):
                    raise FrameError(f"text_only: expected true or false, got {_kind(value)}")
                text_only = value
            case _:
                refused.append(without_lone_surrogates(path[-1][:MAX_NAME]))
    variables = dict(_variables(_optional_object(body, "dynamic_variables")))
    return Initiation(first_message, text_only, tuple(refused), variables)


def _leaves(overrides: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each override that is set, with its path; not recursive, so no depth is too much.

    Only the first three names of a path are kept: no allowed one is longer.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), overrides)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            waiting += [((*path[:2], name), below) for name, below in inner.items()]
        elif value is not None:
            yield path, value


def _variables(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        match value:
            case None:
                continue
            case bool():
                yield name, "true" if value else "false"
            case str() | int() | float():
                yield name, without_lone_surrogates(str(value))
            case _:
                raise FrameError(
                    "dynamic_variables: expected strings, numbers and booleans, "
                    f"got {_kind(value)} among them"
                )


def _optional_object(body: dict[str, Any], name: str) -> dict[str, Any]:
    if body.get(name) is None:
        return {}
    value: dict[str, Any] = _typed(body, name, dict, "an object")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    text = without_lone_surrogates(_typed(body, name, str, "a string"))
    if not text.strip():
        raise FrameError(f"{name}: expected at least one character, got none", POLICY)
    return text


def _typed(body: dict[str, Any], name: str, wanted: type, expected: str) -> Any:
    if name not in body:
        raise FrameError(f"{name}: expected {expected}, got nothing")
    value = body[name]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise FrameError(f"{name}: expected {expected}, got {_kind(value)}")
    return value


def _size(message: str) -> int:
    return len(message.encode("utf-8", "surrogatepass"))


def _kind(value: object) -> str:
    """Name the JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
