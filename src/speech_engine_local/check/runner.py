"""Run checks against a server: many at once, each on connections of its own, all bounded."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio
import attrs

from speech_engine_local._errors import ConnectError

from . import (
    close,
    handshake,
    interruption,
    keepalive,
    lifecycle,
    malformed,
    resends,
    terminators,
    turns,
)
from ._call import Unseen
from ._check import Check, Finding, Verdict, failed
from ._target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHECKS", "Report", "Result", "run_checks", "select"]

CHECKS: tuple[Check, ...] = tuple(
    check
    for module in (
        handshake,
        lifecycle,
        turns,
        interruption,
        terminators,
        resends,
        keepalive,
        malformed,
        close,
    )
    for check in module.GROUP.checks
)
"""Every check, in the order of the report."""

READY = "speech-engine check: ready?"
"""A question that a ready target knows; it answers with the words that follow."""

READY_REPLY = "speech-engine check: ready"

RUN_SECONDS = 25.0
"""How long the checks may take together: with the way there and back, a run is under 30 s."""

CHECK_SECONDS = 15.0
"""How long one check may take."""

TOGETHER = 24
"""How many checks run at once: a server on a laptop is under test, not under load."""

_LATE = Finding(
    Verdict.SKIPPED, f"out of time: the run ends after {RUN_SECONDS:g} s; --only gives it more"
)

PATIENCE = 8.0
"""Seconds that any other server gets for a reply."""

READY_PATIENCE = 5.0
"""Seconds that a ready target gets for a reply: it needs no model."""


@attrs.frozen
class Result:
    """One check and how it came out."""

    check: Check
    verdict: Verdict
    seen: str


@attrs.frozen
class Report:
    """How a server did, check by check, in the order of `CHECKS`.

    Args:
        target: its address, without what may be secret in it.
        results: one for each check that was asked for.
    """

    target: str
    results: tuple[Result, ...]

    def count(self, verdict: Verdict) -> int:
        """Count the checks that came out like this."""
        return sum(result.verdict is verdict for result in self.results)

    def ids(self, verdict: Verdict) -> set[str]:
        """Return the names of the checks that came out like this."""
        return {result.check.id for result in self.results if result.verdict is verdict}

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return self.count(Verdict.FAIL) == 0


def select(names: Iterable[str]) -> tuple[Check, ...]:
    """Return the checks of these names, each a group's or a check's; all of them for none.

    Raises:
        ValueError: there is no group and no check of that name.
    """
    wanted = set(names)
    unknown = wanted - {c.group for c in CHECKS} - {c.id for c in CHECKS}
    if unknown:
        raise ValueError(f"expected the name of a check or a group, got {sorted(unknown)[0]!r}")
    return tuple(c for c in CHECKS if not wanted or wanted & {c.group, c.id})


async def run_checks(
    url: str,
    *,
    api_key: str | None = None,
    checks: Iterable[Check] = CHECKS,
    patience: float | None = None,
) -> Report:
    """Call a running server as the service does, and check what it does.

    Args:
        url: its WebSocket address.
        api_key: signs the tokens; without one none is sent, and checks of tokens are skipped.
        checks: which; by default all.
        patience: seconds that a reply may take; by default 8, and 5 for a ready target.

    Raises:
        ConnectError: nobody listens there, the address is none, or the call is refused and the
            check that tells so was not asked for.
        AuthenticationError: the key cannot sign anything.
    """
    chosen = tuple(checks)
    target = Target(url, api_key, patience or PATIENCE)
    where = await _find(target)
    findings: dict[str, Finding] = {}
    how = await _knock(target, chosen)
    ready = False
    with anyio.move_on_after(RUN_SECONDS):
        if ready := how is None and await _is_ready(target):
            target = attrs.evolve(target, patience=patience or READY_PATIENCE)
        runnable = [c for c in chosen if _reason_to_skip(c, target, ready, how) is None]
        await _run_together([check for check in runnable if not check.alone], target, findings)
        for check in runnable:
            if check.alone:
                findings[check.id] = await _run(check, target)
    results = [
        _result(check, findings, _reason_to_skip(check, target, ready, how)) for check in chosen
    ]
    return Report(where, tuple(results))


async def _run_together(
    checks: Iterable[Check], target: Target, findings: dict[str, Finding]
) -> None:
    limiter = anyio.CapacityLimiter(TOGETHER)

    async def run(check: Check) -> None:
        async with limiter:
            findings[check.id] = await _run(check, target)

    async with anyio.create_task_group() as group:
        for check in checks:
            group.start_soon(run, check)


async def _run(check: Check, target: Target) -> Finding:
    """Run a check; what it did not see, and whatever goes wrong in it, is a finding."""
    try:
        with anyio.fail_after(CHECK_SECONDS):
            return await check.run(target)
    except Unseen as unseen:
        return failed(str(unseen))
    except TimeoutError:
        return failed(f"not finished within {CHECK_SECONDS:g} s")
    except Exception as error:  # a server may send anything: one check ends, not the run
        return failed(f"the check could not go on: {type(error).__name__}")


async def _knock(target: Target, checks: Iterable[Check]) -> str | None:
    """Return None where calls are taken, else how they are refused."""
    answer = await target.knock(target.token())
    if answer.is_upgrade:
        return None
    if all(check.id != "handshake.token" for check in checks):
        raise ConnectError(f"no conversation: {answer.how}; are address and API key right?")
    return answer.how


def _reason_to_skip(check: Check, target: Target, ready: bool, how: str | None) -> str | None:
    if how is not None and check.group != "handshake":
        return f"no conversation: {how}"
    if check.needs_key and target.api_key is None:
        return "no API key: --api-key or ELEVENLABS_API_KEY"
    if check.needs_commands and not ready:
        return "needs a server that obeys commands (a ready target)"
    return None


def _result(check: Check, findings: dict[str, Finding], reason: str | None) -> Result:
    if reason is not None:
        return Result(check, Verdict.SKIPPED, reason)
    finding = findings.get(check.id, _LATE)
    return Result(check, finding.verdict, finding.seen)


async def _find(target: Target) -> str:
    """Return the server's address for the report, once something listens there."""
    where, host, port = target.place()
    try:
        with anyio.fail_after(5):
            stream = await anyio.connect_tcp(host, port)
    except TimeoutError:
        raise ConnectError(f"{host}:{port}: no answer in time") from None
    except socket.gaierror:
        raise ConnectError(f"{host}:{port}: no such host") from None
    except OSError:
        raise ConnectError(
            f"{host}:{port}: nobody listens there: is the server running, on this port?"
        ) from None
    await stream.aclose()
    return where


async def _is_ready(target: Target) -> bool:
    try:
        async with target.call() as call:
            return (await call.ask(READY)) == READY_REPLY
    except Unseen:
        return False
