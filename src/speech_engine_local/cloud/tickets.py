"""Tickets: the secrets in signed URLs, each good for one conversation and for a while."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIFETIME", "Ticket", "TicketError", "Tickets"]

LIFETIME = 900.0
"""Seconds that a signed URL lives. The service's own number was not seen (fact sheet 7)."""

MAX_TICKETS = 10_000
"""Tickets kept at once, used ones among them; past it the oldest are forgotten."""


@attrs.frozen
class Ticket:
    """What a signed URL admits to.

    Args:
        engine_id: the engine to talk with.
        conversation_id: the conversation's name where the URL carries one; else None.
    """

    engine_id: str
    conversation_id: str | None = None


class TicketError(Exception):
    """A ticket that admits to nothing.

    Args:
        reason: what is wrong with it, fit to be shown to the client.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Tickets:
    """Issues tickets, and takes each one once.

    Args:
        lifetime: seconds until an unused ticket expires.
        clock: tells the seconds; it never goes back.
    """

    def __init__(
        self, *, lifetime: float = LIFETIME, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime = lifetime
        self._clock = clock
        # Digests, in order of issue, which is the order in which they expire.
        self._issued: dict[bytes, _Issued] = {}

    def issue(self, engine_id: str, conversation_id: str | None = None) -> str:
        """Make a ticket, and return its secret, which is kept nowhere.

        Args:
            engine_id: the engine that it admits to.
            conversation_id: the name that its conversation will have.
        """
        self._forget()
        secret = secrets.token_urlsafe(32)
        expires_at = self._clock() + self._lifetime
        self._issued[_digest(secret)] = _Issued(Ticket(engine_id, conversation_id), expires_at)
        return secret

    def redeem(self, secret: str, engine_id: str) -> Ticket:
        """Take a ticket: it cannot be taken again.

        Args:
            secret: what `issue` returned.
            engine_id: the engine that the client names.

        Raises:
            TicketError: unknown, used, expired, or for another engine, which leaves it unused.
        """
        issued = self._issued.get(_digest(secret))
        if issued is None:
            raise TicketError("conversation_signature: expected one of this cloud, got another")
        if issued.expires_at <= self._clock():
            raise TicketError("conversation_signature: the signed URL has expired; get a new one")
        if issued.used:
            raise TicketError("conversation_signature: the signed URL was used; get a new one")
        if issued.ticket.engine_id != engine_id:
            raise TicketError("conversation_signature: the signed URL is for another agent_id")
        issued.used = True
        return issued.ticket

    def _forget(self) -> None:
        """Drop what has expired, and the oldest where there are too many."""
        now = self._clock()
        while self._issued:
            oldest = next(iter(self._issued))
            if len(self._issued) < MAX_TICKETS and self._issued[oldest].expires_at > now:
                return
            del self._issued[oldest]


@attrs.define
class _Issued:
    ticket: Ticket
    expires_at: float
    used: bool = False


def _digest(secret: str) -> bytes:
    """Return the key to look a secret up by: how long that takes tells nothing of the secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
