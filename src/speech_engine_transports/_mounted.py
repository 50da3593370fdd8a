"""A server whose listener is somebody else's: a framework's, or an ASGI server's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from .server import SpeechEngineServer

if TYPE_CHECKING:
    from typing import Self

__all__ = ["UPGRADE_REQUIRED", "Mounted"]

LISTENER_OPTIONS = ("host", "port", "ssl", "transport")

UPGRADE_REQUIRED = "upgrade required: this is a WebSocket\n"
"""Body of the 426 that answers a request without an upgrade (RFC 9110, 15.5.22)."""


@attrs.define
class Mounted:
    """A server that never listens itself, so nobody enters it before the first request.

    Args:
        server: the server whose handlers and checks are used.
        prepared: whether its API key has been read.
    """

    server: SpeechEngineServer
    prepared: bool = False

    @classmethod
    def with_options(cls, options: dict[str, Any]) -> Self:
        """Make the server from a user's options.

        Raises:
            TypeError: an option of a listener, or one that no server has.
        """
        for name in LISTENER_OPTIONS:
            if name in options:
                raise TypeError(f"{name}: not an option here, where the framework listens")
        return cls(SpeechEngineServer(**options))

    def prepare(self) -> None:
        """Read the API key, once: at startup where there is one, or at the first request.

        Raises:
            RuntimeError: there is no key and ``disable_auth`` is not set.
        """
        if not self.prepared:
            self.server.prepare()
            self.prepared = True
