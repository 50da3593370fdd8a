"""Every exception of the protocol: what *you* did wrong, and what the *peer* did wrong.

The two sides never share a class. A :class:`LocalProtocolError` is raised by a verb, before a
frame exists. A :class:`RemoteProtocolError` is never raised by ``receive``: it arrives inside a
:class:`~speech_engine_proto.ProtocolViolation` event.
"""

from __future__ import annotations

EXCERPT_CHARACTERS = 200


class ProtocolError(Exception):
    """The Speech Engine protocol was broken, by this side or by the other."""


class LocalProtocolError(ProtocolError, RuntimeError):
    """This side asked for a frame that the protocol does not allow; no frame was made.

    Often no bug at all but a race lost: the caller interrupted, or hung up, while the reply was
    on its way. It is a ``RuntimeError`` too, because that is what the official SDK raises.
    """


class StaleTurnError(LocalProtocolError):
    """The turn is no longer current: a newer transcript has interrupted it."""


class TurnFinishedError(LocalProtocolError):
    """The turn already has its terminator; nothing may follow it."""


class ConnectionClosedError(LocalProtocolError):
    """The conversation is over; nothing may be sent."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    Args:
        expected: what the protocol asks for, in words.
        got: what came instead, in words; never the content itself.
        where: the JSON path of the field (``$.event_id``), ``$`` for the whole message.
        excerpt: the beginning of the message, at most 200 characters. It may hold what a caller
            said, so it is in no ``str`` and no ``repr`` of this error.
    """

    def __init__(self, expected: str, got: str, where: str = "$", excerpt: str = "") -> None:
        super().__init__(f"expected {expected}, got {got} at {where}")
        self.expected: str = expected
        self.got: str = got
        self.where: str = where
        self.excerpt: str = excerpt[:EXCERPT_CHARACTERS]

    def __reduce__(self) -> tuple[type[RemoteProtocolError], tuple[str, str, str, str]]:
        """Pickle by the four parts, since ``Exception`` would pass on the message alone."""
        return type(self), (self.expected, self.got, self.where, self.excerpt)
