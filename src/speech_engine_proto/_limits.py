"""The bounds on what a peer may send (Rule 7)."""

from __future__ import annotations

import attrs


def _positive(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(
            f"{type(instance).__name__}.{attribute.name}: expected a positive int, got {value!r}"
        )


@attrs.frozen
class Limits:
    """The bounds of one message; past one, it is a violation and nothing else changes.

    Nesting has no number here: the JSON decoder follows arrays and objects as deep as the
    interpreter's own recursion limit and refuses the message beyond it. No message of the
    protocol nests deeper than three.

    Args:
        max_frame_bytes: the longest message, in bytes of UTF-8. 16 MiB: every transcript carries
            the whole history, which passes the usual WebSocket default of 1 MiB in a long call;
            16 MiB is weeks of speech, and still small beside a process.
        max_messages: the most entries in one transcript. 10,000: a turn takes a few seconds, so
            this is a call of many hours; each entry costs some 200 bytes as objects.
    """

    max_frame_bytes: int = attrs.field(default=16 * 1024 * 1024, validator=_positive)
    max_messages: int = attrs.field(default=10_000, validator=_positive)
