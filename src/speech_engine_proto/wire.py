"""The messages of the wire, and the one place where bytes become messages and back.

Field names are those of the JSON (fact sheet 1.1). Reading is tolerant, writing is strict: what
may be missing or null is read with a default, and everything that is written is written whole.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, assert_never

import attrs
import msgspec

from ._errors import EXCERPT_CHARACTERS, RemoteProtocolError
from ._limits import Limits
from ._messages import ConversationMessage, length_only

__all__ = [
    "AgentResponse",
    "Close",
    "Error",
    "Init",
    "Message",
    "Ping",
    "Pong",
    "Unknown",
    "UserTranscript",
    "decode",
    "encode",
]

EVENT_ID_MIN = -(2**63)
EVENT_ID_MAX = 2**63 - 1
_EventId = Annotated[int, msgspec.Meta(ge=EVENT_ID_MIN, le=EVENT_ID_MAX)]


def _count(entries: tuple[ConversationMessage, ...]) -> str:
    return f"<{len(entries)} messages>"


@attrs.frozen
class Init:
    """The service names the conversation: its first message."""

    type: ClassVar[str] = "init"
    conversation_id: str


@attrs.frozen
class UserTranscript:
    """The conversation so far, up to and including what the caller said last."""

    type: ClassVar[str] = "user_transcript"
    user_transcript: tuple[ConversationMessage, ...] = attrs.field(repr=_count)
    event_id: _EventId | None = None


@attrs.frozen
class Ping:
    """The service asks whether the agent is there."""

    type: ClassVar[str] = "ping"


@attrs.frozen
class Close:
    """The service ends the conversation in order."""

    type: ClassVar[str] = "close"


@attrs.frozen
class Error:
    """The service reports an error, in its own words."""

    type: ClassVar[str] = "error"
    message: str = attrs.field(repr=length_only)


@attrs.frozen
class AgentResponse:
    """A piece of the reply (``is_final`` false), or its terminator (true, content empty)."""

    type: ClassVar[str] = "agent_response"
    content: str = attrs.field(repr=length_only)
    is_final: bool
    event_id: _EventId | None = None


@attrs.frozen
class Pong:
    """The agent's answer to a ping."""

    type: ClassVar[str] = "pong"


@attrs.frozen
class Unknown:
    """A well-formed object of a type that this version does not know."""

    type: str


Message: TypeAlias = Init | UserTranscript | Ping | Close | Error | AgentResponse | Pong | Unknown


def decode(data: bytes | bytearray | memoryview | str, limits: Limits | None = None) -> Message:
    """Read one whole WebSocket message.

    Args:
        data: the message as it came, UTF-8 where it is bytes.
        limits: the bounds to hold it to; by default ``Limits()``.

    Raises:
        RemoteProtocolError: it is no message of this protocol; the error says where and why.
        TypeError: ``data`` is neither bytes nor str, which is the caller's mistake.
    """
    bounds = limits or _DEFAULT_LIMITS
    raw = _utf8(data, bounds)
    try:
        message = _read(raw)
    except msgspec.DecodeError as error:
        raise _violation(error, raw) from None
    except RecursionError:
        excerpt = _excerpt(raw)
        raise RemoteProtocolError("modest nesting", "nesting too deep", "$", excerpt) from None
    if type(message) is UserTranscript and len(message.user_transcript) > bounds.max_messages:
        raise RemoteProtocolError(
            f"at most {bounds.max_messages} messages",
            f"{len(message.user_transcript)}",
            "$.user_transcript",
            _excerpt(raw),
        )
    return message


def encode(message: Message) -> str:
    """Write one message as the text of a WebSocket frame.

    Lone surrogates, which JSON in UTF-8 cannot carry, become U+FFFD.
    """
    match message:
        case AgentResponse(content, is_final, event_id):
            return agent_response(content, is_final, event_id)
        case Init(conversation_id):
            return _write({"type": "init", "conversation_id": conversation_id})
        case UserTranscript(user_transcript, event_id):
            entries = [entry.model_dump() for entry in user_transcript]
            body = {"type": "user_transcript", "user_transcript": entries}
            return _write({**body, "event_id": event_id})
        case Ping():
            return PING_FRAME
        case Close():
            return CLOSE_FRAME
        case Error(text):
            return _write({"type": "error", "message": text})
        case Pong():
            return PONG_FRAME
        case Unknown(name):
            return _write({"type": name})
        case _:
            assert_never(message)


PING_FRAME = '{"type":"ping"}'
PONG_FRAME = '{"type":"pong"}'
CLOSE_FRAME = '{"type":"close"}'


_encoder = msgspec.json.Encoder()


def agent_response(content: str, is_final: bool, event_id: int | None) -> str:
    """Write an ``agent_response`` from its parts."""
    return reply_frame(content, reply_end(is_final, event_id))


def reply_end(is_final: bool, event_id: int | None) -> str:
    """Write what follows the content in an ``agent_response``, the same in each piece of a turn."""
    final = "true" if is_final else "false"
    number = "null" if event_id is None else event_id
    return f',"is_final":{final},"event_id":{number}}}'


def reply_frame(content: str, end: str) -> str:
    """Write an ``agent_response`` whose end is written: the frame that is written most.

    A template with json's own string escape takes half the time of an encoder and a `str` of its
    bytes.
    """
    if not content.isascii():
        content = without_lone_surrogates(content)
    text = encode_basestring(content)
    return f'{{"type":"agent_response","content":{text}{end}'


