"""Measure this package beside the official SDK and the raw WebSocket library.

Started as ``python benchmarks/run.py``; the measurements are in the modules beside this one.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.main import main

    main()
