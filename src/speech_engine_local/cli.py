"""The command ``speech-engine``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its code: 0, 1 for a failure, 2 for wrong usage."""
    try:
        from ._commands import commands
    except ImportError as error:
        print(
            f"speech-engine: {error.name} is not installed: "
            "pip install 'speech-engine-proto[local]'",
            file=sys.stderr,
        )
        sys.exit(1)
    commands(prog_name="speech-engine")
