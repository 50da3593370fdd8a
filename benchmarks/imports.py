"""How long the import takes, each time in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

from .measure import Effort, Findings, Row, take_rounds

__all__ = ["measure"]

_PROGRAM = """
import time
began = time.process_time()
import {}
print((time.process_time() - began) * 1e3)
"""


def measure(effort: Effort) -> Findings:
    """Return the row of the imports, in milliseconds of CPU time."""
    for module in ("speech_engine_proto", "elevenlabs.speech_engine"):
        _import(module)  # the first one compiles, or fills the disk's cache
    samples = take_rounds(
        "import",
        effort.imports,
        {
            "ours": lambda: _import("speech_engine_proto"),
            "official": lambda: _import("elevenlabs.speech_engine"),
        },
    )
    row = Row(figure="import speech_engine_proto", unit="ms", samples=samples, goal=0.35)
    return Findings(rows=[row])


def _import(module: str) -> float:
    command = [sys.executable, "-c", _PROGRAM.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
