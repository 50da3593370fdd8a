"""What speaks a reply, in which format the client wants it, and where a streaming text is cut.

A reply is spoken sentence by sentence while its text still streams: `Sentences` cuts the text,
a `Synthesizer` turns each sentence into pieces of `Sound`, and an `AudioFormat` encodes them as
the client asked. All of it is plain Python: no library for audio is loaded here.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["SAMPLE_RATES", "AudioFormat", "Sentences", "Sound", "Synthesizer"]

SAMPLE_RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
"""The sample rates, in hertz, of the service's ``pcm_*`` formats (fact sheet, section 4)."""


@attrs.frozen
class Sound:
    """A short piece of speech.

    Attributes:
        pcm: signed 16-bit little-endian mono samples; never empty, always an even number of bytes.
        characters: how many more characters of the text have been said when this has played.
            Over all pieces of a text they add up to its length.
    """

    pcm: bytes = attrs.field(repr=lambda pcm: f"<{len(pcm)} bytes>")
    characters: int


class Synthesizer(Protocol):
    """Something that can speak."""

    def speak(
        self, text: str, *, sample_rate: int, speed: float = 1.0, language: str | None = None
    ) -> AsyncIterator[Sound]:
        """Speak a text, in short pieces of about 100 to 250 ms.

        It may be left or closed at any piece: nothing goes on after that.

        Args:
            text: one sentence, or any text.
            sample_rate: of the samples, in hertz; one of `SAMPLE_RATES`.
            speed: 1.0 is the voice's own; the service takes 0.7 to 1.2.
            language: a code like ``en`` or ``pt-br``; None is the synthesizer's own choice.
        """
        ...


@attrs.frozen
class AudioFormat:
    """A format of the service's audio: ``pcm_8000`` to ``pcm_48000``, or ``ulaw_8000``.

    Attributes:
        name: as the service writes it.
        sample_rate: in hertz.
    """

    name: str
    sample_rate: int

    @classmethod
    def parse(cls, name: str) -> AudioFormat:
        """Read a format by its name, like ``pcm_16000`` (fact sheet, 5.4).

        Raises:
            ValueError: the service has no format of this name.
        """
        rates = {f"pcm_{rate}": rate for rate in SAMPLE_RATES} | {"ulaw_8000": 8000}
        if name not in rates:
            raise ValueError(f"audio format: expected one of {', '.join(rates)}, got {name!r}")
        return cls(name, rates[name])

    def encode(self, pcm: bytes) -> bytes:
        """Encode signed 16-bit little-endian samples.

        Raises:
            ValueError: an odd number of bytes; that is no whole number of samples.
        """
        if len(pcm) % 2:
            raise ValueError(f"pcm: expected an even number of bytes, got {len(pcm)}")
        if not self._is_ulaw:
            return pcm
        samples = struct.unpack(f"<{len(pcm) // 2}H", pcm)
        return bytes(map(_ulaw_codes().__getitem__, samples))

    def seconds(self, n_bytes: int) -> float:
        """How long that many encoded bytes play."""
        return n_bytes / (self.sample_rate if self._is_ulaw else 2 * self.sample_rate)

    @property
    def _is_ulaw(self) -> bool:
        return self.name.startswith("ulaw")


class Sentences:
    """Cuts a text that arrives in pieces into what can be spoken at once.

    The concatenation of all outputs is the input, character for character, and the cuts are the
    same however the text was cut into pieces. A stop counts once the white space after it is
    there, so a text that halts right after one is held back: `flush` gives it out.

    Args:
        longest: characters; a run without a stop is cut at this length at the latest, at a comma
            or a space where there is one.
        first_clause: characters; the very first output may end at a comma, colon or dash from
            this length on, so that the first word is heard soon. None never does.

    Raises:
        ValueError: ``longest`` is less than 2.
    """

    __slots__ = ("_begun", "_first_clause", "_longest", "_pending")

    def __init__(self, *, longest: int = 200, first_clause: int | None = 24) -> None:
        if longest < 2:
            raise ValueError(f"longest: expected at least 2 characters, got {longest}")
        self._longest = longest
        self._first_clause = first_clause
        self._begun = False
        self._pending = ""

    def feed(self, piece: str) -> list[str]:
        """Take the next piece of the text; return the sentences that are complete with it."""
        self._pending += piece
        sentences: list[str] = []
        begin = 0
        while length := self._next_length(begin):
            sentences.append(self._pending[begin : begin + length])
            begin += length
            self._begun = True
        self._pending = self._pending[begin:]
        return sentences

    def flush(self) -> str:
        """Return what is held back: at the end of the text, or when it has halted for a while."""
        rest, self._pending = self._pending, ""
        self._begun = self._begun or bool(rest)
        return rest

    def _next_length(self, begin: int) -> int:
        """How long the next sentence is; 0 if its end is not there yet."""
        # Every decision is made inside this window, and none is changed by what follows in it:
        # that is what makes the cuts independent of the pieces.
        window = self._pending[begin : begin + self._longest]
        clause_from = None if self._begun else self._first_clause
        if length := _find_end(window, clause_from):
            return length
        return _cut_long(window) if len(window) == self._longest else 0


