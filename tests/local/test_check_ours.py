"""Our servers, on every transport, pass every check."""

from __future__ import annotations

import pytest

from speech_engine_local.check import CHECKS, Verdict, run_checks
from speech_engine_local.check.targets import TRANSPORTS

from .ready import KEY, ready_target

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_check_passes(transport: str) -> None:
    async with ready_target(transport) as url:
        report = await run_checks(url, api_key=KEY)
    assert [(r.check.id, r.seen) for r in report.results if r.verdict is not Verdict.PASS] == []
    assert [result.check for result in report.results] == list(CHECKS)
