"""What a check is: one small function, what is expected, and a verdict."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from ._target import Target

__all__ = ["Check", "Finding", "Group", "Verdict", "differs", "failed", "passed"]


class Verdict(enum.Enum):
    """How a server did in one check."""

    PASS = "pass"
    FAIL = "fail"
    DIFFERS = "differs"
    """The documentation is silent, implementations differ, and no turn and no call is lost."""
    SKIPPED = "skipped"


@attrs.frozen
class Finding:
    """A verdict and, in words, what was seen."""

    verdict: Verdict
    seen: str


def passed(seen: str) -> Finding:
    """What is expected was seen."""
    return Finding(Verdict.PASS, seen)


def failed(seen: str) -> Finding:
    """What is documented is not so, or a turn, a call or the server was lost."""
    return Finding(Verdict.FAIL, seen)


def differs(seen: str) -> Finding:
    """It was done in another way, which nothing forbids."""
    return Finding(Verdict.DIFFERS, seen)


Run: TypeAlias = Callable[["Target"], Awaitable[Finding]]


@attrs.frozen
class Check:
    """One check.

    Args:
        id: its name, which begins with its group's.
        group: the group it stands in.
        expected: what the documentation says or, where it is silent, what is expected and that
            it is silent.
        run: the check itself.
        needs_key: whether it is about tokens, and makes no sense without a key.
        needs_commands: whether the server must obey commands in the transcript, as a ready
            target does.
        alone: whether it runs after all others, because it may take the server down.
    """

    id: str
    group: str
    expected: str
    run: Run = attrs.field(repr=False)
    needs_key: bool = False
    needs_commands: bool = False
    alone: bool = False


class Group:
    """The checks of one module, in the order of the report."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(
        self,
        name: str,
        expected: str,
        *,
        silent: bool = False,
        key: bool = False,
        commands: bool = False,
        alone: bool = False,
    ) -> Callable[[Run], Run]:
        """Add the function below as a check; ``silent`` is the documentation."""
        if silent:
            expected = f"not documented; {expected}"

        def add(run: Run) -> Run:
            id = f"{self.name}.{name}"
            self.checks.append(Check(id, self.name, expected, run, key, commands, alone))
            return run

        return add