# A stop of a script without spaces ends a sentence by itself; others need white space after them.
_WIDE_STOPS: Final = "。！？．｡"  # noqa: RUF001
_MARK: Final = re.compile(
    rf"(?P<stop>[.!?…؟۔।॥{_WIDE_STOPS}]+)|(?P<clause>[,;:،؛、，；：—–])|(?P<line>[\n\u2028\u2029])"  # noqa: RUF001
)
_WIDE_CLAUSES: Final = "、，；："  # noqa: RUF001
_CLAUSE_END: Final = re.compile(rf"[,;:،؛—–]\s|[{_WIDE_CLAUSES}]")  # noqa: RUF001
_SPACE: Final = re.compile(r"\s")
_WORD: Final = re.compile(r"\w")
# What may stand between a stop and the white space; the last ones are Markdown's.
_CLOSERS: Final = frozenset("\"'”’»›)]}」』）】》*_`")  # noqa: RUF001
_OPENERS: Final = "\"'“‘«‹([{*_`-–—"  # noqa: RUF001

_ABBREVIATIONS: Final = frozenset(
    "dr mr mrs ms mx prof sr jr st mt ft gen col capt lt sgt rev hon gov pres vs etc approx no nos "
    "vol fig pp ed eds inc ltd co corp dept est ext tel jan feb mar apr jun jul aug sep sept oct "
    "nov dec mon tue wed thu fri ave blvd rd bzw ca evtl ggf inkl nr str usw vgl sog hr fr "
    "mme mlle cf av env sra srta ud uds núm pág sig dott ing".split()
)
_INITIALS: Final = re.compile(r"(?:[^\W\d_]{1,2}\.)*[^\W\d_]")


def _find_end(window: str, clause_from: int | None) -> int:
    """The length of the sentence at the beginning of `window`, 0 if no end is seen in it."""
    word = _WORD.search(window)
    if word is None:
        return 0
    for mark in _MARK.finditer(window, word.end()):
        if mark["line"]:
            return mark.end()
        if mark["clause"] and clause_from is None:
            continue
        after = _skip_closers(window, mark.end())
        if after == len(window):
            return 0  # what follows decides
        if mark["clause"]:
            end: int | None = _clause_length(window, mark, after, clause_from or 0)
        else:
            end = _stop_length(window, mark, after)
        if end != 0:
            return end or 0
    return 0


def _clause_length(window: str, mark: re.Match[str], after: int, clause_from: int) -> int:
    """The length up to a comma and its like; 0 if the text goes on."""
    if mark[0] in _WIDE_CLAUSES:
        return after if after >= clause_from else 0
    return after + 1 if window[after].isspace() and after >= clause_from else 0


def _stop_length(window: str, mark: re.Match[str], after: int) -> int | None:
    """The length up to a stop; 0 if it ends no sentence, None if that cannot be told yet."""
    stop = mark[0]
    if stop[-1] in _WIDE_STOPS:
        return after
    if not window[after].isspace():
        return 0
    if stop == ".":
        return 0 if _is_abbreviation(window[: mark.start()]) else after + 1
    if set(stop) <= {".", "…"}:  # "Well... yes" goes on, "Well... Yes" does not
        rest = window[after:].lstrip()
        if not rest:
            return None
        return 0 if rest[0].islower() else after + 1
    return after + 1


def _is_abbreviation(before: str) -> bool:
    """Whether the stop after this text belongs to its last word: Dr., e.g., J., or a list's 1."""
    word = before.rsplit(None, 1)[-1].lstrip(_OPENERS)
    if word.isdecimal():
        return before.strip() == word
    if word == "I":
        return False
    return word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None


def _skip_closers(window: str, index: int) -> int:
    while index < len(window) and window[index] in _CLOSERS:
        index += 1
    return index


def _cut_long(window: str) -> int:
    """Where to cut a run without a stop: at its last comma, else space, else where it must be."""
    half = len(window) // 2
    for pattern in (_CLAUSE_END, _SPACE):
        ends = [found.end() for found in pattern.finditer(window, half)]
        if ends:
            return ends[-1]
    end = len(window) - 1
    while end > half and _belong_together(window[end - 1], window[end]):
        end -= 1
    return end


def _belong_together(left: str, right: str) -> bool:
    """Whether two characters are one on the screen: accents, joined emoji."""
    return "\u200d" in (left, right) or unicodedata.category(right).startswith("M")


@cache
def _ulaw_codes() -> bytes:
    """The code of each 16-bit sample, read as unsigned (ITU-T G.711, table 2)."""
    # The law is defined on 14 bits: four neighbours have one code.
    return b"".join(bytes([_ulaw_code(level)]) * 4 for level in (*range(8192), *range(-8192, 0)))


def _ulaw_code(level: int) -> int:
    """Compress a 14-bit level: sign, segment, step in the segment, all bits inverted."""
    magnitude = min(abs(level), 8158) + 33
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 0x0F
    sign = 0x80 if level < 0 else 0
    return ~(sign | segment << 4 | step) & 0xFF
