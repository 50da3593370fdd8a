"""When audio may be sent, and what has been heard: by example, and beside a naive model."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_local.cloud.playback import Playback


class TestPacing:
    def test_at_once_while_the_client_holds_little(self) -> None:
        playback = Playback(lead=0.5)
        assert playback.delay(10.0) == 0.0
        playback.add(0.25, "one ", 10.0)
        assert playback.delay(10.0) == 0.0
        playback.add(0.25, "two ", 10.0)
        assert playback.delay(10.0) == 0.0

    def test_then_as_fast_as_it_is_heard(self) -> None:
        playback = Playback(lead=0.5)
        playback.add(2.0, "a long one ", 10.0)
        assert playback.remaining(10.0) == 2.0
        assert playback.delay(10.0) == 1.5
        assert playback.delay(11.0) == 0.5
        assert playback.delay(11.5) == 0.0
        assert playback.remaining(12.5) == 0.0

    def test_nothing_remains_of_nothing(self) -> None:
        assert Playback().remaining(5.0) == 0.0
        assert Playback().heard(5.0) == ""

    def test_a_gap_is_not_made_up_for(self) -> None:
        playback = Playback()
        playback.add(1.0, "one ", 0.0)
        playback.add(1.0, "two ", 5.0)
        assert playback.remaining(5.0) == 1.0
        assert playback.heard(5.0) == "one "
        assert playback.heard(5.9) == "one two"
        assert playback.heard(6.0) == "one two "

    def test_after_a_stop_nothing_remains_and_nothing_is_added(self) -> None:
        playback = Playback()
        playback.add(1.0, "one ", 0.0)
        playback.add(1.0, "two ", 0.0)
        playback.stop(1.0)
        playback.stop(9.0)
        playback.add(1.0, "three ", 1.0)
        assert playback.remaining(1.0) == 0.0
        assert playback.delay(1.0) == 0.0
        assert playback.heard(0.5) == ""
        assert playback.heard(99.0) == "one"

    @pytest.mark.parametrize("seconds", [-0.1, math.nan, math.inf])
    def test_time_is_a_number_and_not_negative(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="seconds: expected seconds, 0 or more, got"):
            Playback().add(seconds, "", 0.0)
        with pytest.raises(ValueError, match="lead: expected seconds, 0 or more, got"):
            Playback(lead=seconds)


class TestHeard:
    def test_whole_words_only(self) -> None:
        playback = Playback()
        playback.add(11.0, "Hello there", 0.0)
        assert playback.heard(4.9) == ""
        assert playback.heard(5.0) == "Hello"
        assert playback.heard(10.9) == "Hello"
        assert playback.heard(11.0) == "Hello there"

    def test_a_word_may_be_in_two_pieces(self) -> None:
        playback = Playback()
        playback.add(1.0, "Hel", 0.0)
        playback.add(1.0, "lo ", 0.5)
        assert playback.heard(1.5) == ""
        assert playback.heard(2.0) == "Hello "

    def test_what_was_heard_whole_stays_heard(self) -> None:
        playback = Playback()
        playback.add(1.0, "Hel", 0.0)
        assert playback.heard(1.0) == "Hel"
        playback.add(1.0, "lo", 1.0)
        assert playback.heard(1.0) == "Hel"
        assert playback.heard(1.9) == "Hel"
        assert playback.heard(2.0) == "Hello"

    def test_a_character_is_a_word_where_there_are_no_spaces(self) -> None:
        playback = Playback()
        playback.add(6.0, "OK,今天好", 0.0)
        heard = [playback.heard(float(now)) for now in range(2, 7)]
        assert heard == ["", "OK,", "OK,今", "OK,今天", "OK,今天好"]

    def test_text_without_sound_is_heard_with_what_is_before_it(self) -> None:
        playback = Playback()
        playback.add(0.0, "\n", 0.0)
        playback.add(1.0, "one", 0.0)
        playback.add(0.0, " \n", 0.0)
        playback.add(1.0, "two", 0.0)
        assert playback.heard(0.0) == "\n"
        assert playback.heard(0.9) == "\n"
        assert playback.heard(1.0) == "\none"
        assert playback.heard(2.0) == "\none \ntwo"


# Steps of time are binary fractions: sums of them are exact, so a model may compare them.
ticks = st.integers(0, 40).map(lambda count: count / 16)
words = st.text("ab ,漢\n", max_size=8)
additions = st.lists(st.tuples(ticks, words, ticks), max_size=12)  # how long, what, after how long


class Model:
    """The client's loudspeaker, tick by tick: a list of what is in each tick of sound."""

    def __init__(self) -> None:
        self.now = 0
        self.queue: list[tuple[int, int]] = []  # piece, sixteenths left
        self.played: set[int] = set()

    def run_to(self, now: float) -> None:
        while self.now < round(now * 16):
            self.now += 1
            while self.queue and self.queue[0][1] == 0:
                self.played.add(self.queue.pop(0)[0])
            if self.queue:
                piece, left = self.queue[0]
                self.queue[0] = (piece, left - 1)
        while self.queue and self.queue[0][1] == 0:
            self.played.add(self.queue.pop(0)[0])

    def add(self, piece: int, seconds: float) -> None:
        self.queue.append((piece, round(seconds * 16)))

    @property
    def remaining(self) -> float:
        return sum(left for _, left in self.queue) / 16


