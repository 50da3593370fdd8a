"""A report for people, and one for programs."""

from __future__ import annotations

import json
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from ._check import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._check import Check
    from .runner import Report, Result

__all__ = ["as_json", "as_list", "as_table"]

_MARKS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "FAIL",
    Verdict.DIFFERS: "differs",
    Verdict.SKIPPED: "skipped",
}
_SUMMARY = {
    "passed": Verdict.PASS,
    "failed": Verdict.FAIL,
    "differs": Verdict.DIFFERS,
    "skipped": Verdict.SKIPPED,
}


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    checks = [
        {
            "id": result.check.id,
            "group": result.check.group,
            "verdict": result.verdict.value,
            "expected": result.check.expected,
            "seen": result.seen,
        }
        for result in report.results
    ]
    summary = {name: report.count(verdict) for name, verdict in _SUMMARY.items()}
    document = {"target": report.target, "checks": checks, "summary": summary}
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_table(report: Report, *, width: int = 100) -> str:
    """Return the report as lines to read; what is expected stands where it was not seen."""
    lines = [report.target]
    for group, results in groupby(report.results, key=lambda result: result.check.group):
        lines += ["", group]
        for result in results:
            lines += _rows(result, width)
    counts = (f"{report.count(verdict)} {name}" for name, verdict in _SUMMARY.items())
    return "\n".join([*lines, "", ", ".join(counts)])


def as_list(checks: Iterable[Check]) -> str:
    """Return the names of checks, each with what it expects."""
    return "\n".join(f"{check.id:28} {check.expected}" for check in checks)


def _rows(result: Result, width: int) -> list[str]:
    head = f"  {_MARKS[result.verdict]:8} {result.check.id:28} "
    seen = result.seen
    if result.verdict in (Verdict.FAIL, Verdict.DIFFERS):
        seen = f"expected: {result.check.expected}\nseen: {seen}"
    room = max(width - len(head), 30)
    parts = [part for line in seen.split("\n") for part in textwrap.wrap(line, room)]
    first, *others = parts or [""]
    return [head + first, *(" " * len(head) + part for part in others)]
