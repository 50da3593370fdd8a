"""Text to speak, out of the chunks of an LLM's stream.

====================  =====================================================================
stream                where the text is
====================  =====================================================================
any                   a plain ``str``
OpenAI Responses      ``delta`` of ``response.output_text.delta`` and ``response.refusal.delta``
OpenAI Chat           ``choices[0].delta.content``, ``choices[0].delta.refusal``;
                      of the helper stream, ``content.delta`` and ``refusal.delta``
Anthropic Messages    ``delta.text`` of ``content_block_delta`` with a ``text_delta``
Gemini                every ``text`` in ``candidates[0].content.parts`` that is no thought
====================  =====================================================================

Dictionaries and the SDKs' own objects are read alike, and no SDK is imported. A refusal is text:
it is what the model answers. Anthropic's helper stream tells the same words twice, in the raw
event and in a ``text`` event; OpenAI's in a ``chunk`` and in a ``content.delta`` event. One of
the two is read.

A failed stream is not silence: its error events raise :class:`ReplyStreamError`. A reply that
merely ends early (``response.incomplete``, a finish or stop reason such as ``length``,
``content_filter``, ``SAFETY`` or ``refusal``) is no error here: what was said before it stands,
and whether an answer without a word needs another one is for whoever knows the whole reply.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias, cast

if TYPE_CHECKING:
    from ._messages import ConversationMessage

__all__ = ["ReplyStreamError", "extract_text", "to_messages"]

_Reader: TypeAlias = Callable[[object], str | None]


class ReplyStreamError(Exception):
    """The provider reported an error inside its stream; ``str`` of this is what it said."""


def extract_text(chunk: object) -> str | None:
    """Return the text that one chunk adds to the reply.

    Args:
        chunk: what a stream yields: text, a dictionary, or an object of a provider's SDK.

    Returns:
        The text, or None where the chunk carries none, or is of no shape known here.

    Raises:
        ReplyStreamError: the chunk says that the provider failed, or refused the prompt without
            an answer; the message is the provider's.

    Source: facts sheet, section 1.5, and the module's table.
    """
    if isinstance(chunk, str):
        return chunk
    # Looked for among the chunk's own attributes first: asking an SDK's object (a pydantic
    # model) for a field that it lacks costs more than all the rest.
    own = _own_fields(chunk)
    for field, read in _READERS:
        if field in own and (text := read(chunk)):
            return text
    return _search(chunk)


def to_messages(transcript: Iterable[ConversationMessage]) -> list[dict[str, str]]:
    """Return a transcript in the form that LLM APIs take: ``agent`` becomes ``assistant``.

    Args:
        transcript: what a handler gets; other roles are passed on as they are.
    """
    return [
        {"role": "assistant" if entry.role == "agent" else entry.role, "content": entry.content}
        for entry in transcript
    ]


def _search(chunk: object) -> str | None:
    """Ask for everything: attributes that a class, a property or a proxy provides, and errors."""
    for _, read in _READERS:
        if text := read(chunk):
            return text
    # An event with a type says by its type whether it is an error. Others may carry details of
    # something smaller than the reply: OpenAI's `response.steer.failed` has an `error`.
    if not isinstance(_field(chunk, "type"), str):
        _check_error(chunk)
        _check_blocked(chunk)
    return None


def _typed(chunk: object) -> str | None:
    kind = _field(chunk, "type")
    read = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    return read(chunk) if read else None


def _delta(event: object) -> str | None:
    return _text(_field(event, "delta"))


def _anthropic(event: object) -> str | None:
    delta = _field(event, "delta")
    return _text(_field(delta, "text")) if _field(delta, "type") == "text_delta" else None


def _openai_chat(chunk: object) -> str | None:
    delta = _field(_first(_field(chunk, "choices")), "delta")
    if delta is None:
        return None
    return _text(_field(delta, "content")) or _text(_field(delta, "refusal"))


def _gemini(chunk: object) -> str | None:
    parts = _field(_field(_first(_field(chunk, "candidates")), "content"), "parts")
    spoken = [part for part in _items(parts) if _field(part, "thought") is not True]
    return "".join(_text(_field(part, "text")) or "" for part in spoken)


def _response_failed(event: object) -> NoReturn:
    raise ReplyStreamError(_reason(_field(_field(event, "response"), "error")) or _NO_REASON)


def _error_event(event: object) -> NoReturn:
    # Anthropic puts the details into `error`, OpenAI's Responses into the event, where `type` is
    # no reason but "error" itself.
    own = _text(_field(event, "message")) or _text(_field(event, "code"))
    raise ReplyStreamError(_reason(_field(event, "error")) or own or _NO_REASON)


def _check_error(chunk: object) -> None:
    """OpenAI-compatible servers and Gemini put ``{"error": ...}`` in the place of a chunk."""
    error = _field(chunk, "error")
    reason = _reason(error)
    if reason or (error and isinstance(error, dict)):
        raise ReplyStreamError(reason or _NO_REASON)


def _check_blocked(chunk: object) -> None:
    """Gemini refuses a prompt in a chunk without candidates (camel case in the REST stream)."""
    feedback = _field(chunk, "prompt_feedback") or _field(chunk, "promptFeedback")
    reason = _field(feedback, "block_reason") or _field(feedback, "blockReason")
    if isinstance(reason, str):
        said = _field(feedback, "block_reason_message") or _field(feedback, "blockReasonMessage")
        name = reason.value if isinstance(reason, Enum) else reason
        raise ReplyStreamError(_text(said) or f"the prompt was blocked: {name}")


def _reason(error: object) -> str | None:
    """Return the provider's words, or else the most telling name that it gives."""
    if isinstance(error, str):
        return error
    candidates = (_text(_field(error, name)) for name in ("message", "code", "status", "type"))
    return next(filter(None, candidates), None)


def _own_fields(thing: object) -> Container[str]:
    if isinstance(thing, dict):
        return cast("dict[str, object]", thing)
    return cast("Container[str]", getattr(thing, "__dict__", ()))


def _field(thing: object, name: str) -> object:
    if isinstance(thing, dict):
        return cast("dict[str, object]", thing).get(name)
    return getattr(thing, name, None)


def _first(value: object) -> object:
    return next(iter(_items(value)), None)


def _items(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_NO_REASON: Final = "the provider reported an error without a reason"

_BY_TYPE: Final[dict[str, _Reader]] = {
    "response.output_text.delta": _delta,
    "response.refusal.delta": _delta,
    "content.delta": _delta,
    "refusal.delta": _delta,
    "content_block_delta": _anthropic,
    "response.failed": _response_failed,
    "error": _error_event,
}

# The field that tells a shape apart, and what reads it.
_READERS: Final[tuple[tuple[str, _Reader], ...]] = (
    ("type", _typed),
    ("choices", _openai_chat),
    ("candidates", _gemini),
)
