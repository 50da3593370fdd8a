"""Whether and when a management request is tried again."""

from __future__ import annotations

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._rest_messages import ApiResponse

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def _not_negative(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(
            f"{type(instance).__name__}.{attribute.name}: expected a number of at least 0,"
            f" got {value!r}"
        )


def _count(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(
            f"{type(instance).__name__}.{attribute.name}: expected an int of at least 0,"
            f" got {value!r}"
        )


@attrs.frozen
class RetryPolicy:
    """How often a request is tried again, and how long to wait before that.

    Tried again are 408, 429 and 5xx, as both official SDKs do, and requests that never reached
    the service. 409 is not (the Python SDK does): a conflict does not go away by asking again. A
    connection that broke after the request was sent is not either: the service may have done it.

    Args:
        max_retries: tries after the first.
        initial_delay: seconds before the second try; each further wait is twice as long.
        max_delay: the longest wait in seconds. Where ``Retry-After`` asks for more, the error is
            raised at once instead of asking too early.
        jitter: by what part a wait is made shorter or longer, so that clients do not come back
            all at once.

    Source: facts sheet, section 4; the delays are those of the official Python SDK.
    """

    max_retries: int = attrs.field(default=2, validator=_count)
    initial_delay: float = attrs.field(default=1.0, validator=_not_negative)
    max_delay: float = attrs.field(default=60.0, validator=_not_negative)
    jitter: float = attrs.field(default=0.1, validator=_not_negative)

    def delay(
        self, retries: int, response: ApiResponse | None, *, now: float, chance: float
    ) -> float | None:
        """Return how many seconds to wait before the next try, or None to give up.

        Args:
            retries: how many tries there were after the first.
            response: what came, or None where the request never reached the service.
            now: seconds since 1970 (UTC), for a ``Retry-After`` that is a date.
            chance: a random number from 0 to 1.
        """
        if retries >= self.max_retries or not (response is None or is_transient(response.status)):
            return None
        if response is not None:
            asked = retry_after(response.headers.get("retry-after"), now=now)
            if asked:
                return asked if asked <= self.max_delay else None
        backoff = min(self.initial_delay * 2.0 ** min(retries, 1000), self.max_delay)
        return max(0.0, backoff * (1 + self.jitter * (2 * chance - 1)))


def is_transient(status: int) -> bool:
    """Tell whether the same request may succeed later: 408, 429 and 5xx."""
    return status in (408, 429) or 500 <= status <= 599


def retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Read a ``Retry-After`` header: seconds, or a date (RFC 9110, 10.2.3).

    Args:
        value: the header, or None.
        now: seconds since 1970 (UTC); without it a date tells nothing.

    Returns:
        Seconds, 0.0 for a date that has passed; None where there is nothing to read.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if now is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
