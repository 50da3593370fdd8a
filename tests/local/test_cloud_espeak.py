"""espeak-ng speaks for real: what comes out, whatever goes in, and that it stops."""

from __future__ import annotations

import math
import signal
import sys
import threading
from contextlib import aclosing
from itertools import accumulate

import anyio
import anyio.lowlevel
import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
import pytest
import soxr  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from speech_engine_local.cloud import _espeak_child, espeak
from speech_engine_local.cloud.espeak import EspeakSynthesizer
from speech_engine_local.cloud.speech import SAMPLE_RATES, Sound

pytestmark = pytest.mark.anyio

TEXT = "Thank you for calling our little shop. We are open until nine, and we are here to help."


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both: the synthesizer itself needs no socket."""
    return str(request.param)


async def sounds(
    text: str, rate: int = 16000, speed: float = 1.0, language: str | None = None
) -> list[Sound]:
    synthesizer = EspeakSynthesizer()
    speech = synthesizer.speak(text, sample_rate=rate, speed=speed, language=language)
    return [sound async for sound in speech]


async def pcm(
    text: str, rate: int = 16000, speed: float = 1.0, language: str | None = None
) -> bytes:
    return b"".join(sound.pcm for sound in await sounds(text, rate, speed, language))


async def at_work() -> None:
    """Wait until somebody has the worker thread."""
    await anyio.lowlevel.checkpoint()
    while not espeak._worker().borrowed_tokens:
        await anyio.lowlevel.checkpoint()


def workers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if not isinstance(each, threading.Timer)]


class TestSpeech:
    @pytest.mark.parametrize("rate", SAMPLE_RATES)
    async def test_it_is_to_be_heard_and_as_long_as_speech(self, rate: int) -> None:
        samples = np.frombuffer(await pcm(TEXT, rate), "<i2").astype(float)
        assert math.sqrt((samples**2).mean()) > 500
        assert 0.2 < len(samples) / rate / len(TEXT.split()) < 0.6

    @pytest.mark.parametrize("rate", SAMPLE_RATES)
    async def test_it_comes_in_short_pieces_of_whole_samples(self, rate: int) -> None:
        pieces = await sounds(TEXT, rate)
        assert all(sound.pcm and len(sound.pcm) % 2 == 0 for sound in pieces)
        assert max(len(sound.pcm) for sound in pieces) <= 0.25 * rate * 2
        assert len(pieces) > 20

    async def test_each_piece_says_how_far_the_text_has_come(self) -> None:
        pieces = await sounds(TEXT)
        places = list(accumulate(sound.characters for sound in pieces))
        assert places[-1] == len(TEXT)
        assert all(place in (0, len(TEXT)) or TEXT[place - 1] == " " for place in places)
        assert len(set(places)) > len(TEXT.split()) * 0.7
        # Text and time go together: nowhere is the text far before the sound, or behind it.
        for number, place in enumerate(places, start=1):
            assert abs(place / len(TEXT) - number / len(places)) < 0.2

    async def test_characters_are_those_of_the_text_and_not_bytes(self) -> None:
        text = "Grüße, schöne Äpfel 😀 für Zoë. 漢字 und mehr."
        places = list(accumulate(sound.characters for sound in await sounds(text, language="de")))
        assert places[-1] == len(text)
        assert all(text[place - 1] in " 😀字漢" for place in places if 0 < place < len(text))

    async def test_speed_makes_it_shorter(self) -> None:
        slow, usual, fast = [len(await pcm(TEXT, speed=speed)) for speed in (0.7, 1.0, 1.2)]
        assert slow > 1.2 * usual
        assert usual > 1.1 * fast

    async def test_a_speed_out_of_range_is_the_nearest_one(self) -> None:
        assert await pcm("Hello.", speed=0.0) == await pcm("Hello.", speed=0.7)
        assert await pcm("Hello.", speed=9.0) == await pcm("Hello.", speed=1.2)
        assert await pcm("Hello.", speed=math.nan)

    @pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
    async def test_the_pieces_join_without_a_click(self, rate: int) -> None:
        own = np.frombuffer(await pcm(TEXT, 22050), "<i2")
        whole = soxr.resample(own, 22050, rate).astype(int)
        joined = np.frombuffer(await pcm(TEXT, rate), "<i2").astype(int)
        assert abs(len(joined) - len(whole)) <= 1
        length = min(len(joined), len(whole))
        assert np.abs(joined[:length] - whole[:length]).max() <= 2

    async def test_a_cut_in_mid_sentence_makes_no_pause(self) -> None:
        pauses = [len(await pcm(text)) for text in ("hello there.", "hello there")]
        assert pauses[0] - pauses[1] > 0.2 * 16000 * 2

    @pytest.mark.parametrize("rate", [0, 11025, 16001, -8000])
    async def test_another_rate_is_refused(self, rate: int) -> None:
        with pytest.raises(ValueError, match=f"sample_rate: expected one of .*, got {rate}"):
            await sounds("Hello.", rate)


class TestLanguages:
    @pytest.mark.parametrize("language", ["de", "en-gb", "zh", "no", "pt-br", "hi", "ja", "ar"])
    async def test_has_a_voice_of_its_own(self, language: str) -> None:
        text = "Hallo, wie geht es?"
        assert await pcm(text, language=language) != await pcm(text)

    @pytest.mark.parametrize("language", ["DE", "de-AT", "de_CH"])
    async def test_a_region_is_spoken_in_its_main_language(self, language: str) -> None:
        german = await pcm("Guten Tag.", language="de")
        assert abs(len(await pcm("Guten Tag.", language=language)) - len(german)) < 1000
        assert await pcm("Guten Tag.", language=language) != await pcm("Guten Tag.")

    @pytest.mark.parametrize(
        "language", ["", "xx", "tlh-xx", "../../etc/passwd", "en+croak", "de\0", "é", "a" * 10_000]
    )
    async def test_an_unknown_one_is_spoken_as_english(self, language: str) -> None:
        english = await pcm("Good day.")
        await pcm("Guten Tag.", language="de")
        assert await pcm("Good day.", language=language) == english

    async def test_a_synthesizer_has_a_language(self) -> None:
        german = EspeakSynthesizer("de").speak("Guten Tag.", sample_rate=16000)
        spoken = b"".join([sound.pcm async for sound in german])
        assert spoken != await pcm("Guten Tag.")


ANYTHING = [
    " ",
    "\n\n\t",
    "\0",
    "...",
    "?!",
    "😀",
    "👩\u200d👩\u200d👧\u200d👦" * 60,
    "<speak><break time='9s'/>Hi &amp; bye</speak> <!-- x --> ]]> <",
    "[[h@'loU]] {{x}} %s %n \\",
    "**bold** `code` # title\n- item | table | https://example.com/?q=1&r=2",
    "\ud800 lone \udfff",
    "مرحبا بالعالم، كيف حالك؟ \u202eabc\u202c",
    "你好，世界。今天天气很好",  # noqa: RUF001
    "क्या हाल है। ठीक",
    "word " * 200,
    "1234567890" * 50,
    "\u0301" * 300,
    "\u200f" * 300,
    "a\u0301" * 300,
    "\x01\x02\x1b\x7f\x80\x9f\ufffe\uffff\U0010ffff",
]


class TestAnything:
    @pytest.mark.parametrize("text", ANYTHING)
    async def test_is_spoken_or_skipped(self, text: str) -> None:
        pieces = await sounds(text, 8000)
        assert sum(sound.characters for sound in pieces) == len(text)
        assert all(sound.pcm and len(sound.pcm) % 2 == 0 for sound in pieces)
        assert all(sound.characters >= 0 for sound in pieces)

    @given(text=st.text(max_size=60), rate=st.sampled_from(SAMPLE_RATES))
    @settings(max_examples=40)
    async def test_of_all_kinds(self, text: str, rate: int) -> None:
        pieces = await sounds(text, rate)
        assert sum(sound.characters for sound in pieces) == len(text)
        assert all(sound.pcm and len(sound.pcm) % 2 == 0 for sound in pieces)

    async def test_nothing_is_no_sound(self) -> None:
        assert await sounds("") == []

    @pytest.mark.parametrize("text", [" " * 100_000, "<" * 100_000, "." * 100_000])
    async def test_a_hundred_thousand_characters_are_skipped(self, text: str) -> None:
        assert sum(sound.characters for sound in await sounds(text, 8000)) == len(text)

    @pytest.mark.parametrize("text", ["word " * 20_000, "a" * 100_000, "漢" * 100_000])
    async def test_of_a_hundred_thousand_the_first_piece_is_there_before_the_rest(
        self, text: str
    ) -> None:
        async with aclosing(EspeakSynthesizer().speak(text, sample_rate=8000)) as speech:
            first = await anext(speech)
        assert len(first.pcm) == 3200

    async def test_a_nul_does_not_end_it(self) -> None:
        assert await pcm("Hello\0there.") == await pcm("Hello there.")

    async def test_control_characters_are_no_commands(self) -> None:
        # \x01 begins a command of espeak-ng: here, "450 words a minute" and "silent".
        assert await pcm("\x01450S\x010A Hello.") == await pcm(" 450S 0A Hello.")


class Countdown(threading.Event):
    """Is set from the n-th time on that it is asked."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def is_set(self) -> bool:
        self.left -= 1
        return self.left <= 0


