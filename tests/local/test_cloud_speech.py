"""Formats of audio, and where a streaming text is cut."""

# ruff: noqa: RUF001 - sentences of many scripts

from __future__ import annotations

import subprocess
import sys
import warnings
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speech_engine_local.cloud.speech import SAMPLE_RATES, AudioFormat, Sentences, Sound


def little_endian(*samples: int) -> bytes:
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def expand(code: int) -> int:
    """G.711's decoder, from its text: the 16-bit value that a code of the mu-law stands for."""
    bits = code ^ 0xFF
    magnitude = (((bits & 0x0F) * 2 + 33) << (bits >> 4 & 7)) - 33
    return (-magnitude if bits & 0x80 else magnitude) * 4


class TestAudioFormat:
    @pytest.mark.parametrize("rate", SAMPLE_RATES)
    def test_pcm_is_passed_on_as_it_is(self, rate: int) -> None:
        pcm = AudioFormat.parse(f"pcm_{rate}")
        assert (pcm.name, pcm.sample_rate) == (f"pcm_{rate}", rate)
        assert pcm.encode(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"
        assert pcm.seconds(rate) == 0.5

    def test_ulaw_has_one_byte_per_sample(self) -> None:
        ulaw = AudioFormat.parse("ulaw_8000")
        assert (ulaw.name, ulaw.sample_rate) == ("ulaw_8000", 8000)
        assert len(ulaw.encode(bytes(320))) == 160
        assert ulaw.seconds(160) == 0.02

    @pytest.mark.parametrize(
        "name",
        ["", "pcm", "pcm_", "pcm_16000 ", "PCM_16000", "pcm_11025", "ulaw_16000", "mp3_44100"],
    )
    def test_no_other_format_is_known(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"expected one of pcm_8000, .*, ulaw_8000, got"):
            AudioFormat.parse(name)

    @pytest.mark.parametrize("name", ["pcm_16000", "ulaw_8000"])
    def test_half_a_sample_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="even number of bytes, got 3"):
            AudioFormat.parse(name).encode(b"abc")
        assert AudioFormat.parse(name).encode(b"") == b""

    @pytest.mark.parametrize(
        ("sample", "code"),
        [
            (0, 0xFF),
            (3, 0xFF),
            (4, 0xFE),
            (-1, 0x7E),
            (-4, 0x7E),
            (1000, 0xCE),
            (-1000, 0x4E),
            (32767, 0x80),
            (-32768, 0x00),
        ],
    )
    def test_known_values_of_the_mu_law(self, sample: int, code: int) -> None:
        assert AudioFormat.parse("ulaw_8000").encode(little_endian(sample)) == bytes([code])

    def test_each_code_is_what_its_own_value_is_encoded_as(self) -> None:
        codes = [code for code in range(256) if code != 0x7F]  # 0x7F is a second zero
        pcm = little_endian(*map(expand, codes))
        assert AudioFormat.parse("ulaw_8000").encode(pcm) == bytes(codes)

    def test_each_sample_gets_the_nearest_code(self) -> None:
        samples = range(-32635, 32636)  # beyond that it clips
        codes = AudioFormat.parse("ulaw_8000").encode(little_endian(*samples))
        for sample, code in zip(samples, codes, strict=True):
            half_a_step = 4 << ((code ^ 0xFF) >> 4 & 7)
            # Two bits are dropped before the law is applied, so up to 4 more.
            assert abs(sample - expand(code)) <= half_a_step + 4

    def test_a_louder_sample_never_gets_a_softer_value(self) -> None:
        codes = AudioFormat.parse("ulaw_8000").encode(little_endian(*range(-32768, 32768)))
        assert all(low <= high for low, high in pairwise(map(expand, codes)))

    if sys.version_info < (3, 13):

        def test_all_samples_are_encoded_as_the_standard_library_does(self) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                import audioop

            pcm = little_endian(*range(-32768, 32768))
            assert AudioFormat.parse("ulaw_8000").encode(pcm) == audioop.lin2ulaw(pcm, 2)


