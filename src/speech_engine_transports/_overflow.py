"""Whether a connection ended because a message was longer than this end takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.exceptions import ConnectionClosed

__all__ = ["TOO_BIG", "has_overflowed"]

TOO_BIG = 1009
"""The close code for a message that is too long (RFC 6455, 7.4.1)."""


def has_overflowed(closed: ConnectionClosed) -> bool:
    """Tell whether we, and not the peer, closed a connection of ``websockets`` for that."""
    sent = None if closed.rcvd_then_sent else closed.sent
    return sent is not None and sent.code == TOO_BIG
