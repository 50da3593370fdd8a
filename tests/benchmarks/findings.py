"""Findings with figures that can be checked by hand."""

from __future__ import annotations

from benchmarks.measure import Findings, Idle, Load, Row, Spread

__all__ = ["some_findings"]

FIRST = "transcript to first piece"


def some_findings() -> Findings:
    """Return one of everything that a run may find."""
    return Findings(
        rows=[
            Row(
                figure="one piece",
                unit="µs",
                samples={"ours": (1.0, 3.0, 2.0), "official": (4.0, 4.0, 4.0)},
                goal=0.4,
            ),
            Row(
                figure="memory of a call",
                unit="KiB",
                samples={"ours": (20.0, 21.0), "official": (30.0, 30.0), "raw": (15.0, 15.0)},
                against="raw",
                by="difference",
                goal=8,
            ),
            Row(
                figure="only told",
                unit="ms",
                samples={"ours": (4.0,), "official": (2.0,)},
                goal=None,
            ),
        ],
        idle=[
            Idle(
                server="ours-asyncio",
                calls=10_000,
                kibibytes=19.5,
                ping_seconds=0.5,
                cpu_per_ping=41,
                ended=10_000,
                end_seconds=2,
            )
        ],
        loads=[Load(server="ours-asyncio", share=0.1, server_share=0.3, late=1.5)],
        spreads=[
            Spread(figure=FIRST, server="ours", milliseconds={50: 0.5, 99: 2.5}),
            Spread(figure=FIRST, server="official", milliseconds={50: 0.6, 99: 3.5}),
            Spread(figure="interruption", server="ours", milliseconds={50: 0.4, 99: 2.0}),
        ],
    )
