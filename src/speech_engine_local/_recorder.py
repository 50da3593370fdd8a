"""Records the calls of a server of this package, from inside it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speech_engine_transports._sockets import as_socket

from ._journal import JournalWriter
from ._tap import TappedSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from speech_engine_transports._socket import Socket

    from ._journal import Direction

__all__ = ["Recorder"]


class Recorder:
    """Records each conversation of a server in a file of its own, to be replayed.

    ::

        await serve(record=Recorder("journals", redact=True), on_transcript=on_transcript)

    Args:
        directory: where the files are made. It is made where there is none, for its owner only.
        redact: replace the words before they are written; see `redact`.
        fsync: have each line on the disk before the conversation goes on. It blocks the event
            loop for as long as the disk takes.
        clock: tells the seconds; it never goes back.

    Raises:
        OSError: files cannot be made in the directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        redact: bool = False,
        fsync: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = Path(directory)
        self._redact = redact
        self._fsync = fsync
        self._clock = clock
        make_directory(self._directory)

    @property
    def directory(self) -> Path:
        """Where the files are made."""
        return self._directory

    def __call__(self, ws: Any) -> Socket:
        """Return a socket that passes everything on and writes it down.

        Where you accept the upgrade yourself: ``create_session(recorder(websocket))``.

        Args:
            ws: an accepted WebSocket; see `create_session` for which.

        Raises:
            TypeError: ``ws`` is none of the supported sockets.
        """
        return RecordedSocket(as_socket(ws), self.writer())

    def writer(self) -> JournalWriter:
        """Begin the journal of a conversation that goes over no `Socket`."""
        return JournalWriter(
            self._directory, redact=self._redact, fsync=self._fsync, clock=self._clock
        )


def make_directory(directory: Path) -> None:
    """Make a directory for journals, or see that there is one that takes files.

    Raises:
        OSError: there is none, or it takes none.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, "expected a directory that takes files", str(directory))


class RecordedSocket(TappedSocket):
    """Passes everything on to a socket, and writes down what goes over it.

    A journal has each frame in the order in which the conversation's rules were applied to it, and
    at its very end perhaps one that the peer never got.

    Args:
        inner: the socket.
        journal: where it is written.
    """

    def __init__(self, inner: Socket, journal: JournalWriter) -> None:
        super().__init__(inner)
        self._journal = journal

    def note(self, direction: Direction, message: str | bytes) -> None:
        """Write a frame down."""
        self._journal.record(direction, message)

    def note_end(self) -> None:
        """Close the journal."""
        self._journal.close()
