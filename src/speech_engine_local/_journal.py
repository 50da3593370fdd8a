"""The format of a journal: one conversation's wire as JSON Lines.

The first line is ``{"version": 1, "conversation_id": ...}``, each further one a frame: ``{"t":
seconds, "dir": "in" | "out", "frame": text}``. Directions are the agent's: ``in`` comes from the
service, ``out`` goes to it.

A line is one write to the system without a buffer of ours, so a process that dies loses the frame
that it was writing, at most. What the system has not yet put on the disk, a machine that loses its
power may lose too, unless ``fsync`` is asked for.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import secrets
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from speech_engine_proto import RemoteProtocolError, wire

from ._redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Damage", "Direction", "Journal", "JournalLine", "JournalWriter", "read_journal"]

VERSION = 1

MAX_LINE_BYTES = 128 * 2**20
"""A frame of 16 MiB, each byte of it escaped by six, and its envelope."""

Direction: TypeAlias = Literal["in", "out"]
"""As seen from the agent."""

logger = logging.getLogger("speech_engine_local")


@attrs.frozen
class JournalLine:
    """One frame of a conversation.

    Args:
        number: the line of the file, the first being 1.
        t: seconds since the recording began.
        dir: ``in`` from the service, ``out`` to it.
        frame: the text of the message; bytes that are no UTF-8 stand in it as lone surrogates.
    """

    number: int
    t: float
    dir: Direction
    frame: str = attrs.field(repr=False)


@attrs.frozen
class Damage:
    """Where a journal cannot be read on, and why; `str` of it is a line to show.

    Args:
        line: the line of the file, the first being 1.
        offset: the bytes before that line.
        reason: what was expected and what came, without a word of the conversation.
        is_torn_end: whether it is the last line, cut short: what a crash leaves.
    """

    line: int
    offset: int
    reason: str
    is_torn_end: bool = False

    def __str__(self) -> str:
        return f"damaged at line {self.line} (byte {self.offset}): {self.reason}"


@attrs.frozen
class Journal:
    """A conversation as it was recorded, up to the damage where there is any.

    Args:
        conversation_id: the name of the conversation; None where it had none.
        lines: its frames, in the order in which they were recorded.
        damage: what could not be read; None where all of it could.
    """

    conversation_id: str | None
    lines: tuple[JournalLine, ...] = attrs.field(repr=lambda lines: f"<{len(lines)} frames>")
    damage: Damage | None = None


def read_journal(path: str | os.PathLike[str]) -> Journal:
    """Read a journal up to its end, or to the first damage.

    Whatever the file holds, it is no exception: the journal's ``damage`` says what is wrong.

    Raises:
        OSError: the file cannot be read.
    """
    lines: list[JournalLine] = []
    conversation_id: str | None = None
    offset, number = 0, 0
    with Path(path).open("rb") as file:
        while raw := file.readline(MAX_LINE_BYTES):
            number += 1
            try:
                if number == 1:
                    conversation_id = _read_head(raw)
                else:
                    lines.append(_read_line(raw, number))
            except _BadLineError as error:
                torn = not raw.endswith(b"\n") and len(raw) < MAX_LINE_BYTES
                damage = Damage(number, offset, str(error), torn)
                return Journal(conversation_id, tuple(lines), damage)
            offset += len(raw)
    if number == 0:
        return Journal(None, (), Damage(1, 0, "expected a first line, got an empty file", True))
    return Journal(conversation_id, tuple(lines))


class JournalWriter:
    """Writes the journal of one conversation, in a new file that only its owner can read.

    The file is made with the first frame, and named after the time and the conversation. Writing
    never fails the conversation: where a line cannot be written, a warning is logged once, and
    nothing more is recorded.

    Args:
        directory: where the file is made; it must exist.
        redact: replace the words before they are written; see `redact`.
        fsync: have each line on the disk before the conversation goes on.
        clock: tells the seconds; it never goes back.
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
        self._began = clock()
        self._file: int | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._is_over = False
        self._path: Path | None = None
        self.frames_in = 0
        self.frames_out = 0

    @property
    def path(self) -> Path | None:
        """The file; None before the first frame."""
        return self._path

    def record(self, direction: Direction, message: str | bytes) -> None:
        """Write one frame down, unless the journal is closed or could not be written."""
        if self._is_over:
            return
        frame = to_text(message)
        try:
            if self._file is None:
                self._open(frame if direction == "in" else None)
            # After the name has been read of it, nothing sees the frame as it came.
            kept = redact(frame) if self._redact else frame
            line = {"t": round(self._clock() - self._began, 6), "dir": direction, "frame": kept}
            self._write(line)
        except OSError as error:
            logger.warning("the journal ends here: %s", error.strerror)
            self.close()
            return
        if direction == "in":
            self.frames_in += 1
        else:
            self.frames_out += 1

    def close(self) -> None:
        """Close the file; nothing is recorded after. May be called more than once."""
        self._is_over = True
        if self._finalizer is not None:
            self._finalizer()

    def _open(self, first: str | None) -> None:
        name = _name_in(first)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", name or "unnamed")[:64]
        path = self._directory / f"{stamp}-{safe}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        file = os.open(path, flags, 0o600)
        # A conversation whose task was cut off is never closed: its file goes with the object.
        self._finalizer = weakref.finalize(self, os.close, file)
        self._file, self._path = file, path
        self._write({"version": VERSION, "conversation_id": name})

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        data = json.dumps(line).encode("ascii") + b"\n"
        while data:  # the system may take a part of it, on a disk that is nearly full
            data = data[os.write(self._file, data) :]
        if self._fsync:
            os.fsync(self._file)