def without_lone_surrogates(text: str) -> str:
    """Make a text valid Unicode: surrogate pairs are joined, lone halves become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _write(body: dict[str, Any]) -> str:
    try:
        return _encoder.encode(body).decode()
    except UnicodeEncodeError:
        # msgspec does not say which text was at fault, so the finished JSON is mended. A lone
        # surrogate is no character of JSON's own syntax: only contents change.
        return without_lone_surrogates(json.dumps(body, ensure_ascii=False))


@attrs.frozen
class _Head:
    type: str


class _WholeTranscript(msgspec.Struct):
    """A transcript together with its type, so that a long history is gone through once."""

    type: Literal["user_transcript"]
    user_transcript: tuple[ConversationMessage, ...]
    event_id: _EventId | None = None


class _LooseMessage(msgspec.Struct, gc=False):
    role: str
    content: str | None


@attrs.frozen
class _LooseTranscript:
    """A transcript in which `content` may be null, which is read as empty (Rule 6)."""

    user_transcript: tuple[_LooseMessage, ...]
    event_id: _EventId | None = None


_DEFAULT_LIMITS = Limits()
_SHORT = 128  # bytes; only a transcript of one sentence is shorter
_head = msgspec.json.Decoder(_Head)
_whole_transcript = msgspec.json.Decoder(_WholeTranscript)
_loose_transcript = msgspec.json.Decoder(_LooseTranscript)
_decoders: dict[str, msgspec.json.Decoder[Init | Error | AgentResponse]] = {
    "init": msgspec.json.Decoder(Init),
    "error": msgspec.json.Decoder(Error),
    "agent_response": msgspec.json.Decoder(AgentResponse),
}
_constants: dict[str, Ping | Close | Pong] = {"ping": Ping(), "close": Close(), "pong": Pong()}


def _utf8(data: bytes | bytearray | memoryview | str, limits: Limits) -> bytes:
    """Return the message as valid UTF-8 within the limit.

    msgspec leaves strings of unknown fields unchecked, so the whole is checked here.
    """
    if isinstance(data, str):
        # Characters first: no more than the limit is ever encoded, and each is a byte or more.
        _check_size(len(data), limits)
        try:
            raw = data.encode()
        except UnicodeEncodeError:
            raise RemoteProtocolError("valid Unicode", "a lone surrogate") from None
        _check_size(len(raw), limits)
        return raw
    try:
        view = memoryview(data)
    except TypeError:
        got = type(data).__name__
        raise TypeError(
            f"message: expected bytes, bytearray, memoryview or str, got {got}"
        ) from None
    _check_size(view.nbytes, limits)
    raw = bytes(data)
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            got = f"an invalid byte at position {error.start}"
            raise RemoteProtocolError("UTF-8", got, "$", _excerpt(raw)) from None
    return raw


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.max_frame_bytes:
        raise RemoteProtocolError(f"at most {limits.max_frame_bytes} bytes", f"{size}")


def _read(raw: bytes) -> Message:
    try:
        return _read_typed(raw)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _LONE_SURROGATE.sub(_mend_escape, raw)
        if mended == raw:
            raise
        return _read_typed(mended)


def _read_typed(raw: bytes) -> Message:
    """Read the type first, then only the fields that this type has; others may hold anything."""
    if len(raw) > _SHORT and (transcript := _read_whole(raw)):
        return transcript
    name = _head.decode(raw).type
    if name == "user_transcript":
        return _read_transcript(raw)
    constant = _constants.get(name)
    if constant is not None:
        return constant
    decoder = _decoders.get(name)
    return Unknown(name) if decoder is None else decoder.decode(raw)


def _read_whole(raw: bytes) -> UserTranscript | None:
    """Read what nearly every long message is; None where it is not, or needs more tolerance."""
    try:
        whole = _whole_transcript.decode(raw)
    except msgspec.ValidationError:
        return None
    return UserTranscript(whole.user_transcript, whole.event_id)


def _read_transcript(raw: bytes) -> UserTranscript:
    loose = _loose_transcript.decode(raw)
    messages = (ConversationMessage(m.role, m.content or "") for m in loose.user_transcript)
    return UserTranscript(tuple(messages), loose.event_id)


# Every escape is matched, so that the second half of a pair, or an escaped backslash before a
# harmless "ud83d", is never taken for a lone half.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\."
)


def _mend_escape(match: re.Match[bytes]) -> bytes:
    """Read an escaped half of a surrogate pair as U+FFFD.

    A service that cuts heard text inside an emoji writes one into the history, and the history
    comes again with every turn: refusing it would mute the agent for the rest of the call.
    """
    return rb"\ufffd" if match["lone"] else match[0]


_EXPECTED = re.compile(r"Expected (?P<expected>.+), got (?P<got>.+)")
_MISSING = re.compile(r"Object missing required field (?P<field>.+)")


def _violation(error: Exception, raw: bytes) -> RemoteProtocolError:
    """Put what msgspec says into the words of this package."""
    text, _, path = str(error).partition(" - at `")
    where = path.rstrip("`") or "$"
    if found := _EXPECTED.fullmatch(text):
        return RemoteProtocolError(found["expected"], found["got"], where, _excerpt(raw))
    if found := _MISSING.fullmatch(text):
        return RemoteProtocolError(f"field {found['field']}", "nothing", where, _excerpt(raw))
    if isinstance(error, msgspec.ValidationError):
        expected = text.removeprefix("Expected ")
        return RemoteProtocolError(expected, "a number out of range", where, _excerpt(raw))
    got = text.removeprefix("JSON is malformed: ").lower()
    return RemoteProtocolError("a JSON object", got, where, _excerpt(raw))


def _excerpt(raw: bytes) -> str:
    return raw[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