class TestInterruption:
    @pytest.mark.parametrize("pieces", [1, 3])
    def test_the_library_stops_within_one_piece(self, pieces: int) -> None:
        abandoned = Countdown(pieces + 1)  # asked once before it speaks, then at each piece
        manner = espeak._Manner("en", 175)
        recording = espeak._load_library().record("word " * 100, manner, abandoned)
        assert len(recording.chunks) == pieces
        assert abandoned.left == 0  # there was no other piece

    def test_it_does_not_begin_what_is_abandoned(self) -> None:
        abandoned = Countdown(1)
        manner = espeak._Manner("en", 175)
        assert espeak._load_library().record("word", manner, abandoned).chunks == []
        assert abandoned.left == 0

    def test_what_is_abandoned_before_it_makes_a_sound_is_counted_all_the_same(self) -> None:
        rendering = espeak._Rendering(espeak._load_library(), espeak._Manner("en", 175), 16000)
        assert rendering.render("word", True, Countdown(1)) == [Sound(b"\0\0", 4)]

    async def test_nothing_comes_after_a_close(self) -> None:
        alone = await pcm(TEXT)
        speech = EspeakSynthesizer().speak(TEXT, sample_rate=16000)
        await anext(speech)
        await speech.aclose()
        assert [sound async for sound in speech] == []
        assert await pcm(TEXT) == alone

    async def test_a_speaker_that_is_cancelled_ends_at_once(self) -> None:
        alone = await pcm(TEXT)
        finished = False

        async def speak() -> None:
            nonlocal finished
            await sounds(TEXT)
            finished = True

        for _ in range(20):
            # While the library is held, the thread waits for it, and the loop goes on.
            with espeak._load_library()._lock:
                async with anyio.create_task_group() as group:
                    group.start_soon(speak)
                    await at_work()
                    group.cancel_scope.cancel()
        assert not finished
        assert await pcm(TEXT) == alone

    async def test_threads_do_not_pile_up(self) -> None:
        await sounds(TEXT)
        before = len(workers())
        for _ in range(30):
            async with anyio.create_task_group() as group:
                group.start_soon(sounds, TEXT)
                await at_work()
                group.cancel_scope.cancel()
            await sounds("Hello.")
        assert len(workers()) < before + 10  # of 60