def to_text(message: str | bytes) -> str:
    """Return a message as the text that a journal holds."""
    if isinstance(message, str):
        return message
    return bytes(message).decode("utf-8", "surrogateescape")


def to_message(frame: str) -> str | bytes:
    """Return the message as it came: bytes where it was no UTF-8."""
    if frame.isascii():
        return frame
    with suppress(UnicodeEncodeError):
        frame.encode()
        return frame
    with suppress(UnicodeEncodeError):
        return frame.encode("utf-8", "surrogateescape")
    return frame


class _BadLineError(ValueError):
    """A line that is none of a journal."""


def _read_head(raw: bytes) -> str | None:
    head = _read_object(raw)
    version = head.get("version")
    if type(version) is not int or version != VERSION:
        got = version if type(version) is int else type(version).__name__
        raise _BadLineError(f"version: expected {VERSION}, got {got}")
    name = head.get("conversation_id")
    if name is not None and not isinstance(name, str):
        raise _BadLineError(f"conversation_id: expected a text, got {type(name).__name__}")
    return name


def _read_line(raw: bytes, number: int) -> JournalLine:
    line = _read_object(raw)
    t, direction, frame = line.get("t"), line.get("dir"), line.get("frame")
    if not _is_time(t):
        raise _BadLineError("t: expected seconds, got something else")
    if direction not in ("in", "out"):
        raise _BadLineError('dir: expected "in" or "out", got something else')
    if not isinstance(frame, str):
        raise _BadLineError(f"frame: expected a text, got {type(frame).__name__}")
    return JournalLine(number, float(cast("float", t)), direction, frame)


def _read_object(raw: bytes) -> dict[str, object]:
    if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
        raise _BadLineError(f"expected a line of less than {MAX_LINE_BYTES} bytes, got more")
    try:
        line: Any = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        cut = "" if raw.endswith(b"\n") else ", cut short"
        raise _BadLineError(f"expected a JSON object, got {len(raw)} bytes{cut}") from None
    if not isinstance(line, dict):
        raise _BadLineError(f"expected a JSON object, got {type(line).__name__}")
    return cast("dict[str, object]", line)


def _is_time(t: object) -> bool:
    if isinstance(t, bool) or not isinstance(t, int | float):
        return False
    try:
        return math.isfinite(t) and t >= 0
    except OverflowError:
        return False


def _name_in(frame: str | None) -> str | None:
    """The name that a first frame gives the conversation."""
    if frame is None:
        return None
    try:
        message = wire.decode(frame)
    except RemoteProtocolError:
        return None
    return message.conversation_id if isinstance(message, wire.Init) else None
