"""Tells whether the load generator, and not the server, was the bottleneck."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import attrs

from .measures import Histogram, Spread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CPU_LIMIT", "LAG_LIMIT", "Generator", "Watch", "judge"]

LAG_LIMIT = 0.02
"""Seconds: an event loop that wakes later than this adds to what is measured."""

CPU_LIMIT = 0.9
"""Share of a core beyond which messages wait for the generator, and not for the server."""

CPU_LOW = 0.5
"""Share of a core below which a late event loop was kept from running by something else."""

LAG_EVERY = 0.05
CPU_EVERY = 2.0


@attrs.frozen
class Generator:
    """How the process that made the calls was doing itself.

    Args:
        lag: by how much its event loop woke later than asked.
        cpu_seconds: CPU time that the process took during the run.
        cpu_share: that, as a share of one core.
        cpu_peak: the share in the busiest two seconds.
        bottleneck: why its own speed is part of the figures; None where it is not.
    """

    lag: Spread
    cpu_seconds: float
    cpu_share: float
    cpu_peak: float
    bottleneck: str | None


def judge(lag: float | None, cpu: float) -> str | None:
    """Return why the generator was the bottleneck, with figures; None where it was not.

    Args:
        lag: seconds by which its event loop woke too late, p99; None where that is unknown.
        cpu: share of a core that it took in its busiest time.
    """
    is_late, is_busy = lag is not None and lag > LAG_LIMIT, cpu > CPU_LIMIT
    woke, limit = (lag or 0) * 1000, LAG_LIMIT * 1000
    late = f"its event loop woke {woke:.0f} ms late (p99, limit {limit:.0f} ms)"
    busy = f"it took {cpu:.0%} of a core (limit {CPU_LIMIT:.0%})"
    if is_late and is_busy:
        return f"{late} and {busy}"
    if is_late and cpu < CPU_LOW:
        return (
            f"{late} though it took only {cpu:.0%} of a core: the machine is busy with other work"
        )
    if is_late or is_busy:
        return late if is_late else busy
    return None


class Watch:
    """Measures the process that it runs in.

    Args:
        clock: tells the seconds.
        cpu: tells the seconds of CPU time that the process has taken.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._lag = Histogram()
        self._peak = 0.0
        self._began = self._window = (clock(), cpu())

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            asked = self._clock() + LAG_EVERY
            await anyio.sleep(LAG_EVERY)
            self.note(self._clock() - asked)

    def note(self, lag: float) -> None:
        """Note by how many seconds a wake-up came too late; also looks at the CPU time."""
        self._lag.record(max(lag, 0.0))
        elapsed, share = self._since(self._window)
        if elapsed >= CPU_EVERY:
            self._peak = max(self._peak, share)
            self._window = (self._clock(), self._cpu())

    def result(self) -> Generator:
        """Return what was seen, and what that means."""
        _, share = self._since(self._began)
        spread = self._lag.spread()
        peak = max(self._peak, share)
        cpu = self._cpu() - self._began[1]
        return Generator(spread, cpu, share, peak, judge(spread.p99, peak))

    def _since(self, then: tuple[float, float]) -> tuple[float, float]:
        elapsed = self._clock() - then[0]
        return elapsed, (self._cpu() - then[1]) / elapsed if elapsed > 0 else 0.0