def test_a_sound_does_not_show_its_samples() -> None:
    assert repr(Sound(bytes(6400), 5)) == "Sound(pcm=<6400 bytes>, characters=5)"


def cut(*pieces: str, longest: int = 200, first_clause: int | None = None) -> list[str]:
    sentences = Sentences(longest=longest, first_clause=first_clause)
    found = [sentence for piece in pieces for sentence in sentences.feed(piece)]
    rest = sentences.flush()
    return [*found, rest] if rest else found


class TestSentences:
    @pytest.mark.parametrize(
        "sentences",
        [
            ["Hello. ", "How are you? ", "Fine!"],
            ["What?! ", "No way!! ", "Yes."],
            ["Dr. Smith and Mrs. Jones vs. the rest. ", "Then"],
            ["It costs $3.14 at example.com. ", "Then"],
            ["Fruit, e.g. apples, i.e. food, etc. and so on. ", "Then"],
            ["In the U.S. it is 5 p.m. sharp. ", "J. S. Bach has a Ph.D. in it. ", "Then"],
            ["Am Montag, z.B. am Abend, ca. um acht. ", "Dann"],
            ["So do I. ", "Then"],
            ["It was in 1999. ", "Then"],
            ["1. Take it. ", "2. Leave it. ", "Then"],
            ["Well... let me think. ", "Then... ", "Nothing… ", "No"],
            ['He said "Go." ', "(She went.) ", "“Really?” ", "**Yes.** ", "Then"],
            ["A list:\n", "- one\n", "- two\n", "\nThen"],
            ["你好。", "今天天气很好！", "真的吗？", "「はい。」", "好"],
            ["你好。 ", "今天"],
            ["क्या हाल है। ", "ठीक"],
            ["كيف حالك؟ ", "بخير"],
            ["... Hello. ", "Then"],
            ["- - -\n\nHello. ", "Then"],
            ["Hello.There is no space. ", "Then"],
            ["Hello.\r", "\nThen"],
            ["No. "],
            [". . . "],
        ],
    )
    def test_cuts_where_a_sentence_ends(self, sentences: list[str]) -> None:
        text = "".join(sentences)
        if sentences == ["你好。 ", "今天"]:  # the space goes with what follows
            sentences = ["你好。", " 今天"]
        assert cut(text) == sentences

    def test_a_sentence_is_out_as_soon_as_the_space_after_it_is_there(self) -> None:
        sentences = Sentences()
        assert sentences.feed("Good") == []
        assert sentences.feed(" day.") == []
        assert sentences.feed(" ") == ["Good day. "]
        assert sentences.flush() == ""

    def test_a_wide_stop_waits_for_what_may_close_a_quotation(self) -> None:
        sentences = Sentences()
        assert sentences.feed("「好。") == []
        assert sentences.feed("」") == []
        assert sentences.feed("他") == ["「好。」"]
        assert sentences.flush() == "他"

    def test_a_line_is_out_at_its_end(self) -> None:
        assert Sentences().feed("Dear Ada\n") == ["Dear Ada\n"]

    def test_it_goes_on_after_a_flush(self) -> None:
        sentences = Sentences(first_clause=10)
        assert sentences.feed("One moment.") == []
        assert sentences.flush() == "One moment."
        assert sentences.feed(" Here you are, my dear friend. Bye") == [
            " Here you are, my dear friend. "
        ]
        assert sentences.flush() == "Bye"
        assert sentences.flush() == ""

    @pytest.mark.parametrize(
        ("text", "first"),
        [
            ("Thank you for calling us, how may I help? Yes.", "Thank you for calling us, "),
            ("Well, thank you for calling us: how are you?", "Well, thank you for calling us: "),
            ("Thank you, my dear. And how are you?", "Thank you, my dear. "),
            (
                "It is 3,000,000,000,000,000 or more, I think.",
                "It is 3,000,000,000,000,000 or more, ",
            ),
            ("谢谢你打电话给我们的小店，你今天好吗？好", "谢谢你打电话给我们的小店，"),
        ],
    )
    def test_the_first_may_end_at_a_clause(self, text: str, first: str) -> None:
        length = 10 if first.startswith("谢") else 24
        outputs = cut(text, first_clause=length)
        assert outputs[0] == first
        assert "".join(outputs) == text

    def test_only_the_first_ends_at_a_clause(self) -> None:
        assert cut("One two three, four. Five six seven, eight. ", first_clause=5) == [
            "One two three, ",
            "four. ",
            "Five six seven, eight. ",
        ]

    def test_a_long_run_is_cut_at_its_last_comma(self) -> None:
        text = "one two three, four five, six seven eight nine"
        assert cut(text, longest=30) == ["one two three, four five, ", "six seven eight nine"]

    def test_a_long_run_without_a_comma_is_cut_at_its_last_space(self) -> None:
        assert cut("one two three four five six", longest=16) == ["one two three ", "four five six"]

    def test_a_long_run_without_a_space_is_cut_where_it_must_be(self) -> None:
        assert "".join(cut("a" * 1000)) == "a" * 1000
        assert max(map(len, cut("a" * 1000))) <= 200

    def test_a_long_run_is_not_cut_inside_of_what_is_one_on_the_screen(self) -> None:
        family = "👩\u200d👩\u200d👧\u200d👦"
        assert all(part.startswith("👩") for part in cut(family * 9, longest=12))
        assert all(part[0] == "a" for part in cut("a\u0301" * 20, longest=8))

    def test_accents_without_end_are_cut_too(self) -> None:
        assert max(map(len, cut("\u0301" * 100, longest=10))) <= 10

    def test_a_stop_that_waits_does_not_wait_forever(self) -> None:
        outputs = Sentences(longest=50).feed("Well..." + " " * 100 + "x")
        assert outputs
        assert max(map(len, outputs)) <= 50

    def test_a_length_of_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="longest: expected at least 2 characters, got 1"):
            Sentences(longest=1)


