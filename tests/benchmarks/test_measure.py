"""How samples become figures: rounds, percentiles, comparisons, verdicts."""

from __future__ import annotations

import pytest
from benchmarks.measure import Findings, Load, Row, percentile, take_rounds

from .findings import some_findings


@pytest.mark.parametrize(
    ("values", "per_cent", "expected"),
    [([7.0], 99, 7.0), (range(1, 101), 50, 50), (range(1, 101), 99, 99), ([3, 1, 2], 100, 3)],
)
def test_a_percentile_is_a_value_of_the_sample(
    values: list[float], per_cent: float, expected: float
) -> None:
    assert percentile(values, per_cent) == expected


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def test_what_is_compared_takes_turns_and_every_other_round_goes_the_other_way() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return len(order)

    samples = take_rounds("x", 2, {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert order == ["a", "b", "b", "a"]
    assert samples == {"a": (1, 4), "b": (2, 3)}


def test_comparisons_are_made_within_each_round() -> None:
    ratio, difference, told = some_findings().rows
    assert ratio.comparisons == (0.25, 0.75, 0.5)
    assert difference.comparisons == (5.0, 6.0)
    assert (ratio.is_met, difference.is_met, told.is_met) == (False, True, None)


def test_a_goal_that_is_just_reached_is_met() -> None:
    samples = {"ours": (1.0,), "official": (2.0,)}
    assert Row(figure="x", unit="ms", samples=samples, goal=0.5).is_met


def test_findings_add_up() -> None:
    both = Findings()
    both += some_findings()
    both += some_findings()
    assert [len(part) for part in (both.rows, both.idle, both.loads, both.spreads)] == [6, 2, 2, 6]


def test_loads_of_several_rounds_become_one() -> None:
    loads = [Load(server="s", share=n, server_share=2 * n, late=3 * n) for n in (1.0, 5.0, 2.0)]
    assert Load.median_of(loads) == Load(server="s", share=2, server_share=4, late=6)
