"""The runner around the checks, and the reports: what is skipped, what is said, what is counted."""

from __future__ import annotations

import json

import anyio
import pytest

from speech_engine_local import ConnectError
from speech_engine_local.check import (
    CHECKS,
    Check,
    Report,
    Result,
    Verdict,
    as_json,
    as_list,
    as_table,
    run_checks,
    runner,
    select,
)
from speech_engine_local.check._check import Finding, passed
from speech_engine_local.check._target import Target
from speech_engine_local.check.targets import serving
from tests.local.servers import answering, raw_server

KEY = "sk_check_of_the_runner"


def made_up(run: object, id: str = "turns.made-up") -> Check:
    return Check(id, "turns", "something", run)  # type: ignore[arg-type]


def result(verdict: Verdict, seen: str) -> Result:
    return Result(CHECKS[2], verdict, seen)


class TestSelection:
    def test_no_name_is_all(self) -> None:
        assert select([]) == CHECKS

    def test_groups_and_checks_in_the_order_of_the_report(self) -> None:
        chosen = [check.id for check in select(["keep-alive.pong", "turns.shape", "re-sends"])]
        assert chosen[0] == "turns.shape"
        assert chosen[-1] == "keep-alive.pong"
        assert {id.split(".")[0] for id in chosen[1:-1]} == {"re-sends"}

    def test_an_unknown_name_is_named(self) -> None:
        with pytest.raises(ValueError, match="got 'turnz'"):
            select(["turns", "turnz"])

    def test_ids_are_unique_and_begin_with_their_group(self) -> None:
        assert len({check.id for check in CHECKS}) == len(CHECKS)
        assert all(check.id.startswith(f"{check.group}.") for check in CHECKS)
        assert list(dict.fromkeys(check.group for check in CHECKS)) == [
            "handshake", "lifecycle", "turns", "interruption", "terminators", "re-sends",
            "keep-alive", "malformed", "close",
        ]  # fmt: skip


@pytest.mark.anyio
class TestRun:
    async def test_an_unknown_server_is_not_asked_for_what_needs_commands(self) -> None:
        async with raw_server(answering()) as server:
            report = await run_checks(server.url, checks=select(["keep-alive", "close.hang-up"]))
        skipped = {r.check.id: r.seen for r in report.results if r.verdict is Verdict.SKIPPED}
        assert set(skipped) == {c.id for c in select(["keep-alive", "close.hang-up"])} & {
            c.id for c in CHECKS if c.needs_commands
        }
        assert all("a ready target" in reason for reason in skipped.values())
        assert report.ids(Verdict.PASS) >= {"keep-alive.pong", "keep-alive.websocket"}
        words = [m["user_transcript"][-1]["content"] for c in server.calls for m in c.transcripts]
        assert words == [runner.READY]

    async def test_without_a_key_tokens_are_not_checked(self) -> None:
        async with raw_server(answering()) as server:
            report = await run_checks(server.url, checks=select(["handshake"]))
        needing = {c.id for c in CHECKS if c.needs_key}
        assert needing
        assert report.ids(Verdict.SKIPPED) == needing

    async def test_a_wrong_key_is_one_failure_and_the_rest_is_skipped(self) -> None:
        checks = select(["handshake.token", "turns"])
        async with serving("asyncio", api_key=KEY) as url:
            report = await run_checks(url, api_key="sk_wrong", checks=checks)
            with pytest.raises(ConnectError, match="refused with 401"):
                await run_checks(url, api_key="sk_wrong", checks=select(["turns"]))
        assert report.ids(Verdict.FAIL) == {"handshake.token"}
        assert report.ids(Verdict.SKIPPED) == {c.id for c in select(["turns"])}
        assert not report.is_good

    async def test_nobody_there(self) -> None:
        async with raw_server(answering()) as server:
            pass
        with pytest.raises(ConnectError, match="nobody listens there"):
            await run_checks(server.url)

    @pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "ws://", "ws://h:port/", "nonsense"])
    async def test_no_address(self, url: str) -> None:
        with pytest.raises(ConnectError, match="expected ws://"):
            await run_checks(url)

    async def test_what_cannot_go_on_is_a_failure(self) -> None:
        async def breaks(_: Target) -> Finding:
            raise KeyError("secret words")

        async with raw_server(answering()) as server:
            report = await run_checks(server.url, checks=[made_up(breaks)])
        assert report.results[0].verdict is Verdict.FAIL
        assert report.results[0].seen == "the check could not go on: KeyError"

    async def test_a_check_has_a_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "CHECK_SECONDS", 0.01)
        async with raw_server(answering()) as server:
            report = await run_checks(server.url, checks=[made_up(forever)])
        assert report.results[0].verdict is Verdict.FAIL
        assert report.results[0].seen.startswith("not finished within")

    async def test_the_run_has_a_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "RUN_SECONDS", 0.5)
        checks = [made_up(at_once, "turns.quick"), made_up(forever, "turns.slow")]
        async with raw_server(answering()) as server:
            report = await run_checks(server.url, checks=checks)
        assert [each.verdict for each in report.results] == [Verdict.PASS, Verdict.SKIPPED]
        assert report.results[1].seen.startswith("out of time")

    async def test_what_is_secret_in_an_address_is_not_shown(self) -> None:
        async with raw_server(answering()) as server:
            url = server.url.replace("ws://", "ws://me:secret@") + "?token=secret"
            report = await run_checks(url, checks=[made_up(at_once)])
        assert report.target == server.url


class TestReports:
    report = Report(
        "ws://here/ws",
        (
            result(Verdict.PASS, "fine"),
            result(Verdict.FAIL, "a fault"),
            result(Verdict.DIFFERS, "another way"),
            result(Verdict.SKIPPED, "no key"),
        ),
    )

    def test_json(self) -> None:
        document = json.loads(as_json(self.report))
        assert list(document) == ["target", "checks", "summary"]
        assert document["target"] == "ws://here/ws"
        assert document["summary"] == {"passed": 1, "failed": 1, "differs": 1, "skipped": 1}
        assert document["checks"][1] == {
            "id": "handshake.no-token",
            "group": "handshake",
            "verdict": "fail",
            "expected": CHECKS[2].expected,
            "seen": "a fault",
        }

    def test_the_table_says_what_was_expected_where_it_was_not_seen(self) -> None:
        table = as_table(self.report, width=400)
        assert table.count(CHECKS[2].expected) == 2
        assert "FAIL     handshake.no-token" in table
        assert table.endswith("1 passed, 1 failed, 1 differs, 1 skipped")

    @pytest.mark.parametrize("width", [20, 80, 100])
    def test_the_table_keeps_to_its_width(self, width: int) -> None:
        lines = as_table(self.report, width=width).splitlines()
        assert max(map(len, lines)) <= max(width, 70)

    def test_the_list(self) -> None:
        lines = as_list(CHECKS).splitlines()
        assert [line.split()[0] for line in lines] == [check.id for check in CHECKS]

    def test_a_key_is_in_no_repr(self) -> None:
        assert KEY not in repr(Target("ws://here/ws", KEY, 1.0))


async def forever(_: Target) -> Finding:
    await anyio.sleep_forever()
    raise AssertionError


async def at_once(_: Target) -> Finding:
    return passed("fine")
