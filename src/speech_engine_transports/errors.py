"""What reaches ``on_error``, besides the errors of the protocol and of your own handlers."""

from __future__ import annotations

__all__ = ["LimitExceeded", "ServiceError"]


class ServiceError(Exception):
    """The service sent an ``error`` message; ``str`` is its text."""


class LimitExceeded(Exception):
    """A bound of the session was passed.

    Args:
        limit: the name of the bound.
        value: the bound.
    """

    def __init__(self, limit: str, value: float) -> None:
        super().__init__(f"{limit}: more than {value:g}")
        self.limit = limit
        self.value = value