class TestManySpeakers:
    async def test_each_sounds_as_if_it_were_alone(self) -> None:
        texts = [TEXT, "The sixth sheikh's sixth sheep is sick!", "Hello, who is it?"]
        alone = [await pcm(text) for text in texts]
        beside: dict[int, bytes] = {}

        async def speak(number: int) -> None:
            beside[number] = await pcm(texts[number % 3])

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(speak, number)
                group.start_soon(pcm, "Guten Tag, wie geht es? " * 3, 8000, 0.7, "de")
        assert [beside[number] for number in range(12)] == alone * 4

    async def test_one_that_waits_between_pieces_does_not_keep_others_waiting(self) -> None:
        alone = await pcm(TEXT)
        speech = EspeakSynthesizer().speak(TEXT, sample_rate=16000)
        first = await anext(speech)
        assert await pcm(TEXT) == alone
        assert first.pcm + b"".join([sound.pcm async for sound in speech]) == alone

    def test_two_event_loops_share_the_library(self) -> None:
        results: list[bytes] = []

        async def speak() -> None:
            results.extend([await pcm(TEXT) for _ in range(5)])

        threads = [threading.Thread(target=anyio.run, args=(speak,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 15
        assert len(set(results)) == 1


class TestCrashes:
    async def test_a_text_that_crashes_the_library_harms_no_other(self) -> None:
        # espeak-ng 1.52 crashes on this, in Vietnamese.
        deadly, alone = '"-b', await pcm(TEXT)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(pcm, deadly, 8000, 1.0, "vi")
                assert await pcm(TEXT) == alone
        pieces = await sounds(deadly, language="vi")
        assert sum(sound.characters for sound in pieces) == len(deadly)

    async def test_a_library_that_died_meanwhile_is_started_again(self) -> None:
        alone = await pcm(TEXT)
        child = espeak._load_library()._child
        assert child is not None
        child.kill()
        child.wait()
        assert await pcm(TEXT) == alone

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no stop signals")
    async def test_a_library_that_hangs_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        alone = await pcm(TEXT)
        child = espeak._load_library()._child
        assert child is not None
        child.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(espeak, "_PATIENCE", 0.01)
            pieces = await sounds("Hello there.")
        assert [(len(sound.pcm), sound.characters) for sound in pieces] == [(2, 12)]
        assert "espeak-ng crashed on a sentence" in caplog.text
        assert "Hello" not in caplog.text
        assert await pcm(TEXT) == alone

    def test_closing_it_twice_does_nothing(self) -> None:
        library = espeak._load_library()
        library.close()
        library.close()
        assert library.record("word", espeak._Manner("en", 175), threading.Event()).chunks


class TestWithoutTheLibrary:
    @pytest.mark.parametrize("name", ["espeakng_loader", "numpy", "soxr"])
    def test_the_error_names_the_extra(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf"needs {name}: .*speech-engine-proto\[local\]"):
            EspeakSynthesizer()

    @pytest.mark.parametrize(
        ("attribute", "message"),
        [("get_library_path", "/nowhere"), ("get_data_path", "start with its data in /nowhere")],
    )
    def test_a_library_that_does_not_start_is_an_import_error(
        self, attribute: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(espeakng_loader, attribute, lambda: "/nowhere")
        monkeypatch.setattr(espeak, "_loaded", [])
        with pytest.raises(ImportError, match=f"espeak-ng cannot be loaded: .*{message}"):
            EspeakSynthesizer()

    def test_a_process_that_dies_at_once_is_an_import_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_espeak_child, "__file__", "/nowhere")
        monkeypatch.setattr(espeak, "_loaded", [])
        with pytest.raises(ImportError, match=r"espeak-ng cannot be loaded: its process died"):
            EspeakSynthesizer()
