"""What of the machine a test needs and pip does not bring: a browser, Node and its packages.

A test that misses one is skipped, and says so in one line. With ``REQUIRE=all`` in the
environment, as in continuous integration, it fails instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NODE_FOLDER = Path(__file__).resolve().parent / "interop" / "node"
"""Where ``make clients`` installs the npm packages that the tests hold this package against."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def need_chromium() -> str:
    """Return the path of Chromium."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    return _miss("no Chromium on the PATH (Debian: apt-get install chromium)")


def need_node() -> str:
    """Return the path of Node, whose npm packages are installed."""
    path = shutil.which("node")
    if path is None:
        return _miss("no Node.js on the PATH")
    if not (NODE_FOLDER / "node_modules").is_dir():
        return _miss("the npm packages are not installed: make clients")
    return path


def _miss(what: str) -> str:
    if os.environ.get("REQUIRE") == "all":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