# Texts that are nearly all marks, so that few examples reach much.
marks = st.sampled_from([*".!?…,;: \n\r\"')*。！，」aAI1é漢\u0301\u200d", "Dr.", "e.g.", " U.S. "])
texts = st.one_of(st.text(), st.lists(marks, max_size=80).map("".join))
lengths = st.integers(2, 40)
clauses = st.none() | st.integers(0, 20)


@given(st.lists(texts), lengths, clauses)
@example(["Well...", "", "\u2028"], 8, 0)
def test_the_outputs_are_the_input(pieces: list[str], longest: int, clause: int | None) -> None:
    outputs = cut(*pieces, longest=longest, first_clause=clause)
    assert "".join(outputs) == "".join(pieces)
    assert all(0 < len(output) <= longest for output in outputs)


@given(texts, lengths, clauses, st.data())
def test_the_cuts_do_not_depend_on_the_pieces(
    text: str, longest: int, clause: int | None, data: st.DataObject
) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[begin:end] for begin, end in pairwise([0, *places, len(text)])]
    whole = cut(text, longest=longest, first_clause=clause)
    assert cut(*pieces, longest=longest, first_clause=clause) == whole
    assert cut(*text, longest=longest, first_clause=clause) == whole


@given(texts, lengths)
def test_less_than_the_longest_is_held_back(text: str, longest: int) -> None:
    sentences = Sentences(longest=longest)
    sentences.feed(text)
    assert len(sentences.flush()) < longest


def test_no_library_for_audio_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "from speech_engine_local.cloud import espeak, playback, speech\n"
        "speech.AudioFormat.parse('ulaw_8000').encode(bytes(4))\n"
        "print(*{'numpy', 'soxr', 'espeakng_loader'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
