"""File descriptors: each call needs one, and systems are frugal with them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["room_for"]

RESERVE = 100
"""For what else a process has open: standard streams, libraries, the event loop."""


@contextmanager
def room_for(sockets: int) -> Generator[None]:
    """See that so many sockets may be open while the block runs.

    The soft limit (``ulimit -n``) is raised where the hard one allows it, and put back after.

    Raises:
        ValueError: the hard limit is too low; the message says how many calls there is room for.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sockets + RESERVE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise _too_many(sockets, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):  # macOS has a limit below the one that it tells
        raise _too_many(sockets, soft) from None
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _too_many(sockets: int, limit: int) -> ValueError:
    return ValueError(
        f"calls: expected at most {max(limit - RESERVE, 0)} at once, because a process may have "
        f"{limit} files open here (ulimit -n); got {sockets}"
    )
