"""The bounds of a server, and what happens at each: one table for every transport."""

from __future__ import annotations

import math

import attrs

import speech_engine_proto

__all__ = ["Limits", "with_defaults"]


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(_expected(instance, attribute.name, "a positive int", value))


def _seconds(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(_expected(instance, attribute.name, "seconds above 0 or None", value))


def _expected(instance: object, name: str, what: str, value: object) -> str:
    return f"{type(instance).__name__}.{name}: expected {what}, got {value!r}"


@attrs.frozen
class Limits(speech_engine_proto.Limits):
    """The bounds of a server and of its conversations; a time of None is no bound.

    Whatever trips is told to ``on_error`` as `LimitExceeded`, written to the log as a warning and
    counted in `SpeechEngineServer.exceeded`. No other conversation notices.

    Args:
        max_sessions: conversations at once; the next upgrade is answered with 503. 1,000: each is
            a stream of an LLM as well, and one process that answers more of them at a time is one
            that was meant to be several.
        handshake_timeout: seconds for an upgrade, its request and ``authorize`` together, in the
            listeners of this package; the connection is dropped.
        first_message_timeout: seconds from the upgrade to the first message; closed with 1008. The
            service sends ``init`` at once (fact sheet 1.1).
        idle_timeout: seconds without any message, pings of the protocol among them; closed with
            1001. None: how often the service pings is not known (fact sheet 7).
        backlog_timeout: seconds that a write may wait without one byte of room; the connection is
            aborted, for a peer that does not read would not see a close either.
        handler_timeout: seconds for the handler of a turn. It is cancelled, ``fallback`` is said,
            and the turn gets its terminator; the conversation goes on.
        first_word_timeout: seconds from a transcript to the first piece of its reply. ``fallback``
            is said ("One moment, please.") and the handler goes on with the turn.
    """

    max_sessions: int = attrs.field(default=1_000, validator=_count, kw_only=True)
    handshake_timeout: float | None = attrs.field(default=10.0, validator=_seconds, kw_only=True)
    first_message_timeout: float | None = attrs.field(
        default=30.0, validator=_seconds, kw_only=True
    )
    idle_timeout: float | None = attrs.field(default=None, validator=_seconds, kw_only=True)
    backlog_timeout: float | None = attrs.field(default=10.0, validator=_seconds, kw_only=True)
    handler_timeout: float | None = attrs.field(default=None, validator=_seconds, kw_only=True)
    first_word_timeout: float | None = attrs.field(default=None, validator=_seconds, kw_only=True)


def with_defaults(limits: speech_engine_proto.Limits | None) -> Limits:
    """Return a server's limits: those of the core's class get the defaults of the rest."""
    if limits is None:
        return Limits()
    if isinstance(limits, Limits):
        return limits
    return Limits(limits.max_frame_bytes, limits.max_messages)