@given(additions, ticks, ticks)
def test_it_agrees_with_a_loudspeaker(
    added: list[tuple[float, str, float]], lead: float, later: float
) -> None:
    playback, model, now = Playback(lead), Model(), 0.0
    for number, (seconds, text, pause) in enumerate([*added, (0.0, "", later)]):
        now += pause
        model.run_to(now)
        assert playback.remaining(now) == model.remaining
        assert playback.delay(now) == max(0.0, model.remaining - lead)
        playback.add(seconds, text, now)
        model.add(number, seconds)
    model.run_to(now)
    texts = [text for _, text, _ in added]
    surely = "".join(text for number, text in enumerate(texts) if number in model.played)
    begun = "".join(texts[: len(model.played) + 1])
    heard = playback.heard(now)
    assert begun.startswith(heard)
    # Of what has played at most one word is missing: the one that may go on.
    assert len(surely[len(heard) :].split()) <= 1


@given(additions, st.lists(ticks))
def test_more_is_heard_with_time_and_never_more_than_was_added(
    added: list[tuple[float, str, float]], pauses: list[float]
) -> None:
    playback, now, heard, text = Playback(), 0.0, [""], ""
    for (seconds, piece, pause), extra in zip(added, [*pauses, *[0.0] * len(added)], strict=False):
        now += pause
        heard.append(playback.heard(now))
        playback.add(seconds, piece, now)
        text += piece
        heard.append(playback.heard(now))
        now += extra
        heard.append(playback.heard(now))
    heard.append(playback.heard(now + 1000))
    assert all(later.startswith(earlier) for earlier, later in pairwise(heard))
    assert heard[-1] == text


@given(additions, ticks)
def test_a_stop_freezes_what_was_heard(added: list[tuple[float, str, float]], later: float) -> None:
    playback, now = Playback(), 0.0
    for seconds, text, pause in added:
        now += pause
        playback.add(seconds, text, now)
    heard = playback.heard(now + later)
    playback.stop(now + later)
    assert playback.heard(now + later + 100) == heard
    assert playback.remaining(now) == 0.0


@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1), st.floats(0, 1))
def test_no_word_is_heard_in_part(spoken: list[str], share: float) -> None:
    playback = Playback()
    text = " ".join(spoken)
    playback.add(10.0, text, 0.0)
    heard = playback.heard(10.0 * share)
    assert heard.split() == spoken[: len(heard.split())]
