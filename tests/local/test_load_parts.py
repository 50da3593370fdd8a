"""The parts of a load run: plans, scripts, histograms, the judge of its own speed, the table."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import attrs
import pytest

from speech_engine_local.load import (
    Calls,
    Errors,
    Generator,
    LoadPlan,
    LoadReport,
    Spread,
    Turns,
    as_json,
    as_table,
)
from speech_engine_local.load.call import _Turn
from speech_engine_local.load.measures import Histogram, Measures
from speech_engine_local.load.plan import SENTENCES, call_script
from speech_engine_local.load.watch import Watch, judge


class TestPlan:
    @pytest.mark.parametrize(
        ("field", "value", "expected"),
        [
            ("calls", 0, "an int of at least 1"),
            ("calls", 1.5, "an int of at least 1"),
            ("calls", True, "an int of at least 1"),
            ("calls", None, "an int of at least 1"),
            ("at_once", 0, "an int of at least 1"),
            ("turns", 0, "an int of at least 1"),
            ("interrupt_pieces", 0, "an int of at least 1"),
            ("history", -1, "an int of at least 0"),
            ("ramp", -0.1, "a number of at least 0"),
            ("ramp", float("inf"), "a number of at least 0"),
            ("think", float("nan"), "a number of at least 0"),
            ("interrupt", 1.1, "a number of at least 0 and at most 1"),
            ("interrupt", "0.1", "a number of at least 0 and at most 1"),
            ("ping", 0, "a number of more than 0"),
            ("turn_timeout", 0, "a number of more than 0"),
            ("max_seconds", 0, "a number of more than 0"),
            ("seed", 0.5, "an int of at least"),
        ],
    )
    def test_what_cannot_be_is_named(self, field: str, value: Any, expected: str) -> None:
        with pytest.raises(ValueError, match=f"^{field}: expected {expected}") as caught:
            LoadPlan(**{field: value})
        assert str(caught.value).endswith(f"got {value!r}")

    @pytest.mark.parametrize("say", ["Hello", ["Hello"], (1,)])
    def test_sentences_are_a_tuple_of_str(self, say: Any) -> None:
        with pytest.raises(ValueError, match=r"^say: expected a tuple of str$"):
            LoadPlan(say=say)

    def test_no_pings_and_no_bound_are_none(self) -> None:
        plan = LoadPlan(calls=7, ping=None, at_once=None)
        assert plan.most_at_once == 7
        assert LoadPlan(calls=7, at_once=3).most_at_once == 3
        assert LoadPlan(calls=7, at_once=30).most_at_once == 7

    def test_what_callers_say_is_not_in_its_repr(self) -> None:
        assert "s3cret" not in repr(LoadPlan(say=("s3cret",)))


class TestScript:
    def test_the_seed_and_the_number_of_the_call_decide(self) -> None:
        plan = LoadPlan(interrupt=0.5)
        assert call_script(plan, 3) == call_script(plan, 3)
        assert call_script(plan, 3) != call_script(plan, 4)
        assert call_script(plan, 3) != call_script(LoadPlan(interrupt=0.5, seed=1), 3)

    def test_other_calls_do_not_change_it(self) -> None:
        few, many = LoadPlan(calls=5, ramp=1), LoadPlan(calls=500, ramp=9)
        assert call_script(few, 3) == call_script(many, 3)

    def test_everything_is_within_its_bounds(self) -> None:
        plan = LoadPlan(turns=400, think=2, interrupt=0.25, interrupt_pieces=3, ping=4)
        scripts = [call_script(plan, index) for index in range(10)]
        turns = [turn for script in scripts for turn in script.turns]
        assert all(1 <= turn.think <= 3 for turn in turns)
        assert sum(turn.think for turn in turns) / len(turns) == pytest.approx(2, rel=0.05)
        assert {turn.text for turn in turns} == set(SENTENCES)
        after = Counter(turn.interrupt_after for turn in turns)
        assert set(after) == {None, 1, 2, 3}
        assert 1 - after[None] / len(turns) == pytest.approx(0.25, rel=0.1)
        assert all(0 <= script.first_ping <= 4 for script in scripts)

    def test_the_last_turn_is_never_interrupted(self) -> None:
        for index in range(20):
            *others, last = call_script(LoadPlan(turns=3, interrupt=1), index).turns
            assert last.interrupt_after is None
            assert all(turn.interrupt_after for turn in others)


class TestHeard:
    def test_what_comes_before_the_caller_speaks_up_is_not_heard(self) -> None:
        turn = _Turn(1, 0.0, 2, ["one ", "two ", "three "])
        assert turn.heard == "one two "

    def test_a_reply_that_ended_first_is_heard_whole(self) -> None:
        turn = _Turn(1, 0.0, 2, ["one ", "two ", "three "], is_finished=True)
        assert turn.heard == "one two three "


class TestHistogram:
    def test_nothing_measured(self) -> None:
        assert Histogram().spread() == Spread(0, None, None, None, None)

    def test_it_agrees_with_the_sorted_list(self) -> None:
        chance = random.Random(1)
        times = sorted(chance.expovariate(20) for _ in range(5000))
        histogram = Histogram()
        for seconds in times:
            histogram.record(seconds)
        spread = histogram.spread()
        assert spread.count == 5000
        assert spread.p50 == pytest.approx(times[2499], rel=0.002)
        assert spread.p90 == pytest.approx(times[4499], rel=0.002)
        assert spread.p99 == pytest.approx(times[4949], rel=0.002)
        assert spread.max == times[-1]

    @pytest.mark.parametrize("seconds", [0.0, 0.0000004, 0.03, 59.9, 1e6])
    def test_one_time_is_every_figure(self, seconds: float) -> None:
        histogram = Histogram()
        histogram.record(seconds)
        spread = histogram.spread()
        assert spread.count == 1
        assert spread.max == seconds
        assert spread.p50 == spread.p99
        assert spread.p50 <= seconds  # type: ignore[operator]

    def test_a_million_times_take_no_more_memory_than_one(self) -> None:
        measures = Measures(1)
        size = len(measures.first_word._counts.counts)
        for number in range(20_000):
            measures.first_word.record(number / 1000)
        assert len(measures.first_word._counts.counts) == size


class TestJudge:
    @pytest.mark.parametrize(("lag", "cpu"), [(0.02, 0.9), (None, 0.0), (0.0, 0.5)])
    def test_fast_enough(self, lag: float | None, cpu: float) -> None:
        assert judge(lag, cpu) is None

    def test_a_late_loop(self) -> None:
        assert judge(0.035, 0.5) == "its event loop woke 35 ms late (p99, limit 20 ms)"

    def test_a_late_loop_that_did_little(self) -> None:
        assert judge(0.035, 0.16) == (
            "its event loop woke 35 ms late (p99, limit 20 ms) though it took only 16% of a core: "
            "the machine is busy with other work"
        )

    def test_a_full_core(self) -> None:
        assert judge(0.001, 0.97) == "it took 97% of a core (limit 90%)"

    def test_both(self) -> None:
        assert judge(0.1, 1.0) == (
            "its event loop woke 100 ms late (p99, limit 20 ms) "
            "and it took 100% of a core (limit 90%)"
        )


class TestWatch:
    def watch(self) -> Watch:
        self.now = self.cpu = 0.0
        return Watch(lambda: self.now, lambda: self.cpu)

    def pass_time(self, watch: Watch, seconds: float, share: float, lag: float = 0.0) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            self.cpu += 0.5 * share
            watch.note(lag)

    def test_a_quiet_run(self) -> None:
        watch = self.watch()
        self.pass_time(watch, 20, 0.3, 0.001)
        result = watch.result()
        assert (result.cpu_share, result.cpu_peak, result.cpu_seconds) == pytest.approx(
            (0.3, 0.3, 6.0)
        )
        assert (result.lag.count, result.lag.max, result.bottleneck) == (40, 0.001, None)

    def test_two_busy_seconds_in_a_quiet_run_are_seen(self) -> None:
        watch = self.watch()
        self.pass_time(watch, 20, 0.2)
        self.pass_time(watch, 2, 1.0)
        self.pass_time(watch, 20, 0.2)
        result = watch.result()
        assert result.cpu_peak == pytest.approx(1.0)
        assert result.cpu_share < 0.3
        assert result.bottleneck == "it took 100% of a core (limit 90%)"

    def test_a_short_run_has_its_whole_share_as_peak(self) -> None:
        watch = self.watch()
        self.pass_time(watch, 1, 0.95)
        assert watch.result().cpu_peak == pytest.approx(0.95)

    def test_late_wake_ups_are_seen(self) -> None:
        watch = self.watch()
        self.pass_time(watch, 48, 0.6)
        self.pass_time(watch, 2, 0.6, lag=0.3)
        assert watch.result().bottleneck == "its event loop woke 300 ms late (p99, limit 20 ms)"

    def test_a_wake_up_before_its_time_is_not_late(self) -> None:
        watch = self.watch()
        watch.note(-0.001)
        assert watch.result().lag.max == 0

    def test_no_time_at_all(self) -> None:
        assert self.watch().result().cpu_share == 0


def a_report(**changes: Any) -> LoadReport:
    quiet = Generator(Spread(100, 0.001, 0.002, 0.003, 0.004), 0.5, 0.25, 0.3, None)
    report = LoadReport(
        target="ws://h:1/ws",
        plan=LoadPlan(calls=10),
        seconds=2.0,
        stopped=None,
        calls=Calls(10, 10, 10, 10, 0, 0, 7),
        turns=Turns(50, 40, 10, 2),
        pieces=400,
        errors=Errors(),
        first_word=Spread(50, 0.05, 0.1, 0.25, 0.3),
        terminator=Spread(40, 1.0, 1.1, 1.2, 1.3),
        silence=Spread(10, 0.0, 0.0, 0.01, 0.01),
        pong=Spread(0, None, None, None, None),
        generator=quiet,
    )
    return attrs.evolve(report, **changes)


class TestReport:
    def test_a_good_run(self) -> None:
        assert as_table(a_report()).splitlines() == [
            "ws://h:1/ws",
            "  calls      10 of 10: 10 finished, 0 failed; at most 7 at once",
            "  turns      50: 40 finished, 10 interrupted, 2 over before the caller spoke",
            "  pieces     400",
            "  errors     0",
            "  took       2.0 s",
            "  generator  25% of a core, 3.0 ms late at p99",
            "",
            "milliseconds              p50      p90      p99      max   count",
            "────────────────────────────────────────────────────────────────",
            "first word               50.0    100.0    250.0    300.0      50",
            "terminator             1000.0   1100.0   1200.0   1300.0      40",
            "interrupt to silence      0.0      0.0     10.0     10.0      10",
            "pong                        -        -        -        -       0",
            "",
            "The load generator was not the bottleneck.",
        ]
        assert a_report().is_good

    def test_errors_and_an_early_end(self) -> None:
        errors = Errors()
        for kind, example in (("lost", "first"), ("lost", "second"), ("no word", "[red]x[/red]")):
            errors.add(kind, example)
        report = a_report(
            errors=errors, stopped="interrupted", calls=Calls(10, 8, 8, 3, 2, 3, peak=8)
        )
        table = as_table(report)
        assert "calls      8 of 10: 3 finished, 2 failed, 3 cut short; at most 8 at once" in table
        assert "took       2.0 s, interrupted" in table
        assert "lost          2   first" in table
        assert "no word       1   [red]x[/red]" in table
        assert not report.is_good

    def test_the_bottleneck_is_said_aloud(self) -> None:
        slow = attrs.evolve(a_report().generator, bottleneck="it took 97% of a core (limit 90%)")
        report = a_report(generator=slow)
        line = "THE LOAD GENERATOR WAS ITSELF THE BOTTLENECK: it took 97% of a core (limit 90%). "
        assert line in as_table(report, width=200)
        assert report.as_dict()["generator"]["bottleneck"] == slow.bottleneck

    def test_it_fits_its_width(self) -> None:
        errors = Errors()
        errors.add("no word", "expected " * 40)
        table = as_table(a_report(errors=errors), width=80)
        assert max(map(len, table.splitlines())) <= 80

    def test_as_json(self) -> None:
        errors = Errors()
        errors.add("lost", "an end")
        document = json.loads(as_json(a_report(errors=errors)))
        assert list(document) == [
            "target", "plan", "seconds", "stopped", "calls", "turns", "pieces", "errors",
            "first_word", "terminator", "silence", "pong", "generator",
        ]  # fmt: skip
        assert document["errors"] == {
            "total": 1, "kinds": {"lost": 1}, "examples": {"lost": "an end"},
        }  # fmt: skip
        assert document["calls"] == {
            "planned": 10, "begun": 10, "connected": 10, "finished": 10, "failed": 0, "cut": 0,
            "peak": 7,
        }  # fmt: skip
        assert document["first_word"] == {
            "count": 50, "p50": 0.05, "p90": 0.1, "p99": 0.25, "max": 0.3,
        }  # fmt: skip
        assert document["pong"]["p50"] is None
        assert document["plan"]["say"] == 0
        assert set(document["generator"]) == {
            "lag", "cpu_seconds", "cpu_share", "cpu_peak", "bottleneck",
        }  # fmt: skip


def limited(soft: int, hard: int, code: str) -> str:
    """Run code in a process with a limit on its files, and return what it prints."""
    script = (
        "import resource\n"
        "from speech_engine_local.load.files import room_for\n"
        "soft = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n{code}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


class TestFiles:
    def test_the_soft_limit_is_raised_and_put_back(self) -> None:
        code = "with room_for(500):\n    print(soft())\nprint(soft())"
        assert limited(256, 1024, code).split() == ["600", "256"]

    def test_enough_is_left_alone(self) -> None:
        assert limited(700, 1024, "with room_for(500):\n    print(soft())").split() == ["700"]

    def test_a_hard_limit_that_is_too_low_is_said_before(self) -> None:
        code = (
            "try:\n    with room_for(500):\n        print('never')\n"
            "except ValueError as error:\n    print(error)"
        )
        assert limited(256, 512, code) == (
            "calls: expected at most 412 at once, because a process may have 512 files open here "
            "(ulimit -n); got 500\n"
        )
