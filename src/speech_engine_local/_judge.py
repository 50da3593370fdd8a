"""Holds what a server sends against the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._errors import EngineError
    from ._reply import Reply

__all__ = ["Judge"]


class Judge:
    """Collects the violations of one call.

    Args:
        on_violation: called with each when it is found.
    """

    def __init__(self, on_violation: Callable[[Violation], None] | None = None) -> None:
        self.violations: list[Violation] = []
        self.stale_replies = 0
        self._terminated: set[int] = set()
        self._on_violation = on_violation

    def note(self, rule: Rule, detail: str, event_id: int | None = None) -> None:
        """Note that a rule was broken."""
        violation = Violation(rule, detail, event_id)
        self.violations.append(violation)
        if self._on_violation is not None:
            self._on_violation(violation)

    def fail(self, reply: Reply, rule: Rule, error: EngineError) -> None:
        """Note that a reply broke a rule, and that it fails for that."""
        self.note(rule, str(error), reply.event_id)
        reply.fail(error)

    def on_terminator(self, reply: Reply | None, event_id: int, text: str) -> None:
        """Take a terminator, which has no text."""
        if text:
            detail = f"expected content of 0 characters, got {len(text)}"
            self.note(Rule.TERMINATOR_EMPTY, detail, event_id)
        if reply is not None and not reply.is_over:
            reply.finish()
            if reply.attempts == 1 or reply.text:
                self._terminated.add(event_id)

    def on_stale(self, event_id: int) -> None:
        """Tell what crossed with an interruption from what came after a terminator."""
        self.stale_replies += 1
        if event_id in self._terminated:
            detail = "expected nothing after it, got more of the same reply"
            self.note(Rule.TERMINATOR_LAST, detail, event_id)
