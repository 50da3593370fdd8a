"""What work costs, counted instead of timed: calls of functions, and objects that stay.

A count does not depend on the machine or on what else it does: the same code gives the same count
on the same version of Python and of the libraries. What is compared with a budget is the
difference between much work and little work, over how much more it was, so that the set-up and
the end fall out.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

__all__ = ["Budget", "calls_of", "check_calls", "check_figure", "collector_off", "garbage_of"]

Budget = dict[tuple[int, int], float]
"""The most that something may cost, by the version of Python that it was counted on."""

LITTLE, MUCH = 10, 30
WORST = 15


def check_calls(what: str, work: Callable[[int], object], budget: Budget, slack: int = 0) -> None:
    """Fail if one unit of work makes more calls than its budget, and say which.

    Args:
        what: one unit, such as "piece".
        work: does that many units.
        budget: calls of one unit.
        slack: calls of one unit that are let pass: other versions of a library, not of ours.
    """
    work(LITTLE)  # imports and caches of the first time
    little, much = calls_of(work, LITTLE), calls_of(work, MUCH)
    much.subtract(little)
    units = MUCH - LITTLE
    calls = much.total() / units
    limit = budget_of(budget)
    print(f"calls of one {what}: {calls:g}, budget {limit:g}")
    worst = "\n".join(f"{count / units:8g}  {name}" for name, count in (+much).most_common(WORST))
    assert calls <= limit + slack, (
        f"one {what} makes {calls:g} calls, the budget is {limit:g}; the most called are\n{worst}"
    )


def check_figure(what: str, figure: float, budget: Budget) -> None:
    """Fail if a figure is over its budget."""
    limit = budget_of(budget)
    print(f"{what}: {figure:g}, budget {limit:g}")
    assert figure <= limit, f"{what}: {figure:g}, the budget is {limit:g}"


def calls_of(work: Callable[[int], object], units: int) -> Counter[str]:
    """Count the calls of each function, Python's and C's, while the work is done."""
    calls: Counter[str] = Counter()

    def note(frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            calls[f"{code.co_qualname} ({frame.f_globals.get('__name__')})"] += 1
        elif event == "c_call":
            calls[f"{getattr(arg, '__qualname__', arg)} (C)"] += 1

    with collector_off():
        earlier = sys.getprofile()
        sys.setprofile(note)
        try:
            work(units)
        finally:
            sys.setprofile(earlier)
    return calls


def garbage_of(work: Callable[[int], object]) -> float:
    """Return how many objects one unit of work leaves that only the garbage collector frees."""
    work(MUCH)
    found: list[int] = []
    for units in (LITTLE, MUCH):
        with collector_off():
            work(units)
            found.append(gc.collect())
    return (found[1] - found[0]) / (MUCH - LITTLE)


@contextmanager
def collector_off() -> Generator[None]:
    """Collect what is there, and then nothing while the block runs."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def budget_of(budget: Mapping[tuple[int, int], float]) -> float:
    """Return the budget of this Python; of the newest one known, where this is newer still."""
    known = [version for version in budget if version <= sys.version_info[:2]]
    return budget[max(known)]
