"""A real voice with no account and no network: espeak-ng, from a wheel that carries it.

espeak-ng has one global state: one text at a time, whoever asks. And it is C that crashes on some
texts, so it lives in a process of its own, which is started again where it died. A text is spoken
in parts of at most a sentence; a worker thread has each rendered whole, in milliseconds, and only
then its pieces are handed out. While a caller waits between pieces, to pace them, nothing of it is
at work and others are spoken.
"""

from __future__ import annotations

import atexit
import importlib
import json
import logging
import re
import subprocess
import sys
import threading
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final

import attrs
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from . import _espeak_child
from ._espeak_child import ANSWER, GO_ON, LENGTH, NO_MORE, STOP, WORD
from .speech import SAMPLE_RATES, Sentences, Sound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

__all__ = ["EspeakSynthesizer"]

logger = logging.getLogger("speech_engine_local")

_PIECE: Final = 0.2  # seconds
_PATIENCE: Final = 20.0  # seconds for a sentence, which takes milliseconds, before it is given up
_WORDS_PER_MINUTE: Final = 175  # espeak-ng's own default
_SLOWEST, _FASTEST = 0.7, 1.2  # of the service's `speed` (fact sheet, section 4)

# A variant without flutter: the only ones whose sound does not depend on what was said before.
_VARIANT: Final = "shelby"
# espeak-ng's names where they are not the language's code; its "en" is British.
_VOICES: Final = {"en": "en-us", "en-gb": "en", "zh": "cmn", "no": "nb"}
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8}){0,2}")

# Control characters are commands to espeak-ng (\x01), and a NUL would end the text. A space in
# the place of each keeps the positions of the words.
_WITHOUT_CONTROLS: Final = {code: " " for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\r"}

_limiter: RunVar[CapacityLimiter] = RunVar("espeak_ng_limiter")


class EspeakSynthesizer:
    """Speaks with espeak-ng.

    Args:
        language: a code like ``en``, ``de`` or ``pt-br``; one that espeak-ng does not speak is
            spoken as English.

    Raises:
        ImportError: the extra ``local`` is not installed, or its library does not load here.
    """

    def __init__(self, language: str = "en") -> None:
        self._language = language
        for name in ("numpy", "soxr"):
            _import(name)
        self._library = _load_library()

    async def speak(
        self, text: str, *, sample_rate: int, speed: float = 1.0, language: str | None = None
    ) -> AsyncGenerator[Sound]:
        """Speak a text in pieces of about 200 ms; see `Synthesizer`.

        It may be left or cancelled at any point: the thread ends within one piece.

        Args:
            text: whatever it holds is spoken or skipped.
            sample_rate: in hertz; one of `SAMPLE_RATES`.
            speed: taken as the nearest of what the service allows, 0.7 to 1.2.
            language: instead of the synthesizer's own.

        Raises:
            ValueError: another sample rate.
        """
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"sample_rate: expected one of {SAMPLE_RATES}, got {sample_rate!r}")
        words_per_minute = round(_WORDS_PER_MINUTE * max(_SLOWEST, min(_FASTEST, speed)))
        manner = _Manner(language or self._language, words_per_minute)
        rendering = _Rendering(self._library, manner, sample_rate)
        for part, is_last in _parts(text):
            for sound in await _in_thread(rendering, part, is_last):
                yield sound


@attrs.frozen
class _Manner:
    """How a text is spoken."""

    language: str
    words_per_minute: int


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a text into what is rendered at once, and say which is the last."""
    sentences = Sentences(first_clause=None)
    parts = sentences.feed(text)
    if rest := sentences.flush():
        parts.append(rest)
    for number, part in enumerate(parts, start=1):
        yield part, number == len(parts)


async def _in_thread(rendering: _Rendering, part: str, is_last: bool) -> list[Sound]:
    """Render a part in the worker thread; if this is cancelled, the thread stops soon after."""
    abandoned = threading.Event()
    render = partial(rendering.render, part, is_last, abandoned)
    try:
        return await to_thread.run_sync(render, limiter=_worker(), abandon_on_cancel=True)
    finally:
        abandoned.set()


def _worker() -> CapacityLimiter:
    """The limiter that lets one thread at a time work for this event loop."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(1)
        _limiter.set(limiter)
    return limiter


