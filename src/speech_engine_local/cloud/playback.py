"""When audio may be sent, and what of it has been heard: pure arithmetic, `now` is an argument.

The client plays what it gets in order, without a word back. So the service reckons: a piece
begins to play when it arrives, or when the one before it has ended, whichever is later. Where
the client ran dry there is a gap, and a gap is not speech.
"""

from __future__ import annotations

import math
from bisect import bisect_right

__all__ = ["Playback"]


class Playback:
    """What one client plays of one reply.

    All times are seconds of one clock that never runs backwards.

    Args:
        lead: seconds of audio that the client may hold unplayed. Little makes an interruption
            quick, much bridges a bad network.

    Raises:
        ValueError: ``lead`` is negative or no number.
    """

    __slots__ = ("_breaks", "_ends", "_lead", "_lengths", "_starts", "_stopped", "_texts")

    def __init__(self, lead: float = 0.5) -> None:
        self._lead = _checked("lead", lead)
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._texts: list[str] = []
        self._lengths = [0]  # of the text before each piece
        self._breaks: set[int] = set()  # where all the text was heard that there was
        self._stopped: float | None = None

    def add(self, seconds: float, text: str, now: float) -> None:
        """Note that audio is sent at this time. After `stop` it counts for nothing.

        Args:
            seconds: how long it plays.
            text: what has been said when it has played.
            now: the time.

        Raises:
            ValueError: `seconds` is negative or no number.
        """
        _checked("seconds", seconds)
        if self._stopped is not None:
            return
        length = self._lengths[-1]
        if self._position(now) == length:
            self._breaks.add(length)
        start = max(now, self._end)
        self._starts.append(start)
        self._ends.append(start + seconds)
        self._texts.append(text)
        self._lengths.append(length + len(text))

    def delay(self, now: float) -> float:
        """Seconds to wait before more is sent, so that at most ``lead`` is held by the client."""
        return max(0.0, self.remaining(now) - self._lead)

    def remaining(self, now: float) -> float:
        """Seconds of audio that are still to be heard; 0 after `stop`."""
        if self._stopped is not None:
            return 0.0
        return max(0.0, self._end - now)

    def stop(self, now: float) -> None:
        """Note that the client was told to be silent: what has not played by now never will."""
        if self._stopped is None:
            self._stopped = now

    def heard(self, now: float) -> str:
        """Return the text of what has played, without the word that is being said.

        It is the beginning of all text that was added; the whole of it when all has played.
        """
        if self._stopped is not None:
            now = min(now, self._stopped)
        text = "".join(self._texts)
        position = self._position(now)
        if position == len(text):
            return text
        while position and not self._ends_word(text, position):
            position -= 1
        return text[:position]

    @property
    def _end(self) -> float:
        return self._ends[-1] if self._ends else -math.inf

    def _position(self, now: float) -> int:
        """How many characters have been said, as if all of a piece were equally long."""
        played = bisect_right(self._ends, now)
        position = self._lengths[played]
        if played == len(self._ends) or now <= self._starts[played]:
            return position
        start, end, length = self._starts[played], self._ends[played], len(self._texts[played])
        said = int(length * (now - start) / (end - start))
        # A piece that has not ended is not wholly said, whatever rounding makes of it.
        return position + max(0, min(said, length - 1))

    def _ends_word(self, text: str, position: int) -> bool:
        before, after = text[position - 1], text[position]
        if position in self._breaks or _is_wide(before) or _is_wide(after):
            return True
        return after.isspace() and not before.isspace()


def _is_wide(character: str) -> bool:
    """Whether a script without spaces: in Chinese and Japanese each character counts as a word."""
    return (
        "\u3000" < character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or ("\uff01" <= character <= "\uff60" or "\U00020000" <= character <= "\U0003ffff")
    )


def _checked(name: str, seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name}: expected seconds, 0 or more, got {seconds!r}")
    return seconds
