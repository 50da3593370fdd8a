"""The official servers, unchanged from their registries, under ``speech-engine check``.

What they fail is pinned, so that a release that changes it is noticed.
"""

from __future__ import annotations

import pytest

from speech_engine_local.check import Verdict, run_checks
from speech_engine_local.check.targets import OFFICIAL_PYTHON, OFFICIAL_TYPESCRIPT
from tests.local.ready import KEY, ready_target
from tests.machine import NODE_FOLDER, need_node

pytestmark = pytest.mark.anyio

PYTHON_FAILS = {
    "handshake.repeated",
    "interruption.background",
    "interruption.stream-closed",
    "interruption.swallowed",
    "keep-alive.slow-init",
    "keep-alive.swallowed",
    "malformed.content-null",
    "malformed.content-number",
    "malformed.keeps-reply",
    "malformed.nesting",
    "malformed.no-transcript",
    "re-sends.older-in-flight",
    "terminators.nothing",
    "terminators.raise",
    "terminators.twice",
}
PYTHON_DIFFERS = {
    "handshake.query",
    "lifecycle.long-history",
    "lifecycle.second-init",
    "re-sends.answered",
    "re-sends.new-id",
    "re-sends.older",
}
TYPESCRIPT_FAILS = {
    "close.events",
    "close.mid-reply",
    "close.nothing-after",
    "handshake.odd-target",
    "handshake.path",
    "handshake.reset",
    "interruption.background",
    "interruption.before-a-word",
    "interruption.burst",
    "interruption.stops",
    "interruption.stream-closed",
    "re-sends.failed",
    "re-sends.new-id",
    "re-sends.older-in-flight",
    "terminators.abort-error",
    "terminators.nothing",
    "terminators.raise",
    "terminators.stream-error",
    "terminators.twice",
    "turns.null-ids",
}
TYPESCRIPT_DIFFERS = {
    "close.1000",
    "close.hang-up",
    "handshake.api-key",
    "handshake.expired",
    "handshake.future",
    "handshake.issuer",
    "handshake.no-expiry",
    "handshake.no-token",
    "handshake.repeated",
    "handshake.rubbish",
    "handshake.subject",
    "handshake.subprotocol",
    "handshake.unsigned",
    "handshake.wrong-key",
    "interruption.old-terminator",
    "lifecycle.second-init",
    "lifecycle.slow-init",
    "re-sends.older",
}


async def test_the_python_sdk() -> None:
    async with ready_target(OFFICIAL_PYTHON) as url:
        report = await run_checks(url, api_key=KEY)
    assert report.ids(Verdict.FAIL) == PYTHON_FAILS
    assert report.ids(Verdict.DIFFERS) == PYTHON_DIFFERS
    assert report.count(Verdict.SKIPPED) == 0


async def test_the_typescript_sdk() -> None:
    need_node()
    async with ready_target(OFFICIAL_TYPESCRIPT, cwd=NODE_FOLDER) as url:
        report = await run_checks(url, api_key=KEY)
    assert report.ids(Verdict.FAIL) == TYPESCRIPT_FAILS
    assert report.ids(Verdict.DIFFERS) == TYPESCRIPT_DIFFERS
    assert report.count(Verdict.SKIPPED) == 0