class _Rendering:
    """One text on its way to sound: the resampler and the count go on from part to part."""

    def __init__(self, library: _Library, manner: _Manner, sample_rate: int) -> None:
        self._library = library
        self._manner = manner
        self._rate = sample_rate
        self._resampler = _resampler(library.sample_rate, sample_rate)
        self._spoken = 0  # samples that the library has made
        self._sent = 0  # samples that have been handed out
        self._characters = 0  # of the parts that are rendered
        self._counted = 0  # characters that have been handed out
        # (library's sample, characters said by then), both ascending, of what is not handed out
        self._marks: list[tuple[int, int]] = []

    def render(self, part: str, is_last: bool, abandoned: threading.Event) -> list[Sound]:
        """Speak one part; called in a worker thread, never twice at a time."""
        recording = self._library.record(part, self._manner, abandoned)
        self._note(part, recording)
        pcm = self._resample(b"".join(recording.chunks), is_last)
        if is_last and not pcm:
            pcm = bytes(2)  # there is nothing to hear, but there are characters to be counted
        pieces = _cut(pcm, 2 * int(self._rate * _PIECE))
        sounds = [self._sound(piece) for piece in pieces]
        if is_last:
            missing = self._characters - self._counted
            sounds[-1] = attrs.evolve(sounds[-1], characters=sounds[-1].characters + missing)
        return sounds

    def _note(self, part: str, recording: _Recording) -> None:
        """Keep what has been said when: all before a word has when the word begins."""
        said = self._characters
        for sample, position in recording.words:
            said = max(said, min(self._characters + position, self._characters + len(part)))
            self._marks.append((self._spoken + sample, said))
        self._characters += len(part)
        self._spoken += sum(map(len, recording.chunks)) // 2
        self._marks.append((self._spoken, self._characters))

    def _resample(self, pcm: bytes, is_last: bool) -> bytes:
        if self._resampler is None:
            return pcm
        import numpy as np

        samples = np.frombuffer(pcm, dtype="<i2").astype(np.int16)
        resampled: bytes = self._resampler.resample_chunk(samples, is_last).astype("<i2").tobytes()
        return resampled

    def _sound(self, piece: bytes) -> Sound:
        self._sent += len(piece) // 2
        played = self._sent * self._library.sample_rate
        before = self._counted
        while self._marks and self._marks[0][0] * self._rate <= played:
            self._counted = self._marks.pop(0)[1]
        return Sound(piece, self._counted - before)


def _cut(pcm: bytes, size: int) -> Iterator[bytes]:
    """Cut into pieces of `size` bytes; a short rest goes with the piece before it."""
    begin = 0
    while len(pcm) - begin > size * 5 // 4:
        yield pcm[begin : begin + size]
        begin += size
    if begin < len(pcm):
        yield pcm[begin:]


class _Recording:
    """What one request gave: samples, and where in them each word begins."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.words: list[tuple[int, int]] = []


class _Library:
    """The one espeak-ng of this process, which is a process of its own: see `_espeak_child`.

    Raises:
        OSError: it does not start.
    """

    def __init__(self, path: str, data: str) -> None:
        self._command = [sys.executable, "-I", _espeak_child.__file__, path, data]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self.sample_rate = self._start()
        atexit.register(self.close)

    def record(self, text: str, manner: _Manner, abandoned: threading.Event) -> _Recording:
        """Speak a text; returns early, with what there is by then, once it is abandoned."""
        recording = _Recording()
        clean = text.translate(_WITHOUT_CONTROLS)
        request = {
            "text": clean,
            "voices": _voice_names(manner.language),
            "rate": manner.words_per_minute,
            # A run that was cut in mid sentence goes on without a pause.
            "pause": not clean.rstrip()[-1:].isalnum(),
        }
        with self._lock:
            if not abandoned.is_set():
                self._ask(json.dumps(request).encode(), recording, abandoned)
        return recording

    def close(self) -> None:
        """End the process; the next request starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def _ask(self, request: bytes, recording: _Recording, abandoned: threading.Event) -> None:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._start()
        child = self._child
        assert child is not None
        watchdog = threading.Timer(_PATIENCE, child.kill)
        watchdog.start()
        try:
            _exchange(child, request, recording, abandoned)
        except (OSError, EOFError):
            logger.warning("espeak-ng crashed on a sentence; the rest of it is skipped")
            self.close()
        finally:
            watchdog.cancel()

    def _start(self) -> int:
        """Start the process; returns its sample rate."""
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _, answers = _pipes(self._child)
        hello: dict[str, Any] = json.loads(answers.readline() or b'{"error": "its process died"}')
        if "error" in hello:
            self.close()
            raise OSError(hello["error"])
        sample_rate: int = hello["sample_rate"]
        return sample_rate


def _exchange(
    child: subprocess.Popen[bytes],
    request: bytes,
    recording: _Recording,
    abandoned: threading.Event,
) -> None:
    """Send a request, and read the answer.

    Raises:
        OSError, EOFError: the process is dead.
    """
    requests, answers = _pipes(child)
    requests.write(LENGTH.pack(len(request)) + request)
    requests.flush()
    while True:
        words, length = ANSWER.unpack(_read(answers, ANSWER.size))
        if words == NO_MORE:
            return
        recording.words += WORD.iter_unpack(_read(answers, words * WORD.size))
        recording.chunks.append(_read(answers, length))
        requests.write(STOP if abandoned.is_set() else GO_ON)
        requests.flush()


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _voice_names(language: str) -> list[str]:
    """The names to try for a language, best first: itself, its main language, English."""
    code = language.lower().replace("_", "-")
    codes = [code, code.partition("-")[0]] if _LANGUAGE.fullmatch(code) else []
    return [f"{_VOICES.get(each, each)}+{_VARIANT}" for each in (*codes, "en")]


_loading = threading.Lock()
_loaded: list[_Library] = []


def _load_library() -> _Library:
    """Start the library, once per process."""
    loader = _import("espeakng_loader")
    with _loading:
        if not _loaded:
            try:
                _loaded.append(_Library(loader.get_library_path(), loader.get_data_path()))
            except (OSError, RuntimeError) as error:
                raise ImportError(f"espeak-ng cannot be loaded: {error}") from error
        return _loaded[0]


def _resampler(from_rate: int, to_rate: int) -> Any:
    """A resampler for a stream; None if there is nothing to do."""
    if from_rate == to_rate:
        return None
    return _import("soxr").ResampleStream(from_rate, to_rate, 1, dtype="int16")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"speaking needs {name}: pip install 'speech-engine-proto[local]'", name=name
        ) from error
