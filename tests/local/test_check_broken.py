"""Every check finds what it looks for, on a server that is broken just there."""

from __future__ import annotations

import pytest

from speech_engine_local.check import CHECKS, Check, Verdict, run_checks, select

from .broken import KEY, broken, raw_listener
from .fault_cases import CASES, REFUSALS, Case

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PATIENCE = 2.0
"""Seconds for what never comes: less than by default, since these tests wait for it often."""

NEVER_ANSWERED = ("handshake.path", "handshake.plain-get", "handshake.no-token")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
async def test_a_broken_target_does_not_pass(case: Case) -> None:
    async with broken(case.fault) as url:
        report = await run_checks(url, api_key=KEY, patience=PATIENCE, checks=asked(*case.ids))
    found = {result.check.id: (result.verdict, result.seen) for result in report.results}
    for id in case.fails:
        assert found[id][0] is Verdict.FAIL, (id, found[id])
    for id in case.differs:
        assert found[id][0] is Verdict.DIFFERS, (id, found[id])
    assert not case.fails or not report.is_good


async def test_a_listener_that_never_answers() -> None:
    async with raw_listener(answers=False) as url:
        report = await run_checks(
            url, api_key=KEY, patience=PATIENCE, checks=asked(*NEVER_ANSWERED)
        )
    assert report.ids(Verdict.FAIL) >= set(NEVER_ANSWERED)


async def test_a_listener_that_hangs_up() -> None:
    ids = (*REFUSALS, "handshake.plain-get")
    async with raw_listener(answers=True) as url:
        report = await run_checks(url, api_key=KEY, patience=PATIENCE, checks=asked(*ids))
    assert report.ids(Verdict.DIFFERS) == set(ids)


def test_every_check_has_a_target_that_fails_it() -> None:
    found = {id for case in CASES for id in case.fails}.union(NEVER_ANSWERED)
    assert {check.id for check in CHECKS} - found == set()


def asked(*ids: str) -> tuple[Check, ...]:
    """These checks, and the first one, without which a server that refuses is not checked."""
    return select(["handshake.token", *ids])
