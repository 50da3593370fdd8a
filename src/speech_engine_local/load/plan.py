"""What a load run shall do, and what each of its calls says when."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SENTENCES", "CallScript", "LoadPlan", "TurnScript", "call_script"]

SENTENCES = (
    "Hello, are you there?",
    "What can you do for me?",
    "I would like to change my appointment to next Tuesday, if that is possible.",
    "How long does it take?",
    "Sorry, could you say that again?",
    "And what does it cost?",
    "No, I meant the other one, the order that I made last week.",
    "Thank you, that helps.",
)
"""What callers say where nothing else is asked for."""

AGENT_SENTENCE = "I have noted that, and I will tell you as soon as I know more about it."
"""What the agent is said to have answered in a history that the run makes up."""


def _number(
    low: float,
    *,
    above: bool = False,
    high: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make a validator for a number from ``low``, or ``above`` it, to ``high``."""
    kind = "an int" if whole else "a number"
    bound = f"more than {low:g}" if above else f"at least {low:g}"
    most = "" if high == math.inf else f" and at most {high:g}"

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        types = (int,) if whole else (int, float)
        if (
            isinstance(value, types)
            and not isinstance(value, bool)
            and low <= value <= high
            and math.isfinite(value)
            and not (above and value == low)
        ):
            return
        raise ValueError(f"{attribute.name}: expected {kind} of {bound}{most}, got {value!r}")

    return check


def _how_many(value: tuple[str, ...]) -> str:
    return f"<{len(value)} sentences>"


def _sentences(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple) or not all(isinstance(s, str) for s in value):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"{attribute.name}: expected a tuple of str")


@attrs.frozen(kw_only=True)
class LoadPlan:
    """What a run does. Equal plans make equal calls: what is random comes from the seed.

    Args:
        calls: how many calls are made in all.
        at_once: how many of them may be open at the same time; None is all.
        ramp: seconds over which their beginnings are spread evenly.
        turns: how often the caller of each call speaks.
        think: seconds between a reply and the caller's next words, on average: from half of it to
            one and a half. An interruption does not wait.
        interrupt: the share of turns, from 0 to 1, that the caller interrupts. The last turn of a
            call is never interrupted.
        interrupt_pieces: a turn is interrupted after 1 to so many of its pieces.
        history: messages that the history holds before the first turn of a call.
        ping: seconds between the pings of a call; None sends none.
        turn_timeout: seconds that a turn may take, from the transcript to the terminator.
        max_seconds: seconds after which no call and no turn begins any more. Turns in flight may
            then still take ``turn_timeout``.
        say: the sentences that callers choose from; by default eight that fit any agent.
        seed: another seed makes other calls.

    Raises:
        ValueError: a field is not as described; the message names it.
    """

    calls: int = attrs.field(default=50, validator=_number(1, whole=True))
    at_once: int | None = attrs.field(default=None, validator=_number(1, whole=True, optional=True))
    ramp: float = attrs.field(default=5.0, validator=_number(0))
    turns: int = attrs.field(default=5, validator=_number(1, whole=True))
    think: float = attrs.field(default=1.0, validator=_number(0))
    interrupt: float = attrs.field(default=0.2, validator=_number(0, high=1))
    interrupt_pieces: int = attrs.field(default=5, validator=_number(1, whole=True))
    history: int = attrs.field(default=0, validator=_number(0, whole=True))
    ping: float | None = attrs.field(default=5.0, validator=_number(0, above=True, optional=True))
    turn_timeout: float = attrs.field(default=30.0, validator=_number(0, above=True))
    max_seconds: float = attrs.field(default=600.0, validator=_number(0, above=True))
    say: tuple[str, ...] = attrs.field(default=(), validator=_sentences, repr=_how_many)
    seed: int = attrs.field(default=0, validator=_number(-(2**63), high=2**63 - 1, whole=True))

    @property
    def most_at_once(self) -> int:
        """How many calls may be open at the same time."""
        return self.calls if self.at_once is None else min(self.at_once, self.calls)


@attrs.frozen
class TurnScript:
    """What the caller does in one turn.

    Args:
        text: what is said.
        think: seconds before it, unless it interrupts.
        interrupt_after: how many pieces of the reply are heard before the next turn interrupts
            it; None hears it to its end.
    """

    text: str = attrs.field(repr=False)
    think: float
    interrupt_after: int | None


@attrs.frozen
class CallScript:
    """What one caller does.

    Args:
        turns: in order.
        first_ping: seconds from the beginning to the first ping.
    """

    turns: tuple[TurnScript, ...]
    first_ping: float


def call_script(plan: LoadPlan, index: int) -> CallScript:
    """Return what the caller of a call does: the same for the same seed.

    Args:
        plan: the run's.
        index: which call, from 0.
    """
    chance = random.Random(f"{plan.seed}:{index}")
    first_ping = chance.random() * (plan.ping or 0)
    turns = [_turn(plan, chance, number == plan.turns) for number in range(1, plan.turns + 1)]
    return CallScript(tuple(turns), first_ping)


def _turn(plan: LoadPlan, chance: random.Random, is_last: bool) -> TurnScript:
    text = chance.choice(plan.say or SENTENCES)
    think = plan.think * chance.uniform(0.5, 1.5)
    is_interrupted = chance.random() < plan.interrupt
    after = chance.randint(1, plan.interrupt_pieces)
    return TurnScript(text, think, after if is_interrupted and not is_last else None)
