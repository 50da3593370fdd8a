"""What ``speech-engine replay`` does and says."""

from __future__ import annotations

import asyncio
import json
import sys

import attrs

from speech_engine_proto import RemoteProtocolError, wire

from ._journal import Damage, Journal, read_journal
from ._replay import Divergence, Replay, replay
from ._replay_live import replay_live

__all__ = ["Options", "run"]

SHOWN = 160
"""Characters of a frame that are shown around the first one that differs."""


@attrs.frozen(kw_only=True)
class Options:
    """What the user asked for; see ``speech-engine replay --help``."""

    url: str | None
    exact: bool
    messages: bool
    speed: float | None
    timeout: float
    api_key: str | None = attrs.field(repr=False)
    as_json: bool


def run(file: str, options: Options) -> int:
    """Replay a journal, and tell what was found.

    Returns:
        The exit code.

    Raises:
        OSError: the file cannot be read, or nobody answers at the address.
        ValueError: the file is no journal, or what the user gave cannot be used.
    """
    journal = read_journal(file)
    if journal.damage is not None and journal.damage.line == 1:
        raise ValueError(f"{file}: no journal: {journal.damage}")
    progress = _Progress()
    try:
        found = _replay(journal, options, progress)
    finally:
        progress.clear()
    if options.as_json:
        print(json.dumps(_as_json(journal, found, options)))
    else:
        _tell(journal, found, options)
    is_whole = journal.damage is None or journal.damage.is_torn_end
    return 0 if found.divergence is None and is_whole else 1


def _replay(journal: Journal, options: Options, progress: _Progress) -> Replay:
    if options.url is None:
        return replay(
            journal, exact=options.exact, messages=options.messages, on_progress=progress.show
        )
    return asyncio.run(
        replay_live(
            journal,
            options.url,
            api_key=options.api_key,
            exact=options.exact,
            speed=options.speed,
            timeout=options.timeout,
            on_progress=progress.show,
        )
    )


def _tell(journal: Journal, found: Replay, options: Options) -> None:
    if found.divergence is not None:
        expected, got = _around(found.divergence)
        print(f"diverges at line {found.divergence.line}")
        print(f"  expected: {expected}")
        print(f"  got:      {got}")
        if options.url is None and _is_spelling(found.divergence):
            print("  the same message in other bytes: --messages compares messages")
    if found.crossed:
        first = found.crossed[0]
        print(
            f"{len(found.crossed)} frames crossed with an interruption, the first at line {first}"
        )
    name = journal.conversation_id or "a conversation without a name"
    said = "replayed up to there" if found.divergence else f"agrees with {_subject(options)}"
    print(
        f"{name}: {said}; {found.frames_in} in, {found.frames_out} out, {found.turns} turns, "
        f"{found.interruptions} of them interrupted"
    )
    if journal.damage is not None:
        sys.stdout.flush()
        told = f"speech-engine: {journal.damage}; read up to there"
        print(told, file=sys.stderr)


def _is_spelling(divergence: Divergence) -> bool:
    try:
        return wire.decode(divergence.expected) == wire.decode(divergence.got)
    except RemoteProtocolError:
        return False


def _subject(options: Options) -> str:
    if options.url is None:
        return "the core" if options.messages else "the core, byte for byte"
    return "the server, byte for byte" if options.exact else "the server"


def _as_json(journal: Journal, found: Replay, options: Options) -> dict[str, object]:
    return {
        "conversation_id": journal.conversation_id,
        "target": options.url or "core",
        "frames": {"in": found.frames_in, "out": found.frames_out},
        "turns": found.turns,
        "interruptions": found.interruptions,
        "crossed": list(found.crossed),
        "divergence": None if found.divergence is None else _divergence(found.divergence),
        "damage": None if journal.damage is None else _damage(journal.damage),
    }


def _divergence(divergence: Divergence) -> dict[str, object]:
    return {"line": divergence.line, "expected": divergence.expected, "got": divergence.got}


def _damage(damage: Damage) -> dict[str, object]:
    return {"line": damage.line, "offset": damage.offset, "reason": damage.reason}


def _around(divergence: Divergence) -> tuple[str, str]:
    """Cut both frames to what stands around the first character that differs."""
    expected, got = divergence.expected, divergence.got
    pairs = enumerate(zip(expected, got, strict=False))
    shorter = min(len(expected), len(got))
    position = next((at for at, (left, right) in pairs if left != right), shorter)
    start = max(0, position - SHOWN // 2) if max(len(expected), len(got)) > SHOWN else 0
    return _cut(expected, start), _cut(got, start)


def _cut(text: str, start: int) -> str:
    part = text[start : start + SHOWN]
    before = "..." if start and part else ""
    after = "..." if len(text) > start + SHOWN else ""
    return before + part.encode("utf-8", "backslashreplace").decode() + after


class _Progress:
    """One line on a terminal, which goes away at the end; nothing elsewhere."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._percent = -1

    def show(self, done: int, total: int) -> None:
        percent = 100 * done // total
        if self._is_shown and percent != self._percent:
            self._percent = percent
            print(f"\r{done} of {total} frames", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._percent >= 0:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
